//! A long way that loses packets: TCP as it really is over 100 ms and 1 % of loss.
//!
//! Few kernels have `sch_netem`, so the weather is made here: weir and the Traffic Managers speak through a
//! VXLAN, whose datagrams a small relay in the middle namespace delays and loses. Everything above, from the
//! retransmissions to the congestion window, is the kernel's own.

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};
use weir_lab::{Load, LoadOptions};

use crate::namespaces::{Net, within};
use crate::support::{Plan, story};

/// One way; the round trip is twice that.
const ONE_WAY: Duration = Duration::from_millis(50);
const PORT: u16 = 4790;
/// Tells the relay to relay, and how many of ten thousand datagrams it loses.
const LOSS: &str = "NETWORK_TEST_LOSS";

#[test]
#[ignore = "no test by itself: the relay between the two ends of the VXLAN, until it is killed"]
fn relay() {
    let Ok(loss) = std::env::var(LOSS) else { return };
    let loss: u32 = loss.parse().unwrap();
    story(async {
        let bind = async |ip: &str| UdpSocket::bind((ip, PORT)).await.unwrap();
        let (weir, managers) = (bind("198.18.0.1").await, bind("198.18.1.1").await);
        tokio::join!(
            carry(&weir, &managers, "198.18.1.2", loss, 1),
            carry(&managers, &weir, "198.18.0.2", loss, 2)
        );
    });
}

async fn carry(from: &UdpSocket, onto: &UdpSocket, to: &str, loss: u32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (send, mut travelling) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(10_000);
    let reading = async {
        let mut datagram = vec![0; 65_536];
        loop {
            let (n, _) = from.recv_from(&mut datagram).await.unwrap();
            if random.u32(0..10_000) >= loss {
                // A full way loses, too.
                let _ = send.try_send((Instant::now() + ONE_WAY, datagram[..n].to_vec()));
            }
        }
    };
    let sending = async {
        while let Some((when, datagram)) = travelling.recv().await {
            sleep_until(when).await;
            let _ = onto.send_to(&datagram, (to, PORT)).await;
        }
    };
    tokio::join!(reading, sending);
}

/// Why there is no weather to be made.
fn possible() -> bool {
    let there = std::process::Command::new("ethtool")
        .arg("--version")
        .output()
        .is_ok();
    if !there {
        println!("skipped: ethtool is missing (apt install ethtool)");
    }
    there
}

/// Publish frames answered a second over the long way, as a part of window ÷ round trip.
async fn measure(net: &Net, window: u64, loss: u32) -> f64 {
    let relay = net.spawn_in("f", "weather::relay", (LOSS, &loss.to_string()));
    for (n, link, remote, address) in [
        ("w", "out", "198.18.0.1", "198.18.9.2/24"),
        ("t", "in", "198.18.1.1", "198.18.9.1/24"),
    ] {
        let port = PORT.to_string();
        net.ip(
            n,
            &[
                "link", "add", "long", "type", "vxlan", "id", "9", "dev", link, "remote", remote, "dstport",
                &port,
            ],
        );
        net.ip(n, &["addr", "add", address, "dev", "long"]);
        net.ip(n, &["link", "set", "long", "up"]);
        // The relay forwards bytes as it gets them: checksums left to a network card would stay undone.
        net.run_in(n, &["ethtool", "-K", "long", "tx", "off"]);
    }
    // An event a frame, so that the window is counted in frames and nothing else limits.
    let link = format!(
        "window_frames = {window}\nbatch_max_bytes = \"1KiB\"\nlogin_timeout = \"20s\"\nconnect_timeout = \"20s\""
    );
    let plan = Plan {
        link: Box::leak(link.into_boxed_str()),
        listen: "frame_max_bytes = \"1MiB\"\nevent_max_bytes = \"512KiB\"",
        queue: "max_events = 300\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
        ..Plan::groups(&["far"])
    };
    let stage = net.stage_towards(plan, [198, 18, 9, 1]).await;
    let load = Load::start(LoadOptions {
        connections: 8,
        ..stage.load()
    });
    let replies = |s: &crate::support::process::Status| s.of("far", "endpoints/0/replies_ok_total");
    let first = stage.weir.until("traffic", |s| replies(s) > 2 * window).await;
    let begun = Instant::now();
    sleep(Duration::from_secs(15)).await;
    let status = stage.weir.status();
    assert!(
        status.of("far", "events/queued") > 0,
        "there was always something to send"
    );
    let frames = replies(&status) - replies(&first);
    let a_second = frames as f64 / begun.elapsed().as_secs_f64();
    load.stop();
    load.finish().await;
    let verdict = stage.verdict().await;
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(verdict.groups[0].missing.count, 0, "{verdict}");
    assert!(
        verdict.groups[0].latency_p50_us >= 50_000,
        "the way is long: {verdict}"
    );
    drop(relay);
    a_second / (window as f64 / (2.0 * ONE_WAY.as_secs_f64()))
}

#[test]
fn over_a_hundred_milliseconds_the_window_is_used_to_the_full() {
    if !possible() {
        return;
    }
    within(
        &over_a_hundred_milliseconds_the_window_is_used_to_the_full,
        async |net: Net| {
            let part = measure(&net, 32, 0).await;
            println!("100 ms: {part:.2} of window / RTT");
            assert!(part >= 0.8, "{part}");
        },
    );
}

#[test]
fn with_one_per_cent_of_loss_as_well_it_still_is() {
    if !possible() {
        return;
    }
    within(
        &with_one_per_cent_of_loss_as_well_it_still_is,
        async |net: Net| {
            // Few frames: what a larger window would send is held back by TCP's own, which loss keeps small.
            let part = measure(&net, 4, 100).await;
            println!("100 ms, 1 % loss: {part:.2} of window / RTT");
            assert!(part >= 0.8, "{part}");
        },
    );
}
