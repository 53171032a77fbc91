//! The comparison of `benches/compare`: its pure parts, by its own tests, and what it says when it cannot begin.

use std::process::{Command, Output};

/// Runs python3 in the root of the project; `None` where there is none, which is said.
fn python(arguments: &[&str]) -> Option<Output> {
    let run = Command::new("python3")
        .arg("-B")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match run {
        Ok(output) => Some(output),
        Err(e) => {
            println!("skipped: python3 is needed: {e}");
            None
        }
    }
}

#[test]
fn its_pure_parts_pass_their_own_tests() {
    let Some(output) = python(&["-m", "unittest", "discover", "-s", "benches/compare"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Found none at all would be a success, too.
    assert!(said.contains("OK") && !said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn without_a_binary_it_says_how_to_build_one() {
    let Some(output) = python(&["benches/compare", "--quick", "--weir", "nowhere/weir"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("nowhere/weir") && said.contains("cargo build --profile dist"),
        "{said}"
    );
}

#[test]
fn a_cell_that_does_not_exist_is_named() {
    let Some(output) = python(&["benches/compare", "--cell", "c65"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("c65") && said.contains("--list"), "{said}");
}
