//! Which server certificates weir accepts in which mode, over TLS 1.2 and 1.3, and what it says about
//! those it refuses.

use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use weir::config::Verify;
use weir::net::{DialClass, DialError};

use crate::support::certificates::{
    Made, SOON, VERSIONS, bare_server, ca_params, client, dial, echo, expired, leaf, self_signed, signed_by,
    version_1,
};

/// Tries a certificate in one mode with both versions; the outcome must not depend on the version.
async fn try_with(
    made: &Made,
    key: PrivateKeyDer<'static>,
    trusted: &[&Made],
    verify: Verify,
) -> Result<(), DialError> {
    let mut outcomes = Vec::new();
    for version in VERSIONS {
        let addr = bare_server(vec![made.der.clone()], key.clone_key(), version).await;
        let tls = client(trusted, verify.clone());
        let dialled = tokio::time::timeout(SOON, dial(tls, "localhost", addr))
            .await
            .unwrap();
        outcomes.push(match dialled {
            Ok(mut stream) => {
                echo(&mut stream).await;
                assert!(stream.tls_version().is_some());
                assert_eq!(stream.peer_certificate().unwrap().sha256, made.pin());
                Ok(())
            }
            Err(mut e) => {
                assert_eq!(e.class, DialClass::Tls, "{e}");
                assert!(!e.message.contains('\n'), "{e}");
                // Port and directory of the truststore are new each time.
                e.message = e.message.replace(&addr.port().to_string(), "PORT");
                let words = e.message.split(' ').map(|w| w.rsplit('/').next().unwrap_or(w));
                e.message = words.collect::<Vec<_>>().join(" ");
                Err(e)
            }
        });
    }
    assert_eq!(outcomes[0], outcomes[1]);
    outcomes.remove(0)
}

async fn accepted(made: &Made, trusted: &[&Made], verify: Verify) {
    try_with(made, made.private_key(), trusted, verify).await.unwrap();
}

async fn refused(made: &Made, trusted: &[&Made], verify: Verify, because: &str) {
    let e = try_with(made, made.private_key(), trusted, verify)
        .await
        .unwrap_err();
    assert!(e.message.contains(because), "{because}: {e}");
}

fn pin(made: &Made) -> Verify {
    Verify::Pin(vec![[9; 32], made.pin()])
}

#[tokio::test]
async fn a_certificate_with_chain_and_name_is_good_in_every_mode() {
    let ca = self_signed(ca_params());
    let good = signed_by(&ca, leaf(&["localhost"]));
    accepted(&good, &[&ca], Verify::Full).await;
    accepted(&good, &[&ca], Verify::Chain).await;
    accepted(&good, &[&ca], pin(&good)).await;
}

#[tokio::test]
async fn a_wrong_name_is_refused_by_full_alone() {
    let ca = self_signed(ca_params());
    let other = signed_by(&ca, leaf(&["tm.example"]));
    refused(
        &other,
        &[&ca],
        Verify::Full,
        "it is for tm.example and not for localhost",
    )
    .await;
    refused(&other, &[&ca], Verify::Full, "verify = \"chain\"").await;
    accepted(&other, &[&ca], Verify::Chain).await;
    accepted(&other, &[&ca], pin(&other)).await;
}

#[tokio::test]
async fn a_cn_does_not_count_as_a_name() {
    let ca = self_signed(ca_params());
    let cn_only = signed_by(&ca, leaf(&[]));
    refused(&cn_only, &[&ca], Verify::Full, "it names no host").await;
    accepted(&cn_only, &[&ca], Verify::Chain).await;
}

