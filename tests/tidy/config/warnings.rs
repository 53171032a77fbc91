//! What is legal and dangerous is said.

use super::support::{map, warnings, weir, with};

fn throttling(lines: &str) -> Vec<String> {
    warnings(&weir(&format!(
        "[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{lines}"
    )))
}

#[test]
fn dangerous_settings_are_warned_about() {
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
        (
            "[[auth.user]]\nname = \"a\"\npassword = \"old\"\n[[auth.user]]\nname = \"a\"\npassword = \"new\"\n",
            "auth.user[1].name: this user has more than one password",
        ),
        ("[admin]\nlisten = \"0.0.0.0:9619\"\n", "admin.listen: anyone"),
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
    assert!(
        warnings(&with(
            "[admin]\nlisten = \"0.0.0.0:9619\"\ntoken = \"0123456789abcdef\"\n"
        ))
        .is_empty()
    );
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

#[test]
fn a_short_token_is_warned_about_and_never_shown() {
    let found = warnings(&with("[admin]\ntoken = \"t\"\n"));
    assert_eq!(
        found,
        [
            "weir.toml:2:9: admin.token: is shorter than 16 bytes: it can be guessed (make one with: openssl rand -base64 32)"
        ]
    );
}

#[test]
fn a_shell_variable_that_is_taken_literally_is_warned_about() {
    let mut source = with("[tls]\ncertificate = \"$HOME/weir.pem\"\nkey = \"$env{DIR}/$NAME.pem\"\n");
    source.env = map(&[("DIR", "/etc")]);
    let found = warnings(&source);
    assert_eq!(
        found,
        [
            "weir.toml:2:15: tls.certificate: $HOME is taken literally (write $env{HOME} for the environment variable)",
            "weir.toml:3:7: tls.key: $NAME is taken literally (write $env{NAME} for the environment variable)",
        ]
    );
    // A password may hold a dollar sign; one that is nothing but a variable is hardly meant, and is not quoted.
    let user = |password: &str| {
        warnings(&with(&format!(
            "[[auth.user]]\nname = \"a\"\npassword = \"{password}\"\n"
        )))
    };
    assert_eq!(user("pa$SWORD"), Vec::<String>::new());
    let bare = user("$TM_PASSWORD");
    assert!(
        bare.len() == 1 && bare[0].contains("looks like a variable") && !bare[0].contains("TM_PASSWORD"),
        "{bare:?}"
    );
    assert_eq!(
        warnings(&with(
            "[[auth.user]]\nname = \"a\"\npassword_argon2 = \"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0$uWlHJPUPwpOWT8dqa3B2Q6X8TiJpfe2aXKVWxqyIN0E\"\n"
        )),
        Vec::<String>::new()
    );
}

#[test]
fn auth_urls_that_are_swapped_between_hosts_are_warned_about() {
    let group = |data: &str, auth: &str| {
        format!(
            "[[apim.throttling.url_group]]\ntraffic_manager_urls = [{data}]\ntraffic_manager_auth_urls = [{auth}]\n"
        )
    };
    let (a, b) = ("\"tcp://a:9611\"", "\"tcp://B:9611\"");
    let (at_a, at_b) = ("\"ssl://A:9711\"", "\"ssl://b:9711\"");
    let inside = group(&format!("{a}, {b}"), &format!("{at_b}, {at_a}"));
    let across = format!("{}{}", group(a, at_b), group(b, at_a));
    for (text, line) in [(inside, 6), (across, 6)] {
        let found = throttling(&text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            found[0],
            format!(
                "weir.toml:{line}:30: apim.throttling.url_group[0]: the login for tcp://a:9611 goes to ssl://b:9711, the host of \
                 tcp://B:9611, whose own login goes to ssl://A:9711: the auth URLs look swapped (write the auth URLs in the \
                 order of the data URLs)"
            )
        );
    }
    // One login for both, in order, or at a third host: all of that may be meant.
    for auth in [
        [at_a, at_a],
        [at_a, at_b],
        ["\"ssl://c:9711\"", "\"ssl://c:9711\""],
    ] {
        let found = throttling(&group(&format!("{a}, {b}"), &auth.join(", ")));
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn no_login_is_a_warning_where_sessions_of_other_weirs_are_valid() {
    let found = warnings(&with(
        "[auth]\nsession_secret = \"0123456789abcdef\"\n[listen]\ntls = \"off\"\n",
    ));
    assert!(
        found.len() == 1 && found[0].starts_with("weir.toml:4:7: listen.tls: no gateway can log in here"),
        "{found:?}"
    );
    let served = "[auth]\nallow_plaintext_login = true\n[listen]\ntls = \"off\"\n";
    assert!(
        warnings(&with(served))
            .iter()
            .all(|line| !line.contains("log in"))
    );
}
