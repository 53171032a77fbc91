//! Notifies the service manager (sd_notify(3)): ready, reloading, stopping, watchdog.
//!
//! Each message is a datagram of `NAME=value` lines to the socket in `NOTIFY_SOCKET`: a path, or `@` and an abstract
//! name. Errors are logged and have no other effect. The crate `sd-notify` knows no abstract names and sends without a
//! timeout.

use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control::Control;

/// Longest wait for the service manager, so that it cannot block the thread that handles signals.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// systemd ignores messages over 4096 bytes.
const STATUS_MAX_BYTES: usize = 1024;

/// Between two checks of the workers, unless a watchdog needs more.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Longest wait for the workers, as `/livez` waits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket of the service manager, if there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let microseconds = number("WATCHDOG_USEC").filter(|n| meant && *n > 0);
        match connect(name.as_bytes()) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                watchdog: microseconds.map(Duration::from_micros),
            },
            Err(e) => {
                tracing::warn!("NOTIFY_SOCKET = {name:?}: {e}; the service manager is not notified");
                Self::default()
            }
        }
    }

    /// Weir serves, for the first time or again after a reload.
    pub(super) fn ready(&self, status: &str) {
        self.send(format!("READY=1\n{}", status_line(status)));
    }

    /// A reload begins; [`Notify::ready`] ends it, also if it failed. `Type=notify-reload` needs the time.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }

    /// The process stops and may take up to `longest`, whatever `TimeoutStopSec=` is.
    pub(super) fn stopping(&self, status: &str, longest: Duration) {
        let extend = longest.as_micros();
        self.send(format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={extend}\n{}",
            status_line(status)
        ));
    }

    /// Checks the workers every few seconds. Feeds the watchdog at a third of its timeout while all of them answer.
    pub(super) async fn keep_alive(self, control: Control) {
        let every = self.watchdog.map_or(CHECK_EVERY, |patience| patience / 3);
        let mut beat = interval(every.max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            match timeout(CHECK_TIMEOUT, control.look()).await {
                Ok(Some(_)) if self.watchdog.is_some() => self.send("WATCHDOG=1\n".to_owned()),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) if self.watchdog.is_some() => {
                    tracing::warn!("a worker does not answer; the service manager's watchdog is not fed");
                }
                Ok(None) | Err(_) => tracing::warn!("a worker does not answer"),
            }
        }
    }

    fn send(&self, message: String) {
        if let Some(socket) = &self.socket
            && let Err(e) = socket.send(message.as_bytes())
        {
            tracing::warn!("cannot notify the service manager: {e}");
        }
    }
}

fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// One line of bounded length: a line break would begin another assignment.
fn status_line(text: &str) -> String {
    let mut line = String::from("STATUS=");
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > STATUS_MAX_BYTES {
            break;
        }
        line.push(c);
    }
    let _ = writeln!(line);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &[u8]) -> (UnixDatagram, Notify) {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(&[b"@", name].concat()).unwrap();
        let notify = Notify {
            socket: Some(Arc::new(socket)),
            watchdog: None,
        };
        (manager, notify)
    }

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn an_abstract_socket_is_reached_and_a_status_is_one_line_of_bounded_length() {
        let name = format!("weir-notify-{}", std::process::id());
        let (manager, notify) = pair(name.as_bytes());
        notify.ready("two\nREADY=0 \u{1b}[31m");
        assert_eq!(received(&manager), "READY=1\nSTATUS=two READY=0  [31m\n");
        notify.ready(&"ä".repeat(5_000));
        let long = received(&manager);
        assert!(
            long.len() <= STATUS_MAX_BYTES + "READY=1\n\n".len(),
            "{}",
            long.len()
        );
    }

    #[test]
    fn a_missing_manager_has_no_effect() {
        Notify::default().reloading();
        let name = format!("weir-notify-gone-{}", std::process::id());
        let (manager, notify) = pair(name.as_bytes());
        drop(manager);
        notify.stopping("draining", Duration::from_secs(1));
        assert!(connect(b"relative/no/such").is_err());
        assert!(connect(&[b'/'; 4096]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_all_workers_answer() {
        let name = format!("weir-notify-watchdog-{}", std::process::id());
        let (manager, notify) = pair(name.as_bytes());
        manager.set_nonblocking(true).unwrap();
        let watched = Notify {
            watchdog: Some(Duration::from_secs(30)),
            ..notify
        };
        let fed = || std::iter::from_fn(|| manager.recv(&mut [0; 64]).ok()).count();
        let (control, mut doors) = Control::new(1);
        let stuck = watched.clone().keep_alive(control.clone());
        assert!(timeout(Duration::from_secs(300), stuck).await.is_err());
        assert_eq!(fed(), 0);
        // From now on the worker answers.
        let mut door = doors.remove(0);
        let worker = tokio::spawn(async move {
            while let Some(command) = door.recv().await {
                if let crate::control::Command::Snapshot(answer) = command {
                    let _ = answer.send(crate::status::Snapshot::default());
                }
            }
        });
        assert!(
            timeout(
                Duration::from_secs(75),
                watched.clone().keep_alive(control.clone())
            )
            .await
            .is_err()
        );
        // Fewer than the kernel queues for a socket that is not read.
        assert_eq!(fed(), 8, "at once, and every ten seconds");
        worker.abort();
        let _ = worker.await;
        let dead = watched.keep_alive(control);
        assert!(timeout(Duration::from_secs(75), dead).await.is_err());
        assert_eq!(fed(), 0, "the worker has ended");
    }
}
