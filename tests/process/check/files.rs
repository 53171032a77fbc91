//! What can be said without a connection.

use super::support::{Site, configuration};

const GROUP: &str =
    "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm1:9611\", \"tcp://tm2:9611\"]\n";

#[test]
fn every_problem_is_listed_at_once_and_the_exit_code_is_2() {
    let more = "backoff_min = \"1 parsec\"\nwindow = 3\n[tls]\nverify = \"hope\"\n";
    let site = Site::with(&configuration(more, GROUP));
    for arguments in [&[][..], &["--connect"]] {
        let said = site.check(arguments);
        said.says(
            2,
            &["1 parsec", "window", "hope", "3 problems in the configuration"],
        );
        assert_eq!(said.stdout, "");
    }
    let json = site.json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["problems"].as_array().unwrap().len(), 3);
    assert!(
        json["problems"]
            .as_array()
            .unwrap()
            .iter()
            .all(|p| p["line"].as_u64() > Some(0))
    );
    assert!(json["fan_out"].is_null() && json["connect"].is_null());
}

#[test]
fn a_file_that_is_missing_or_not_toml_exits_with_2() {
    Site::with("[apim.throttling\npassword = \"correct-horse-battery\"")
        .check(&[])
        .says(2, &["weir.toml"]);
    let site = Site::with("");
    std::fs::remove_file(site.path("weir.toml")).unwrap();
    site.check(&[]).says(2, &["cannot read the file"]);
    site.check(&["--no-such-argument"]).says(2, &["--help"]);
}

#[test]
fn every_unusable_tls_file_is_a_problem() {
    let tls = "[tls]\ncertificate = \"/nowhere/weir.pem\"\nkey = \"/nowhere/weir.key\"\n[tls.trust]\npem = \"/nowhere/ca.pem\"\n";
    let site = Site::with(&configuration(tls, GROUP));
    site.check(&[]).says(
        2,
        &[
            "tls.certificate: /nowhere/weir.pem: it cannot be read",
            "tls.trust.pem: /nowhere/ca.pem: it cannot be read",
            "certificate = \"/nowhere/weir.pem\"\n",
            "2 problems in the configuration",
        ],
    );
    let json = site.json();
    let text = std::fs::read_to_string(site.path("weir.toml")).unwrap();
    let places: Vec<_> = json["problems"].as_array().unwrap().iter().collect();
    assert_eq!(places.len(), 2);
    for (problem, key) in places.into_iter().zip(["certificate", "pem"]) {
        let named = text
            .lines()
            .position(|line| line.starts_with(&format!("{key} = ")));
        assert_eq!(problem["line"], named.unwrap() + 1, "{problem}");
        assert!(problem["key"].as_str().unwrap().ends_with(key), "{problem}");
    }
}

#[test]
fn a_keystore_that_cannot_be_used_is_named_by_file_line_and_key() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    for (keystore, key, line, what) in [
        (
            "file_name = \"JKS\"\npassword = \"no\"",
            "tls.keystore.password",
            3,
            "the password is wrong",
        ),
        (
            "file = \"/nowhere.jks\"\npassword = \"no\"",
            "tls.keystore.file",
            2,
            "it cannot be read",
        ),
        (
            "file_name = \"/nowhere.jks\"\npassword = \"no\"",
            "tls.keystore.file",
            1,
            "it cannot be read",
        ),
        (
            "file = \"JKS\"\npassword = \"wso2carbon\"\nalias = \"other\"",
            "tls.keystore.alias",
            4,
            "it has no private key with alias other",
        ),
        (
            "file = \"JKS\"\npassword = \"wso2carbon\"\nkey_password = \"no\"",
            "tls.keystore.key_password",
            4,
            "the key password is wrong",
        ),
    ] {
        let keystore = keystore.replace("JKS", &format!("{directory}/rsa2048.jks"));
        let site = Site::with(&format!(
            "[tls.keystore]\n{keystore}\n{}",
            configuration("", GROUP)
        ));
        let said = site.check(&[]);
        said.says(2, &[&format!("error: {key}: "), ".jks", what]);
        assert!(
            said.all().contains(&format!("weir.toml:{line}:")),
            "{}",
            said.all()
        );
        assert!(
            !said.all().contains("\"no\""),
            "a password is shown: {}",
            said.all()
        );
        assert_eq!(site.json()["problems"][0]["line"], line);
    }
}

