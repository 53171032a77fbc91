//! What commands say: results on stdout, notes on stderr. Neither ever panics, as `println!` does when nobody reads.
//!
//! A result that cannot be written ends the command: quietly where the reader has gone (`weir demo | head -3`), with
//! a sentence where there is no room (`weir status >/dev/full`). A note that cannot be written is left out.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Something failed.
pub const FAILED: u8 = 1;

/// The arguments or the configuration are wrong, and nothing was done.
pub const MISCONFIGURED: u8 = 2;

/// Stdout was closed before everything was written: 128 + SIGPIPE, as a shell says it of other programs.
pub const CLOSED: u8 = 141;

/// Why a command has not done all it should.
#[derive(Debug)]
pub enum Failure {
    /// What to say.
    Said(String),
    /// The result cannot be written.
    Stdout(io::Error),
}

impl Failure {
    /// Nobody reads the result any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Failure::Stdout(e) if e.kind() == ErrorKind::BrokenPipe)
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.is_closed() { CLOSED } else { FAILED }
    }

    /// Says it, where there is something to say; the exit code.
    #[must_use]
    pub fn end(&self) -> u8 {
        if !self.is_closed() {
            note(format_args!("error: {self}"));
        }
        self.code()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Said(what) => f.write_str(what),
            Failure::Stdout(e) => write!(f, "cannot write to stdout: {e}"),
        }
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Failure::Said(what)
    }
}

/// Writes `text` to stdout, all of it.
///
/// # Errors
/// Nobody reads it, or there is no room.
pub fn print(text: &str) -> Result<(), Failure> {
    print_to(&mut io::stdout().lock(), text)
}

/// Writes `text` to `out`, all of it; [`print()`] for those who hold stdout.
///
/// # Errors
/// The writer's.
pub fn print_to(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        // What is buffered at the end of the process is lost without a word.
        .and_then(|()| out.flush())
        .map_err(Failure::Stdout)
}

/// Writes a line to stderr.
pub fn note(line: impl fmt::Display) {
    // In one write, so that lines of several writers stay apart. There is no other place to say that it failed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as it is told.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_141_and_any_other_error_is_1() {
        let closed = print_to(&mut Broken(ErrorKind::BrokenPipe), "text").unwrap_err();
        assert_eq!((closed.code(), closed.is_closed()), (141, true));
        let full = print_to(&mut Broken(ErrorKind::StorageFull), "").unwrap_err();
        assert_eq!((full.code(), full.is_closed()), (1, false), "found by the flush");
        assert!(full.to_string().starts_with("cannot write to stdout: "));
    }
}
