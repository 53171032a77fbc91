//! No text makes the parser, or what shows its problems, panic.

use proptest::prelude::*;
use weir::config::parse;

use crate::support::{MINIMAL, map, weir};

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
    fn a_level_that_is_accepted_is_one_the_log_can_take(text in "(info|debug|off|loud|a::b|=|,| |[0-9]|TRACE){0,6}") {
        if parse(&weir(&format!("[log]\nlevel = {text:?}\n{MINIMAL}"))).is_ok() {
            prop_assert!(weir::telemetry::parse_level(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn any_value_of_any_key_never_panics(index in 0..weir::config::keys().len(), text in any::<String>(), quoted in any::<bool>()) {
        let path = weir::config::keys()[index].path.replace("[]", "").replace("NAME", "group1");
        let value = if quoted { format!("{text:?}") } else { text };
        shows_without_panic(format!("{path} = {value}\n{MINIMAL}"));
    }
}
