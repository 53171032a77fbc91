//! What commands print: results on stdout, notes on stderr. Neither panics, as `println!` does when the pipe is closed.
//!
//! A result that cannot be written ends the command: quietly where the reader has gone (`weir man | head -3`), with
//! an error where the disk is full (`weir status >/dev/full`). A note that cannot be written is lost.
//!
//! Also what every text for people needs: [`one_line`] makes foreign text harmless, [`table`] aligns columns.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Something failed.
pub const FAILED: u8 = 1;

/// The arguments or the configuration are wrong, and nothing was done.
pub const MISCONFIGURED: u8 = 2;

/// Stdout was closed before everything was written: 128 + SIGPIPE, as a shell reports it for other programs.
pub const CLOSED: u8 = 141;

/// Why a command has not done all it should.
#[derive(Debug)]
pub enum Failure {
    /// The error, for people.
    Said(String),
    /// The result cannot be written.
    Stdout(io::Error),
}

impl Failure {
    /// The reader of stdout has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Failure::Stdout(e) if e.kind() == ErrorKind::BrokenPipe)
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.is_closed() { CLOSED } else { FAILED }
    }

    /// Prints the error, unless the reader has gone; returns the exit code.
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
/// The reader has gone, or the disk is full.
pub fn print(text: &str) -> Result<(), Failure> {
    print_to(&mut io::stdout().lock(), text)
}

/// [`print()`] to another writer.
///
/// # Errors
/// The writer's.
pub fn print_to(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        // The process may end before a buffer is written.
        .and_then(|()| out.flush())
        .map_err(Failure::Stdout)
}

/// Writes a line to stderr.
pub fn note(line: impl fmt::Display) {
    // In one write, so that lines of several threads stay apart. A failure could only be reported here.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether a character can break a line, steer a terminal, or reverse the direction of the text after it.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Foreign text on one line, every character that [`steers`] escaped.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// The same with escapes of JSON. JSON has such characters only within strings, so it stays the same JSON.
#[must_use]
pub fn one_line_json(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let escape = |c| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if steers(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Lines with aligned columns, two spaces between them. Cells may hold foreign text.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_foreign_text_stays_in_its_cell() {
        let rows = [["NAME", "STATE"], ["a\nb", "up\u{1b}[2J"], ["längere", ""]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&rows),
            ["NAME     STATE", "a\\nb     up\\u{1b}[2J", "längere"]
        );
    }

    /// Fails with this error.
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
    fn a_closed_stdout_exits_with_141_and_any_other_error_with_1() {
        let closed = print_to(&mut Broken(ErrorKind::BrokenPipe), "text").unwrap_err();
        assert_eq!((closed.code(), closed.is_closed()), (141, true));
        let full = print_to(&mut Broken(ErrorKind::StorageFull), "").unwrap_err();
        assert_eq!((full.code(), full.is_closed()), (1, false), "found by the flush");
        assert!(full.to_string().starts_with("cannot write to stdout: "));
    }
}
