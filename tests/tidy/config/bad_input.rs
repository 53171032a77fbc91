//! What is wrong is reported all at once, each with its line, column, key and advice.
//!
//! The cases stand in two text files: lines of input, then `=> line:column: key: message (hint)` for each problem,
//! then an empty line.

use weir::config::{GROUPS_MAX, Source, load, parse};

use super::support::{MINIMAL, lines, map, problems, weir, with};

/// Tables above [`MINIMAL`].
const SETTINGS: &str = include_str!("bad_settings.txt");
/// What stands in `[apim.throttling]` below its credentials.
const GROUPS: &str = include_str!("bad_groups.txt");

/// Input and expected lines of each case.
fn cases(text: &str) -> Vec<(String, Vec<String>)> {
    let case = |case: &str| {
        let (expected, input): (Vec<&str>, Vec<&str>) =
            case.lines().partition(|line| line.starts_with("=> "));
        let expected = expected
            .iter()
            .map(|line| line.replacen("=> ", "weir.toml:", 1))
            .collect();
        (input.iter().map(|line| format!("{line}\n")).collect(), expected)
    };
    text.split("\n\n")
        .filter(|text| !text.trim().is_empty())
        .map(case)
        .collect()
}

#[test]
fn every_bad_setting_is_named_with_line_column_key_and_advice() {
    let cases = cases(SETTINGS);
    assert!(cases.len() > 40);
    for (input, expected) in cases {
        assert_eq!(lines(&with(&input)), expected, "{input}");
    }
}

#[test]
fn every_bad_group_is_named_with_line_column_key_and_advice() {
    let cases = cases(GROUPS);
    assert!(cases.len() > 10);
    for (input, expected) in cases {
        let text = format!("[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{input}");
        assert_eq!(lines(&weir(&text)), expected, "{input}");
    }
}

#[test]
fn more_groups_than_weir_can_serve_are_refused() {
    let group =
        |n: usize| format!("[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm{n}:9611\"]\n");
    let text = |n| {
        format!(
            "[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{}",
            (0..n).map(group).collect::<String>()
        )
    };
    assert!(parse(&weir(&text(GROUPS_MAX))).is_ok());
    assert_eq!(
        lines(&weir(&text(GROUPS_MAX + 1))),
        [
            "weir.toml:132:1: apim.throttling.url_group[64]: 65 groups are more than weir can serve (name 64 groups at most)"
        ]
    );
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

error: link.linger: "2 parsecs" is not a duration
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
  = help: known here: user, session_secret, session_ttl, allow_plaintext_login

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
        "[tls.keystore]\npassword = hunter2\n",
        "[tls.keystore]\npassword = hunter2, x\n",
        "tls = { keystore = { password = hunter2 } }\n",
        "[auth]\nsession_secret = [hunter2]\n",
        "[decisions]\nendpoints = [tcp://u:hunter2@tm:1]\n",
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
fn a_file_that_is_not_utf_8_is_refused_with_byte_line_and_column() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("weir.toml");
    let found = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(Some(&path), None, map(&[]), None).unwrap_err()
    };
    let text = "workers = 1\n# \u{fc}ber \u{fc}".as_bytes();
    let latin = found(&[text, b"\xffx\n"].concat());
    let shown = path.display().to_string();
    assert_eq!(
        latin.list()[0].to_string(),
        format!("{shown}:2:9: not UTF-8: byte 0xff at byte 23 (save the file as UTF-8)")
    );
    let long = latin.to_string();
    assert!(long.contains(&format!("{shown}:2:9")), "{long}");
    let wide = found(b"\xff\xfew\0o\0").to_string();
    assert!(
        wide.contains("byte 0xff at byte 1") && wide.contains("it looks like UTF-16"),
        "{wide}"
    );
}

#[test]
fn a_misspelt_key_of_the_credentials_is_pointed_at() {
    let text = "[apim.throttling]\nuser_name = \"u\"\npasword = \"hunter2\"\n[[apim.throttling.url_group]]\n\
                traffic_manager_urls = [\"tcp://a:9611\"]\n";
    let found = lines(&weir(text));
    assert_eq!(
        found,
        [
            "weir.toml:2:1: apim.throttling.user_name: no such key (did you mean `username`?)",
            "weir.toml:3:1: apim.throttling.pasword: no such key (did you mean `password`?)",
        ]
    );
    assert!(!problems(&weir(text)).to_string().contains("hunter2"));
}

#[test]
fn a_carbon_reference_to_a_known_variable_gets_the_env_reference_as_hint() {
    let mut source = with("[tls]\ncertificate = \"${HOME}/weir.pem\"\nkey = \"k.pem\"\n");
    source.env = map(&[("HOME", "/home/weir")]);
    let found = lines(&source);
    assert!(
        found.len() == 1 && found[0].ends_with("(write $env{HOME} for the environment variable)"),
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
        ["weir.toml:1:1: 2097152 bytes are too many for a configuration file (limit 1 MiB)"]
    );
    for deep in [
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("{}x = 1", "a.".repeat(100_000)),
    ] {
        assert!(parse(&weir(&deep)).is_err());
    }
}

#[test]
fn problems_have_a_form_for_machines() {
    let found = serde_json::to_value(problems(&with("wokers = 2\n")).list()).unwrap();
    let expected = serde_json::json!([{
        "file": "weir.toml", "line": 1, "column": 1, "key": "wokers",
        "message": "no such key", "hint": "did you mean `workers`?",
    }]);
    assert_eq!(found, expected);
}
