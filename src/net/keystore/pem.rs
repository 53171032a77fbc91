//! PEM files: certificate chains, private keys, bundles of trusted certificates.

use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a file, in its order; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|e| format!("its PEM is broken: {e}"))?;
    if all.is_empty() {
        let binary = text.first() == Some(&0x30);
        return Err(if binary {
            "it holds no PEM but looks like DER: openssl x509 -inform der -in FILE -out FILE.pem converts it"
                .into()
        } else {
            "it holds no certificate (no -----BEGIN CERTIFICATE----- block)".into()
        });
    }
    Ok(all)
}

/// The first private key of a file.
pub(super) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|e| {
        if contains(text, b"ENCRYPTED") {
            "the private key is encrypted, and weir does not ask for passwords: \
             openssl pkcs8 -topk8 -nocrypt -in FILE -out FILE.plain writes it in clear (keep the file \
             readable for weir's user only), or use a PKCS#12 keystore with its password"
                .into()
        } else if matches!(e, Error::NoItemsFound) {
            "it holds no private key (no -----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY block)".into()
        } else {
            format!("its PEM is broken: {e}")
        }
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}
