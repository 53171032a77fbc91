//! The return leg in /status, in `weir status`, and on the page.

use std::time::Duration;

use clap::Parser;
use weir::admin::client::perform;
use weir::cli::{Cli, Command};
use weir_lab::decisions::{Book, Broker, subscribe};

use super::browser::{Browser, turn};
use super::looks::address;
use crate::support::{Bed, Plan, dialer, story, url};

/// What `weir status` prints; off the runtime, on which the rest lives.
async fn status(bed: &Bed, option: &'static str) -> String {
    let admin = format!("http://{}", bed.weir.addresses().admin.unwrap());
    let printed = tokio::task::spawn_blocking(move || {
        let words = ["weir", "status", "--admin", &admin];
        let words = words.into_iter().chain(Some(option).filter(|o| !o.is_empty()));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Admin(command) => perform(&command).unwrap(),
            other => panic!("{other:?}"),
        }
    });
    printed.await.unwrap()
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn the_return_leg_is_in_status_and_on_the_page_and_nowhere_when_it_is_off() {
    let turn = turn();
    story(async {
        let off = Bed::start(Plan::groups(&["east"])).await;
        assert!(!status(&off, "").await.contains("BROKER"));
        assert!(status(&off, "--json").await.contains("\"decisions\":null}"));

        let book = Book::open();
        let broker = Broker::start(&book, Duration::from_millis(50)).unwrap();
        let name = format!("tcp://{}", broker.address());
        let bed = Bed::start(Plan {
            tables: format!("[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"{name}\"]\n"),
            ..Plan::groups(&["east"])
        })
        .await;
        let gateway = tokio::spawn(subscribe(
            dialer(),
            url(bed.weir.addresses().decisions.unwrap()),
            book.clone(),
        ));
        let open = |bed: &Bed| bed.weir.decisions().unwrap().client.connections[3];
        bed.until("a gateway is open", |_| open(&bed) == 1).await;
        let json: serde_json::Value = serde_json::from_str(&status(&bed, "--json").await).unwrap();
        let leg = &json["decisions"];
        assert_eq!(leg["client"]["connections"]["open"], 1, "{leg:#}");
        assert_eq!(leg["brokers"][0]["name"], name);
        assert_eq!(leg["brokers"][0]["up"], true);
        assert_eq!(leg["brokers"][0]["connections"], 1);
        assert!(leg["brokers"][0]["since_ms"].is_u64(), "{leg:#}");
        let text = status(&bed, "").await;
        for part in ["return leg: 1 gateway connections open, 0 held", "BROKER", &name] {
            assert!(text.contains(part), "{part}:\n{text}");
        }

        match &turn {
            Err(why) => println!("skipped: {why}"),
            Ok(_) => {
                let mut page = Browser::open(&address(&bed), (800, 800)).await;
                let says = |word: &str| {
                    format!(
                        "[...document.querySelectorAll('#decisions li')].some((li) => \
                         li.innerText.includes('{name}') && li.innerText.includes('{word}'))"
                    )
                };
                page.until("the broker is up", &says("● up")).await;
                broker.stop().await;
                page.until("the broker is down, and why", &says("● down")).await;
                page.until(
                    "the gateway is held",
                    "document.getElementById('decisions').innerText.includes('held\\n1')",
                )
                .await;
                assert_eq!(page.complaints, Vec::<String>::new(), "the browser complains");
            }
        }
        gateway.abort();
    });
}
