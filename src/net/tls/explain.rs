//! Error messages for failed handshakes: what the other side did, and how to fix it.

use std::io;

use super::verify::Refusal;
use crate::net::info::CertificateInfo;
use tokio_rustls::rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

/// Why a handshake with a server failed.
pub(super) fn client(e: &io::Error) -> String {
    if let Some(text) = transport(e) {
        return format!("the server {text} (does it speak TLS on this port? a plain one needs tcp://)");
    }
    match inner(e) {
        Some(Error::InvalidCertificate(CertificateError::Other(refusal))) => refusal.0.to_string(),
        Some(Error::InvalidCertificate(CertificateError::BadSignature)) => {
            "the server does not hold the key of the certificate it shows: its signature is wrong".into()
        }
        Some(Error::InvalidMessage(_)) => {
            "the answer is not TLS: this looks like a plain port, which needs tcp:// in the URL".into()
        }
        Some(Error::AlertReceived(Alert::HandshakeFailure) | Error::PeerIncompatible(_)) => {
            "the server and weir have no cipher suite in common: weir speaks ECDHE with AES-GCM or \
             ChaCha20 in TLS 1.2 and 1.3; the server's list of ciphers may allow only CBC or RSA key exchange"
                .into()
        }
        Some(Error::AlertReceived(Alert::ProtocolVersion)) => {
            "the server speaks neither TLS 1.2 nor TLS 1.3: enable TLSv1.2 there".into()
        }
        Some(Error::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate)) => {
            "the server asks for a client certificate, which weir does not present".into()
        }
        _ => e.to_string(),
    }
}

/// The certificate that was refused, if that is why a handshake with a server failed.
pub(super) fn refused(e: &io::Error) -> Option<CertificateInfo> {
    match inner(e)? {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            Some(other.0.downcast_ref::<Refusal>()?.certificate.clone())
        }
        _ => None,
    }
}

/// Why a handshake with a gateway failed.
pub(super) fn server(e: &io::Error) -> String {
    if let Some(text) = transport(e) {
        return format!("the client {text} (a port probe does that, too)");
    }
    match inner(e) {
        Some(Error::InvalidMessage(_)) => {
            "the client does not speak TLS: its URL may need ssl:// or the plain port".into()
        }
        Some(Error::AlertReceived(
            Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::UnsupportedCertificate,
        )) => "the client does not trust weir's certificate: import it into the gateway's client-truststore.jks \
               (keytool -importcert), or give weir one that the gateway trusts (tls.keystore or tls.certificate)"
            .into(),
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        )) => "the client offers no TLS version that weir speaks here (TLS 1.2 and 1.3; for AMQP 1.2 alone)".into(),
        Some(Error::PeerIncompatible(_) | Error::AlertReceived(Alert::HandshakeFailure)) => {
            "the client and weir have no cipher suite in common: weir speaks ECDHE with AES-GCM or ChaCha20; the \
             client's list of ciphers may allow only CBC or RSA key exchange"
                .into()
        }
        _ => e.to_string(),
    }
}

fn inner(e: &io::Error) -> Option<&Error> {
    e.get_ref()?.downcast_ref::<Error>()
}

fn transport(e: &io::Error) -> Option<&'static str> {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Some("closed the connection during the handshake"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            Some("reset the connection during the handshake")
        }
        _ => None,
    }
}
