//! No text makes the parser, or what shows its problems, panic.

use proptest::prelude::*;
use weir::config::{keys, parse};

use super::support::{MINIMAL, map, weir};

fn shows_without_panic(text: String) {
    let mut source = weir(&text);
    source.deployment_toml = Some(("deployment.toml".into(), text));
    source.env = map(&[("A", "a")]);
    match parse(&source) {
        Ok((_, warnings)) => drop(warnings.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Err(found) => {
            assert!(!found.list().is_empty());
            assert!(!found.render(true).is_empty());
            let steers = |c: char| c.is_control() && c != '\n';
            assert!(!found.to_string().contains(steers), "{found:?}");
            assert!(
                found
                    .list()
                    .iter()
                    .all(|p| !p.to_string().contains(char::is_control)),
                "{found:?}"
            );
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
        "\"$env{\\u001b[2J\\n}\"",
        "\r",
        "\u{85}",
        "\"a\\nb\" = 1\n",
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

/// Values of every kind, on and over the edge.
fn value() -> impl Strategy<Value = String> {
    let words = [
        "0",
        "-1",
        "9223372036854775807",
        "1e400",
        "nan",
        "-inf",
        "true",
        "[]",
        "{}",
        "[[]]",
        "[{ name = 1 }]",
        "1979-05-27",
        "\"\"",
        "\"never\"",
        "\"18446744073709551616GiB\"",
        "\"1.7e308EiB\"",
        "\"9999999999999999y\"",
        "\"0.0.0.0:0\"",
        "\"$env{\\u001b[2J\\n}\"",
        "\"$ref{\\u202ea}\"",
        "\"$secret{\\u009b}\"",
        "\"$file{/\\u0000\\n}\"",
        "\"$env{A}$ref{workers}\"",
        "{ delay = 9223372036854775807, timeout_factor = 1e308 }",
        "{ delay = \"65535s\", timeout_factor = 100 }",
        "{ \"a\\nb:1\" = \"1s\" }",
        "[\"tcp://\\u001b:1\", \"tcp://a:1@b:2\"]",
        "\"$argon2id$v=99$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaA\"",
    ];
    prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        any::<String>().prop_map(|text| format!("{text:?}")),
        any::<String>(),
    ]
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
    fn a_level_that_is_accepted_is_one_the_log_can_take(text in "(info|debug|off|loud|a::b|=|,| |[0-9]|TRACE){0,6}") {
        if parse(&weir(&format!("[log]\nlevel = {text:?}\n{MINIMAL}"))).is_ok() {
            prop_assert!(weir::telemetry::parse_level(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn any_value_of_any_key_never_panics(index in 0..keys().len(), value in value()) {
        let path = keys()[index].path.replace("[]", "").replace("NAME", "group1");
        shows_without_panic(format!("{path} = {value}\n{MINIMAL}"));
    }
}
