//! Java's own keystore format, JKS, read only.
//!
//! The layout has not changed since 1998 and is defined by the source of OpenJDK (`sun.security.provider.JavaKeyStore`,
//! `KeyProtector`): magic, version, count, entries (big endian, modified UTF-8 names), then SHA-1 over
//! password, "Mighty Aphrodite" and all that came before. That digest is checked before anything else is
//! read. Even behind a valid digest no length allocates memory.

use super::{Key, KeyEntry, Store, WRONG_PASSWORD};
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer, OctetString, Sequence};
use x509_parser::x509::AlgorithmIdentifier;

/// First bytes of a JKS file.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// First bytes of a JCEKS file, which encrypts keys with triple DES.
pub(super) const MAGIC_JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];

const DIGEST_BYTES: usize = 20;
/// What the digest of a file is salted with.
const SALT: &[u8] = b"Mighty Aphrodite";
const KEY_PROTECTOR_OID: &str = "1.3.6.1.4.1.42.2.17.1.1";

/// Checks the digest and reads all entries; the error says what is wrong with the file.
pub(super) fn parse(file: &[u8], password: &str) -> Result<Store, String> {
    let cut = file.len().checked_sub(DIGEST_BYTES).ok_or("it is cut short")?;
    let (body, stored) = file.split_at(cut);
    if digest(password, body) != stored {
        return Err(WRONG_PASSWORD.into());
    }
    let mut reader = Reader(body);
    entries(&mut reader).ok_or_else(|| "it is malformed although its digest is right".into())
}

/// Decrypts the private key of an entry (PKCS#8).
///
/// Sun's key protector: a key stream of chained SHA-1, and SHA-1 over password and key as the check.
pub(super) fn decrypt(encrypted: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let malformed = "the encrypted private key is malformed";
    let (_, outer) = Sequence::from_der(encrypted).map_err(|_| malformed)?;
    let (rest, algorithm) = AlgorithmIdentifier::from_der(&outer.content).map_err(|_| malformed)?;
    if algorithm.algorithm.to_id_string() != KEY_PROTECTOR_OID {
        return Err(format!(
            "the private key is encrypted with an algorithm weir does not know ({})",
            algorithm.algorithm
        ));
    }
    let (_, octets) = OctetString::from_der(rest).map_err(|_| malformed)?;
    let octets = octets.as_ref();
    let (salt, rest) = octets.split_at_checked(DIGEST_BYTES).ok_or(malformed)?;
    let cut = rest.len().checked_sub(DIGEST_BYTES).ok_or(malformed)?;
    let (cipher, check) = rest.split_at(cut);

    let password = utf16(password);
    let mut plain = Vec::with_capacity(cipher.len());
    let mut link = salt.to_vec();
    for chunk in cipher.chunks(DIGEST_BYTES) {
        link = sha1(&[&password, &link]);
        plain.extend(chunk.iter().zip(&link).map(|(c, k)| c ^ k));
    }
    if sha1(&[&password, &plain]) != check {
        return Err("the key password is wrong".into());
    }
    Ok(plain)
}

/// The digest that ends a file.
pub(super) fn digest(password: &str, body: &[u8]) -> Vec<u8> {
    sha1(&[&utf16(password), SALT, body])
}

fn sha1(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn entries(reader: &mut Reader<'_>) -> Option<Store> {
    if reader.take(4)? != MAGIC {
        return None;
    }
    let version = reader.u32()?;
    if !(1..=2).contains(&version) {
        return None;
    }
    let count = reader.u32()?;
    let mut store = Store::default();
    for _ in 0..count {
        let tag = reader.u32()?;
        let alias = reader.name()?;
        reader.take(8)?; // time of creation
        match tag {
            1 => {
                let key = Key::Encrypted(reader.block()?.to_vec());
                let length = reader.u32()?;
                let mut chain = Vec::new();
                for _ in 0..length {
                    chain.push(reader.certificate(version)?);
                }
                store.keys.push(KeyEntry { alias, chain, key });
            }
            2 => store.certificates.push(reader.certificate(version)?),
            _ => return None,
        }
    }
    reader.0.is_empty().then_some(store)
}

/// The bytes left to read; every method returns `None` at their end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Modified UTF-8 differs from UTF-8 in NUL and beyond the basic plane only: displayed, never compared.
    fn name(&mut self) -> Option<String> {
        let length = self.u16()?;
        Some(String::from_utf8_lossy(self.take(length.into())?).into_owned())
    }

    fn certificate(&mut self, version: u32) -> Option<CertificateDer<'static>> {
        if version == 2 && self.name()? != "X.509" {
            return None;
        }
        Some(CertificateDer::from(self.block()?.to_vec()))
    }
}
