//! The pictures of the book. Taken on demand, for they take a minute of load:
//! `cargo test --test process -- --ignored page`.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use weir_lab::sink::Close;
use weir_lab::{Load, LoadOptions};

use super::browser::{Browser, turn};
use super::looks::{address, endpoint_says};
use crate::support::{Bed, Plan, dialer, story};

#[test]
#[ignore = "takes pictures for docs/images; a minute long"]
fn the_pictures_of_the_documentation_are_taken() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("east", "loadbalance", 2), ("west", "failover", 1)],
            queue: "max_events = 100_000\nmax_bytes = \"64MiB\"",
            ..Plan::default()
        })
        .await;
        let load = |rate| {
            Load::start(LoadOptions {
                connections: 3,
                events_per_frame: 10,
                rate: Some(rate),
                ..LoadOptions::new(dialer(), bed.url())
            })
        };
        let all_day = load(1_500.0);
        let mut page = Browser::open(&address(&bed), (1180, 900)).await;
        // This is what is to be seen: a minute of rates, with a death in it.
        sleep(Duration::from_secs(14)).await;
        let rush = load(900.0);
        sleep(Duration::from_secs(16)).await;
        rush.stop();
        rush.finish().await;
        let killed = &bed.sinks[1][0];
        killed.kill(Close::Rst).await;
        page.until("an endpoint is down", &endpoint_says(killed, &["● down"]))
            .await;
        sleep(Duration::from_secs(32)).await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        std::fs::create_dir_all(&folder).unwrap();
        for scheme in ["light", "dark"] {
            page.prefer(scheme).await;
            let height = page.value("document.documentElement.scrollHeight").await;
            page.resize(1180, u32::try_from(height.as_u64().unwrap()).unwrap())
                .await;
            let picture = page.picture().await;
            std::fs::write(folder.join(format!("page-{scheme}.png")), picture).unwrap();
        }
        all_day.stop();
        all_day.finish().await;
    });
}
