//! A self-signed certificate, for a start without configuration.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;
use crate::net::info::{hex, sha256};
use crate::net::keystore::Identity;

/// Longer than a process lives; each start makes a new one.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) struct Made {
    pub(super) identity: Identity,
    pub(super) notice: String,
}

/// Makes key (EC P-256) and certificate for `host`, localhost and the loopback addresses. `now` is the time
/// since the Unix epoch.
pub(super) fn make(host: &str, now: Duration) -> Result<Made, TlsError> {
    let fail = |e: rcgen::Error| TlsError::about("", format!("cannot make a self-signed certificate: {e}"));
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if host.is_ascii() && !host.is_empty() && host != "localhost" {
        names.insert(0, host.to_owned());
    }
    let mut params = CertificateParams::new(names.clone()).map_err(fail)?;
    params.distinguished_name.push(DnType::CommonName, host);
    let epoch = date_time_ymd(1970, 1, 1);
    // Gateways' clocks may be behind.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + LIFE;
    let key = KeyPair::generate().map_err(fail)?;
    let certificate = params.self_signed(&key).map_err(fail)?;
    let der = certificate.der().clone();
    let notice = format!(
        "neither tls.certificate nor tls.keystore is set: made a self-signed one for {}, SHA-256 {}. It changes with \
         every start, so it is for trials; gateways trust it after: keytool -importcert -noprompt -alias weir -file \
         weir.pem -keystore client-truststore.jks, with this as weir.pem:\n{}",
        names.join(", "),
        hex(&sha256(&der)),
        certificate.pem().replace("\r\n", "\n").trim_end()
    );
    let identity = Identity {
        chain: vec![der],
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        origin: "self-signed certificate".into(),
        named_by: "",
    };
    Ok(Made { identity, notice })
}

/// This host's name, `localhost` when it has none.
pub(super) fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    match name.trim() {
        "" | "(none)" => "localhost".into(),
        name => name.to_owned(),
    }
}
