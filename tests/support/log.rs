//! The log of the whole test process, from info up, for tests that ask what it says of one peer. They run alone in their
//! process: ports of others would be taken for those of this test.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use weir::config::{Log, LogFormat};
use weir::telemetry;

static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

struct Memory;

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.get().unwrap().lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the log from now on.
pub fn keep() {
    LOG.get_or_init(|| {
        let log = Log {
            level: "info".into(),
            format: LogFormat::Text,
        };
        let (subscriber, _) = telemetry::build(&log, || Memory).unwrap();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        Mutex::default()
    });
}

/// The lines that name this peer.
pub fn lines(peer: SocketAddr) -> Vec<String> {
    let name = format!("peer={peer}");
    let text = String::from_utf8(LOG.get().unwrap().lock().unwrap().clone()).unwrap();
    let whole = |l: &&str| {
        l.match_indices(&name)
            .any(|(at, _)| !l[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(whole).map(str::to_owned).collect()
}
