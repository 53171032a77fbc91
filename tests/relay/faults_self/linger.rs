//! Events that linger for a fuller frame, and the link that waits for them goes away.

use std::time::Duration;

use tokio::time::timeout;
use weir_lab::Close;
use weir_lab::gateway::Answer;

use crate::support::faults::Publisher;
use crate::support::{Bed, Plan, story};

#[derive(Debug, Clone, Copy)]
enum Gone {
    Disabled,
    Removed,
    Killed,
}

#[test]
fn events_that_linger_leave_over_another_link_when_the_one_that_waited_for_them_ends() {
    story(async {
        for how in [Gone::Disabled, Gone::Removed, Gone::Killed] {
            let bed = Bed::start(Plan {
                groups: vec![("pair", "loadbalance", 2)],
                link: "linger = \"1s\"\nheartbeat = \"off\"",
                ..Plan::default()
            })
            .await;
            let mut gateway = Publisher::connect(&bed, 0).await;
            gateway.publish_ok(1).await;
            bed.until("the first has left at once", |s| {
                s.groups[0].events.delivered == 1
            })
            .await;
            assert_eq!(gateway.publish(5).await, Answer::Ok);
            let lingers = bed.group("pair").await;
            assert_eq!(lingers.events.queued, 5, "{how:?}: {lingers:?}");
            // Links are woken in turn: the second frame woke the link that did not take the first.
            let other = usize::from(bed.sinks[0][0].counts().events == 1);
            match how {
                Gone::Disabled => {
                    let name = &lingers.endpoints[other].name;
                    let control = bed.weir.control().clone();
                    assert!(control.enable("pair", name, false).await);
                }
                Gone::Removed => {
                    let mut config = bed.config.clone();
                    config.groups[0].endpoints.remove(other);
                    bed.weir.apply(config, Vec::new()).await.unwrap();
                }
                Gone::Killed => bed.sinks[0][other].kill(Close::Rst).await,
            }
            let delivered = bed.until("the other link takes it", |s| s.groups[0].events.delivered == 6);
            let delivered = timeout(Duration::from_secs(10), delivered).await;
            assert!(delivered.is_ok(), "{how:?}: nobody was woken");
            assert_eq!(bed.sinks[0][1 - other].counts().events, 6, "{how:?}");
        }
    });
}
