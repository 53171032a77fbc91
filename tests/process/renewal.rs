//! Passwords, certificates and keystores that are replaced in place while gateways publish: weir looks at their
//! files by itself, and a renewal that is half done changes nothing.

use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use weir::config::{Scheme, Tls, Trust, Url, Verify};
use weir::net::{ClientTls, Dialer, SocketOptions, sha256};
use weir_lab::{Load, LoadOptions};

use crate::support::process::Start;
use crate::support::stage::Stage;
use crate::support::{Plan, noticed_nothing, scrape, story, url};

const SOON: Duration = Duration::from_secs(20);

fn load(stage: &Stage) -> Load {
    Load::start(LoadOptions {
        connections: 4,
        rate: Some(1_000.0),
        ..stage.agents()
    })
}

/// Nobody among the gateways has noticed, and everything arrived.
async fn unnoticed(stage: &Stage, load: Load) {
    load.stop();
    let report = load.finish().await;
    noticed_nothing(&report);
    stage.assert_clean(report.counts.events_acked).await;
}

/// Such a file cannot be half-written when weir looks.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn passwords_in_files_and_secrets_are_followed_when_they_change() {
    story(async {
        let (files, secrets) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (file, secret) = (files.path().join("tm"), secrets.path().join("tm"));
        for path in [&file, &secret] {
            std::fs::write(path, "admin\n").unwrap();
        }
        let tables = format!(
            "[group.one]\nusername = \"admin\"\npassword = \"$file{{{}}}\"\n\
             [group.two]\nusername = \"admin\"\npassword = \"$secret{{tm}}\"\n",
            file.display()
        );
        let start = Start {
            arguments: vec!["--secrets-dir".into(), secrets.path().display().to_string()],
            ..Start::default()
        };
        let plan = Plan {
            tables,
            ..Plan::groups(&["one", "two"])
        };
        let mut stage = Stage::start_as(plan, start).await;
        let load = load(&stage);
        for (path, group) in [(&file, 0), (&secret, 1)] {
            let seen = stage.weir.lines("configuration reloaded").len();
            replace(path, "mistaken\n");
            let failed = |s: &crate::support::process::Status| {
                s.0["groups"][group]["endpoints"][0]["state"] == "down"
                    && s.number(&format!(
                        "/groups/{group}/endpoints/0/failures_total/authentication"
                    )) > 0
            };
            stage.weir.until("the new password is tried", failed).await;
            let other = 1 - group;
            assert_eq!(
                stage
                    .weir
                    .status()
                    .number(&format!("/groups/{other}/endpoints/0/links_up")),
                1
            );
            replace(path, "admin\n");
            stage.weir.until("and the next one", |s| s.all_up()).await;
            let lines = stage.weir.lines("configuration reloaded");
            assert_eq!(lines.len(), seen + 2);
            let said = lines[seen]["changes"].as_str().unwrap();
            assert!(said.contains("reconnects"), "{said}");
        }
        stage.weir.logged("a configuration file has changed").await;
        unnoticed(&stage, load).await;
    });
}

struct Made {
    certificate: String,
    key: String,
    pin: [u8; 32],
    der: (Vec<u8>, Vec<u8>),
}

impl Made {
    /// A keystore with it, password `wso2carbon`.
    fn pkcs12(&self) -> Vec<u8> {
        use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
        let (key, certificate) = &self.der;
        let chain = vec![Certificate::from_der(certificate).unwrap()];
        let mut store = KeyStore::new();
        let entry = PrivateKeyChain::new("weir".to_owned(), PrivateKey::from_der(key).unwrap(), chain);
        store.add_entry("weir", KeyStoreEntry::PrivateKeyChain(entry));
        store.writer("wso2carbon").write().unwrap()
    }
}

fn make() -> Made {
    make_with(CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
}

fn make_with(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        pin: sha256(certificate.der()),
        der: (key.serialize_der(), certificate.der().to_vec()),
    }
}

fn dialer(pin: [u8; 32]) -> Dialer {
    let tls = Tls {
        identity: None,
        trust: Trust::System,
        verify: Verify::Pin(vec![pin]),
    };
    Dialer::new(ClientTls::load(&tls).unwrap(), SocketOptions::default())
}

/// The TLS port of the weir that runs.
async fn tls_url(stage: &mut Stage) -> Url {
    let ready = stage.weir.logged("weir is ready").await;
    Url {
        scheme: Scheme::Ssl,
        ..url(ready["tls"].as_str().unwrap().parse().unwrap())
    }
}

async fn shown(to: &Url) -> [u8; 32] {
    // Whatever it is: the error has the certificate.
    let refused = dialer([0; 32]).dial(to, SOON, SOON).await.err().unwrap();
    refused.certificate.unwrap().sha256
}

