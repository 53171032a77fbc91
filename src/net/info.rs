//! Certificates in readable form: names, validity, key, fingerprint.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// A certificate in readable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Distinguished name of the owner; empty when the certificate cannot be parsed.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Subject alternative names: DNS names and addresses.
    pub sans: Vec<String>,
    /// First second of validity, Unix seconds.
    pub not_before: i64,
    /// Last second of validity, Unix seconds.
    pub not_after: i64,
    /// SHA-256 of the DER form: what a pin holds.
    pub sha256: [u8; 32],
    /// Such as `RSA 2048` or `EC 256`.
    pub key: String,
    /// Such as `SHA256withRSA`; an OID when weir has no name for it.
    pub signature: String,
    /// Marked as a certificate authority (`CA:TRUE`).
    pub ca: bool,
    /// X.509 version 3; older ones cannot carry names.
    pub v3: bool,
}

impl CertificateInfo {
    /// Reads a certificate. Of one that cannot be parsed only the fingerprint is set.
    #[must_use]
    pub fn of(der: &CertificateDer<'_>) -> Self {
        let sha256 = sha256(der);
        match X509Certificate::from_der(der) {
            Ok((_, x)) => Self {
                subject: x.subject().to_string(),
                issuer: x.issuer().to_string(),
                sans: sans(&x),
                not_before: x.validity().not_before.timestamp(),
                not_after: x.validity().not_after.timestamp(),
                sha256,
                key: key(&x),
                signature: signature(&x.signature_algorithm.algorithm.to_id_string()),
                ca: x.is_ca(),
                v3: x.version() == X509Version::V3,
            },
            Err(_) => Self {
                subject: String::new(),
                issuer: String::new(),
                sans: Vec::new(),
                not_before: 0,
                not_after: 0,
                sha256,
                key: String::new(),
                signature: String::new(),
                ca: false,
                v3: false,
            },
        }
    }

    /// Why current TLS libraries refuse this certificate's key, if they do.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        let bits: u32 = self.key.strip_prefix("RSA ")?.parse().ok()?;
        let digest = match self.signature.as_str() {
            "SHA1withRSA" => ", and it is signed with SHA-1 (SHA1withRSA)",
            "MD5withRSA" => ", and it is signed with MD5 (MD5withRSA)",
            _ => "",
        };
        (bits < 2048).then(|| format!("its key is RSA {bits} (2048 is the least){digest}"))
    }

    /// `not valid before 2026-12-01, in 10 days`, if so. `now` in Unix seconds.
    #[must_use]
    pub fn not_yet_valid(&self, now: i64) -> Option<String> {
        let left = self.not_before.saturating_sub(now);
        let days = left.div_euclid(86_400);
        let wait = match days {
            _ if left <= 0 => return None,
            0 => "in less than a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        Some(format!("not valid before {}, {wait}", self.first_day()))
    }

    /// Last day of validity, as `2027-01-31`.
    #[must_use]
    pub fn last_day(&self) -> String {
        day(self.not_after)
    }

    /// First day of validity, as `2027-01-31`.
    #[must_use]
    pub fn first_day(&self) -> String {
        day(self.not_before)
    }

    /// The fingerprint as a pin is written: 64 hex digits.
    #[must_use]
    pub fn pin(&self) -> String {
        hex(&self.sha256)
    }
}

impl fmt::Display for CertificateInfo {
    /// One line for messages, fingerprint included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.sans.is_empty() {
            "none".to_owned()
        } else {
            self.sans.join(" ")
        };
        let (subject, issuer, until, pin) = (&self.subject, &self.issuer, self.last_day(), self.pin());
        write!(
            f,
            "subject {subject}, names {names}, issuer {issuer}, valid until {until}, SHA-256 {pin}"
        )
    }
}

fn day(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        })
}

/// SHA-256 of a certificate's DER form.
#[must_use]
pub fn sha256(der: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().try_into().unwrap_or_default()
}

fn sans(x: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = x.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            GeneralName::IPAddress(ip) => match <[u8; 4]>::try_from(*ip) {
                Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
                Err(_) => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*ip).ok()?).to_string()),
            },
            _ => None,
        })
        .collect()
}

fn key(x: &X509Certificate<'_>) -> String {
    use x509_parser::public_key::PublicKey;
    match x.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("EC {}", point.key_size()),
        _ => x.public_key().algorithm.algorithm.to_id_string(),
    }
}

fn signature(oid: &str) -> String {
    match oid {
        "1.2.840.113549.1.1.4" => "MD5withRSA",
        "1.2.840.113549.1.1.5" => "SHA1withRSA",
        "1.2.840.113549.1.1.11" => "SHA256withRSA",
        "1.2.840.113549.1.1.12" => "SHA384withRSA",
        "1.2.840.113549.1.1.13" => "SHA512withRSA",
        "1.2.840.10045.4.1" => "SHA1withECDSA",
        "1.2.840.10045.4.3.2" => "SHA256withECDSA",
        "1.2.840.10045.4.3.3" => "SHA384withECDSA",
        "1.2.840.10045.4.3.4" => "SHA512withECDSA",
        "1.3.101.112" => "Ed25519",
        other => other,
    }
    .to_owned()
}
