//! A configuration file, as weir.toml and as deployment.toml: a valid meaning, or problems that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::{Source, parse};

fuzz_target!(|text: &str| {
    for as_deployment in [false, true] {
        let file = Some(("file.toml".into(), text.to_owned()));
        let source = if as_deployment {
            Source {
                deployment_toml: file,
                ..Source::default()
            }
        } else {
            Source {
                weir_toml: file,
                ..Source::default()
            }
        };
        if let Err(found) = parse(&source) {
            assert!(!found.list().is_empty());
            assert!(!found.render(true).is_empty());
            assert!(!found.to_string().contains(|c: char| c.is_control() && c != '\n'));
        }
    }
});