async fn shows(to: &Url, pin: [u8; 32]) {
    let deadline = tokio::time::Instant::now() + SOON;
    while shown(to).await != pin {
        assert!(tokio::time::Instant::now() < deadline, "never shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A weir with a TLS port and these tables, and friendly publishers over TLS to it: their connections stay, while
/// agents make new ones by themselves.
async fn over_tls(tables: String, pin: [u8; 32]) -> (Stage, Load, Url) {
    let plan = Plan {
        tables,
        own_tls: true,
        ..Plan::groups(&["one"])
    };
    let mut stage = Stage::start(plan).await;
    let to = tls_url(&mut stage).await;
    let load = Load::start(LoadOptions {
        dialer: dialer(pin),
        data: to.clone(),
        connections: 3,
        rate: Some(500.0),
        ..stage.load()
    });
    (stage, load, to)
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_warned_about_and_bad_trust_is_refused_with_file_line_and_key() {
    story(async {
        let files = TempDir::new().unwrap();
        let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(10 * 86_400 + 3600);
        let made = make_with(params);
        replace(&certificate, &made.certificate);
        replace(&key, &made.key);
        let tables = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        let plan = Plan {
            tables,
            own_tls: true,
            ..Plan::groups(&["one"])
        };
        let mut stage = Stage::start(plan).await;
        let early = "weir's own certificate";
        let line = stage.weir.logged(early).await;
        let message = line["message"].as_str().unwrap();
        assert!(
            message.contains("is not valid before 20")
                && message.contains(", in 10 days: gateways refuse it"),
            "{message}"
        );
        assert_eq!(line["level"], "WARN");
        let in_status = |s: &crate::support::process::Status| {
            let warnings = s.0["warnings"].as_array().unwrap();
            warnings
                .iter()
                .filter(|w| w.as_str().unwrap().starts_with(early))
                .count()
        };
        assert_eq!(in_status(&stage.weir.status()), 1);
        let text = format!(
            "{}\n[tls.trust.keystore]\nfile = \"/nowhere.jks\"\npassword = \"no\"\n",
            stage.toml
        );
        let named = 1 + text
            .lines()
            .position(|line| line.starts_with("file = \"/nowhere"))
            .unwrap();
        std::fs::write(stage.weir.config_file(), &text).unwrap();
        stage.weir.signal("HUP");
        let line = stage
            .weir
            .logged("reload refused, the old configuration stays")
            .await;
        let message = line["message"].as_str().unwrap();
        let place = format!(":{named}:8: tls.trust.keystore.file: /nowhere.jks: it cannot be read");
        assert!(message.contains(&place), "{message}");
        std::fs::write(stage.weir.config_file(), &stage.toml).unwrap();
        stage.weir.signal("HUP");
        stage.weir.logged("reloaded: no changes").await;
        assert_eq!(stage.weir.lines(early).len(), 2, "said again at the reload");
        assert_eq!(in_status(&stage.weir.status()), 1, "and once in the status");
    });
}

#[test]
fn a_certificate_that_is_renewed_in_place_is_shown_from_then_on_and_half_a_renewal_changes_nothing() {
    story(async {
        let files = TempDir::new().unwrap();
        let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        let (old, new) = (make(), make());
        replace(&certificate, &old.certificate);
        replace(&key, &old.key);
        let tables = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        let (mut stage, load, to) = over_tls(tables, old.pin).await;
        assert_eq!(shown(&to).await, old.pin);
        replace(&certificate, &new.certificate);
        stage
            .weir
            .logged("reload refused, the old configuration stays")
            .await;
        assert_eq!(
            scrape(stage.weir.admin)["weir_config_last_reload_successful"],
            0.0
        );
        assert_eq!(shown(&to).await, old.pin);
        replace(&key, &new.key);
        shows(&to, new.pin).await;
        let scraped = scrape(stage.weir.admin);
        assert_eq!(scraped["weir_config_last_reload_successful"], 1.0);
        // A gateway that trusts the new one and nothing else is served; those of before still are.
        dialer(new.pin).dial(&to, SOON, SOON).await.unwrap();
        unnoticed(&stage, load).await;
    });
}

#[test]
fn a_keystore_that_is_replaced_in_place_is_served_from_then_on_and_a_damaged_one_is_not() {
    story(async {
        let files = TempDir::new().unwrap();
        let store = files.path().join("keystore.jks");
        let vector = |name: &str| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/vectors")
                .join(name)
        };
        std::fs::copy(vector("rsa2048.jks"), &store).unwrap();
        let tables = format!("[tls.keystore]\nfile = {store:?}\npassword = \"wso2carbon\"\n");
        let pin = keystore_pin(&store);
        let (mut stage, load, to) = over_tls(tables, pin).await;
        let damaged = std::fs::read(&store).unwrap();
        replace(&store, &damaged[..damaged.len() - 1]);
        let refused = stage
            .weir
            .logged("reload refused, the old configuration stays")
            .await;
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("the password is wrong, or the file is damaged")
        );
        assert_eq!(shown(&to).await, pin);
        // Another kind of file under the same name: its first bytes tell.
        let next = make();
        replace(&store, next.pkcs12());
        assert_eq!(keystore_pin(&store), next.pin);
        shows(&to, next.pin).await;
        let said = stage.weir.logged("configuration reloaded").await;
        let said = said["changes"].as_str().unwrap();
        assert!(said.contains("certificate was replaced, valid until "), "{said}");
        unnoticed(&stage, load).await;
    });
}

fn keystore_pin(file: &Path) -> [u8; 32] {
    let tls = Tls {
        identity: Some(weir::config::KeyFile::Keystore {
            file: file.to_path_buf(),
            password: weir::config::Secret::new("wso2carbon"),
            alias: None,
            key_password: None,
        }),
        trust: Trust::System,
        verify: Verify::Full,
    };
    weir::net::ServerTls::load(&tls).unwrap().certificate().sha256
}
