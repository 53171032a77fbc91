//! What a service manager hears on its socket: ready when the ports are open, a reload with its beginning and end,
//! signs of life, and the end.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::support::machine::own_addresses;
use crate::support::process::{Process, Start, WEIR};
use crate::support::{Plan, get, story, toml, url_group};

/// The manager's end of the socket, and how weir is told of it.
struct Manager {
    socket: UnixDatagram,
    start: Start,
    _home: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut start = Start::default();
        start
            .environment
            .push(("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned()));
        Self {
            socket,
            start,
            _home: home,
        }
    }

    /// The next message, line by line; waits for it.
    fn heard(&self) -> Vec<String> {
        heard(&self.socket)
    }

    /// The next message that is no sign of life.
    fn news(&self) -> Vec<String> {
        loop {
            let message = self.heard();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }
}

fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 8192];
    let n = socket
        .recv(&mut buffer)
        .expect("the service manager hears nothing");
    let text = String::from_utf8(buffer[..n].to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn one_group() -> String {
    toml(
        &Plan::default(),
        &url_group("one", "failover", "\"tcp://127.0.0.1:1\""),
    )
}

fn now_microseconds() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[test]
fn ready_is_told_when_every_port_listens_and_not_before() {
    story(async {
        let manager = Manager::new();
        let (tcp, admin) = own_addresses();
        let text = one_group().replacen("127.0.0.1:0", &tcp.to_string(), 1).replacen(
            "127.0.0.1:0",
            &admin.to_string(),
            1,
        );
        let socket = manager.socket.try_clone().unwrap();
        let looks = thread::spawn(move || {
            let first = heard(&socket);
            // In the moment of the message.
            std::net::TcpStream::connect(tcp).expect("READY before the gateways' port was open");
            assert_eq!(get(admin, "/readyz"), "ok\n");
            first
        });
        let weir = Process::start(&text, manager.start.clone(), None).await;
        let first = looks.join().unwrap();
        assert_eq!(first[0], "READY=1");
        let status = &first[1];
        for word in ["STATUS=", "one", &tcp.to_string()] {
            assert!(status.contains(word), "{status} does not name {word}");
        }
        drop(weir);
    });
}

#[test]
fn a_start_that_fails_never_says_ready() {
    let manager = Manager::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("weir.toml");
    std::fs::write(&file, one_group().replacen("127.0.0.1:0", &address, 1)).unwrap();
    let output = Command::new(WEIR)
        .arg("run")
        .arg("--config")
        .arg(&file)
        .envs(manager.start.environment.iter().cloned())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    manager.socket.set_nonblocking(true).unwrap();
    let nothing = manager.socket.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end_and_a_refused_one_says_why() {
    story(async {
        let manager = Manager::new();
        let weir = Process::start(&one_group(), manager.start.clone(), None).await;
        assert_eq!(manager.heard()[0], "READY=1");
        let more = url_group("two", "failover", "\"tcp://127.0.0.1:2\"");
        let before = now_microseconds();
        let good = one_group().replace("[listen]", &format!("{more}\n[listen]"));
        for (text, word) in [(good.as_str(), "two"), ("[queue\n", "refused")] {
            rewrite(&weir.config_file(), text);
            weir.signal("HUP");
            // On a slow machine weir may have found the file by itself before, which is a reload of its own.
            loop {
                let begin = manager.heard();
                assert_eq!(begin[0], "RELOADING=1");
                let at = begin[1].strip_prefix("MONOTONIC_USEC=").unwrap();
                let at: i128 = at.parse().unwrap();
                assert!((before..=now_microseconds()).contains(&at), "{at} after {before}");
                let end = manager.heard();
                assert_eq!(end[0], "READY=1");
                if end[1].contains(word) {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_reload_that_was_asked_for_at_the_admin_port_is_over_before_the_answer() {
    story(async {
        let manager = Manager::new();
        let weir = Process::start(&one_group(), manager.start.clone(), None).await;
        assert_eq!(manager.heard()[0], "READY=1");
        let asked = Command::new(WEIR)
            .args(["reload", "--admin", &weir.admin.to_string()])
            .output()
            .unwrap();
        assert!(asked.status.success(), "{asked:?}");
        // Both are there when the command has ended.
        manager.socket.set_nonblocking(true).unwrap();
        assert_eq!(manager.heard()[0], "RELOADING=1");
        assert_eq!(manager.heard()[0], "READY=1");
    });
}

#[test]
fn the_end_is_told_with_the_time_that_it_may_take() {
    story(async {
        let manager = Manager::new();
        let text = format!("drain_timeout = \"90s\"\n{}", without_drain_timeout());
        let mut weir = Process::start(&text, manager.start.clone(), None).await;
        assert_eq!(manager.heard()[0], "READY=1");
        weir.signal("TERM");
        assert_eq!(
            manager.heard(),
            ["STOPPING=1", "EXTEND_TIMEOUT_USEC=100000000", "STATUS=draining"]
        );
        assert_eq!(weir.end().await, Some(0));
    });
}

#[test]
fn the_watchdog_gets_signs_of_life_until_the_end() {
    story(async {
        let mut manager = Manager::new();
        let watchdog = ("WATCHDOG_USEC".to_owned(), "60000".to_owned());
        manager.start.environment.push(watchdog);
        let mut weir = Process::start(&one_group(), manager.start.clone(), None).await;
        assert_eq!(manager.heard()[0], "READY=1");
        for _ in 0..10 {
            assert_eq!(manager.heard(), ["WATCHDOG=1"]);
        }
        weir.signal("TERM");
        assert_eq!(manager.news()[0], "STOPPING=1");
        assert_eq!(weir.end().await, Some(0));
    });
}

fn without_drain_timeout() -> String {
    let text = one_group();
    let lines = text.lines().filter(|line| !line.starts_with("drain_timeout"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// At once, so that the look at the files does not find half of it.
fn rewrite(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}
