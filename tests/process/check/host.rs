//! What weir needs of the host it is to run on.

use std::net::{Ipv4Addr, TcpListener};

use weir::app::{Files, Weir};
use weir::check::{self, Section};
use weir::config::{Log, LogFormat};
use weir::telemetry;

use super::support::{Site, configuration};
use super::tm::{Mute, Tm};
use crate::support::certificates::{leaf, self_signed};

/// The row of that name, as (ok, its cells and notes in one text).
fn row(sections: &[Section], name: &str) -> (bool, String) {
    let rows = &sections.last().unwrap().rows;
    let row = rows.iter().find(|row| row.name == name).unwrap();
    let cells = row.steps.iter().map(|step| step.found.as_str());
    let texts: Vec<&str> = cells.chain(row.notes.iter().map(String::as_str)).collect();
    (row.ok, texts.join("; "))
}

#[test]
fn a_port_that_another_program_has_is_a_failure() {
    let certificate = self_signed(leaf(&["localhost"]));
    let tm = Tm::start(&certificate, Mute::Nothing);
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let site = Site::new(&certificate, &tm.group("localhost", "tcp"));
    let text = std::fs::read_to_string(site.path("weir.toml")).unwrap();
    let taken = other.local_addr().unwrap().to_string();
    site.write(&text.replacen("127.0.0.1:0", &taken, 1));
    site.connect()
        .says(1, &["FAILED: taken", &taken, "another program listens there"]);
}

/// A loopback address of this process and test alone: weir's ports must be known before they are opened.
fn own_address(test: u8) -> Ipv4Addr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, a | test, b, c.max(1))
}

/// Gives weir its usual ports at this address.
fn settle_at(site: &Site, address: Ipv4Addr) {
    let mut text = std::fs::read_to_string(site.path("weir.toml")).unwrap();
    for port in [9611, 9711, 9619] {
        text = text.replacen("127.0.0.1:0", &format!("{address}:{port}"), 1);
    }
    site.write(&text);
}

/// A weir with this configuration, in this process.
fn run(site: &Site) -> (Files, Weir) {
    let files = Files {
        weir_toml: Some(site.path("weir.toml")),
        ..Files::default()
    };
    let (config, _) = files.load().unwrap();
    let log = Log {
        level: "off".into(),
        format: LogFormat::Text,
    };
    let log = telemetry::build(&log, std::io::sink).unwrap().1;
    let weir = Weir::start(config, Vec::new(), log).unwrap();
    (files, weir)
}

#[test]
fn ports_that_a_running_weir_has_are_a_note() {
    let certificate = self_signed(leaf(&["localhost"]));
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&certificate, &tm.group("localhost", "tcp"));
    settle_at(&site, own_address(0x40));
    let (files, weir) = run(&site);
    let report = check::check(&files, true);
    assert_eq!(report.exit_code, 0, "{report:#?}");
    let connect = report.connect.unwrap();
    for key in ["listen.tcp", "listen.tls", "admin.listen"] {
        let (ok, text) = row(&connect.sections, key);
        assert!(ok && text.contains("taken by weir"), "{key}: {text}");
    }
    let _ = weir.stop();
}

/// A weir whose Traffic Manager is `host`, which is weir, checked while it runs.
fn check_of_a_circle(address: Ipv4Addr, more: &str) -> check::Report {
    let [_, a, b, c] = address.octets();
    // A name to weir, which does not look names up before it runs; an address to the resolver.
    let host = format!("127.{}", u32::from_be_bytes([0, a, b, c]));
    let group = format!(
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://{host}:9611\"]\n\
         traffic_manager_auth_urls = [\"tcp://{host}:9611\"]\n[auth]\nallow_plaintext_login = true\n{more}\n"
    );
    let site = Site::with(&configuration("", &group));
    settle_at(&site, address);
    let (files, weir) = run(&site);
    let report = check::check(&files, true);
    let _ = weir.stop();
    report
}

#[test]
fn a_host_name_that_leads_back_to_weir_is_a_failure_whatever_its_secret() {
    for (test, more) in [(0x80, ""), (0xC0, "session_secret = \"0123456789abcdef\"")] {
        let report = check_of_a_circle(own_address(test), more);
        assert_eq!(report.exit_code, 1, "{report:#?}");
        let sections = report.connect.unwrap().sections;
        let row = &sections[0].rows[0];
        let login = row.steps.iter().find(|step| step.step == "login").unwrap();
        let why = login.why.as_deref().unwrap();
        assert!(
            login.found == "loop" && why.contains("traffic_manager_urls lead back to weir"),
            "{login:?}"
        );
    }
}

#[test]
fn weirs_own_certificate_is_described() {
    let certificate = self_signed(leaf(&["localhost"]));
    let tm = Tm::start(&certificate, Mute::Nothing);
    let group = tm.group("localhost", "tcp");
    let site = Site::new(&certificate, &group);
    site.connect().says(
        0,
        &[
            "generated at start",
            "weir generates a self-signed certificate at every start",
        ],
    );
    std::fs::write(site.path("key.pem"), certificate.key.serialize_pem()).unwrap();
    let tls = format!(
        "[tls]\ncertificate = {0:?}\nkey = {1:?}\n[tls.trust]\npem = {0:?}\n",
        site.path("trust.pem"),
        site.path("key.pem")
    );
    site.write(&configuration(&tls, &group));
    site.connect().says(
        0,
        &[
            "days left",
            "it is self-signed: gateways must have it in their client-truststore.jks",
        ],
    );
}

#[test]
fn another_weir_in_the_place_of_a_traffic_manager_is_a_note() {
    let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://127.0.0.1:1\"]\n\
                 [auth]\nallow_plaintext_login = true\n";
    let (_, far) = run(&Site::with(&configuration("", group)));
    let to = far.addresses().tcp.unwrap();
    let group = format!(
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://{to}\"]\ntraffic_manager_auth_urls = [\"tcp://{to}\"]\n"
    );
    let site = Site::with(&configuration("", &group));
    site.connect()
        .says(0, &[&format!("tcp://{to} is a weir: name a Traffic Manager")]);
    let _ = far.stop();
}
