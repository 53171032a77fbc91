//! Damaged, truncated and hostile keystores are errors, never panics; certificates in PEM are read as rustls-pemfile does.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{Key, KeyEntry, Store, choose, jks, pem, store};

const JKS: &[u8] = include_bytes!("../../../tests/vectors/rsa2048.jks");
const TRUST: &[u8] = include_bytes!("../../../tests/vectors/client-truststore.jks");
#[cfg(feature = "pkcs12")]
const P12: &[u8] = include_bytes!("../../../tests/vectors/rsa2048.p12");
const PASSWORD: &str = "wso2carbon";

fn open(bytes: &[u8], password: &str) -> Result<Store, String> {
    store(bytes, password, Path::new("x.jks"))
}

fn error(bytes: &[u8]) -> String {
    open(bytes, PASSWORD).err().unwrap()
}

#[test]
fn every_truncation_of_a_jks_file_is_an_error() {
    for length in 0..JKS.len() {
        assert!(open(&JKS[..length], PASSWORD).is_err(), "{length}");
    }
    for length in (0..TRUST.len()).step_by(97) {
        assert!(open(&TRUST[..length], PASSWORD).is_err(), "{length}");
    }
}

#[test]
fn every_flipped_byte_of_a_jks_file_is_an_error() {
    for (file, step) in [(JKS, 1), (TRUST, 7)] {
        for place in (0..file.len()).step_by(step) {
            let mut bad = file.to_vec();
            bad[place] ^= 1 << (place % 8);
            assert!(open(&bad, PASSWORD).is_err(), "{place}");
        }
    }
}

/// With a valid digest, as anybody who knows the password can make one.
fn with_digest(mut body: Vec<u8>) -> Vec<u8> {
    let digest = jks::digest(PASSWORD, &body);
    body.extend(digest);
    body
}

fn decrypt_all(bytes: &[u8]) {
    for key in open(bytes, PASSWORD).map(|s| s.keys).unwrap_or_default() {
        let _ = key.key.decrypt(&crate::config::Secret::new(PASSWORD));
    }
}

#[test]
fn no_flipped_byte_or_truncation_with_a_valid_digest_panics() {
    let body = &JKS[..JKS.len() - 20];
    for place in 0..body.len() {
        decrypt_all(&with_digest(body[..place].to_vec()));
        for value in [0, 0xff, body[place] ^ 1] {
            let mut bad = body.to_vec();
            bad[place] = value;
            decrypt_all(&with_digest(bad));
        }
    }
}

#[test]
fn huge_lengths_with_a_valid_digest_allocate_nothing() {
    let count = [&jks::MAGIC[..], &[0, 0, 0, 2], &[0xff; 4]].concat();
    assert!(error(&with_digest(count)).contains("malformed"));
    let key = [
        &jks::MAGIC[..],
        &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        &[0; 8],
        &[0xff; 4],
    ]
    .concat();
    assert!(error(&with_digest(key)).contains("malformed"));
}

proptest! {
    #[test]
    fn no_bytes_with_a_valid_digest_panic(
        head in 0..60_usize,
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = with_digest([&JKS[..head], &tail].concat());
        decrypt_all(&bytes);
    }

    #[test]
    fn pem_agrees_with_rustls_pemfile(
        ders in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
        noise in "[ -~\n]{0,80}",
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut text = noise;
        for der in &ders {
            let der = STANDARD.encode(der);
            text += &format!("\n-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
        }
        let bytes = text.as_bytes();
        let bytes = if whole { bytes } else { &bytes[..cut.index(bytes.len() + 1)] };
        let oracle: Result<Vec<CertificateDer<'static>>, _> = rustls_pemfile::certs(&mut &bytes[..]).collect();
        match (pem::certificates(bytes), oracle) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Err(_), Ok(theirs)) => prop_assert!(theirs.is_empty()),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(e)) => prop_assert!(false, "{ours:?} {e}"),
        }
    }
}

#[test]
fn the_truststore_of_wso2_has_37_roots() {
    let store = open(TRUST, PASSWORD).unwrap();
    assert_eq!((store.certificates.len(), store.keys.len()), (37, 0));
}

#[test]
fn a_wrong_password_is_reported_as_one() {
    assert!(
        open(JKS, "changeit")
            .err()
            .unwrap()
            .contains("the password is wrong")
    );
    let mut keys = open(JKS, PASSWORD).unwrap().keys;
    let key = keys.remove(0).key;
    assert_eq!(
        key.decrypt(&crate::config::Secret::new("no")).unwrap_err(),
        "the key password is wrong"
    );
}

#[cfg(feature = "pkcs12")]
#[test]
fn pkcs12_with_a_wrong_password_or_damage_is_an_error() {
    assert!(
        open(P12, "changeit")
            .err()
            .unwrap()
            .contains("the password is wrong")
    );
    assert_eq!(open(P12, PASSWORD).unwrap().keys.len(), 1);
    for length in (0..P12.len()).step_by(101) {
        assert!(open(&P12[..length], PASSWORD).is_err(), "{length}");
    }
    // The middle is encrypted data, all of it covered by the digest.
    for place in (100..P12.len() - 150).step_by(31) {
        let mut bad = P12.to_vec();
        bad[place] ^= 4;
        assert!(open(&bad, PASSWORD).is_err(), "{place}");
    }
}

#[test]
fn other_kinds_of_files_are_named() {
    assert!(error(&[0xce, 0xce, 0xce, 0xce, 0, 0]).contains("keytool -importkeystore"));
    assert!(error(b"-----BEGIN CERTIFICATE-----").contains("PEM"));
    assert!(error(b"\xef\xbf\xbd\xef\xbf\xbd").contains("treated the binary file as text"));
    assert!(error(b"").contains("neither"));
}

fn with_keys(names: &[&str]) -> Store {
    let entry = |name: &&str| KeyEntry {
        alias: (*name).to_owned(),
        chain: vec![],
        key: Key::Plain(vec![]),
    };
    Store {
        keys: names.iter().map(entry).collect(),
        certificates: vec![],
    }
}

#[test]
fn an_alias_chooses_a_key_and_a_single_key_needs_none() {
    let chosen = |names: &[&str], alias| choose(with_keys(names), alias).map(|k| k.alias);
    assert_eq!(chosen(&["a"], None).unwrap(), "a");
    assert_eq!(chosen(&["a", "b"], Some("B")).unwrap(), "b");
    assert!(chosen(&["a", "b"], None).unwrap_err().contains("(a, b)"));
    assert!(
        chosen(&["a", "b"], Some("c"))
            .unwrap_err()
            .contains("it has: a, b")
    );
    assert!(chosen(&[], None).unwrap_err().contains("truststore"));
}

#[test]
fn errors_for_encrypted_keys_and_der_name_the_command_that_converts_them() {
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(pem::key(encrypted).unwrap_err().contains("openssl pkcs8"));
    let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(pem::key(old).unwrap_err().contains("openssl pkcs8"));
    assert!(pem::key(b"").unwrap_err().contains("no private key"));
    assert!(
        pem::certificates(&[0x30, 0x82])
            .unwrap_err()
            .contains("openssl x509")
    );
}
