//! What is legal and dangerous is said.

use crate::support::{warnings, weir, with};

fn throttling(lines: &str) -> Vec<String> {
    warnings(&weir(&format!(
        "[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{lines}"
    )))
}

#[test]
fn dangerous_but_legal_settings_are_warned_about() {
    let split = throttling(
        "[[apim.throttling.url_group]]\ntype = \"loadbalance\"\ntraffic_manager_urls = [\"tcp://a:9611\", \"tcp://b:9611\"]\n",
    );
    assert_eq!(
        split,
        [
            "weir.toml:4:1: apim.throttling.url_group[0]: group group1 splits the events over 2 Traffic Managers, so each counts \
          only its part and a limit is multiplied by 2 (one url_group per Traffic Manager, unless they share distributed (Redis) counters)"
        ]
    );
    for (text, part) in [
        ("[tls]\nverify = \"chain\"\n", "tls.verify: with \"chain\""),
        (
            "[auth]\nallow_plaintext_login = true\n",
            "auth.allow_plaintext_login: gateways may send",
        ),
        ("[admin]\nlisten = \"0.0.0.0:9619\"\n", "admin.listen: everybody"),
        (
            "[decisions]\nlisten = \"127.0.0.1:5672\"\nendpoints = [\"tcp://a:5672\"]\n",
            "decisions.listen: on loopback",
        ),
        (
            "[decisions]\nhold = \"50s\"\nendpoints = [\"tcp://a:5672\"]\n",
            "decisions.hold: longer than a gateway waits",
        ),
        ("[listen]\ntcp = \"127.0.0.1:0\"\n", "listen.tcp: with port 0"),
        (
            "[queue]\noverflow = \"shed\"\nblock_timeout = \"1s\"\n",
            "queue.block_timeout: has no effect",
        ),
    ] {
        let found = warnings(&with(text));
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
    assert!(warnings(&with("[admin]\nlisten = \"0.0.0.0:9619\"\ntoken = \"0123\"\n")).is_empty());
}

#[test]
fn a_traffic_manager_in_two_groups_the_thrift_port_and_a_login_in_clear_are_warned_about() {
    let group = |urls: &str| format!("[[apim.throttling.url_group]]\n{urls}\n");
    let one = group("traffic_manager_urls = [\"tcp://TM1:9611\"]");
    let same = group("traffic_manager_urls = [\"tcp://tm1:9611\"]");
    let thrift = group("traffic_manager_urls = [\"tcp://tm2:7611\"]");
    let clear = group(
        "traffic_manager_urls = [\"tcp://tm2:9611\"]\ntraffic_manager_auth_urls = [\"tcp://tm2:9611\"]",
    );
    for (second, part) in [
        (
            same,
            "tm1:9611 is in group group1 too: it gets every event twice and counts it twice",
        ),
        (thrift, "port 7611 is where Traffic Managers speak Thrift"),
        (clear, "the login to tcp://tm2:9611 is not encrypted"),
    ] {
        let found = throttling(&format!("{one}{second}"));
        assert!(
            found.len() == 1 && found[0].starts_with("weir.toml:7:25: apim") && found[0].contains(part),
            "{found:?}"
        );
    }
}
