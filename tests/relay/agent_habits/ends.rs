//! However weir ends, a gateway sees a reset: it would take the end of the stream for an ok.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::*;

/// One connection in each state a connection can be in.
async fn one_of_each(bed: &Bed, session: &[u8]) -> Vec<(&'static str, Peer)> {
    let mut all = vec![
        ("silent", Peer::tcp(bed).await),
        ("silent, TLS", Peer::tls(bed).await),
        ("before its handshake", Peer::below_tls(bed).await),
        ("in its handshake", Peer::below_tls(bed).await),
        ("logged in", Peer::tcp(bed).await),
        ("logged in, TLS", Peer::tls(bed).await),
        ("in mid-frame", Peer::tcp(bed).await),
        ("in mid-frame, TLS", Peer::tls(bed).await),
        ("has published", Peer::tcp(bed).await),
    ];
    all[3].1.send(&[0x16, 3, 1, 2, 0]).await.unwrap();
    all[4].1.login().await;
    all[5].1.login().await;
    let events = bed.judge.oracle().events().clone();
    let half = &frame(session, &events, SCRIPTED, 0, 1)[..100];
    all[6].1.send(half).await.unwrap();
    all[7].1.send(half).await.unwrap();
    assert_eq!(
        all[8].1.ask(&bed.issue(session, SCRIPTED + 1, 0, 1)).await,
        Answer::Ok
    );
    bed.acked(SCRIPTED + 1, 0, 1);
    all
}

#[test]
fn a_stop_resets_every_connection_in_whatever_state_it_is() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "max_connections = 10",
            ..Plan::groups(&["one"])
        })
        .await;
        let mut first = Peer::tcp(&bed).await;
        let session = first.login().await;
        let mut all = one_of_each(&bed, &session).await;
        all.push(("the first", first));
        bed.until("all places are taken", |s| {
            s.ingress.connections_tcp + s.ingress.connections_tls == 10
        })
        .await;
        for what in [
            "accepted and waiting for a place",
            "in the kernel's queue",
            "and another",
        ] {
            let mut peer = Peer::tcp(&bed).await;
            let unread = frame(&session, bed.judge.oracle().events(), SCRIPTED, 0, 1);
            peer.send(&unread).await.unwrap();
            all.push((what, peer));
        }
        let verdict = bed.verdict().await;
        let last = bed.weir.stop();
        for (what, peer) in &mut all {
            assert_eq!(peer.end().await, RESET, "{what}");
        }
        assert_eq!(last.ingress.reset_drain_total, 10);
        assert!(verdict.ok() && verdict.acked == 1, "{verdict}");
        assert_eq!(
            bed.sinks[0][0].counts().events,
            1,
            "nothing that was not answered"
        );
    });
}

#[test]
fn a_drain_sends_each_connection_away_eight_times_and_serves_what_comes_later() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            top: "drain_timeout = \"1h\"\ndrain_notice = \"1s\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let session = Peer::tls(&bed).await.login().await;
        let (mut peer, mut pipelining) = (Peer::tcp(&bed).await, Peer::tcp(&bed).await);
        assert_eq!(peer.ask(&bed.issue(&session, SCRIPTED, 0, 1)).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        let now = Instant::now();
        let life = bed.weir.lifecycle();
        life.drain(now, Duration::from_secs(1), Duration::from_secs(3600));
        assert_eq!(
            peer.ask(&bed.issue(&session, SCRIPTED, 1, 1)).await,
            Answer::Ok,
            "noticed by nobody yet"
        );
        bed.acked(SCRIPTED, 1, 1);
        sleep_until(now + Duration::from_secs(1)).await;
        // The worker hears of the time before it hears of this look.
        bed.snapshot().await;

        let away = |answer: Answer| matches!(answer, Answer::Error { class, .. } if class == TRANSPORT);
        // Publishers of one agent share its connections: others may publish here before the first one closes it.
        for nth in 1..=8 {
            let answer = peer.ask(&bed.issue(&session, SCRIPTED, 2, 1)).await;
            assert!(away(answer), "{nth}");
        }
        assert_eq!(
            peer.ask(&bed.issue(&session, SCRIPTED, 2, 1)).await,
            Answer::Ok,
            "an agent that stays is served"
        );
        bed.acked(SCRIPTED, 2, 1);
        let mut frames = bed.issue(&session, SCRIPTED + 1, 0, 8);
        for sequence in 1..9 {
            frames.extend(bed.issue(&session, SCRIPTED + 1, 7 + sequence, 1));
        }
        pipelining.send(&frames).await.unwrap();
        for nth in 1..=8 {
            assert!(away(pipelining.answer().await), "{nth}");
        }
        assert_eq!(pipelining.answer().await, Answer::Ok, "and no more");
        bed.acked(SCRIPTED + 1, 15, 1);
        let mut late = Peer::tls(&bed).await;
        let session = late.login().await;
        assert_eq!(
            late.ask(&bed.issue(&session, SCRIPTED + 2, 0, 1)).await,
            Answer::Ok,
            "new connections are served"
        );
        bed.acked(SCRIPTED + 2, 0, 1);

        life.ready();
        life.drain(now, Duration::ZERO, Duration::from_secs(3600));
        bed.snapshot().await;
        life.ready();
        bed.snapshot().await;
        assert_eq!(
            peer.ask(&bed.issue(&session, SCRIPTED, 3, 1)).await,
            Answer::Ok,
            "taken back"
        );
        bed.acked(SCRIPTED, 3, 1);
        let verdict = bed.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        assert_eq!((verdict.issued, verdict.acked), (21, 6));
        assert_eq!(
            verdict.groups[0].copies, 6,
            "nothing of what was sent away is stored: {verdict}"
        );
        assert_eq!(bed.snapshot().await.ingress.publishes_sent_away_total, 16);
    });
}

