//! Alerts and the dashboard, held to the metrics that weir has: names, labels, and values of labels.

mod alerts;
mod dashboard;
mod known;
mod live;
mod query;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's package is `prometheus`.
const PROGRAM: &str = "promtool";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs promtool, which must be content; `false` where it is missing.
fn promtool(arguments: &[&str], file: &Path) -> bool {
    let out = match Command::new(PROGRAM).args(arguments).arg(file).output() {
        Ok(out) => out,
        Err(_) => {
            println!("skipped: promtool is missing (apt install prometheus)");
            return false;
        }
    };
    let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(out.status.success(), "{arguments:?}: {}", said.join("\n"));
    true
}

/// GET over HTTP/1.0: the body of any answer; `None` while nobody is there.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    body.starts_with('{').then(|| body.to_owned())
}
