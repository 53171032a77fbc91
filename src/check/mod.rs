//! `weir check`: is this configuration valid, and what does it mean?

mod words;

use std::process::ExitCode;

use crate::app::Files;

/// The configuration is wrong.
const INVALID: u8 = 2;

/// Prints every problem, or the effective fan-out in words.
#[must_use]
pub fn run(files: &Files) -> ExitCode {
    match files.load() {
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(INVALID)
        }
        Ok((config, warnings)) => {
            for warning in &warnings {
                eprintln!("{warning}");
            }
            print!("{}", words::fanout(&config));
            ExitCode::SUCCESS
        }
    }
}
