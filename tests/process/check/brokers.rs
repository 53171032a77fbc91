//! The brokers of the return leg: those that work, and each way in which one does not.

use serde_json::{Value, json};
use weir::net::hex;

use super::broker::{Broker, Says};
use super::certificates::pasted;
use super::support::Site;
use super::tm::{Mute, Tm};
use crate::support::certificates::{Made, ca_params, leaf, self_signed, signed_by};

/// A good Traffic Manager, a CA, and a configuration of both with these brokers.
struct Bed {
    ca: Made,
    _tm: Tm,
    site: Site,
}

impl Bed {
    fn new(brokers: &[String]) -> Self {
        let ca = self_signed(ca_params());
        Self::trusting(ca, brokers)
    }

    fn trusting(ca: Made, brokers: &[String]) -> Self {
        let tm = Tm::start(&signed_by(&ca, leaf(&["localhost"])), Mute::Nothing);
        // The key is WSO2's own, where it stands in a pasted block: before the url groups.
        let pasted = format!(
            "throttle_decision_endpoints = {brokers:?}\n{}",
            tm.group("localhost", "tcp")
        );
        let site = Site::new(&ca, &pasted);
        site.add("[decisions]\nlisten = \"127.0.0.1:0\"\n");
        Self { ca, _tm: tm, site }
    }
}

/// The rows of the brokers.
fn rows(json: &Value) -> &Vec<Value> {
    let section = &json["connect"]["sections"][1];
    assert_eq!(section["title"], "Brokers of throttle decisions");
    section["rows"].as_array().unwrap()
}

fn step<'a>(row: &'a Value, name: &str) -> &'a Value {
    let steps = row["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap()
}

#[test]
fn a_broker_is_named_and_gets_only_a_protocol_header() {
    let broker = Broker::start(Says::Start, None);
    let bed = Bed::new(&[broker.url("tcp")]);
    let found = "RabbitMQ 3.10.8 (PLAIN AMQPLAIN)";
    bed.site.connect().says(0, &[found, "Everything works."]);
    let json = bed.site.json();
    let [row] = &rows(&json)[..] else {
        panic!("{json:#}")
    };
    assert_eq!(row["name"], broker.url("tcp"));
    assert_eq!(row["ok"], true);
    let outcomes = ["dns", "tcp", "tls", "amqp"].map(|name| step(row, name)["outcome"].clone());
    assert_eq!(outcomes, ["ok", "ok", "skipped", "ok"]);
    assert_eq!(step(row, "amqp")["found"], found);
    assert!(row["round_trip_ms"].as_f64().unwrap() > 0.0);
    for heard in broker.heard() {
        assert_eq!(heard, b"AMQP\0\0\x09\x01", "no login");
    }
}

#[test]
fn a_broker_over_tls_shows_its_certificate_among_the_others() {
    let ca = self_signed(ca_params());
    let certificate = signed_by(&ca, leaf(&["localhost"]));
    let broker = Broker::start(Says::Start, Some(&certificate));
    let bed = Bed::trusting(ca, &[broker.url("ssl")]);
    let json = bed.site.json();
    assert_eq!(json["exit_code"], 0, "{json:#}");
    assert_eq!(step(&rows(&json)[0], "tls")["found"], "TLSv1.3");
    let shown = json["connect"]["certificates"].as_array().unwrap();
    let by_broker: Vec<&Value> = shown
        .iter()
        .filter(|c| c["shown_by"] == json!([broker.url("ssl")]))
        .collect();
    let [shown] = by_broker[..] else {
        panic!("{json:#}")
    };
    assert_eq!(shown["sha256"], hex(&certificate.pin()));
    assert_eq!(shown["names"], json!(["localhost"]));
    assert_eq!(shown["subject"], "CN=localhost");
    assert!(shown["days_left"].as_i64().unwrap() > 365);
}

