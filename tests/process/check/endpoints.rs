//! Endpoints that work, and each way in which one does not.

use serde_json::Value;

use super::support::{Site, configuration, step};
use super::tm::{Mute, Seen, Tm};
use crate::support::certificates::{Made, ca_params, leaf, self_signed, signed_by};

/// A CA and a certificate of it for localhost.
fn good() -> (Made, Made) {
    let ca = self_signed(ca_params());
    let certificate = signed_by(&ca, leaf(&["localhost"]));
    (ca, certificate)
}

/// What a Traffic Manager sees of a check that went well.
const WELL: Seen = Seen {
    logins: 1,
    logouts: 1,
    empty_publishes: 1,
    wrong: 0,
    ends: 2,
    resets: 0,
};

#[test]
fn a_valid_setup_passes_and_every_session_is_logged_out() {
    let (ca, certificate) = good();
    let tms = [Mute::Nothing, Mute::Nothing].map(|mute| Tm::start(&certificate, mute));
    let groups: String = tms.iter().map(|tm| tm.group("localhost", "tcp")).collect();
    let said = Site::new(&ca, &groups).connect();
    said.says(
        0,
        &[
            "every event goes to 2 groups: group1, group2",
            "TLSv1.3",
            "plain",
            " ms\n",
            "Everything works.",
        ],
    );
    assert_eq!(said.stdout.matches("(refused)").count(), 0);
    for tm in &tms {
        assert_eq!(tm.seen(), WELL);
    }
}

#[test]
fn events_over_tls_are_checked_over_tls() {
    let (ca, certificate) = good();
    let tm = Tm::all_tls(&certificate);
    let json = Site::new(&ca, &tm.group("localhost", "ssl")).json();
    assert_eq!(json["exit_code"], 0, "{json:#}");
    for side in ["auth tls", "data tls"] {
        assert_eq!(step(&json, 0, side)["outcome"], "ok");
        assert_eq!(step(&json, 0, side)["found"], "TLSv1.3");
    }
    assert!(
        json["connect"]["sections"][0]["rows"][0]["round_trip_ms"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let shown = &json["connect"]["certificates"][0];
    assert_eq!(shown["names"], serde_json::json!(["localhost"]));
    assert_eq!(shown["subject"], "CN=localhost");
    assert_eq!(shown["shown_by"].as_array().unwrap().len(), 2);
    assert!(shown["days_left"].as_i64().unwrap() > 365);
    assert_eq!(tm.seen(), WELL);
}

#[test]
fn an_endpoint_that_is_down_does_not_stop_the_others() {
    let (ca, certificate) = good();
    let (up, mut down) = (
        Tm::start(&certificate, Mute::Nothing),
        Tm::start(&certificate, Mute::Nothing),
    );
    let groups = up.group("localhost", "tcp") + &down.group("localhost", "tcp");
    down.kill();
    let site = Site::new(&ca, &groups);
    site.connect().says(
        1,
        &[
            "FAILED: refused",
            "is the Traffic Manager up",
            "1 of the rows above FAILED",
        ],
    );
    let json = site.json();
    assert_eq!(json["connect"]["sections"][0]["rows"][0]["ok"], true);
    assert_eq!(json["connect"]["sections"][0]["rows"][1]["ok"], false);
    assert_eq!(step(&json, 1, "auth tcp")["found"], "refused");
    assert_eq!(step(&json, 1, "data tcp")["found"], "refused");
    assert_eq!(step(&json, 1, "login")["outcome"], "skipped");
}

#[test]
fn a_login_without_a_reply_ends_at_its_deadline() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Login);
    let site = Site::new(&ca, &tm.group("localhost", "tcp"));
    site.connect().says(
        1,
        &[
            "FAILED: timeout",
            "did not answer the login within 1s",
            "receiver threads",
        ],
    );
    let seen = tm.seen();
    assert_eq!((seen.logins, seen.empty_publishes, seen.logouts), (1, 0, 0));
}

