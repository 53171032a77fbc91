//! Signatures of servers whose certificate is older than X.509 version 3, as some WSO2 truststores hold them.

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use x509_parser::asn1_rs::{Any, FromDer, Sequence};
use x509_parser::prelude::{X509Certificate, X509Version};

/// The public key of a certificate older than version 3: webpki refuses to parse those, so their
/// signatures are checked with the bare key.
pub(super) struct OldKey<'a> {
    pub(super) spki: &'a [u8],
}

impl<'a> OldKey<'a> {
    /// `None`: a version 3 certificate.
    pub(super) fn of(leaf: &'a CertificateDer<'_>) -> Result<Option<OldKey<'a>>, Error> {
        let (_, x) = X509Certificate::from_der(leaf).map_err(|_| bad_encoding())?;
        if x.version() == X509Version::V3 {
            return Ok(None);
        }
        let spki = x.tbs_certificate.subject_pki.raw;
        Ok(Some(OldKey { spki }))
    }

    /// Checks a TLS 1.2 signature.
    pub(super) fn verify(
        &self,
        message: &[u8],
        dss: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, spki) = Sequence::from_der(self.spki).map_err(|_| bad_encoding())?;
        let (bits, algorithm) = Any::from_der(&spki.content).map_err(|_| bad_encoding())?;
        let (_, bits) = Any::from_der(bits).map_err(|_| bad_encoding())?;
        // A BIT STRING of whole bytes: its first byte counts unused bits.
        let Some((0, key)) = bits.data.split_first() else {
            return Err(bad_encoding());
        };
        let mapped = algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme);
        let Some((_, candidates)) = mapped else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let good = candidates
            .iter()
            .filter(|c| c.public_key_alg_id().as_ref() == algorithm.data)
            .any(|c| c.verify_signature(key, message, dss.signature()).is_ok());
        if good {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

fn bad_encoding() -> Error {
    CertificateError::BadEncoding.into()
}
