//! The command line as a user types it.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_arguments_are_consistent_and_each_has_help() {
    Cli::command().debug_assert();
    let mut root = Cli::command();
    root.build();
    for command in leaves(&root) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for arg in command.get_arguments() {
            assert!(
                arg.get_help().is_some(),
                "{} of {}",
                arg.get_id(),
                command.get_name()
            );
        }
    }
}

#[test]
fn run_reads_the_configuration_it_is_given() {
    let Ok(Cli {
        command: Command::Run(run),
    }) = parse("weir run --config a.toml --sys k=v=w --sys x= --log-level weir=debug,warn --log-format json")
    else {
        panic!("not a run");
    };
    assert_eq!(run.config.file(), Some(Path::new("a.toml")));
    assert_eq!(
        run.config.sys,
        [("k".into(), "v=w".into()), ("x".into(), String::new())]
    );
    assert_eq!(run.log_level.as_deref(), Some("weir=debug,warn"));
    assert_eq!(run.log_format.map(LogFormat::from), Some(LogFormat::Json));
    for wrong in [
        "weir run --sys k",
        "weir run --sys =v",
        "weir run --log-level loud",
        "weir",
        "weir fly",
    ] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

#[test]
fn a_token_is_never_shown() {
    let cli = parse("weir drain --undo --token s3cret --admin http://127.0.0.1:1").unwrap();
    assert!(!format!("{cli:?}").contains("s3cret"));
    assert!(format!("{cli:?}").contains("undo: true"));
}

#[test]
fn help_manual_and_completions_know_every_command() {
    let written = |write: &dyn Fn(&mut Vec<u8>) -> io::Result<()>| {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let help = written(&|out| help_all(out));
    let manual = written(&|out| man(out)).replace("\\-", "-");
    let shell = written(&|out| completions(clap_complete::Shell::Bash, out));
    for word in [
        "run",
        "check",
        "status",
        "drain",
        "reload",
        "disable",
        "log-level",
        "--secrets-dir",
    ] {
        assert!(
            help.contains(word) && manual.contains(word) && shell.contains(word),
            "{word}"
        );
    }
    assert!(help.contains("Exit codes:") && help.contains("WEIR_ADMIN_TOKEN"));
}