#[tokio::test]
async fn an_unknown_ca_is_refused_and_the_message_has_the_pin_that_accepts_it() {
    let (ca, other_ca) = (self_signed(ca_params()), self_signed(ca_params()));
    let other = signed_by(&other_ca, leaf(&["localhost"]));
    let line = format!(
        "tls.verify = \"pin\" with tls.pins = [\"{}\"]",
        weir::net::hex(&other.pin())
    );
    refused(&other, &[&ca], Verify::Full, &line).await;
    refused(&other, &[&ca], Verify::Chain, &line).await;
    refused(
        &other,
        &[&ca],
        Verify::Chain,
        "no certificate in trust.pem has issued it (an issuer of that name",
    )
    .await;
    let lonely = self_signed(leaf(&["localhost"]));
    refused(
        &lonely,
        &[&ca],
        Verify::Chain,
        "no certificate in trust.pem has issued it. Add this",
    )
    .await;
    accepted(&other, &[&ca], pin(&other)).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_unless_pinned() {
    let ca = self_signed(ca_params());
    let old = signed_by(&ca, expired(leaf(&["localhost"])));
    refused(&old, &[&ca], Verify::Full, "expired").await;
    refused(&old, &[&ca], Verify::Chain, "expired").await;
    refused(&old, &[&ca, &old], Verify::Chain, "it has expired").await;
    accepted(&old, &[&ca], pin(&old)).await;
}

#[tokio::test]
async fn a_ca_certificate_as_leaf_is_good_where_it_is_itself_trusted() {
    let mut params = ca_params();
    params.subject_alt_names = leaf(&["localhost"]).subject_alt_names;
    let made = self_signed(params.clone());
    accepted(&made, &[&made], Verify::Full).await;
    accepted(&made, &[&made], Verify::Chain).await;
    let ca = self_signed(ca_params());
    let issued = signed_by(&ca, params);
    refused(&issued, &[&ca], Verify::Chain, "it is a CA certificate").await;
    accepted(&issued, &[&ca, &issued], Verify::Full).await;
}

#[tokio::test]
async fn a_leaf_in_the_truststore_needs_no_issuer_but_full_still_wants_the_name() {
    let absent = self_signed(ca_params());
    let made = signed_by(&absent, leaf(&["localhost"]));
    accepted(&made, &[&made], Verify::Full).await;
    let other = signed_by(&absent, leaf(&["tm.example"]));
    refused(&other, &[&other], Verify::Full, "not for localhost").await;
    accepted(&other, &[&other], Verify::Chain).await;
}

#[tokio::test]
async fn a_version_1_leaf_is_good_where_it_is_itself_trusted_or_pinned() {
    let old = version_1();
    accepted(&old, &[&old], Verify::Chain).await;
    accepted(&old, &[], pin(&old)).await;
    refused(&old, &[&old], Verify::Full, "it names no host").await;
    let ca = self_signed(ca_params());
    refused(&old, &[&ca], Verify::Chain, "version 1").await;
}

#[tokio::test]
async fn a_wrong_pin_is_refused_and_the_right_one_named() {
    let made = self_signed(leaf(&["localhost"]));
    refused(
        &made,
        &[&made],
        Verify::Pin(vec![[1; 32]]),
        &weir::net::hex(&made.pin()),
    )
    .await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_in_every_mode() {
    let thief = self_signed(leaf(&["localhost"]));
    for victim in [self_signed(leaf(&["localhost"])), version_1()] {
        for verify in [pin(&victim), Verify::Chain] {
            let key = thief.private_key();
            let e = try_with(&victim, key, &[&victim], verify).await.unwrap_err();
            assert!(e.message.contains("does not hold the key"), "{e}");
        }
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_checked_against_the_addresses_of_the_certificate() {
    let ca = self_signed(ca_params());
    for (names, good) in [(&["127.0.0.1"], true), (&["localhost"], false)] {
        let made = signed_by(&ca, leaf(names));
        for version in VERSIONS {
            let addr = bare_server(vec![made.der.clone()], made.private_key(), version).await;
            let dialled = dial(client(&[&ca], Verify::Full), "127.0.0.1", addr).await;
            assert_eq!(dialled.is_ok(), good, "{dialled:?}");
        }
    }
}
