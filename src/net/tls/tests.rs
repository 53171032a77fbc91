//! What cannot be shown over a socket here, because no TLS library of today serves such certificates.

use std::time::Duration;

use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::verify::Verifier;
use crate::config::{KeyFile, Secret, Verify};
use crate::net::keystore::{self, Anchors};
use crate::net::sha256;

fn rsa_1024() -> CertificateDer<'static> {
    let store = KeyFile::Keystore {
        file: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wso2carbon.jks").into(),
        password: Secret::new("wso2carbon"),
        alias: None,
        key_password: None,
    };
    keystore::identity(&store).unwrap().chain.remove(0)
}

#[test]
fn a_server_with_the_old_key_of_wso2_is_refused_in_every_mode_with_the_reason() {
    let leaf = rsa_1024();
    for mode in [Verify::Full, Verify::Chain, Verify::Pin(vec![sha256(&leaf)])] {
        let anchors = Anchors {
            certificates: vec![leaf.clone()],
            origin: "client-truststore.jks".into(),
        };
        let verifier = Verifier::new(mode, anchors).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000));
        let e = verifier
            .verify_server_cert(&leaf, &[], &name, &[], now)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("RSA 1024") && e.contains("SHA-1") && e.contains("new key"),
            "{e}"
        );
    }
}

#[test]
fn any_bytes_as_a_certificate_are_refused() {
    let good = rsa_1024();
    let verifier = Verifier::new(
        Verify::Chain,
        Anchors {
            certificates: vec![good.clone()],
            origin: "x".into(),
        },
    )
    .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000));
    for place in 0..good.len() {
        for value in [0, 0xff, good[place] ^ 1] {
            let mut bad = good.to_vec();
            bad[place] = value;
            if bad == good.as_ref() {
                continue;
            }
            let bad = CertificateDer::from(bad);
            assert!(
                verifier.verify_server_cert(&bad, &[], &name, &[], now).is_err(),
                "{place}"
            );
        }
        let cut = CertificateDer::from(good[..place].to_vec());
        assert!(
            verifier.verify_server_cert(&cut, &[], &name, &[], now).is_err(),
            "{place}"
        );
    }
}