#[test]
fn a_drain_for_agents_of_6_1_sends_nobody_away() {
    story(async {
        let bed = Bed::start(Plan {
            top: "drain_sends_away = false",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = Load::start(LoadOptions {
            agent: Some(TwinOptions::new(Version::V6_1)),
            rate: Some(1_000.0),
            ..bed.agents()
        });
        bed.until("traffic", |s| s.groups[0].events.delivered > 100).await;
        let now = Instant::now();
        bed.weir
            .lifecycle()
            .drain(now, Duration::ZERO, Duration::from_secs(3600));
        let before = bed.snapshot().await.groups[0].events.delivered;
        bed.until("traffic", |s| s.groups[0].events.delivered > before + 1_000)
            .await;
        let status = bed.weir.control().status().await.unwrap();
        let gateway = status.gateways.of([127, 0, 0, 1].into()).unwrap();
        assert_eq!((gateway.sent_away, gateway.publishing), (0, 1), "{gateway:?}");
        load.stop();
        let counts = load.finish().await.counts;
        assert_eq!(counts.queue_full, 0, "{counts:?}");
        bed.assert_clean(counts.events_acked).await;
        assert_eq!(bed.snapshot().await.ingress.publishes_sent_away_total, 0);
    });
}

#[test]
fn at_its_deadline_a_drain_reads_nothing_more_delivers_what_it_can_and_resets_the_rest() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            top: "ack = \"delivered\"\ndrain_timeout = \"400ms\"\ndrain_sends_away = false",
            ..Plan::groups(&["stalled", "alive"])
        })
        .await;
        let session = Peer::tls(&bed).await.login().await;
        let mut all = {
            let mut peers = Vec::new();
            for _ in 0..4 {
                peers.push(Peer::tcp(&bed).await);
            }
            peers
        };
        assert_eq!(all[0].ask(&bed.issue(&session, SCRIPTED, 0, 1)).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        bed.sinks[0][0].set(|b| b.answer(TmAnswer::Stall));
        all[1]
            .send(&bed.issue(&session, SCRIPTED + 1, 0, 1))
            .await
            .unwrap();
        bed.until("the stalled group holds one", |s| {
            s.groups[0].events.inflight + s.groups[0].events.queued == 1
        })
        .await;
        let draining = async {
            assert!(!bed.weir.drain().await, "the stalled group holds it up");
        };
        let meanwhile = async {
            let mut phase = bed.weir.lifecycle().watch();
            let closing = |p: &Phase| {
                matches!(
                    p,
                    Phase::Draining {
                        end: End::Closing,
                        ..
                    }
                )
            };
            phase.wait_for(closing).await.unwrap();
            // The worker hears of it before it hears of this look.
            bed.snapshot().await;
            all[2]
                .send(&bed.issue(&session, SCRIPTED + 2, 0, 1))
                .await
                .unwrap();
        };
        tokio::join!(draining, meanwhile);
        let last = bed.weir.stop();
        for (n, peer) in all.iter_mut().enumerate() {
            assert_eq!(peer.answer().await, RESET, "connection {n}: no answer, no FIN");
        }
        assert_eq!(last.ingress.reset_drain_total, 4);
        let verdict = bed.judge.verdict(Some(&(&last).into()));
        assert!(verdict.ok(), "{verdict}");
        assert_eq!((verdict.issued, verdict.acked), (3, 1));
        assert_eq!(
            last.groups[1].events.accepted, 2,
            "the one sent after the deadline was not taken"
        );
    });
}

/// The built binary, killed when the value goes.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A weir of its own process whose Traffic Manager is away; it serves when this returns.
fn spawn() -> (Process, SocketAddr, tempfile::TempDir) {
    // The kernel hands out free ports in turn: nobody else gets these two between here and there.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (tcp, tm) = (free(), free());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let text = format!(
        "[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n\
         [[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://{tm}\"]\n\
         traffic_manager_auth_urls = [\"tcp://{tm}\"]\n\
         [listen]\ntcp = \"{tcp}\"\ntls = \"off\"\n[auth]\nallow_plaintext_login = true\n\
         [admin]\nlisten = \"off\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--config"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while TcpStream::connect(tcp).is_err() {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "weir has not started");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    (Process(child), tcp, directory)
}

#[test]
fn a_killed_process_resets_its_gateways_too() {
    let (mut weir, address, _directory) = spawn();
    let connect = || TcpStream::connect(address).unwrap();
    let (mut silent, mut logged_in, mut half) = (connect(), connect(), connect());
    logged_in.write_all(&login("admin", "admin")).unwrap();
    let mut head = [0; 5];
    logged_in.read_exact(&mut head).unwrap();
    let [kind, length @ ..] = head;
    assert_eq!(kind, 2);
    let mut session = vec![0; u32::from_be_bytes(length) as usize];
    logged_in.read_exact(&mut session).unwrap();
    half.write_all(&[2, 0, 0, 1]).unwrap();
    weir.0.kill().unwrap();
    weir.0.wait().unwrap();
    for peer in [&mut silent, &mut logged_in, &mut half] {
        let end = peer.read(&mut [0; 1]);
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}
