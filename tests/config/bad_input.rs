//! What is wrong is reported all at once, each with its line, column, key and advice; secrets stay hidden; and
//! no text makes the parser panic.

use proptest::prelude::*;
use weir::config::{Source, load, parse};

use crate::support::{MINIMAL, lines, map, problems, weir, with};

/// Tables above [`MINIMAL`], and every problem they have.
const TABLES: &[(&str, &[&str])] = &[
    (
        "workers = 0\n",
        &["1:11: workers: 0 is too small (write 1 or more)"],
    ),
    (
        "workers = \"two\"\n",
        &["1:11: workers: \"two\" is no whole number (write a number from 1 to 256)"],
    ),
    (
        "workers = [1]\n",
        &["1:11: workers: must be a single value, not an array (see config/weir.toml)"],
    ),
    (
        "workers = 99999999999999999999\n",
        &["1:11: workers: 9223372036854775807 is too large (write 256 or less)"],
    ),
    (
        "wokers = 2\n",
        &["1:1: wokers: no such key (did you mean `workers`?)"],
    ),
    (
        "tcp = \"0.0.0.0:1\"\n",
        &["1:1: tcp: no such key (did you mean `listen.tcp`?)"],
    ),
    (
        "ack = \"maybe\"\n",
        &["1:7: ack: \"maybe\" is not one of the words known here (write \"accepted\" or \"delivered\")"],
    ),
    (
        "listen = 9611\n",
        &["1:1: listen: must be a table, not an integer (write [listen], its keys below it)"],
    ),
    ("[linkk]\n", &["1:2: linkk: no such key (did you mean `link`?)"]),
    (
        "[apim.jwt]\nx = 1\n",
        &[
            "1:7: apim.jwt: weir reads only [apim.throttling] of the gateway's settings (remove it, or hand over the gateway's own file with --deployment-toml)",
        ],
    ),
    (
        "[listen]\ntcp = \"localhost:9611\"\n",
        &[
            "2:7: listen.tcp: \"localhost:9611\" is no address to listen on (write an IP address and a port, as \"0.0.0.0:9611\" or \"[::1]:9611\", or \"off\")",
        ],
    ),
    (
        "[listen]\nreply_timeout = \"26s\"\n",
        &[
            "2:17: listen.reply_timeout: \"26s\" is too long (write \"25s\" or less: the gateway gives up at 30s and sends again)",
        ],
    ),
    (
        "[listen]\nreply_timeout = 20\n",
        &[
            "2:17: listen.reply_timeout: 20 has no unit (write a number with its unit, as \"250ms\", \"30s\", \"5m\" or \"16h\": the gateway gives up at 30s and sends again)",
        ],
    ),
    (
        "[listen]\nidle_timeout = \"soon\"\n",
        &[
            "2:16: listen.idle_timeout: \"soon\" is no duration (write a number with its unit, as \"250ms\", \"30s\", \"5m\" or \"16h\", or \"never\")",
        ],
    ),
    (
        "[listen]\nframe_max_bytes = -1\n",
        &[
            "2:19: listen.frame_max_bytes: -1 is no size (write a size with its unit, as \"64MiB\", or a number of bytes)",
        ],
    ),
    (
        "[listen]\nframe_max_bytes = \"512KiB\"\n",
        &["2:19: listen.frame_max_bytes: is smaller than event_max_bytes (an event travels in a frame)"],
    ),
    (
        "[listen]\ntcp = \"off\"\ntls = false\n",
        &[
            "2:7: listen.tcp: no gateway could connect: tcp and tls are both off (leave at least one of them on)",
        ],
    ),
    (
        "[listen]\ntcp = \"127.0.0.1:9711\"\n",
        &["2:7: listen.tcp: listen.tls has the same port (give each listener a port of its own)"],
    ),
    (
        "[admin]\nlisten = \"0.0.0.0:9611\"\ntoken = \"t\"\n",
        &["2:10: admin.listen: listen.tcp has the same port (give each listener a port of its own)"],
    ),
    (
        "[auth]\nsession_secret = \"short\"\n",
        &["2:18: auth.session_secret: is shorter than 16 bytes (make one with: openssl rand -base64 32)"],
    ),
    (
        "[[auth.user]]\nname = \"a\"\n",
        &["1:1: auth.user[0].password: is missing (set password or password_argon2)"],
    ),
    (
        "[[auth.user]]\nname = \"a\"\npassword = \"\"\n",
        &["3:12: auth.user[0].password: is empty (give it a value, or remove the line)"],
    ),
    (
        "[[auth.user]]\nname = \"a\"\npassword = \"x\"\n[[auth.user]]\nname = \"a\"\npassword = \"y\"\n",
        &["5:8: auth.user[1].name: this user is named twice (keep one of the [[auth.user]] tables)"],
    ),
    (
        "[auth.user]\nname = \"a\"\npassword = \"x\"\n",
        &["1:1: auth.user[0]: must be an array of tables, not a table (write [[auth.user]])"],
    ),
    (
        "[[auth.user]]\nname = \"a\"\npassword_argon2 = \"$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E\"\n",
        &[
            "3:19: auth.user[0].password_argon2: is not of the argon2 family (make one with: echo -n PASSWORD | argon2 SALT -id -e)",
        ],
    ),
    (
        "[[auth.user]]\nname = \"a\"\npassword_argon2 = \"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0\"\n",
        &[
            "3:19: auth.user[0].password_argon2: has no salt or no hash in it (make one with: echo -n PASSWORD | argon2 SALT -id -e)",
        ],
    ),
    (
        "[tls]\ncertificate = \"a.pem\"\n",
        &["2:15: tls.certificate: has no key to go with it (set tls.key to the PEM file of its key)"],
    ),
    (
        "[tls]\nverify = \"pin\"\n",
        &[
            "2:10: tls.verify: \"pin\" needs pins (set tls.pins to the SHA-256 fingerprints of the certificates)",
        ],
    ),
    (
        "[tls]\nverify = \"pin\"\npins = [\"AB:CD\"]\n",
        &[
            "3:9: tls.pins[0]: \"AB:CD\" is no SHA-256 in hex (take it from: openssl x509 -in cert.pem -noout -fingerprint -sha256)",
        ],
    ),
    (
        "[tls.keystore]\nfile = \"a.jks\"\n",
        &[
            "1:6: tls.keystore.password: is missing (set it to the password of the keystore, as \"$file{/run/secrets/keystore}\")",
        ],
    ),
    (
        "[tls.trust]\nsystem = true\npem = \"ca.pem\"\n",
        &[
            "3:7: tls.trust.pem: names more than one set of trust (keep one of system, pem and [tls.trust.keystore])",
        ],
    ),
    (
        "[queue]\nmax_bytes = \"1MiB\"\n",
        &[
            "2:13: queue.max_bytes: a frame of listen.frame_max_bytes would not fit into the queue of group group1 (make the queue larger, or frame_max_bytes smaller)",
        ],
    ),
    (
        "[group.group1]\nmax_bytes = \"1MiB\"\n",
        &[
            "2:13: group.group1.max_bytes: a frame of listen.frame_max_bytes would not fit into the queue of group group1 (make the queue larger, or frame_max_bytes smaller)",
        ],
    ),
    (
        "[queue.max_age_streams]\nrequests = \"30s\"\n",
        &[
            "2:12: queue.max_age_streams.requests: the key is no stream id (write it as on the wire, as \"org.wso2.throttle.request.stream:1.0.0\")",
        ],
    ),
    (
        "[group.one]\nshed = \"newest\"\n",
        &["1:8: group.one: there is no group of that name (the groups are group1)"],
    ),
    (
        "[group.group1]\nusername = \"x\"\n",
        &["2:12: group.group1.username: username and password go together (set both, or neither)"],
    ),
    (
        "[link]\nbackoff_max = \"50ms\"\n",
        &["2:15: link.backoff_max: is shorter than backoff_min (write a longer one)"],
    ),
    (
        "[link]\nbackoff_min = 5\nbackoff_max = \"50ms\"\n",
        &[
            "2:15: link.backoff_min: 5 has no unit (write a number with its unit, as \"250ms\", \"30s\", \"5m\" or \"16h\")",
        ],
    ),
    (
        "[link]\nbatch_max_bytes = \"10MB\"\n",
        &[
            "2:19: link.batch_max_bytes: \"10MB\" is too large (write \"8MiB\" or less: a Traffic Manager answers ok to a frame of 10 MB and drops it)",
        ],
    ),
    (
        "[link]\nheartbeat = 60\n",
        &[
            "2:13: link.heartbeat: 60 is no heartbeat (write { delay = 60, timeout_factor = 2.0 }, or \"off\")",
        ],
    ),
    (
        "[link]\nheartbeat = { dely = 60 }\n",
        &["2:15: link.heartbeat.dely: no such key (did you mean `delay`?)"],
    ),
    (
        "[decisions]\n",
        &[
            "1:2: decisions.endpoints: is missing: weir knows no broker (set decisions.endpoints = [\"tcp://HOST:5672\"], or throttle_decision_endpoints in [apim.throttling])",
        ],
    ),
    (
        "[decisions]\nendpoints = [\"tcp://a:5672\"]\nheartbeat = { delay = 30, timeout_factor = 1.2 }\n",
        &[
            "3:44: decisions.heartbeat.timeout_factor: 1.2 is not between 1.5 and 100.0 (write a number from 1.5 to 100.0)",
        ],
    ),
    (
        "[decisions]\nendpoints = [\"tcp://a:5672\"]\nheartbeat = { delay = \"1500ms\" }\n",
        &["3:23: decisions.heartbeat.delay: \"1500ms\" is no whole number of seconds (write 30 or \"30s\")"],
    ),
    (
        "[decisions]\nendpoints = [\"tcp://a:5672\"]\nclient_heartbeat = \"off\"\n",
        &[
            "3:20: decisions.client_heartbeat: cannot be off: it is what keeps this leg alive (write { delay = 30, timeout_factor = 2.0 })",
        ],
    ),
    (
        "[decisions]\nendpoints = [\"tcp://a:5672\"]\nhold = \"40s\"\n",
        &[
            "3:8: decisions.hold: \"40s\" is too long (write \"29s\" or less: the gateway waits 30s for an answer)",
        ],
    ),
    (
        "[log]\nlevel = \"loud\"\n",
        &[
            "2:9: log.level: \"loud\" is no log level (write off, error, warn, info, debug or trace; per module: \"weir::egress=debug,info\")",
        ],
    ),
    ("workers = 1\nworkers = 2\n", &["2:1: duplicate key"]),
];

