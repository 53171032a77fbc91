//! Traffic Managers that answer anything, and key stores of any bytes.

use proptest::prelude::*;
use weir::config::{KeyFile, Secret, Tls, Trust, Verify};
use weir::net::ServerTls;
use weir::wire::Reply;
use weir_lab::sink::Answer;
use weir_lab::{Load, LoadOptions, WeirCounts};

use super::*;

/// What is no ok, but may begin as anything a Traffic Manager says.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 1..60);
    let text = prop_oneof!["[ -~]{0,40}", "\\PC{0,40}"];
    let encoded =
        (text.clone(), text, prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(class, message, more)| {
            let mut out = Vec::new();
            Reply::Error {
                class: &class,
                message,
            }
            .encode(&mut out);
            out.extend(more);
            out
        });
    let lengths = (1_u8..3, any::<i32>(), any::<i32>())
        .prop_map(|(kind, a, b)| [&[kind][..], &a.to_be_bytes(), &b.to_be_bytes()].concat());
    prop_oneof![any_bytes, encoded, lengths].prop_filter("an ok", |bytes| bytes[0] != 0)
}

fn answered_with(answer: Vec<u8>, times: u64, seed: u64) {
    simulated(async {
        let plan = Plan {
            link: "reply_timeout = \"5s\"",
            ..Plan::default()
        };
        let world = World::new(seed, &plan);
        world.sink.set(|b| b.answer_times(Answer::Raw(answer), times));
        let load = LoadOptions {
            connections: 2,
            count: Some(60),
            rate: Some(50.0),
            ..LoadOptions::new(dialer(&world.network), weir_url()).judged_by(&world.judge)
        };
        let report = Load::start(load).finish().await;
        assert_eq!(report.counts.events_acked, 60);
        let snapshot = world.rest().await;
        assert!(snapshot.groups[0].endpoints[0].failures_total.iter().sum::<u64>() > 0);
        let verdict = world.judge.verdict(Some(&WeirCounts::from(&snapshot)));
        assert!(verdict.ok(), "{verdict}\n{snapshot:#?}");
    });
}

/// Whether the file can be used; the point is that there is an answer.
fn load(bytes: &[u8], password: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keystore");
    std::fs::write(&file, bytes).unwrap();
    let identity = KeyFile::Keystore {
        file,
        password: Secret::new(password),
        alias: None,
        key_password: None,
    };
    let tls = Tls {
        identity: Some(identity),
        trust: Trust::System,
        verify: Verify::Full,
    };
    match ServerTls::load(&tls) {
        Ok(_) => true,
        Err(error) => {
            assert!(
                error.to_string().contains("keystore"),
                "it names the file: {error}"
            );
            false
        }
    }
}

const JKS: &[u8] = include_bytes!("../../vectors/rsa2048.jks");
const P12: &[u8] = include_bytes!("../../vectors/rsa2048.p12");

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_traffic_manager_answers_every_event_is_accounted_for(
        answer in answer(), times in 1_u64..8, seed in any::<u64>()) {
        answered_with(answer, times, seed);
    }

    #[test]
    fn any_bytes_behind_a_keystores_first_are_judged(
        magic in prop::sample::select(vec![&JKS[..12], &P12[..4], &P12[..40], b"-----BEGIN CERTIFICATE-----\n", b""]),
        bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!load(&[magic, &bytes].concat(), "wso2carbon"));
    }
}

proptest! {
    // Each derives keys.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_keystore_is_an_error(
        p12 in any::<bool>(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = if p12 { P12 } else { JKS }.to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if cut {
            bytes.truncate(at);
        }
        prop_assert!(!load(&bytes, "wso2carbon"), "byte {}", at);
    }
}

#[test]
fn the_undamaged_ones_can_be_used_and_the_password_must_be_right() {
    for bytes in [JKS, P12] {
        assert!(load(bytes, "wso2carbon"));
        assert!(!load(bytes, "wso2carboN"));
    }
}
