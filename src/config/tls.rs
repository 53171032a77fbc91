//! `[tls]`: weir's own key, what it trusts, and how it checks a Traffic Manager. The files are opened by `net`.

use std::path::PathBuf;

use super::Secret;
use super::kinds::{Kind, flag, path, secret, text, word};
use super::problem::Bad;
use super::section::{Given, Section};
use super::settings::settings;

settings! {
    /// The keys of `[tls]` itself.
    pub(super) struct TlsKeys("tls.") {
        "certificate" certificate: Option<PathBuf> = path(), eg "/etc/weir/tls.crt", NextConnection,
            "PEM file, leaf first. Without this and tls.keystore a self-signed certificate is made at start.";
        "key" key: Option<PathBuf> = path(), eg "/etc/weir/tls.key", NextConnection,
            "PEM file of its private key, not encrypted.";
        "verify" verify: VerifyWord = verify_word(), or "full", NextConnection,
            "How a Traffic Manager's certificate is checked: \"full\" = chain and name, \"chain\" = chain only, as WSO2's own agent does, \"pin\" = one of tls.pins.";
    }
    documented {
        "pins" = "list of hex strings", eg ["AB:CD:…"], NextConnection,
            "SHA-256 fingerprints of certificates, in hex, colons allowed.";
    }
}

settings! {
    /// `[tls.keystore]`.
    pub(super) struct KeystoreKeys("tls.keystore.") {
        "file" file: Option<PathBuf> = path(), eg "/etc/weir/wso2carbon.jks", NextConnection,
            "JKS or PKCS#12 file, in place of certificate and key; file_name is accepted too.";
        "password" password: Option<Secret> = secret(), eg "$secret{keystore}", NextConnection,
            "Password of the keystore.";
        "alias" alias: Option<String> = text(), eg "wso2carbon", NextConnection,
            "Which key entry; needed only where there are several.";
        "key_password" key_password: Option<Secret> = secret(), eg "$secret{key}", NextConnection,
            "Password of the key, where it differs from that of the keystore.";
    }
    documented {
        "type" = "`\"auto\"`, `\"jks\"`, `\"pkcs12\"`", eg "auto", NextConnection,
            "Accepted so that WSO2's table can be pasted; the type is detected from the file.";
    }
}

settings! {
    /// `[tls.trust]`.
    pub(super) struct TrustKeys("tls.trust.") {
        "system" system: Option<bool> = flag(), eg true, NextConnection,
            "Trust the certificates of the operating system; the default when nothing else is set.";
        "pem" pem: Option<PathBuf> = path(), eg "/etc/weir/ca.pem", NextConnection,
            "Trust the certificates of a PEM file.";
    }
}

settings! {
    /// `[tls.trust.keystore]`.
    pub(super) struct TruststoreKeys("tls.trust.keystore.") {
        "file" file: Option<PathBuf> = path(), eg "/etc/weir/client-truststore.jks", NextConnection,
            "Trust the certificates of a JKS or PKCS#12 truststore; file_name is accepted too.";
        "password" password: Option<Secret> = secret(), eg "$secret{truststore}", NextConnection,
            "Password of the truststore.";
    }
    documented {
        "type" = "`\"auto\"`, `\"jks\"`, `\"pkcs12\"`", eg "auto", NextConnection,
            "As tls.keystore.type.";
    }
}

/// TLS in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Weir's own certificate and key for the TLS listener; `None` = self-signed at start.
    pub identity: Option<KeyFile>,
    /// What weir trusts when it connects to a Traffic Manager.
    pub trust: Trust,
    /// How a Traffic Manager's certificate is checked.
    pub verify: Verify,
}

/// A certificate chain with its key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyFile {
    /// Two PEM files.
    Pem {
        /// Certificate chain, leaf first.
        certificate: PathBuf,
        /// Private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
        key: PathBuf,
    },
    /// A Java keystore (JKS) or PKCS#12 file; the type is detected from its first bytes.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
        /// Alias; `None` = the only key entry.
        alias: Option<String>,
        /// Key password; `None` = the store's.
        key_password: Option<Secret>,
    },
}

/// Trust anchors.
#[derive(Debug, Clone, PartialEq)]
pub enum Trust {
    /// The operating system's.
    System,
    /// A PEM bundle.
    Pem(PathBuf),
    /// A JKS or PKCS#12 truststore.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
    },
}