#[test]
fn a_broker_with_another_name_is_refused_until_the_lines_are_pasted() {
    let ca = self_signed(ca_params());
    let certificate = signed_by(&ca, leaf(&["tm.example"]));
    let broker = Broker::start(Says::Start, Some(&certificate));
    let bed = Bed::trusting(ca, &[broker.url("ssl")]);
    let said = bed.site.connect();
    said.says(
        1,
        &[
            "FAILED: tls",
            "it is for tm.example and not for localhost",
            "tls.verify = \"chain\"",
            "(refused)",
            &hex(&certificate.pin()),
            "1 of the rows above FAILED",
        ],
    );
    let json = bed.site.json();
    assert_eq!(step(&rows(&json)[0], "amqp")["outcome"], "skipped");
    bed.site.add(&pasted(&said));
    bed.site.connect().says(0, &["RabbitMQ", "Everything works."]);
}

#[test]
fn a_broker_with_another_certificate_than_the_pinned_one_is_refused_until_it_is_pinned_too() {
    let (unknown, pinned) = (self_signed(leaf(&["localhost"])), "07".repeat(32));
    let broker = Broker::start(Says::Start, Some(&unknown));
    let bed = Bed::new(&[broker.url("ssl")]);
    bed.site
        .add(&format!("[tls]\nverify = \"pin\"\npins = [\"{pinned}\"]\n"));
    let said = bed.site.connect();
    said.says(1, &["it is not one of the 1 pinned ones"]);
    let lines = pasted(&said);
    assert!(
        lines.contains(&pinned) && lines.contains(&hex(&unknown.pin())),
        "{lines}"
    );
    // Whose chain is unknown is told with the file that would mend it.
    let bed = Bed::new(&[broker.url("ssl")]);
    bed.site
        .connect()
        .says(1, &["FAILED: tls", "Add this certificate to", "trust.pem"]);
    assert_ne!(bed.ca.pin(), unknown.pin());
}

#[test]
fn brokers_that_are_down_or_unresolvable_do_not_stop_the_others() {
    let broker = Broker::start(Says::Start, None);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("tcp://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let bed = Bed::new(&[closed.clone(), "tcp://tm.invalid:5672".into(), broker.url("tcp")]);
    bed.site.connect().says(
        1,
        &[
            "FAILED: refused",
            "is the port right?",
            "the name tm.invalid has no address",
            "2 of the rows above FAILED",
        ],
    );
    let json = bed.site.json();
    let rows = rows(&json);
    let ok: Vec<&Value> = rows.iter().map(|row| &row["ok"]).collect();
    assert_eq!(ok, [false, false, true], "in the order of the configuration");
    assert_eq!(step(&rows[0], "tcp")["found"], "refused");
    assert_eq!(step(&rows[0], "amqp")["outcome"], "skipped");
    assert_eq!(step(&rows[1], "dns")["found"], "dns");
    assert_eq!(step(&rows[1], "tcp")["outcome"], "skipped");
}

#[test]
fn an_unsuitable_broker_is_identified_by_its_reply() {
    let certificate = self_signed(leaf(&["localhost"]));
    let others = [Says::Http, Says::OtherVersion, Says::Nothing, Says::Goodbye];
    let others = others.map(|says| Broker::start(says, None));
    let with_tls = Broker::start(Says::Start, Some(&certificate));
    let mut urls: Vec<String> = others.iter().map(|broker| broker.url("tcp")).collect();
    urls.push(with_tls.url("tcp"));
    let bed = Bed::new(&urls);
    bed.site.connect().says(
        1,
        &[
            "is no AMQP broker: its answer begins with \"HTTP/1.1 400 Bad\"",
            "it requires AMQP 1 1 0 10, and they speak 0-9-1",
            "does not answer within 3.0s (it may still be starting)",
            "listens on 5672, with TLS on 8672",
            "it answers with TLS, so its URL needs ssl://",
            "5 of the rows above FAILED",
        ],
    );
    let json = bed.site.json();
    let found: Vec<&Value> = rows(&json)
        .iter()
        .map(|row| &step(row, "amqp")["found"])
        .collect();
    assert_eq!(found, ["protocol", "version", "mute", "closed", "protocol"]);
}

#[test]
fn without_the_return_leg_no_broker_is_tried() {
    let ca = self_signed(ca_params());
    let tm = Tm::start(&signed_by(&ca, leaf(&["localhost"])), Mute::Nothing);
    let site = Site::new(&ca, &tm.group("localhost", "tcp"));
    let json = site.json();
    let titles: Vec<&Value> = json["connect"]["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|section| &section["title"])
        .collect();
    assert_eq!(titles, ["Traffic Managers", "This host"]);
}