#[test]
fn a_wrong_password_is_reported_with_its_key() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Nothing);
    let site = Site::new(&ca, &tm.group("localhost", "tcp"));
    site.add("[group.group1]\nusername = \"admin\"\npassword = \"not-the-one-at-all\"\n");
    let said = site.connect();
    said.says(
        1,
        &[
            "FAILED: authentication",
            "wrong userName or password",
            "[group.group1]",
            "\"admin\"",
        ],
    );
    assert!(!said.all().contains("not-the-one-at-all"));
    assert_eq!((tm.seen().logins, tm.seen().logouts), (1, 0));
}

#[test]
fn a_heartbeat_without_a_reply_fails_and_its_connection_is_reset() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Publish);
    Site::new(&ca, &tm.group("localhost", "tcp"))
        .connect()
        .says(1, &["heartbeat: tcp://", "did not reply to a publish within 1s"]);
    let seen = tm.seen();
    assert_eq!((seen.logouts, seen.ends, seen.resets), (1, 1, 1), "{seen:?}");
}

#[test]
fn a_session_that_the_data_url_does_not_know_points_at_the_urls() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Session);
    Site::new(&ca, &tm.group("localhost", "tcp")).connect().says(
        1,
        &[
            "FAILED: session",
            "SessionTimeoutException",
            "do both URLs name the same Traffic Manager?",
        ],
    );
    assert_eq!((tm.seen().logouts, tm.seen().resets), (1, 0));
}

#[test]
fn a_logout_without_a_reply_is_only_noted() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Logout);
    Site::new(&ca, &tm.group("localhost", "tcp"))
        .connect()
        .says(0, &["note: the logout was not accepted (no reply)"]);
}

#[test]
fn a_name_without_an_address_is_named() {
    let (ca, _) = good();
    let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm.invalid:9611\"]\n";
    let site = Site::new(&ca, group);
    site.connect()
        .says(1, &["FAILED: dns", "the name tm.invalid has no address"]);
    let json = site.json();
    for later in [
        "auth tcp",
        "auth tls",
        "login",
        "data tcp",
        "data tls",
        "heartbeat",
    ] {
        assert_eq!(step(&json, 0, later)["outcome"], "skipped", "{later}");
    }
}

#[test]
fn a_plain_port_behind_an_ssl_url_is_named() {
    let (ca, certificate) = good();
    let tm = Tm::start(&certificate, Mute::Nothing);
    let group = tm.group("localhost", "ssl");
    let said = Site::new(&ca, &group).connect();
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.stdout.contains("data tls: "), "{}", said.stdout);
    assert!(said.stdout.contains("needs tcp://"), "{}", said.stdout);
}

#[test]
fn endpoints_are_tried_at_once_and_shown_in_order() {
    let (ca, certificate) = good();
    let tms: Vec<Tm> = (0..8).map(|_| Tm::start(&certificate, Mute::Login)).collect();
    let groups: String = tms.iter().map(|tm| tm.group("localhost", "tcp")).collect();
    let site = Site::new(&ca, &groups);
    let since = tokio::time::Instant::now();
    let json = site.json();
    let took = since.elapsed().as_secs_f64() * 1_000.0;
    let logins = (0..tms.len()).map(|row| step(&json, row, "login")["took_ms"].as_f64().unwrap());
    assert!(took < logins.sum(), "one after the other");
    let rows = json["connect"]["sections"][0]["rows"].as_array().unwrap();
    let names: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
    let expected: Vec<Value> = tms
        .iter()
        .map(|tm| format!("localhost:{}", tm.data.port()).into())
        .collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
}

#[test]
fn without_connect_nothing_is_connected_to() {
    let (_, certificate) = good();
    let mut tm = Tm::start(&certificate, Mute::Nothing);
    let group = tm.group("localhost", "tcp");
    tm.kill();
    let said = Site::with(&configuration("", &group)).check(&[]);
    said.says(0, &["every event goes to 1 group: group1"]);
    assert!(!said.stdout.contains("FAILED"));
}
