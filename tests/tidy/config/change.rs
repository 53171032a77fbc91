//! What a reload sees between two configurations.

use weir::config::{Change, GroupChange, Source};

use super::support::{valid, weir};

/// Two groups, of which the second has two endpoints.
const BASE: &str = r#"
workers = 1
drain_timeout = "20s"
[listen]
tcp = "127.0.0.1:9611"
frame_timeout = "30s"
[auth]
session_ttl = "1h"
[queue]
max_events = 1000
[link]
linger = "2ms"
[admin]
listen = "127.0.0.1:9619"
token = "one"
[decisions]
listen = "10.0.0.1:5672"
hold = "28s"
endpoints = ["tcp://a:5672"]
[log]
level = "info"
format = "text"
[apim.throttling]
username = "u"
password = "p"
[[apim.throttling.url_group]]
name = "one"
traffic_manager_urls = ["tcp://a:9611"]
[[apim.throttling.url_group]]
name = "two"
type = "failover"
traffic_manager_urls = ["tcp://b:9611", "tcp://c:9611"]
"#;

fn change(from: &str, to: &str) -> Change {
    assert!(BASE.contains(from), "{from}");
    between(&weir(BASE), &weir(&BASE.replacen(from, to, 1)))
}

fn between(old: &Source, new: &Source) -> Change {
    Change::between(&valid(old), &valid(new))
}

#[test]
fn the_same_file_changes_nothing() {
    let change = between(&weir(BASE), &weir(BASE));
    assert_eq!(change, Change::default());
}

#[test]
fn each_setting_takes_effect_now_or_after_a_restart() {
    for (from, to, hot, restart) in [
        ("workers = 1", "workers = 2", "", "workers"),
        (
            "tcp = \"127.0.0.1:9611\"",
            "tcp = \"127.0.0.1:9612\"",
            "",
            "listen.tcp",
        ),
        (
            "frame_timeout = \"30s\"",
            "frame_timeout = \"31s\"",
            "listen.frame_timeout",
            "",
        ),
        (
            "session_ttl = \"1h\"",
            "session_ttl = \"2h\"",
            "auth.session_ttl",
            "",
        ),
        ("linger = \"2ms\"", "linger = 0", "link.linger", ""),
        (
            "listen = \"127.0.0.1:9619\"",
            "listen = \"127.0.0.1:9620\"",
            "",
            "admin.listen",
        ),
        ("token = \"one\"", "token = \"two\"", "admin.token", ""),
        (
            "listen = \"10.0.0.1:5672\"",
            "listen = \"10.0.0.1:5673\"",
            "",
            "decisions.listen",
        ),
        ("hold = \"28s\"", "hold = \"20s\"", "decisions.hold", ""),
        ("level = \"info\"", "level = \"debug\"", "log.level", ""),
        ("format = \"text\"", "format = \"json\"", "", "log.format"),
        (
            "drain_timeout = \"20s\"",
            "drain_timeout = \"21s\"",
            "drain_timeout",
            "",
        ),
        ("[log]", "[tls]\nverify = \"chain\"\n[log]", "tls", ""),
        ("drain_timeout", "ack = \"delivered\"\ndrain_timeout", "ack", ""),
    ] {
        let change = change(from, to);
        assert_eq!(
            (change.hot.join(","), change.restart.join(",")),
            (hot.to_owned(), restart.to_owned()),
            "{to}"
        );
        assert!(change.groups_changed.is_empty(), "{to}");
    }
}

#[test]
fn groups_are_added_removed_and_renamed_by_name() {
    let renamed = change("name = \"two\"", "name = \"three\"");
    assert_eq!(
        (renamed.groups_added, renamed.groups_removed),
        (vec!["three".to_owned()], vec!["two".to_owned()])
    );
    assert!(renamed.groups_changed.is_empty());
}

#[test]
fn inside_a_group_only_what_differs_is_named() {
    let b_and_c = "\"tcp://b:9611\", \"tcp://c:9611\"";
    let two = |to: &str| {
        change(b_and_c, to)
            .groups_changed
            .remove("two")
            .unwrap_or_default()
    };
    let none = GroupChange::default;

    let swapped = two("\"tcp://c:9611\", \"tcp://b:9611\"");
    assert_eq!(
        swapped,
        GroupChange {
            policy: true,
            ..none()
        },
        "the order is what failover goes by"
    );
    let replaced = two("\"tcp://b:9611\", \"tcp://d:9611\"");
    let (gone, new) = (vec!["c:9611".to_owned()], vec!["d:9611".to_owned()]);
    assert_eq!(
        replaced,
        GroupChange {
            endpoints_removed: gone,
            endpoints_added: new,
            ..none()
        }
    );
    let secured = two("\"tcp://b:9611\", \"ssl://c:9611\"");
    assert_eq!(
        secured,
        GroupChange {
            endpoints_changed: vec!["c:9611".to_owned()],
            ..none()
        }
    );

    let limits = change("max_events = 1000", "max_events = 2000");
    assert_eq!(limits.groups_changed.len(), 2, "both inherit the limit");
    assert!(limits.groups_changed.values().all(|g| *g
        == GroupChange {
            queue: true,
            ..none()
        }));

    let login = change("password = \"p\"", "password = \"q\"");
    assert_eq!(
        login.groups_changed["two"].endpoints_changed,
        ["b:9611", "c:9611"]
    );
    assert_eq!(login.hot, ["auth.user"], "gateways log in with it too");
    assert_eq!(login.groups_changed.len(), 2);
}
