//! TLS towards gateways: weir's own certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::ServerSessionMemoryCache;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Current, TlsError, explain, provider, selfsigned, unix_now};
use crate::config::Tls;
use crate::net::error::{DialClass, DialError};
use crate::net::info::CertificateInfo;
use crate::net::keystore::{self, Identity};
use crate::net::stream::{Below, Raw, Stream};

/// TLS sessions kept, so that gateways, whose connections are short, resume instead of doing a full handshake.
const SESSIONS_MAX: usize = 4096;

/// Weir's own certificate and key, validated: readable, matching, strong enough, not expired.
#[derive(Clone, Debug)]
pub struct ServerTls {
    any: Arc<ServerConfig>,
    only_1_2: Arc<ServerConfig>,
    certificate: CertificateInfo,
    notice: Option<String>,
}

impl ServerTls {
    /// Reads certificate and key, or makes a self-signed pair when none is configured.
    ///
    /// # Errors
    /// A file that cannot be used, a key that is not the certificate's, an expired certificate.
    pub fn load(tls: &Tls) -> Result<ServerTls, TlsError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match &tls.identity {
            Some(file) => ServerTls::with(keystore::identity(file)?, now, None),
            None => {
                let made = selfsigned::make(&selfsigned::host_name(), now)?;
                ServerTls::with(made.identity, now, Some(made.notice))
            }
        }
    }

    fn with(identity: Identity, now: Duration, notice: Option<String>) -> Result<ServerTls, TlsError> {
        let (key, certificate) = certified(identity, now)?;
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let config = |versions: &[&'static SupportedProtocolVersion]| -> Result<Arc<ServerConfig>, TlsError> {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&resolver) as Arc<_>);
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
            Ok(Arc::new(config))
        };
        Ok(ServerTls {
            any: config(&[&TLS13, &TLS12])?,
            only_1_2: config(&[&TLS12])?,
            certificate,
            notice,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateInfo {
        &self.certificate
    }

    /// That the certificate is not valid yet, if so: until then gateways refuse it.
    #[must_use]
    pub fn not_yet_valid(&self) -> Option<String> {
        let early = self.certificate.not_yet_valid(unix_now())?;
        let subject = &self.certificate.subject;
        Some(format!(
            "weir's own certificate ({subject}) is {early}: gateways refuse it until then"
        ))
    }

    /// For the log when the certificate is self-signed, with how gateways can trust it. Several lines.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    fn config(&self, max_version_1_2: bool) -> Arc<ServerConfig> {
        Arc::clone(if max_version_1_2 {
            &self.only_1_2
        } else {
            &self.any
        })
    }
}

/// Accepts TLS handshakes; clones share the certificate, also after [`Acceptor::replace`].
#[derive(Clone)]
pub struct Acceptor {
    config: Current<ServerConfig>,
    max_version_1_2: bool,
}

impl Acceptor {
    /// Shows the certificate of `tls`. With `max_version_1_2` TLS 1.3 is not offered: the AMQP client of
    /// WSO2's gateways (Andes) hangs after a 1.3 handshake.
    #[must_use]
    pub fn new(tls: &ServerTls, max_version_1_2: bool) -> Acceptor {
        Acceptor {
            config: Current::new(tls.config(max_version_1_2)),
            max_version_1_2,
        }
    }

    /// New handshakes show the certificate of `tls` from now on, in every clone. Open connections stay.
    pub fn replace(&self, tls: &ServerTls) {
        self.config.replace(tls.config(self.max_version_1_2));
    }

    /// Does the handshake over an accepted connection. On failure the connection is closed.
    ///
    /// # Errors
    /// Class `tls` or `timeout`.
    pub async fn handshake(&self, raw: Raw, within: Duration) -> Result<Stream, DialError> {
        let acceptor = TlsAcceptor::from(self.config.load());
        match timeout(within, acceptor.accept(Below::new(raw))).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(e)) => {
                let text = format!("TLS handshake failed: {}", explain::server(&e));
                Err(DialError::new(DialClass::Tls, text))
            }
            Err(_) => {
                let text = format!("no complete TLS handshake within {within:.1?}");
                Err(DialError::new(DialClass::Timeout, text))
            }
        }
    }
}

/// Checks everything that would otherwise fail at the first handshake.
fn certified(identity: Identity, now: Duration) -> Result<(CertifiedKey, CertificateInfo), TlsError> {
    let Identity {
        chain,
        key,
        origin,
        named_by,
    } = identity;
    let fail = |text: String| Err(TlsError::about(named_by, format!("{origin}: {text}")));
    let Some(leaf) = chain.first() else {
        return fail("there is no certificate".into());
    };
    let Some(public_key) = public_key(leaf) else {
        return fail("the certificate cannot be parsed".into());
    };
    let info = CertificateInfo::of(leaf);
    if let Some(weakness) = info.weakness() {
        return fail(format!(
            "the certificate ({}) is too weak for TLS: {weakness}. Make a new one: keytool -genkeypair -alias weir \
             -keyalg RSA -keysize 2048 -sigalg SHA256withRSA -validity 825 -dname CN=HOST -ext san=dns:HOST \
             -storetype PKCS12 -keystore weir.p12, then import its certificate into the gateways' \
             client-truststore.jks (keytool -exportcert and -importcert); or set neither tls.keystore nor tls.certificate and \
             weir makes one at start",
            info.subject
        ));
    }
    let key = match provider().key_provider.load_private_key(key) {
        Ok(key) => key,
        Err(e) => return fail(format!("the private key cannot be used: {e}")),
    };
    if key.public_key().is_some_and(|spki| spki.as_ref() != public_key) {
        return fail(format!(
            "the private key does not belong to the certificate ({})",
            info.subject
        ));
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > info.not_after {
        return fail(format!(
            "the certificate ({}) has expired on {}: renew it",
            info.subject,
            info.last_day()
        ));
    }
    Ok((CertifiedKey::new(chain, key), info))
}

fn public_key<'a>(leaf: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (_, x) = X509Certificate::from_der(leaf).ok()?;
    Some(x.tbs_certificate.subject_pki.raw)
}
