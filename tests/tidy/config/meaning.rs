//! What a valid configuration means.

use std::time::Duration;

use weir::config::{Ack, Group, Password, Policy, Scheme, Shed, Source, Trust, Verify};

use super::support::{MINIMAL, lines, map, valid, warnings, weir, with};

/// PROTOCOL.md's example, word for word.
const DEPLOYMENT: &str = r#"[super_admin]
username = "admin"
password = "$env{ADMIN_PASSWORD}"

[apim.throttling]                       # receiver_username/receiver_password default to username/password,
username = "$ref{super_admin.username}" # those to super_admin's
password = "$ref{super_admin.password}"
throttle_decision_endpoints = ["tcp://tm1:5672", "tcp://tm2:5672"]

[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm1:9611"]
traffic_manager_auth_urls = ["ssl://tm1:9711"]
type = "loadbalance"
"#;

fn urls(group: &Group) -> Vec<String> {
    group
        .endpoints
        .iter()
        .map(|e| format!("{} {}", e.data, e.auth))
        .collect()
}

fn throttling(lines: &str) -> Source {
    weir(&format!(
        "[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{lines}"
    ))
}

#[test]
fn the_block_of_a_deployment_toml_works_pasted_and_from_the_gateways_own_file() {
    let mut pasted = weir(DEPLOYMENT);
    pasted.env = map(&[("ADMIN_PASSWORD", "s3cret")]);
    let rest = "[server]\nhostname = \"$env{HOST}\"\n[apim.jwt]\nenable = true\n[keystore.tls]\nfile_name = \"x.jks\"\n";
    let own_file = Source {
        deployment_toml: Some(("deployment.toml".into(), format!("{rest}{DEPLOYMENT}"))),
        env: pasted.env.clone(),
        ..Source::default()
    };
    let config = valid(&pasted);
    assert_eq!(config, valid(&own_file));
    assert_eq!(warnings(&pasted), Vec::<String>::new());

    let [group] = config.groups.as_slice() else {
        panic!("one group")
    };
    assert_eq!(
        (group.name.as_str(), group.policy),
        ("group1", Policy::Loadbalance)
    );
    assert_eq!(
        (group.username.as_str(), group.password.expose()),
        ("admin", "s3cret")
    );
    assert_eq!(urls(group), ["tcp://tm1:9611 ssl://tm1:9711"]);
    assert_eq!(group.endpoints[0].name, "tm1:9611");
    let [user] = config.auth.users.as_slice() else {
        panic!("one user")
    };
    assert_eq!(user.name, "admin");
    assert!(matches!(&user.password, Password::Clear(p) if p.expose() == "s3cret"));
    assert!(
        config.decisions.is_none(),
        "the return leg is off without [decisions]"
    );
}

#[test]
fn unknown_keys_are_ignored_in_wso2s_tables_only() {
    let text = throttling(
        "enable_data_publishing = true\nenable_policy_deploy = true\nenable_blacklist_condition = true\n\
         enable_decision_connection = false\nenable_persistence = true\nevent_duplicate_url = [\"tcp://x:1\"]\n\
         service_url = \"https://${carbon.host}:9443/services/\"\n\
         [apim.throttling.data_publisher]\nmax_idle = 5\n[apim.throttling.jms]\nurl = \"$secret{none}\"\n\
         [apim.throttling.policy_deployer]\nusername = \"$ref{no.where}\"\n\
         [[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm1:9611\"]\nweight = 3\n",
    );
    assert_eq!(valid(&text).groups.len(), 1);
    assert_eq!(warnings(&text), Vec::<String>::new());
    let near = throttling(
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm1:9611\"]\ntraffic_manager_auth_url = [\"ssl://tm1:1\"]\n",
    );
    assert_eq!(
        warnings(&near),
        [
            "weir.toml:6:1: apim.throttling.url_group[0].traffic_manager_auth_url: unknown here, ignored \
          (did you mean `traffic_manager_auth_urls`?)"
        ]
    );
}

#[test]
fn groups_may_stand_above_their_table_or_without_it_as_in_the_documentation_of_wso2() {
    let admin = "[super_admin]\nusername = \"admin\"\npassword = \"p\"\n";
    let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls=[\"tcp://tm.wso2.com:9614\"]\n";
    let table = "[apim.throttling]\nservice_url = \"https://tm:${mgt.transport.https.port}/services/\"\nusername= \"$ref{super_admin.username}@carbon.super\"\n";
    let above = valid(&weir(&format!(
        "{group}{group2}{table}{admin}",
        group2 = group.replace("tm.", "tm2.")
    )));
    assert_eq!(above.groups.len(), 2);
    assert_eq!(
        (
            above.groups[0].username.as_str(),
            above.groups[0].password.expose()
        ),
        ("admin@carbon.super", "p")
    );
    assert_eq!(
        valid(&weir(&format!("{group}{admin}"))).groups[0].username,
        "admin"
    );
}

#[test]
fn anything_but_loadbalance_is_failover_and_an_unknown_word_is_a_warning() {
    for (line, policy, warned) in [
        ("", Policy::Failover, false),
        ("type = \"failover\"", Policy::Failover, false),
        ("type = \"LoadBalance\"", Policy::Loadbalance, false),
        ("type = \"load_balance\"", Policy::Failover, true),
    ] {
        let text = throttling(&format!(
            "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\"]\n{line}"
        ));
        assert_eq!(valid(&text).groups[0].policy, policy, "{line}");
        assert_eq!(!warnings(&text).is_empty(), warned, "{line}");
    }
}

#[test]
fn receiver_credentials_default_to_the_blocks_own_and_those_to_super_admin() {
    let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\"]\n";
    let admin = "[super_admin]\nusername = \"sa\"\npassword = \"sp\"\ncreate_admin_account = true\n";
    for (block, expected) in [
        ("", ("sa", "sp")),
        ("username = \"u\"\n", ("u", "sp")),
        ("username = \"u\"\npassword = \"p\"\n", ("u", "p")),
        (
            "username = \"u\"\npassword = \"p\"\nreceiver_password = \"rp\"\n",
            ("u", "rp"),
        ),
        (
            "receiver_username = \"ru\"\nreceiver_password = \"rp\"\n",
            ("ru", "rp"),
        ),
    ] {
        let config = valid(&weir(&format!("{admin}[apim.throttling]\n{block}{group}")));
        let g = &config.groups[0];
        assert_eq!((g.username.as_str(), g.password.expose()), expected, "{block}");
        assert_eq!(config.auth.users[0].name, expected.0);
    }
}

#[test]
fn receiver_url_wins_over_the_groups_with_and_without_braces_and_auth_urls() {
    let tables = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://unused:9611\"]\n";
    let braces = valid(&throttling(&format!(
        "receiver_url = \"{{tcp://a:9611,tcp://b:9611}},{{tcp://c:9611|ssl://d:9711}}\"\n{tables}"
    )));
    assert_eq!(braces.groups.len(), 2);
    assert_eq!(braces.groups[0].policy, Policy::Loadbalance);
    assert_eq!(
        urls(&braces.groups[0]),
        ["tcp://a:9611 ssl://a:9711", "tcp://b:9611 ssl://b:9711"]
    );
    assert_eq!(braces.groups[1].policy, Policy::Failover);
    assert_eq!(
        urls(&braces.groups[1]),
        ["tcp://c:9611 ssl://c:9711", "ssl://d:9711 ssl://d:9811"]
    );
    assert_eq!(braces.groups[1].endpoints[1].data.scheme, Scheme::Ssl);

    let bare = valid(&throttling(
        "receiver_url = \"tcp://a:9611|tcp://[::1]:9612\"\nreceiver_auth_url = \"ssl://x:1|ssl://y:2\"\n",
    ));
    assert_eq!(bare.groups.len(), 1);
    assert_eq!(
        urls(&bare.groups[0]),
        ["tcp://a:9611 ssl://x:1", "tcp://[::1]:9612 ssl://y:2"]
    );
}

#[test]
fn a_group_inherits_the_queue_and_overrides_any_key_of_it() {
    let config = valid(&with(
        "[queue]\nmax_events = 10\nmax_age = \"1m\"\nblock_timeout = \"never\"\n\
         [queue.max_age_streams]\n\"a:1.0.0\" = \"30s\"\n\"b:1.0.0\" = \"off\"\n\
         [group.group1]\nmax_bytes = 33554432\noverflow = \"shed\"\nshed = \"newest\"\nusername = \"x\"\npassword = \"y\"\n\
         [group.group1.max_age_streams]\n\"b:1.0.0\" = \"5s\"\n",
    ));
    let group = &config.groups[0];
    let queue = &group.queue;
    assert_eq!((queue.events_max, queue.bytes_max), (10, 32 << 20));
    assert_eq!(
        (queue.block_timeout, queue.shed),
        (Some(Duration::ZERO), Shed::Newest)
    );
    assert_eq!(queue.max_age, Some(Duration::from_secs(60)));
    assert_eq!(queue.max_age_streams["a:1.0.0"], Some(Duration::from_secs(30)));
    assert_eq!(queue.max_age_streams["b:1.0.0"], Some(Duration::from_secs(5)));
    assert_eq!((group.username.as_str(), group.password.expose()), ("x", "y"));
    assert_eq!(
        config.auth.users[0].name, "admin",
        "gateways log in with the block's own credentials"
    );
}

#[test]
fn heartbeats_are_seconds_as_in_wso2_or_durations_or_off() {
    let delay = |line: &str| {
        valid(&with(&format!("[link]\n{line}\n")))
            .link
            .heartbeat
            .map(|h| (h.delay.as_millis(), h.timeout_factor))
    };
    assert_eq!(delay(""), Some((60_000, 2.0)));
    assert_eq!(delay("heartbeat = { delay = 20 }"), Some((20_000, 2.0)));
    assert_eq!(
        delay("heartbeat = { delay = \"500ms\", timeout_factor = 3 }"),
        Some((500, 3.0))
    );
    assert_eq!(
        delay("heartbeat.delay = 5\nheartbeat.timeout_factor = 1.5"),
        Some((5_000, 1.5))
    );
    assert_eq!(delay("heartbeat = \"off\""), None);
}

#[test]
fn brokers_come_from_the_block_or_from_decisions_itself() {
    let brokers = |text: &str| {
        let mut source = weir(&format!("{text}{DEPLOYMENT}"));
        source.env = map(&[("ADMIN_PASSWORD", "p")]);
        let decisions = valid(&source).decisions.expect("on");
        decisions
            .brokers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(brokers("[decisions]\n"), ["tcp://tm1:5672", "tcp://tm2:5672"]);
    assert_eq!(
        brokers("[decisions]\nendpoints = [\"ssl://x:8672\"]\n"),
        ["ssl://x:8672"]
    );
}

#[test]
fn tls_users_and_words_are_read() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0$uWlHJPUPwpOWT8dqa3B2Q6X8TiJpfe2aXKVWxqyIN0E";
    let config = valid(&with(&format!(
        "ack = \"delivered\"\n[auth]\nsession_secret = \"0123456789abcdef\"\n[[auth.user]]\nname = \"a\"\npassword = \"x\"\n\
         [[auth.user]]\nname = \"b\"\npassword_argon2 = \"{hash}\"\n\
         [tls]\nverify = \"pin\"\npins = [\"{}\"]\n[tls.keystore]\nfile_name = \"w.jks\"\ntype = \"JKS\"\npassword = \"k\"\nalias = \"w\"\n\
         [tls.trust.keystore]\nfile = \"t.jks\"\npassword = \"k\"\n[listen]\nidle_timeout = \"never\"\ntls = \"off\"\n[admin]\nlisten = \"off\"\n",
        "AB:".repeat(31) + "CD"
    )));
    assert_eq!(config.ack, Ack::Delivered);
    assert_eq!(config.auth.users[1].password, Password::Argon2(hash.into()));
    assert_eq!(config.auth.users.len(), 2);
    assert!(matches!(&config.tls.verify, Verify::Pin(pins) if pins[0][0] == 0xAB && pins[0][31] == 0xCD));
    assert!(matches!(&config.tls.trust, Trust::Keystore { file, .. } if file.ends_with("t.jks")));
    assert_eq!(
        (config.ingress.idle_timeout, config.ingress.tls, config.admin),
        (None, None, None)
    );
}

#[test]
fn groups_given_twice_are_refused() {
    let source = Source {
        weir_toml: Some(("weir.toml".into(), MINIMAL.into())),
        deployment_toml: Some(("deployment.toml".into(), MINIMAL.into())),
        ..Source::default()
    };
    assert_eq!(
        lines(&source),
        [
            "weir.toml:2:7: apim.throttling: is in both weir.toml and the deployment.toml (remove it here, or leave out --deployment-toml)"
        ]
    );
    let weir_only = lines(&weir("workers = 1\n"));
    assert!(
        weir_only[0].contains("apim.throttling: is missing"),
        "{weir_only:?}"
    );
    assert_eq!(lines(&Source::default()).len(), 1);
}

#[test]
fn a_source_shows_no_text_and_no_variable() {
    let mut source = with("[admin]\ntoken = \"hunter2\"\n");
    source.env = map(&[("PASSWORD", "hunter2")]);
    source.sys = map(&[("password", "hunter2")]);
    assert!(!format!("{source:?}").contains("hunter2"), "{source:?}");
}
