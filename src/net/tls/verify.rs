//! Verifies a server's certificate: chain and name, chain alone, or a pin.
//!
//! As Java does, a leaf that is itself among the trusted certificates is trusted, even where webpki would
//! never accept it (marked as a CA, X.509 version 1): WSO2's truststores hold such certificates. Its dates
//! still count. A pin names one certificate, so neither its dates nor its names count. In all modes the
//! server must prove that it holds the key.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::old_key::OldKey;
use super::{TlsError, provider};
use crate::config::Verify;
use crate::net::info::CertificateInfo;
use crate::net::keystore::Anchors;

/// The check of one configuration.
#[derive(Debug)]
pub(super) struct Verifier {
    mode: Verify,
    /// `None`: there is no usable trust anchor.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Everything trusted, for leaves that are trusted themselves.
    trusted: HashSet<CertificateDer<'static>>,
    /// Certificates read, those that appear under several aliases included.
    anchors: usize,
    /// Where the trusted certificates come from, for messages.
    origin: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(mode: Verify, anchors: Anchors) -> Result<Verifier, TlsError> {
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(anchors.certificates.iter().cloned());
        if ignored > 0 {
            // Still trusted where they are the server's own certificate.
            tracing::warn!(
                origin = anchors.origin,
                ignored,
                "trusted certificates that cannot issue others"
            );
        }
        let provider = provider();
        let chain = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(
                builder
                    .build()
                    .map_err(|e| TlsError::about("tls.trust", format!("{}: {e}", anchors.origin)))?,
            )
        };
        Ok(Verifier {
            mode,
            chain,
            anchors: anchors.certificates.len(),
            trusted: anchors.certificates.into_iter().collect(),
            origin: anchors.origin,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// The trusted certificates that are not valid yet, one line each. `now` in Unix seconds.
    pub(super) fn early(&self, now: i64) -> Vec<String> {
        let early = |leaf: &CertificateDer<'_>| {
            let info = CertificateInfo::of(leaf);
            let early = info.not_yet_valid(now)?;
            Some(format!(
                "{}: the certificate of {} is {early}",
                self.origin, info.subject
            ))
        };
        let mut lines: Vec<String> = self.trusted.iter().filter_map(early).collect();
        lines.sort();
        lines
    }

    /// Trusted certificates.
    pub(super) fn anchors(&self) -> usize {
        self.anchors
    }

    fn check_pin(&self, pins: &[[u8; 32]], info: &CertificateInfo) -> Result<(), Error> {
        if pins.contains(&info.sha256) {
            return Ok(());
        }
        let n = pins.len();
        refuse(
            info,
            &format!("it is not one of the {n} pinned ones"),
            &format!(
                "If this is the right server (ask who runs it), pin it: {}",
                pin_line(info)
            ),
        )
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
        info: &CertificateInfo,
    ) -> Result<(), Error> {
        if self.trusted.contains(leaf) {
            return self.check_dates(now, info);
        }
        let Some(chain) = &self.chain else {
            let problem = format!("no certificate is trusted: none was found in {}", self.origin);
            let remedy = format!(
                "Install ca-certificates, or set tls.trust.pem or tls.trust.keystore, or pin this certificate: {}",
                pin_line(info)
            );
            return refuse(info, &problem, &remedy);
        };
        match chain.verify_server_cert(leaf, others, name, &[], now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(e)) => self.explain(e, info),
            Err(e) => Err(e),
        }
    }