/// How a server certificate is verified.
#[derive(Debug, Clone, PartialEq)]
pub enum Verify {
    /// Chain and host name.
    Full,
    /// Chain only: what WSO2's own agent does.
    Chain,
    /// SHA-256 of the certificate (DER), any of these.
    Pin(Vec<[u8; 32]>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum VerifyWord {
    Full,
    Chain,
    Pin,
}

/// `[tls]`.
pub(super) fn tls(s: &Section<'_>) -> Option<Tls> {
    let keys = TlsKeys::read(s, None)?;
    let table = s.section("keystore");
    let keystore = KeystoreKeys::read(&table, None)?;
    let file = keystore_file(&table, keystore.file);
    let pem = (s.has("certificate"), s.has("key"));
    if table.exists() && (pem.0 || pem.1) {
        let hint = "keep certificate and key, or [tls.keystore]";
        let key = if pem.0 { "certificate" } else { "key" };
        s.problem(key, "is given twice, as PEM and as keystore", hint);
    }
    match pem {
        (true, false) => {
            let hint = "set tls.key to the PEM file of its key";
            s.problem("certificate", "has no key to go with it", hint);
        }
        (false, true) => {
            let hint = "set tls.certificate to its PEM file";
            s.problem("key", "has no certificate to go with it", hint);
        }
        _ => {}
    }
    let identity = match (keys.certificate, keys.key) {
        (Some(certificate), Some(key)) => Some(KeyFile::Pem { certificate, key }),
        _ => file
            .zip(keystore.password)
            .map(|(file, password)| KeyFile::Keystore {
                file,
                password,
                alias: keystore.alias,
                key_password: keystore.key_password,
            }),
    };
    let trust = trust(&s.section("trust"))?;
    let verify = verify(s, keys.verify);
    s.finish();
    Some(Tls {
        identity,
        trust,
        verify,
    })
}

fn trust(s: &Section<'_>) -> Option<Trust> {
    let TrustKeys { system, pem } = TrustKeys::read(s, None)?;
    let table = s.section("keystore");
    let truststore = TruststoreKeys::read(&table, None)?;
    let file = keystore_file(&table, truststore.file);
    s.finish();
    let given = [system == Some(true), s.has("pem"), table.exists()];
    if given.iter().filter(|given| **given).count() > 1 {
        let key = if s.has("pem") { "pem" } else { "keystore" };
        let hint = "keep one of system, pem and [tls.trust.keystore]";
        s.problem(key, "more than one source of trust is set", hint);
    }
    if system == Some(false) && !s.has("pem") && !table.exists() {
        s.problem(
            "system",
            "leaves no certificate to trust",
            "set pem or [tls.trust.keystore]",
        );
    }
    Some(match (pem, file.zip(truststore.password)) {
        (Some(pem), _) => Trust::Pem(pem),
        (None, Some((file, password))) => Trust::Keystore { file, password },
        (None, None) => Trust::System,
    })
}

/// The file of a keystore, which `[keystore.primary]` of WSO2 calls `file_name`. Notes what the table lacks.
fn keystore_file(s: &Section<'_>, file: Option<PathBuf>) -> Option<PathBuf> {
    let file = file.or(s.maybe("file_name", |given| path().parse(given)));
    let types = word(&[("auto", ()), ("jks", ()), ("pkcs12", ()), ("p12", ())]);
    s.maybe("type", |given| types.parse(given));
    s.finish();
    if !s.exists() {
        return None;
    }
    match (s.has("file"), s.has("file_name")) {
        (false, false) => s.problem("file", "is missing", "set it to the path of the keystore"),
        (true, true) => s.problem("file_name", "file and file_name are both set", "keep one of them"),
        _ => {}
    }
    if !s.has("password") {
        let hint = "set it to the password of the keystore, as \"$file{/run/secrets/keystore}\"";
        s.problem("password", "is missing", hint);
    }
    file
}

fn verify_word() -> Kind<VerifyWord> {
    // There is no word for "not at all".
    let hint = "write \"full\" (chain and host name), \"chain\" (chain only, any host name: what WSO2's own agent does) or \
                \"pin\" (one of tls.pins); the check cannot be turned off";
    let words = word(&[
        ("full", VerifyWord::Full),
        ("chain", VerifyWord::Chain),
        ("pin", VerifyWord::Pin),
    ]);
    Kind::new("`\"full\"`, `\"chain\"`, `\"pin\"`", move |given| {
        words.parse(given).map_err(|bad| Bad::new(bad.message, hint))
    })
}

fn verify(s: &Section<'_>, word: VerifyWord) -> Verify {
    let given = s.array("pins");
    let pins = given
        .iter()
        .flatten()
        .filter_map(|given| s.accept(given, pin(given)));
    let pins = pins.collect();
    match (word, &given) {
        (VerifyWord::Pin, None) => {
            let hint = "set tls.pins to the SHA-256 fingerprints of the certificates";
            s.problem("verify", "\"pin\" needs pins", hint);
        }
        (VerifyWord::Pin, Some(given)) if given.is_empty() => {
            let message = "is empty: no Traffic Manager would be trusted";
            s.problem("pins", message, "name at least one fingerprint");
        }
        (VerifyWord::Full | VerifyWord::Chain, Some(_)) => s.warning(
            "pins",
            "has no effect without verify = \"pin\"",
            "set tls.verify = \"pin\", or remove the pins",
        ),
        _ => {}
    }
    match word {
        VerifyWord::Full => Verify::Full,
        VerifyWord::Chain => {
            s.warning(
                "verify",
                "with \"chain\" any certificate of a trusted CA passes for any Traffic Manager, as in WSO2's own agent",
                "use \"full\" where certificates carry the right names, else \"pin\"",
            );
            Verify::Chain
        }
        VerifyWord::Pin => Verify::Pin(pins),
    }
}

/// 32 bytes in hex, colons allowed.
fn pin(given: &Given) -> Result<[u8; 32], Bad> {
    let hint = "take it from: openssl x509 -in cert.pem -noout -fingerprint -sha256";
    let bad = || {
        Bad::new(
            format!("{} is not a SHA-256 fingerprint in hex", given.quote()),
            hint,
        )
    };
    let text = given.text()?;
    let digits = text.trim().chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>().ok_or_else(bad)?;
    let byte = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    match digits.len() {
        64 => bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad),
        _ => Err(bad()),
    }
}
