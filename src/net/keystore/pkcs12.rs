//! PKCS#12 keystores (`.p12`, `.pfx`; what keytool writes since Java 9), through the crate p12-keystore.

use p12_keystore::error::Error;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{Key, KeyEntry, Store, WRONG_PASSWORD};

pub(super) fn parse(file: &[u8], password: &str) -> Result<Store, String> {
    let store = KeyStore::from_pkcs12(file, password, Pkcs12ImportPolicy::Relaxed).map_err(|e| match e {
        Error::MacError(_) => WRONG_PASSWORD.to_owned(),
        other => format!("it cannot be read as PKCS#12: {other}"),
    })?;
    let der = |c: &p12_keystore::Certificate| CertificateDer::from(c.as_der().to_vec());
    let mut out = Store::default();
    for (alias, entry) in store.entries() {
        match entry {
            KeyStoreEntry::PrivateKeyChain(chain) => out.keys.push(KeyEntry {
                alias: alias.clone(),
                chain: chain.certs().iter().map(der).collect(),
                key: Key::Plain(chain.key().as_der().to_vec()),
            }),
            KeyStoreEntry::Certificate(certificate) => out.certificates.push(der(certificate)),
            KeyStoreEntry::Secret(_) => {}
        }
    }
    Ok(out)
}
