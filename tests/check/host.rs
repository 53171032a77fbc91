//! What weir needs of the host it is to run on.

use std::net::{Ipv4Addr, TcpListener};

use weir::app::{Files, Weir};
use weir::check::{self, Section};
use weir::config::{Log, LogFormat};
use weir::telemetry;

use crate::net_support::{leaf, self_signed};
use crate::support::{Site, configuration};
use crate::tm::{Mute, Tm};

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

#[test]
fn ports_that_a_running_weir_has_are_a_note() {
    let certificate = self_signed(leaf(&["localhost"]));
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&certificate, &tm.group("localhost", "tcp"));
    let files = Files {
        weir_toml: Some(site.path("weir.toml")),
        ..Files::default()
    };
    // A loopback address of this process alone: the ports must be known before they are opened.
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let mut text = std::fs::read_to_string(site.path("weir.toml")).unwrap();
    for port in [9611, 9711, 9619] {
        text = text.replacen(
            "127.0.0.1:0",
            &format!("127.{}.{b}.{}:{port}", a | 0x40, c.max(1)),
            1,
        );
    }
    site.write(&text);
    let (config, _) = files.load().unwrap();
    let log = telemetry::init(&Log {
        level: "off".into(),
        format: LogFormat::Text,
    });
    let weir = Weir::start(config, Vec::new(), log.unwrap()).unwrap();
    let report = check::check(&files, true);
    assert_eq!(report.exit_code, 0, "{report:#?}");
    let connect = report.connect.unwrap();
    for key in ["listen.tcp", "listen.tls", "admin.listen"] {
        let (ok, text) = row(&connect.sections, key);
        assert!(ok && text.contains("taken by weir"), "{key}: {text}");
    }
    let _ = weir.stop();
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
            "made at start",
            "weir makes a self-signed certificate at every start",
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
