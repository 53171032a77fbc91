//! The captures of the real agent and receiver, through a whole weir: what the agent sent reaches a Traffic Manager
//! byte for byte and in order, and a Traffic Manager that answers with the receiver's own bytes is understood.
//!
//! `tests/vectors/README.md` says where the captures come from.

mod receiver;
mod tm;

use std::path::Path;
use std::time::Duration;

use tm::Tm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use weir::app::Weir;
use weir::config::{Scheme, Tls, Trust, Url, Verify};
use weir::net::{ClientTls, Dialer, ServerTls, SocketOptions, Stream};
use weir::status::Snapshot;
use weir::wire::request::{encode_logout, encode_publish_header};
use weir::wire::{Decoded, Decoder, Reply, Request, events};

use crate::support::peer::SOON;
use crate::support::{Plan, config, quiet_log, story, toml, url_group};

const DECODER: Decoder = Decoder {
    frame_max_bytes: 16 << 20,
    event_max_bytes: 1 << 20,
};

fn capture(name: &str) -> Vec<u8> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    std::fs::read(vectors.join(name)).unwrap()
}

fn requests(bytes: &[u8]) -> Vec<(Request<'_>, &[u8])> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Ok(Decoded::Frame { request, length }) = DECODER.decode(rest) {
        all.push((request.unwrap(), &rest[..length]));
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    all
}

fn events(frames: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (request, _) in requests(frames) {
        let Request::Publish { events, .. } = request else {
            panic!("{request:?}")
        };
        all.extend(events::iterate(events.bytes()).map(|e| e.bytes().to_vec()));
    }
    all
}

/// A whole weir before these Traffic Managers, a group each.
fn weir(tms: &[&Tm], plan: Plan) -> Weir {
    let mut blocks = String::new();
    for (n, tm) in tms.iter().enumerate() {
        blocks += &url_group(
            &format!("group{n}"),
            "failover",
            &format!("\"tcp://{}\"", tm.address),
        );
    }
    let config = config(&toml(&Plan { tls: true, ..plan }, &blocks));
    Weir::start(config, Vec::new(), quiet_log()).unwrap_or_else(|e| panic!("{e}"))
}

async fn until(weir: &Weir, what: &str, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let deadline = Instant::now() + 3 * SOON;
    loop {
        let snapshot = weir.control().snapshot().await;
        assert!(snapshot.groups.iter().all(|g| g.events.balanced()));
        if is(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < deadline, "never: {what}: {snapshot:#?}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A gateway's connection to weir: plain, or TLS for logins.
async fn connect(weir: &Weir, tls: bool) -> Stream {
    let keystore = weir::config::KeyFile::Keystore {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rsa2048.jks"),
        password: weir::config::Secret::new("wso2carbon"),
        alias: None,
        key_password: None,
    };
    let of = |identity, verify| Tls {
        identity,
        trust: Trust::System,
        verify,
    };
    let server = ServerTls::load(&of(Some(keystore), Verify::Full)).unwrap();
    let client = ClientTls::load(&of(None, Verify::Pin(vec![server.certificate().sha256]))).unwrap();
    let addresses = weir.addresses();
    let url = match tls {
        true => (Scheme::Ssl, addresses.tls.unwrap()),
        false => (Scheme::Tcp, addresses.tcp.unwrap()),
    };
    let url = Url {
        scheme: url.0,
        host: "localhost".into(),
        port: url.1.port(),
    };
    let dialer = Dialer::new(client, SocketOptions::default());
    dialer.dial(&url, SOON, SOON).await.unwrap()
}

/// Sends a frame and reads as many bytes as its answer has, and none after them.
async fn exchange(stream: &mut Stream, frame: &[u8]) -> Vec<u8> {
    stream.write_all(frame).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let whole = async {
        while Reply::decode(&answer).unwrap().is_none() {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "FIN");
        }
    };
    timeout(SOON, whole).await.expect("no answer");
    assert_eq!(Reply::decode(&answer).unwrap().unwrap().1, answer.len());
    answer
}

/// The session weir gives for the agent's own login bytes.
async fn login(stream: &mut Stream, frame: &[u8]) -> Vec<u8> {
    match Reply::decode(&exchange(stream, frame).await).unwrap().unwrap().0 {
        Reply::LoginOk { session } => session.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_real_agent_sent_reaches_every_traffic_manager_byte_for_byte() {
    story(async {
        for version in ["5.4.9", "6.1.72"] {
            for ack in ["ack = \"accepted\"", "ack = \"delivered\""] {
                let tms = [Tm::start(Vec::new()).await, Tm::start(Vec::new()).await];
                let plan = Plan {
                    top: ack,
                    ..Plan::default()
                };
                let weir = weir(&[&tms[0], &tms[1]], plan);
                let logins = match version {
                    "5.4.9" => capture("agent-5.4.9-login.client.bin"),
                    _ => capture("agent-6.1.72-login-logout.client.bin"),
                };
                let mut logging_in = connect(&weir, true).await;
                let session = login(&mut logging_in, requests(&logins)[0].1).await;

                let frames = capture(&format!("agent-{version}-publish.client.bin"));
                let mut data = connect(&weir, false).await;
                let mut answers = Vec::new();
                for (request, _) in requests(&frames) {
                    let Request::Publish { events, .. } = request else {
                        panic!("{request:?}")
                    };
                    let mut patched = Vec::new();
                    encode_publish_header(&mut patched, &session, events.count(), events.bytes().len());
                    patched.extend_from_slice(events.bytes());
                    answers.extend(exchange(&mut data, &patched).await);
                }
                assert_eq!(answers, capture(&format!("agent-{version}-publish.server.bin")));

                // 6.1.72 logs out on the connection it logged in on, 5.4.9 on a new one.
                let mut logout = Vec::new();
                encode_logout(&mut logout, &session);
                if version == "5.4.9" {
                    logging_in = connect(&weir, true).await;
                }
                assert_eq!(
                    exchange(&mut logging_in, &logout).await,
                    capture("agent-5.4.9-logout.server.bin")
                );

                until(&weir, "all are delivered", |s| {
                    s.groups.iter().all(|g| g.events.delivered == 607)
                })
                .await;
                let sent = events(&frames);
                for tm in &tms {
                    assert!(tm.events() == sent, "{version}: other bytes, or another order");
                }
                let last = weir.stop();
                assert_eq!((last.ingress.malformed_total, last.ingress.logouts_total), (0, 1));
            }
        }
    });
}

#[test]
fn a_captured_session_id_is_asked_to_log_in_and_the_bytes_of_the_answer_are_the_receivers() {
    story(async {
        let tm = Tm::start(Vec::new()).await;
        let weir = weir(&[&tm], Plan::default());
        let mut stream = connect(&weir, false).await;
        for name in ["publish-unknown-session", "publish-after-logout"] {
            let asked = capture(&format!("receiver-5.4.9-{name}.request.bin"));
            let answer = exchange(&mut stream, &asked).await;
            assert_eq!(
                answer,
                capture(&format!("receiver-5.4.9-{name}.reply.bin")),
                "{name}"
            );
        }
        for name in ["login-wrong-password", "logout"] {
            let asked = capture(&format!("receiver-5.4.9-{name}.request.bin"));
            let answer = exchange(&mut stream, &asked).await;
            assert_eq!(
                answer,
                capture(&format!("receiver-5.4.9-{name}.reply.bin")),
                "{name}"
            );
        }
        let i = weir.stop().ingress;
        assert_eq!(
            (i.session_errors_total, i.logins_failed_total, i.logouts_total),
            (2, 1, 1)
        );
        assert!(tm.events().is_empty());
    });
}
