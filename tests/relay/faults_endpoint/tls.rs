//! TLS that does not come about: the class and a reason say so, and the next endpoint serves.

use std::net::SocketAddr;

use tokio_rustls::rustls::version::{TLS12, TLS13};
use weir::config::{Scheme, Trust, Url};
use weir::net::Acceptor;
use weir_lab::sink::tcp;
use weir_lab::{Close, Proxy, Sink, SinkOptions};

use crate::support::certificates::{Files, bare_server, expired, leaf, self_signed, server_tls};
use crate::support::faults::{Publisher, eventually, failures, nothing_missing};
use crate::support::{Bed, Plan, dialer, story, url};

fn ssl(address: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Ssl,
        ..url(address)
    }
}

fn plan() -> Plan {
    Plan {
        groups: vec![("one", "failover", 2), ("two", "failover", 1)],
        link: "failback_after = \"50ms\"\ntls_timeout = \"500ms\"",
        ..Plan::default()
    }
}

#[test]
fn a_certificate_that_cannot_be_believed_is_named_and_the_next_endpoint_serves() {
    story(async {
        let here = ["localhost", "127.0.0.1"];
        let cases = [
            ("expired", self_signed(expired(leaf(&here))), true),
            ("tm.example.org", self_signed(leaf(&["tm.example.org"])), true),
            ("trust", self_signed(leaf(&here)), false),
        ];
        for (word, shown, trusted) in cases {
            for version in [&TLS12, &TLS13] {
                let files = Files::new();
                let other = self_signed(leaf(&here));
                let known = if trusted { &shown.pem } else { &other.pem };
                let trust = Trust::Pem(files.put("trust.pem", known));
                let server = bare_server(vec![shown.der.clone()], shown.private_key(), version).await;
                let bed = Bed::start_adjusted(plan(), |config, _, _| {
                    config.groups[0].endpoints[0].auth = ssl(server);
                    config.tls.trust = trust;
                })
                .await;
                let mut gateway = Publisher::connect(&bed, 0).await;
                gateway.publish_ok(20).await;
                let seen = bed
                    .until("the second serves", |s| {
                        s.groups[0].events.delivered == 20 && failures(&s.groups[0].endpoints[0], "tls") >= 2
                    })
                    .await;
                let endpoint = &seen.groups[0].endpoints[0];
                let reason = endpoint.reason.clone().unwrap_or_default();
                assert!(
                    reason.starts_with("tls: ") && reason.contains(word),
                    "{word}: {reason}"
                );
                assert_eq!(bed.sinks[0][0].counts().connections, 0);
                let mut mended = bed.config.clone();
                mended.groups[0].endpoints[0].auth = mended.groups[0].endpoints[0].data.clone();
                bed.weir.apply(mended, Vec::new()).await.unwrap();
                bed.until("the first one comes up", |s| {
                    s.groups[0].endpoints[0].links_up == 1
                })
                .await;
                gateway.publish_ok(20).await;
                nothing_missing(&bed, "handshakes failed", failures(endpoint, "tls")).await;
            }
        }
    });
}

#[test]
fn a_handshake_cut_at_any_place_fails_as_tls_and_the_next_attempt_succeeds() {
    story(async {
        let shown = self_signed(leaf(&["localhost", "127.0.0.1"]));
        let files = Files::new();
        let trust = Trust::Pem(files.put("trust.pem", &shown.pem));
        let mut proxy = None;
        let bed = Bed::start_adjusted(plan(), |config, judge, sinks| {
            let options = SinkOptions {
                auth: Some((
                    tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
                    Acceptor::new(&server_tls(&shown), false),
                )),
                ..SinkOptions::local().judged_by(judge, 0)
            };
            let sink = Sink::start(options).unwrap();
            let before = Proxy::start(dialer(), url(sink.auth_address().unwrap())).unwrap();
            before.back(|t| t.cut_at = Some((1, Close::Fin)));
            let endpoint = &mut config.groups[0].endpoints[0];
            endpoint.data = url(sink.data_address());
            endpoint.auth = ssl(before.address());
            sinks[0][0] = sink;
            config.tls.trust = trust;
            proxy = Some(before);
        })
        .await;
        let proxy = proxy.unwrap();
        let mut gateway = Publisher::connect(&bed, 0).await;
        for (n, at) in [1, 4, 5, 6, 40, 127, 128, 200, 400].into_iter().enumerate() {
            let how = [Close::Fin, Close::Rst][n % 2];
            proxy.back(|t| t.cut_at = Some((at, how)));
            let before = proxy.counts().cuts;
            eventually("cut twice", || proxy.counts().cuts >= before + 2).await;
            gateway.publish_ok(1).await;
        }
        let seen = bed
            .until("failed", |s| failures(&s.groups[0].endpoints[0], "tls") >= 9)
            .await;
        assert_eq!(
            seen.groups[0].endpoints[0].connects_total, 0,
            "half a handshake is none"
        );
        proxy.back(|t| t.cut_at = None);
        bed.until("it comes up", |s| s.groups[0].endpoints[0].links_up == 1)
            .await;
        gateway.publish_ok(20).await;
        let verdict = nothing_missing(&bed, "cuts", proxy.counts().cuts).await;
        assert_eq!(verdict.acked, 29);
    });
}
