//! Damaged, truncated and hostile keystores are errors, never panics; PEM agrees with a second reader.

use std::path::Path;

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

/// Behind the digest: what somebody who knows the password may write.
fn sealed_again(mut body: Vec<u8>) -> Vec<u8> {
    let digest = jks::digest(PASSWORD, &body);
    body.extend(digest);
    body
}

fn unlock_all(bytes: &[u8]) {
    for key in open(bytes, PASSWORD).map(|s| s.keys).unwrap_or_default() {
        let _ = key.key.unlock(&crate::config::Secret::new(PASSWORD));
    }
}

#[test]
fn every_flipped_byte_and_truncation_behind_a_right_digest_is_survived() {
    let body = &JKS[..JKS.len() - 20];
    for place in 0..body.len() {
        unlock_all(&sealed_again(body[..place].to_vec()));
        for value in [0, 0xff, body[place] ^ 1] {
            let mut bad = body.to_vec();
            bad[place] = value;
            unlock_all(&sealed_again(bad));
        }
    }
}

#[test]
fn huge_lengths_behind_a_right_digest_allocate_nothing() {
    let count = [&jks::MAGIC[..], &[0, 0, 0, 2], &[0xff; 4]].concat();
    assert!(error(&sealed_again(count)).contains("malformed"));
    let key = [
        &jks::MAGIC[..],
        &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        &[0; 8],
        &[0xff; 4],
    ]
    .concat();
    assert!(error(&sealed_again(key)).contains("malformed"));
}

proptest! {
    #[test]
    fn any_bytes_behind_a_right_digest_are_survived(
        head in 0..60_usize,
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = sealed_again([&JKS[..head], &tail].concat());
        unlock_all(&bytes);
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
            text += "\n";
            text += &encode(der);
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

fn encode(der: &[u8]) -> String {
    use rcgen::{CertificateParams, KeyPair};
    // rcgen is at hand for real ones; arbitrary bytes need only the armour.
    if der.len() % 7 == 1 {
        let key = KeyPair::generate().unwrap();
        return CertificateParams::new(vec![])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem();
    }
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = &der[..der.len() / 3 * 3];
    let mut text = String::new();
    for (i, c) in whole.chunks(3).enumerate() {
        let n = (u32::from(c[0]) << 16) | (u32::from(c[1]) << 8) | u32::from(c[2]);
        if i % 16 == 15 {
            text.push('\n');
        }
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[(n >> shift & 63) as usize])));
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn the_truststore_of_wso2_has_37_roots() {
    let store = open(TRUST, PASSWORD).unwrap();
    assert_eq!((store.certificates.len(), store.keys.len()), (37, 0));
}

#[test]
fn a_wrong_password_is_called_that() {
    assert!(
        open(JKS, "changeit")
            .err()
            .unwrap()
            .contains("the password is wrong")
    );
    let mut keys = open(JKS, PASSWORD).unwrap().keys;
    let key = keys.remove(0).key;
    assert_eq!(
        key.unlock(&crate::config::Secret::new("no")).unwrap_err(),
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
    // The middle is sealed data, all of it under the digest.
    for place in (100..P12.len() - 150).step_by(31) {
        let mut bad = P12.to_vec();
        bad[place] ^= 4;
        assert!(open(&bad, PASSWORD).is_err(), "{place}");
    }
}

#[test]
fn other_files_are_called_what_they_are() {
    assert!(error(&[0xce, 0xce, 0xce, 0xce, 0, 0]).contains("keytool -importkeystore"));
    assert!(error(b"-----BEGIN CERTIFICATE-----").contains("PEM"));
    assert!(error(b"\xef\xbf\xbd\xef\xbf\xbd").contains("treated the binary file as text"));
    assert!(error(b"").contains("neither"));
}

fn with_keys(names: &[&str]) -> Store {
    let entry = |name: &&str| KeyEntry {
        alias: (*name).to_owned(),
        chain: vec![],
        key: Key::Open(vec![]),
    };
    Store {
        keys: names.iter().map(entry).collect(),
        certificates: vec![],
    }
}

#[test]
fn an_alias_chooses_and_one_key_needs_none() {
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
fn encrypted_keys_and_der_are_met_with_the_command_that_converts_them() {
    let sealed = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(pem::key(sealed).unwrap_err().contains("openssl pkcs8"));
    let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(pem::key(old).unwrap_err().contains("openssl pkcs8"));
    assert!(pem::key(b"").unwrap_err().contains("no private key"));
    assert!(
        pem::certificates(&[0x30, 0x82])
            .unwrap_err()
            .contains("openssl x509")
    );
}
