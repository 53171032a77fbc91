//! Certificates that are refused, and what mends it.

use weir::net::hex;

use super::support::{Said, Site, configuration, step};
use super::tm::{Mute, Tm};
use crate::support::certificates::{Made, ca_params, expired, leaf, self_signed, signed_by};

/// The lines that a check gives to paste.
pub(crate) fn pasted(said: &Said) -> String {
    let from = said.stdout.find("[tls]\n").unwrap();
    let lines = &said.stdout[from..];
    lines[..lines.find("\n]\n").unwrap() + 3].to_owned()
}

/// That it is refused because of that, and that the pin which is given to paste makes it pass.
fn refused_until_pinned(trusted: &Made, shown: &Made, because: &[&str]) {
    let tm = Tm::start(shown, Mute::Nothing);
    let site = Site::new(trusted, &tm.group("localhost", "tcp"));
    let said = site.connect();
    said.says(1, &["FAILED: tls", &hex(&shown.pin()), "(refused)"]);
    said.says(1, because);
    let json = site.json();
    assert_eq!(step(&json, 0, "auth tls")["outcome"], "failed");
    assert_eq!(step(&json, 0, "login")["outcome"], "skipped");
    assert_eq!(step(&json, 0, "data tcp")["outcome"], "ok");
    let certificate = &json["connect"]["certificates"][0];
    assert_eq!(certificate["accepted"], false);
    assert_eq!(certificate["sha256"], hex(&shown.pin()));
    site.add(&pasted(&said));
    site.connect().says(0, &["Everything works."]);
}

#[test]
fn an_unknown_ca_is_refused_until_the_pin_is_pasted() {
    let (known, unknown) = (self_signed(ca_params()), self_signed(ca_params()));
    let certificate = signed_by(&unknown, leaf(&["localhost"]));
    refused_until_pinned(&known, &certificate, &["CN=Test CA", "trust.pem"]);
}

#[test]
fn a_self_signed_certificate_is_refused_until_the_pin_is_pasted() {
    let other = self_signed(ca_params());
    let certificate = self_signed(leaf(&["localhost"]));
    refused_until_pinned(&other, &certificate, &["Add this certificate to", "trust.pem"]);
}

#[test]
fn a_wrong_host_name_is_refused_with_both_remedies() {
    let ca = self_signed(ca_params());
    let certificate = signed_by(&ca, leaf(&["tm.example"]));
    let mends = [
        "it is for tm.example and not for localhost",
        "tls.verify = \"chain\"",
    ];
    refused_until_pinned(&ca, &certificate, &mends);
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&ca, &tm.group("localhost", "tcp"));
    site.add("[tls]\nverify = \"chain\"\n");
    site.connect().says(0, &["Everything works."]);
}

#[test]
fn an_expired_certificate_is_refused_and_noted_where_it_is_pinned() {
    let ca = self_signed(ca_params());
    let certificate = signed_by(&ca, expired(leaf(&["localhost"])));
    refused_until_pinned(&ca, &certificate, &["expired", "Renew it", "2020-01-01"]);
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&ca, &tm.group("localhost", "tcp"));
    site.add(&format!(
        "[tls]\nverify = \"pin\"\npins = [\"{}\"]\n",
        hex(&certificate.pin())
    ));
    site.connect()
        .says(0, &["expired on 2020-01-01", "because it is pinned"]);
}

#[test]
fn the_lines_to_paste_name_every_server_because_a_pin_counts_for_all() {
    let (known, unknown) = (self_signed(ca_params()), self_signed(ca_params()));
    let good = signed_by(&known, leaf(&["localhost"]));
    let bad = signed_by(&unknown, leaf(&["localhost"]));
    let tms = [&good, &bad].map(|certificate| Tm::start(certificate, Mute::Nothing));
    let groups: String = tms.iter().map(|tm| tm.group("localhost", "tcp")).collect();
    let site = Site::new(&known, &groups);
    let said = site.connect();
    said.says(1, &["1 of the rows above FAILED"]);
    let lines = pasted(&said);
    assert!(
        lines.contains(&hex(&good.pin())) && lines.contains(&hex(&bad.pin())),
        "{lines}"
    );
    site.add(&lines);
    site.connect().says(0, &["Everything works."]);
}

#[test]
fn pins_that_are_configured_stay_among_the_lines_to_paste() {
    let certificate = self_signed(leaf(&["localhost"]));
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&certificate, &tm.group("localhost", "tcp"));
    let old = "09".repeat(32);
    site.add(&format!("[tls]\nverify = \"pin\"\npins = [\"{old}\"]\n"));
    let said = site.connect();
    said.says(1, &["it is not one of the 1 pinned ones"]);
    let lines = pasted(&said);
    assert!(
        lines.contains(&old) && lines.contains(&hex(&certificate.pin())),
        "{lines}"
    );
}

fn now() -> std::time::Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
}

/// Valid in ten days and a half.
fn early(mut params: rcgen::CertificateParams) -> rcgen::CertificateParams {
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now() + day * 10 + day / 2;
    params
}

#[test]
fn an_own_certificate_that_is_not_valid_yet_fails_the_check() {
    let own = self_signed(early(leaf(&["localhost"])));
    let tm = Tm::start(&self_signed(leaf(&["localhost"])), Mute::Nothing);
    let group = tm.group("localhost", "tcp");
    let site = Site::with("");
    std::fs::write(site.path("cert.pem"), &own.pem).unwrap();
    std::fs::write(site.path("key.pem"), own.key.serialize_pem()).unwrap();
    let tls = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n[tls.trust]\npem = {0:?}\n",
        site.path("cert.pem"),
        site.path("key.pem")
    );
    site.write(&configuration(&tls, &group));
    let said = site.check(&[]);
    said.says(
        0,
        &[
            "warning: tls: weir's own certificate",
            "is not valid before 20",
            ", in 10 days: gateways refuse it until then",
            "warning: tls.trust: ",
        ],
    );
    let said = site.connect();
    said.says(1, &["FAILED: not valid yet", "it is not valid before 20"]);
    assert!(!said.all().contains("days left\n"), "{}", said.all());
    assert!(!said.stdout.contains("364 days left"), "{}", said.all());
    let json = site.json();
    let shown = json["connect"]["certificates"].as_array().unwrap();
    let weir = shown.iter().find(|c| c["shown_by"][0] == "weir").unwrap();
    assert!(
        weir["not_yet_valid"].as_str().unwrap().ends_with(", in 10 days"),
        "{weir}"
    );
}

#[test]
fn a_pinned_certificate_that_is_not_valid_yet_is_noted() {
    let shown = self_signed(early(leaf(&["localhost"])));
    let tm = Tm::start(&shown, Mute::Nothing);
    let site = Site::new(&shown, &tm.group("localhost", "tcp"));
    site.connect().says(1, &["not valid before 20"]);
    site.add(&format!(
        "[tls]\nverify = \"pin\"\npins = [\"{}\"]\n",
        hex(&shown.pin())
    ));
    site.connect().says(
        0,
        &[
            ", in 10 days; weir accepts it because it is pinned",
            "not valid before 20",
        ],
    );
}

#[test]
fn a_certificate_that_expires_soon_is_noted() {
    let ca = self_signed(ca_params());
    let mut params = leaf(&["localhost"]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let day = std::time::Duration::from_secs(86_400);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + day * 10 + day / 2;
    let certificate = signed_by(&ca, params);
    let tm = Tm::start(&certificate, Mute::Nothing);
    Site::new(&ca, &tm.group("localhost", "tcp"))
        .connect()
        .says(0, &["in 10 days: renew it"]);
}
