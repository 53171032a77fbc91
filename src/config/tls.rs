//! `[tls]`: weir's own key, whom it trusts, and how it checks a Traffic Manager.
//!
//! Only what can be said without opening the files is checked here; the room `net` opens them.

use super::given::Given;
use super::problem::Bad;
use super::raw::Section;
use super::values::{flag, path, secret, text, word};
use super::{KeyFile, Tls, Trust, Verify};

/// `[tls]`.
pub(super) fn tls(s: &Section<'_>) -> Tls {
    let pem = (s.maybe("certificate", path), s.maybe("key", path));
    let keystore_table = s.section("keystore");
    let keystore = keystore(&keystore_table);
    let has_pem = (s.has("certificate"), s.has("key"));
    if keystore_table.exists() && (has_pem.0 || has_pem.1) {
        let hint = "keep certificate and key, or [tls.keystore]";
        s.problem(
            if has_pem.0 { "certificate" } else { "key" },
            "is given twice, as PEM and as keystore",
            hint,
        );
    }
    match has_pem {
        (true, false) => s.problem(
            "certificate",
            "has no key to go with it",
            "set tls.key to the PEM file of its key",
        ),
        (false, true) => s.problem(
            "key",
            "has no certificate to go with it",
            "set tls.certificate to its PEM file",
        ),
        _ => {}
    }
    let identity = match pem {
        (Some(certificate), Some(key)) => Some(KeyFile::Pem { certificate, key }),
        _ => keystore,
    };
    let trust = trust(&s.section("trust"));
    let verify = verify(s);
    s.finish();
    Tls {
        identity,
        trust,
        verify,
    }
}

/// `file`, or `file_name` as in WSO2's `[keystore.primary]`.
fn keystore(s: &Section<'_>) -> Option<KeyFile> {
    let file = s.maybe("file", path).or(s.maybe("file_name", path));
    // Found by the first bytes of the file; the key is there so that WSO2's block can be pasted.
    s.maybe("type", |g| {
        word(g, &[("auto", ()), ("jks", ()), ("pkcs12", ()), ("p12", ())])
    });
    let password = s.maybe("password", secret);
    let alias = s.maybe("alias", text);
    let key_password = s.maybe("key_password", secret);
    s.finish();
    complete(s)?;
    Some(KeyFile::Keystore {
        file: file?,
        password: password?,
        alias,
        key_password,
    })
}

fn trust(s: &Section<'_>) -> Trust {
    let system = s.read("system", false, flag);
    let pem = s.maybe("pem", path);
    let table = s.section("keystore");
    let file = table.maybe("file", path).or(table.maybe("file_name", path));
    table.maybe("type", |g| {
        word(g, &[("auto", ()), ("jks", ()), ("pkcs12", ()), ("p12", ())])
    });
    let password = table.maybe("password", secret);
    table.finish();
    s.finish();
    let given = [system, s.has("pem"), table.exists()];
    if given.iter().filter(|given| **given).count() > 1 {
        let key = if s.has("pem") { "pem" } else { "keystore" };
        s.problem(
            key,
            "more than one source of trust is set",
            "keep one of system, pem and [tls.trust.keystore]",
        );
    }
    if s.has("system") && !system && !s.has("pem") && !table.exists() {
        s.problem(
            "system",
            "leaves no certificate to trust",
            "set pem or [tls.trust.keystore]",
        );
    }
    match (pem, complete(&table)) {
        (Some(pem), _) => Trust::Pem(pem),
        (None, Some(())) => match (file, password) {
            (Some(file), Some(password)) => Trust::Keystore { file, password },
            _ => Trust::System,
        },
        (None, None) => Trust::System,
    }
}

/// `None` when there is no such table, or it lacks something (noted).
fn complete(s: &Section<'_>) -> Option<()> {
    if !s.exists() {
        return None;
    }
    let file = s.has("file") || s.has("file_name");
    if !file {
        s.problem("file", "is missing", "set it to the path of the keystore");
    }
    if s.has("file") && s.has("file_name") {
        s.problem("file_name", "file and file_name are both set", "keep one of them");
    }
    if !s.has("password") {
        s.problem(
            "password",
            "is missing",
            "set it to the password of the keystore, as \"$file{/run/secrets/keystore}\"",
        );
    }
    (file && s.has("password")).then_some(())
}

/// There is no word for "not at all".
const VERIFY_WORDS: &str = "write \"full\" (chain and host name), \"chain\" (chain only, any host name: what WSO2's own \
                            agent does) or \"pin\" (one of tls.pins); the check cannot be turned off";

fn verify(s: &Section<'_>) -> Verify {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Full,
        Chain,
        Pin,
    }
    let words = [("full", Word::Full), ("chain", Word::Chain), ("pin", Word::Pin)];
    let word = s.read("verify", Word::Full, |g| {
        word(g, &words).map_err(|bad| Bad::new(bad.message, VERIFY_WORDS))
    });
    let mut pins = Vec::new();
    for given in s.array("pins").unwrap_or_default() {
        match pin(&given) {
            Ok(pin) => pins.push(pin),
            Err(bad) => s.context.problem(Some(&given.place), &given.key, bad),
        }
    }
    if word == Word::Pin && !s.has("pins") {
        s.problem(
            "verify",
            "\"pin\" needs pins",
            "set tls.pins to the SHA-256 fingerprints of the certificates",
        );
    }
    if word == Word::Pin && s.has("pins") && s.array("pins").is_some_and(|pins| pins.is_empty()) {
        s.problem(
            "pins",
            "is empty: no Traffic Manager would be trusted",
            "name at least one fingerprint",
        );
    }
    if word != Word::Pin && s.has("pins") {
        s.warning(
            "pins",
            "has no effect without verify = \"pin\"",
            "set tls.verify = \"pin\", or remove the pins",
        );
    }
    match word {
        Word::Full => Verify::Full,
        Word::Chain => {
            s.warning(
                "verify",
                "with \"chain\" any certificate of a trusted CA passes for any Traffic Manager, as in WSO2's own agent",
                "use \"full\" where certificates carry the right names, else \"pin\"",
            );
            Verify::Chain
        }
        Word::Pin => Verify::Pin(pins),
    }
}

/// 32 bytes in hex, colons allowed.
fn pin(given: &Given) -> Result<[u8; 32], Bad> {
    let bad = || {
        let message = format!("{} is not a SHA-256 fingerprint in hex", given.quote());
        Bad::new(
            message,
            "take it from: openssl x509 -in cert.pem -noout -fingerprint -sha256",
        )
    };
    let text = given.text()?;
    let digits: Option<Vec<u8>> = text
        .trim()
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.ok_or_else(bad)?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d))
        .collect();
    if digits.len() != 64 {
        return Err(bad());
    }
    bytes.try_into().map_err(|_| bad())
}