    /// webpki checks the chain first and the name last, so an error about the name means that the chain is valid; the
    /// name is checked separately.
    fn explain(&self, e: CertificateError, info: &CertificateInfo) -> Result<(), Error> {
        use CertificateError as E;
        let pin = pin_line(info);
        let origin = &self.origin;
        match e {
            E::NotValidForName | E::NotValidForNameContext { .. } => Ok(()),
            // The chain's signature: an issuer of that name is trusted, but with another key.
            E::UnknownIssuer | E::BadSignature => {
                let issuer = &info.issuer;
                let remedy = if info.subject == info.issuer {
                    format!("Add this certificate to {origin}, or pin it: {pin}")
                } else {
                    format!("Add the certificate of {issuer} to {origin}, or pin this one: {pin}")
                };
                let but = match e {
                    E::BadSignature => " (an issuer of that name is there, with another key)",
                    _ => "",
                };
                refuse(
                    info,
                    &format!("no certificate in {origin} has issued it{but}"),
                    &remedy,
                )
            }
            E::Expired | E::ExpiredContext { .. } => {
                refuse(info, "a certificate of its chain has expired", &renew(info))
            }
            E::NotValidYet | E::NotValidYetContext { .. } => refuse(
                info,
                "a certificate of its chain is not valid yet",
                "Check the clock of this host",
            ),
            e => {
                let problem = match e {
                    _ if !info.v3 => "it is an X.509 version 1 certificate".to_owned(),
                    _ if info.ca => "it is a CA certificate and used as a server's own".to_owned(),
                    e => format!("it cannot be verified ({e}; signed with {})", info.signature),
                };
                refuse(
                    info,
                    &problem,
                    &format!("Add this certificate itself to {origin}, or pin it: {pin}"),
                )
            }
        }
    }

    fn check_dates(&self, now: UnixTime, info: &CertificateInfo) -> Result<(), Error> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > info.not_after {
            return refuse(info, "it has expired", &renew(info));
        }
        if now < info.not_before {
            let problem = format!("it is not valid before {}", info.first_day());
            return refuse(info, &problem, "Check the clock of this host");
        }
        Ok(())
    }

    /// Only names in the extension count; the CN is ignored, as in every TLS client but Java's oldest.
    fn check_name(
        &self,
        leaf: &CertificateDer<'_>,
        name: &ServerName<'_>,
        info: &CertificateInfo,
    ) -> Result<(), Error> {
        let fits = ParsedCertificate::try_from(leaf).and_then(|leaf| verify_server_name(&leaf, name));
        if fits.is_ok() {
            return Ok(());
        }
        let problem = if info.sans.is_empty() {
            format!(
                "it names no host (subjectAltName is missing; the CN does not count), so not {} either",
                name.to_str()
            )
        } else {
            format!("it is for {} and not for {}", info.sans.join(", "), name.to_str())
        };
        let remedy = format!(
            "Use a name of the certificate in the URL, or check the chain alone, as WSO2's own agent does: \
             tls.verify = \"chain\"; or pin it: {}",
            pin_line(info)
        );
        refuse(info, &problem, &remedy)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let info = CertificateInfo::of(leaf);
        if let Some(weakness) = info.weakness() {
            let remedy = "Give that server a new key (RSA 2048 or EC) and certificate (SHA-256); no setting of weir \
                          can make this one safe";
            return refuse(&info, &format!("it is too weak: {weakness}"), remedy);
        }
        match &self.mode {
            Verify::Pin(pins) => self.check_pin(pins, &info)?,
            Verify::Chain => self.check_chain(leaf, others, name, now, &info)?,
            Verify::Full => {
                self.check_chain(leaf, others, name, now, &info)?;
                self.check_name(leaf, name, &info)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OldKey::of(leaf)? {
            None => verify_tls12_signature(message, leaf, dss, &self.algorithms),
            Some(key) => key.verify(message, dss, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OldKey::of(leaf)? {
            None => verify_tls13_signature(message, leaf, dss, &self.algorithms),
            Some(key) => {
                let spki = SubjectPublicKeyInfoDer::from(key.spki);
                verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A message and the certificate it is about, carried through rustls.
#[derive(Debug)]
pub(super) struct Refusal {
    text: String,
    pub(super) certificate: CertificateInfo,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

fn refuse<T>(info: &CertificateInfo, problem: &str, remedy: &str) -> Result<T, Error> {
    let text = format!("the server's certificate is refused: {problem}. {remedy}. The certificate: {info}");
    let certificate = info.clone();
    let refusal = Refusal { text, certificate };
    Err(CertificateError::Other(OtherError(Arc::new(refusal))).into())
}

/// The configuration that pins this certificate.
fn pin_line(info: &CertificateInfo) -> String {
    format!("tls.verify = \"pin\" with tls.pins = [\"{}\"]", info.pin())
}

fn renew(info: &CertificateInfo) -> String {
    format!(
        "Renew it on the server; a pin would accept it meanwhile: {}",
        pin_line(info)
    )
}