#[test]
fn more_connections_than_descriptors_are_a_warning() {
    let more = configuration("", GROUP).replacen("[listen]\n", "[listen]\nmax_connections = 1_000_000\n", 1);
    let site = Site::with(&more);
    // Whoever runs the tests may have more; then a million connections do fit.
    let limit = std::fs::read_to_string("/proc/self/limits").unwrap();
    let limit = limit.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = limit.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let said = site.check(&[]);
    said.says(0, &[]);
    let warned = said
        .all()
        .contains("weir.toml:2:19: listen.max_connections: 1000000 connections")
        && said.all().contains("LimitNOFILE=");
    assert_eq!(
        warned,
        limit.is_some_and(|limit| limit < 1_000_000),
        "{}",
        said.all()
    );
}

#[test]
fn the_fan_out_is_explained() {
    let other = "[[apim.throttling.url_group]]\nname = \"dr\"\ntype = \"loadbalance\"\n\
                 traffic_manager_urls = [\"ssl://tm3:9711\", \"ssl://tm4:9711\"]\n\
                 traffic_manager_auth_urls = [\"ssl://tm3:9711\", \"ssl://tm4:9711\"]\n\
                 [group.dr]\nusername = \"dr-user\"\npassword = \"correct-horse-battery\"\noverflow = \"shed\"\nshed = \"newest\"\nmax_events = 50_000\n\
                 unavailable_after = \"never\"\n";
    let site = Site::with(&configuration("", &format!("{GROUP}{other}")));
    let said = site.check(&[]);
    said.says(
        0,
        &[
            "every event goes to 2 groups: group1, dr",
            "group1: failover",
            "    1. tcp://tm1:9611 (login at ssl://tm1:9711 as \"admin\")\n    2. tcp://tm2:9611 (login",
            "dr: loadbalance",
            "    1. ssl://tm3:9711 (login at ssl://tm3:9711 as \"dr-user\")",
            "tcp://127.0.0.1:0  events; a login is refused here",
            "(ack = \"accepted\")",
            "up to 1,000,000 events, or 256 MiB",
            "up to 50,000 events",
            "gateways wait for at most 1s; then the oldest events",
            "new events are dropped for this group, and counted; gateways never wait",
            "warning: ",
        ],
    );
    let json = site.check(&["--json"]).json();
    let fan_out = &json["fan_out"];
    assert_eq!(fan_out["groups"][0]["policy"], "failover");
    assert_eq!(fan_out["groups"][1]["endpoints"][1]["data"], "ssl://tm4:9711");
    assert_eq!(fan_out["groups"][1]["queue"]["unavailable_after"], "never");
    assert_eq!(fan_out["users"], serde_json::json!(["admin"]));
    assert!(!json["warnings"].as_array().unwrap().is_empty());
    assert!(json["connect"].is_null());
}

#[test]
fn strict_delivery_and_the_return_leg_are_explained() {
    let more = "[queue]\nblock_timeout = \"never\"\n[decisions]\nlisten = \"0.0.0.0:5672\"\nendpoints = [\"tcp://tm1:5672\"]\n";
    let text = format!("ack = \"delivered\"\n{}", configuration(more, GROUP));
    Site::with(&text).check(&[]).says(
        0,
        &[
            "(ack = \"delivered\")",
            "gateways wait until it has capacity again",
            "throttling decisions pass through weir",
            "1. tcp://tm1:5672",
        ],
    );
}

#[test]
fn a_file_of_stream_definitions_that_no_tap_could_read_is_a_warning() {
    let site = Site::with("");
    let streams = site.path("streams.json");
    let named = format!("[admin]\ntap_streams = {streams:?}\n");
    site.write(&configuration("", GROUP).replace("[admin]\n", &named));
    site.check(&[]).says(
        0,
        &["warning", "admin.tap_streams", "streams.json", "No such file"],
    );
    std::fs::write(&streams, "[]").unwrap();
    site.check(&[]).says(0, &["there is no stream definition"]);
    std::fs::write(&streams, include_str!("../../vectors/streams.json")).unwrap();
    let said = site.check(&[]);
    said.says(0, &[]);
    assert!(!said.all().contains("tap_streams"), "{}", said.all());
}
