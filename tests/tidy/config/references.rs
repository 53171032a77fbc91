//! `$ref{} $env{} $sys{} $secret{} $file{}`, and Carbon's `${}` that weir cannot resolve.

use weir::config::Source;

use super::support::{lines, map, valid, weir};

fn with_password(value: &str) -> String {
    format!(
        "[super_admin]\npassword = \"from super admin\"\nport = 9611\n\
         [apim.throttling]\nusername = \"admin\"\npassword = '{value}'\n\
         [[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm1:$ref{{super_admin.port}}\"]\n"
    )
}

fn password(source: &Source) -> String {
    valid(source).groups[0].password.expose().to_owned()
}

#[test]
fn every_kind_of_reference_is_resolved_also_inside_a_longer_string() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tm"), "from a secret\n").unwrap();
    std::fs::write(dir.path().join("plain"), "from a file\r\n").unwrap();
    let file = format!("$file{{{}}}", dir.path().join("plain").display());
    for (text, expected) in [
        ("$ref{super_admin.password}", "from super admin"),
        ("$env{TM_PASSWORD}", "from the environment"),
        ("$sys{tm.password}", "from --sys"),
        ("$secret{tm}", "from a secret"),
        (file.as_str(), "from a file"),
        (
            "<$env{TM_PASSWORD}|$sys{tm.password}>",
            "<from the environment|from --sys>",
        ),
        ("a $ sign, $5 and a $word{stay}", "a $ sign, $5 and a $word{stay}"),
    ] {
        let mut source = weir(&with_password(text));
        source.env = map(&[("TM_PASSWORD", "from the environment")]);
        source.sys = map(&[("tm.password", "from --sys")]);
        source.secrets_dir = Some(dir.path().to_path_buf());
        assert_eq!(password(&source), expected, "{text}");
        assert_eq!(valid(&source).groups[0].endpoints[0].name, "tm1:9611");
    }
}

#[test]
fn what_a_reference_brings_in_is_not_searched_for_references_again() {
    let mut source = weir(&with_password("$env{A}"));
    source.env = map(&[("A", "$env{B} \"\n[admin]"), ("B", "no")]);
    assert_eq!(password(&source), "$env{B} \"\n[admin]");
}

#[test]
fn chains_are_followed_and_a_circle_is_refused() {
    let chain = "[a]\nx = \"$ref{b.y}!\"\n[b]\ny = \"$env{Z}\"\n";
    let tables = with_password("$ref{a.x}");
    let mut source = Source {
        deployment_toml: Some(("deployment.toml".into(), format!("{chain}{tables}"))),
        env: map(&[("Z", "end")]),
        ..Source::default()
    };
    assert_eq!(password(&source), "end!");

    let circle = "[a]\nx = \"$ref{b.y}\"\n[b]\ny = \"$ref{a.x}\"\n";
    source.deployment_toml = Some(("deployment.toml".into(), format!("{circle}{tables}")));
    assert_eq!(
        lines(&source),
        [
            "deployment.toml:10:12: apim.throttling.password: refers to itself: \
          $ref{a.x} → $ref{b.y} → $ref{a.x} (give one of them a value)"
        ]
    );
}

#[test]
fn references_that_double_at_each_step_are_stopped() {
    let mut text = String::from("[a]\nk0 = \"xxxxxxxxxx\"\n");
    for n in 1..60 {
        text.push_str(&format!("k{n} = \"$ref{{a.k{0}}}$ref{{a.k{0}}}\"\n", n - 1));
    }
    let source = Source {
        deployment_toml: Some(("d.toml".into(), format!("{text}{}", with_password("$ref{a.k59}")))),
        ..Source::default()
    };
    let found = lines(&source);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("grows without end"), "{found:?}");
}

#[test]
fn what_cannot_be_resolved_is_a_problem_with_line_key_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "$env{NONE}",
            "the environment variable NONE is not set (set NONE before weir starts, or write the value here)",
        ),
        (
            "$sys{no.ne}",
            "the property no.ne is not set (start weir with --sys no.ne=VALUE)",
        ),
        (
            "$secret{../x}",
            "$secret{../x}: not the name of a file (an alias is one file name in the directory of secrets)",
        ),
        (
            "$ref{nobody.here}",
            "$ref{nobody.here}: there is no such key in this file (name a key by its full path, as $ref{super_admin.password})",
        ),
        (
            "$ref{super_admin}",
            "$ref{super_admin} is a table (refer to a string or a number)",
        ),
        (
            "$file{/}",
            "/ is not a regular file (name a file that holds the value)",
        ),
        ("$evn{X}", "$evn{} is not a reference (did you mean $env{…}?)"),
        ("$env{X", "$env{ is never closed (add the closing brace)"),
        (
            "${admin.password}",
            "${…} is resolved by WSO2 Carbon at run time, weir cannot know its value (write the value itself, or $env{NAME}, $sys{property}, $secret{alias}, $file{/path})",
        ),
    ] {
        let mut source = weir(&with_password(text));
        source.secrets_dir = Some(dir.path().to_path_buf());
        assert_eq!(
            lines(&source),
            [format!("weir.toml:6:12: apim.throttling.password: {expected}")]
        );
    }
    let no_dir = lines(&weir(&with_password("$secret{tm}")));
    assert!(no_dir[0].contains("--secrets-dir DIR"), "{no_dir:?}");
    let missing = lines(&weir(&with_password("$file{/no/such/file}")));
    assert!(
        missing[0].contains("cannot read /no/such/file: No such file or directory"),
        "{missing:?}"
    );
}

#[test]
fn numbers_and_flags_may_be_references_and_are_not_quoted() {
    let text = format!(
        "workers = \"$env{{W}}\"\n[auth]\nallow_plaintext_login = \"$env{{P}}\"\n{}",
        with_password("x")
    );
    let mut source = weir(&text);
    source.env = map(&[("W", "3"), ("P", "true")]);
    let config = valid(&source);
    assert_eq!((config.workers, config.auth.allow_plaintext_login), (3, true));

    source.env = map(&[("W", "hunter2"), ("P", "true")]);
    assert_eq!(
        lines(&source),
        [
            "weir.toml:1:11: workers: the value of the reference is not a whole number (write a number from 1 to 256)"
        ]
    );
}
