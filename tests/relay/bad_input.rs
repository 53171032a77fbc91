//! Bad input from gateways: a precise answer where the frame's borders are sound, a reset where they are lost, a
//! counter for each, no panic, no allocation before the check, and nobody else disturbed: beside each story runs
//! a healthy load, and the oracle judges it.

mod fields;
mod floods;
mod frames;
mod log_lines;

use weir::status::Ingress;
use weir_lab::gateway::{Answer, frame};

use crate::support::peer::{HEALTHY, Peer, RESET, error, login, logout, weight};
use crate::support::{Bed, Plan, story};

const SCRIPTED: u32 = 1000;
const UNDEFINED: &str = "UndefinedEventTypeException";
const AUTHENTICATION: &str = "AuthenticationException";
const SHORT: &str = "the body ends before a length";
const NEGATIVE: &str = "a length is negative";
const PAST: &str = "a field runs past the body";
const LEFT_OVER: &str = "bytes are left over after the last field";

/// Wrong bytes, the answer's class and message, or none: a reset.
type Case = (&'static str, Vec<u8>, Option<(&'static str, &'static str)>);

/// A frame of a type with these parts for a body.
fn framed(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = i32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], &body].concat()
}

/// A Java int.
fn int(value: i32) -> [u8; 4] {
    value.to_be_bytes()
}

/// Each case on a connection of its own, behind a good publish; where it is answered, a good one follows it.
async fn hold(bed: &Bed, session: &[u8], cases: &[Case]) -> Ingress {
    let before = bed.snapshot().await.ingress;
    for (n, (what, bytes, wanted)) in cases.iter().enumerate() {
        let origin = SCRIPTED + u32::try_from(n).unwrap();
        let mut peer = Peer::tcp(bed).await;
        assert_eq!(
            peer.ask(&bed.issue(session, origin, 0, 2)).await,
            Answer::Ok,
            "{what}"
        );
        bed.acked(origin, 0, 2);
        let answer = peer.ask(bytes).await;
        match wanted {
            None => {
                assert_eq!(answer, RESET, "{what}");
                bed.until("it is closed", |s| {
                    s.ingress.connections_tcp == before.connections_tcp
                })
                .await;
            }
            Some(wanted) => {
                assert_eq!(error(&answer), *wanted, "{what}");
                assert_eq!(
                    peer.ask(&bed.issue(session, origin, 2, 1)).await,
                    Answer::Ok,
                    "{what}"
                );
                bed.acked(origin, 2, 1);
                peer.close().await;
            }
        }
    }
    let after = bed
        .until("all are gone", |s| {
            s.ingress.connections_tcp == before.connections_tcp
        })
        .await
        .ingress;
    let resets = cases.iter().filter(|(_, _, wanted)| wanted.is_none()).count() as u64;
    let malformed = cases.len() as u64 - resets;
    assert_eq!(after.reset_bad_input_total - before.reset_bad_input_total, resets);
    assert_eq!(after.malformed_total - before.malformed_total, malformed);
    Ingress {
        unknown_type_total: after.unknown_type_total - before.unknown_type_total,
        reset_bad_input_total: resets,
        malformed_total: malformed,
        ..Ingress::default()
    }
}

/// A bed with its healthy load and a session.
async fn ready(plan: Plan) -> (Bed, weir_lab::Load, Vec<u8>) {
    let bed = Bed::start(plan).await;
    let mut peer = Peer::tcp(&bed).await;
    let session = peer.login().await;
    peer.close().await;
    bed.until("that one is gone", |s| s.ingress.connections_tcp == 0)
        .await;
    let load = bed.healthy().await;
    (bed, load, session)
}