/// Lines of `[apim.throttling]` below its credentials, and every problem they have.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "1:7: apim.throttling.url_group: is missing: weir does not know where to deliver (write [[apim.throttling.url_group]] with traffic_manager_urls = [\"tcp://HOST:9611\"])",
        ],
    ),
    (
        "url_group = []\n",
        &["4:1: apim.throttling.url_group: names no Traffic Manager (write [[apim.throttling.url_group]])"],
    ),
    (
        "[[apim.throttling.url_group]]\n",
        &[
            "4:1: apim.throttling.url_group[0].traffic_manager_urls: is missing (write traffic_manager_urls = [\"tcp://HOST:9611\"])",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = \"tcp://a:1\"\n",
        &[
            "5:24: apim.throttling.url_group[0].traffic_manager_urls: must be an array, not a string (put it in brackets: [\"…\"])",
            "5:24: apim.throttling.url_group[0].traffic_manager_urls: names no Traffic Manager (write [\"tcp://HOST:9611\"])",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\", \"tcp://b:9611\"]\ntraffic_manager_auth_urls = [\"ssl://a:9711\"]\n",
        &[
            "6:1: apim.throttling.url_group[0].traffic_manager_auth_urls: has 1 URL for 2 URLs (give every data URL its auth URL, or leave them all out (the port + 100, ssl://))",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:0\", \"http://b:1\", \"tcp://c\", \"tcp://:1\", \"tcp://d:65536\", \"a:1\", \"tcp://a b:1\", \"tcp://a:1,tcp://b:1\", \"tcp://[::1\", \"tcp://z:65500\"]\n",
        &[
            "5:25: apim.throttling.url_group[0].traffic_manager_urls[0]: \"tcp://a:0\" has port 0, where nobody listens (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:38: apim.throttling.url_group[0].traffic_manager_urls[1]: \"http://b:1\" has a scheme that weir does not speak (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:52: apim.throttling.url_group[0].traffic_manager_urls[2]: \"tcp://c\" has no port (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:63: apim.throttling.url_group[0].traffic_manager_urls[3]: \"tcp://:1\" has no host (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:75: apim.throttling.url_group[0].traffic_manager_urls[4]: \"tcp://d:65536\" has a port that is no number up to 65535 (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:92: apim.throttling.url_group[0].traffic_manager_urls[5]: \"a:1\" is no URL: it has no scheme (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:99: apim.throttling.url_group[0].traffic_manager_urls[6]: \"tcp://a b:1\" has no valid host (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:114: apim.throttling.url_group[0].traffic_manager_urls[7]: holds more than one URL (one URL in each string: [\"tcp://a:9611\", \"tcp://b:9611\"])",
            "5:137: apim.throttling.url_group[0].traffic_manager_urls[8]: \"tcp://[::1\" has a bracket that is never closed (write tcp://HOST:PORT or ssl://HOST:PORT)",
            "5:151: apim.throttling.url_group[0].traffic_manager_urls[9]: port 65500 leaves no room for the login port (+ 100) (write the auth URL out)",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\", \"ssl://a:9611\"]\n",
        &[
            "5:41: apim.throttling.url_group[0]: a:9611 is twice in this group (name each Traffic Manager once)",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\"]\n[[apim.throttling.url_group]]\nname = \"group1\"\ntraffic_manager_urls = [\"tcp://b:9611\"]\n",
        &[
            "6:1: apim.throttling.url_group[1]: another group is called group1 too (give each group a name of its own)",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\nname = \"a/b\"\ntraffic_manager_urls = [\"tcp://a:9611\"]\n",
        &[
            "5:8: apim.throttling.url_group[0].name: \"a/b\" is no name for a group (use up to 64 letters, digits, dots, dashes, underscores)",
        ],
    ),
    (
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://localhost:9611\"]\ntraffic_manager_auth_urls = [\"ssl://tm:9711\"]\n",
        &[
            "5:25: apim.throttling.url_group[0]: tcp://localhost:9611 is weir itself (listen.tcp): events would go round for ever (name the Traffic Manager here; in a gateway's deployment.toml that already points at weir it no longer stands)",
        ],
    ),
    (
        "receiver_url = \"{tcp://a:1,tcp://b:1|tcp://c:1}\"\n",
        &[
            "4:16: apim.throttling.receiver_url: mixes commas and bars in one group (comma = loadbalance, bar = failover; a group is one or the other)",
        ],
    ),
    (
        "receiver_url = \"tcp://a:1,tcp://b:1\"\nreceiver_auth_url = \"ssl://a:2|ssl://b:2\"\n",
        &[
            "5:21: apim.throttling.receiver_auth_url: group 1 is not of the same kind as in receiver_url (use the same sign in both: comma = loadbalance, bar = failover)",
        ],
    ),
    (
        "receiver_url = \"{tcp://a:1},{tcp://b:1}\"\nreceiver_auth_url = \"ssl://a:2\"\n",
        &[
            "5:21: apim.throttling.receiver_auth_url: has 1 groups, receiver_url has 2 (give every data URL its auth URL, or leave them all out (the port + 100, ssl://))",
        ],
    ),
];

fn expected(all: &[&str]) -> Vec<String> {
    all.iter().map(|line| format!("weir.toml:{line}")).collect()
}

#[test]
fn every_bad_setting_is_named_with_line_column_key_and_advice() {
    for (text, all) in TABLES {
        assert_eq!(lines(&with(text)), expected(all), "{text}");
    }
}

#[test]
fn every_bad_group_is_named_with_line_column_key_and_advice() {
    for (text, all) in GROUPS {
        let text = format!("[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{text}");
        assert_eq!(lines(&weir(&text)), expected(all), "{text}");
    }
}

#[test]
fn missing_credentials_are_both_named() {
    let text =
        "[apim.throttling]\n[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\"]\n";
    let found = lines(&weir(text));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("weir.toml:1:7: apim.throttling.username: is missing"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("weir.toml:1:7: apim.throttling.password: is missing"),
        "{found:?}"
    );
}

#[test]
fn the_long_form_shows_each_line_with_a_mark_below_the_mistake() {
    let source = with(
        "wokers = 2\n\n[link]\nlinger = \"2 parsecs\" # ü\n[auth]\npasword = \"hunter2\"\nsession_secret = \"tooshort\"\n",
    );
    let shown = problems(&source).to_string();
    assert_eq!(
        shown,
        r#"error: wokers: no such key
 --> weir.toml:1:1
  |
1 | wokers = *
  | ^^^^^^
  |
  = help: did you mean `workers`?

error: link.linger: "2 parsecs" is no duration
 --> weir.toml:4:10
  |
4 | linger = "2 parsecs" # ü
  |          ^^^^^^^^^^^
  |
  = help: write a number with its unit, as "250ms", "30s", "5m" or "16h"

error: auth.pasword: no such key
 --> weir.toml:6:1
  |
6 | pasword = "*******"
  | ^^^^^^^
  |
  = help: known here: session_secret, session_ttl, allow_plaintext_login, user

error: auth.session_secret: is shorter than 16 bytes
 --> weir.toml:7:18
  |
7 | session_secret = "********"
  |                  ^^^^^^^^^^
  |
  = help: make one with: openssl rand -base64 32

4 problems in the configuration"#
    );
    assert!(
        problems(&source).render(true).contains("\u{1b}["),
        "colours on demand"
    );
}

#[test]
fn the_value_of_a_secret_is_never_shown() {
    for text in [
        "[auth]\nsession_secret = \"hunter2\"\n",
        "[auth]\npassword = 'hunter2'\n",
        "[admin]\ntoken = { x = \"hunter2\" }\n",
        "[admin]\ntoken = [\"hunter2\"]\n",
        "[admin]\ntoken = \"hunter2\"\nlisten = 1\n",
        "[[auth.user]]\nname = \"a\"\npassword_argon2 = \"hunter2\"\n",
        "[[auth.user]]\nname = 1\npassword = \"hunter2\"\npassword_argon2 = \"hunter2\"\n",
        "auth = { session_secret = \"hunter2\", allow_plaintext_login = 1 }\n",
        "[tls.keystore]\npassword = \"hunter2\n",
        "[tls.keystore]\npassword = \"hunter2\" x\n",
        "[tls.keystore]\n\"password\" = hunter2\n",
        "[tls.keystore]\npassword = \"\"\"\nhunter2\n\"\" x\n",
        "tls = { keystore = { password = \"hunter2\" x } }\n",
        "[group.group1]\npassword = \"${hunter2\"\n",
        "workers = \"$env{SECRET}\"\n",
        "[listen]\ntcp = \"$env{SECRET}\"\ntls = \"$env{SECRET}\"\n[link]\nlinger = \"$env{SECRET}\"\n",
        "ack = \"$env{SECRET}\"\n[log]\nlevel = \"$env{SECRET}\"\n[tls]\npins = [\"$env{SECRET}\"]\n",
        "[decisions]\nendpoints = [\"$env{SECRET}\", \"tcp://u:hunter2@tm:1\"]\n",
    ] {
        let mut source = with(text);
        source.env = map(&[("SECRET", "hunter2")]);
        let found = problems(&source);
        assert!(!found.list().is_empty());
        for shown in [
            found.to_string(),
            found.render(true),
            lines(&source).join("\n"),
            format!("{:?}", found.list()),
        ] {
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

#[test]
fn both_files_are_reported_in_one_run() {
    let source = Source {
        weir_toml: Some(("weir.toml".into(), "workers = 0\n".into())),
        deployment_toml: Some(("conf/deployment.toml".into(), MINIMAL.replace("tcp:", "udp:"))),
        ..Source::default()
    };
    let found = lines(&source);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("weir.toml:1:11: workers:"), "{found:?}");
    assert!(
        found[1].starts_with("conf/deployment.toml:6:25: apim.throttling.url_group[0]"),
        "{found:?}"
    );
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let found = load(
        Some("/no/weir.toml".as_ref()),
        Some("/no/deployment.toml".as_ref()),
        map(&[]),
        None,
    )
    .unwrap_err();
    let shown = found.to_string();
    assert!(
        shown.contains("cannot read the file: No such file") && shown.contains("/no/deployment.toml"),
        "{shown}"
    );
    assert_eq!(found.list().len(), 2);
}

#[test]
fn a_file_that_is_too_large_or_too_deep_is_refused() {
    let large = lines(&weir(&"#".repeat(2 << 20)));
    assert_eq!(
        large,
        ["weir.toml:1:1: 2097152 bytes are no configuration file (limit 1 MiB)"]
    );
    for deep in [
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("{}x = 1", "a.".repeat(100_000)),
    ] {
        assert!(parse(&weir(&deep)).is_err());
    }
}

fn shows_without_panic(text: String) {
    let mut source = weir(&text);
    source.deployment_toml = Some(("deployment.toml".into(), text));
    source.env = map(&[("A", "a")]);
    match parse(&source) {
        Ok((_, warnings)) => drop(warnings.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Err(found) => {
            assert!(!found.list().is_empty());
            assert!(!found.to_string().is_empty() && !found.render(true).is_empty());
        }
    }
}

/// Pieces that come close to a configuration.
fn nearly_toml() -> impl Strategy<Value = String> {
    let words = [
        "[apim.throttling]\n",
        "[[apim.throttling.url_group]]\n",
        "traffic_manager_urls",
        "receiver_url",
        "[queue]\n",
        "[link]\n",
        "heartbeat",
        "[group.group1]\n",
        "[[auth.user]]\n",
        "password",
        "name",
        "max_bytes",
        "linger",
        "=",
        "\"",
        "\"tcp://a:9611\"",
        "'{tcp://a:1|ssl://[::1]:2},{'",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "\r\n",
        "$env{A}",
        "$ref{queue.max_bytes}",
        "${x}",
        "\"18446744073709551616GiB\"",
        "\"9999999999999y\"",
        "1e999",
        "nan",
        "-0x1",
        "9223372036854775808",
        "ü",
        "\u{0}",
        "\u{1b}",
        "\"\"\"",
        "'''",
        "#",
        "true",
        "1979-05-27",
        "\"1.7e308EiB\"",
        ".",
        "\\",
        "password_argon2",
        "\"$argon2id$v=19$m=1,t=1,p=1$a$b\"",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        shows_without_panic(text);
    }

    #[test]
    fn text_that_is_nearly_a_configuration_never_panics(text in nearly_toml()) {
        shows_without_panic(text);
    }

    #[test]
    fn any_value_of_any_key_never_panics(index in 0..weir::config::keys().len(), text in any::<String>(), quoted in any::<bool>()) {
        let path = weir::config::keys()[index].path.replace("[]", "").replace("NAME", "group1");
        let value = if quoted { format!("{text:?}") } else { text };
        shows_without_panic(format!("{path} = {value}\n{MINIMAL}"));
    }
}
