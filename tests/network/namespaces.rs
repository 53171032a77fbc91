//! Three network namespaces: `w` with weir, `f` with the firewall, `t` with Traffic Managers and gateways.
//!
//! ```text
//! w ──198.18.0──▶ f ──198.18.1──▶ t     what weir sends to Traffic Managers
//! w ◀────────198.18.2──────────── t     gateways and the admin port, past the firewall
//! ```
//!
//! A test runs twice: first outside, where it makes the namespaces and takes them down again whatever
//! happens, then, as a process of its own, in `t`. So the oracle is on both sides of weir, addresses need not
//! be unique on the machine, and other tests' namespaces are none of its business.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::Plan;
use crate::support::process::Start;
use crate::support::stage::Stage;

/// Says to the second run that it is the second, and what the namespaces' names begin with.
const WITHIN: &str = "NETWORK_TEST_NAMESPACES";
/// A test that hangs is ended.
const LIMIT: Duration = Duration::from_secs(150);

/// Where weir's listeners are.
const TCP: ([u8; 4], u16) = ([198, 18, 2, 2], 9611);
const ADMIN: ([u8; 4], u16) = ([198, 18, 2, 2], 9619);

/// The namespaces, seen from within `t`.
pub(crate) struct Net {
    prefix: String,
}

/// Runs `story` within namespaces of its own. `test` is the test itself, whose name is needed.
pub(crate) fn within<T>(test: &T, story: impl AsyncFnOnce(Net)) {
    if let Ok(prefix) = std::env::var(WITHIN) {
        return crate::support::story(story(Net { prefix }));
    }
    if let Err(why) = possible() {
        println!("skipped: {why}");
        return;
    }
    let name = std::any::type_name_of_val(test);
    let (_, name) = name.split_once("::").unwrap();
    let made = Made::new();
    let namespace = format!("{}t", made.prefix);
    let child = Command::new("ip")
        .args(["netns", "exec", &namespace])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(WITHIN, &made.prefix)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Killed(Some(child)).output();
    print!("{output}");
    assert!(
        output.contains("test result: ok. 1 passed"),
        "{name} failed in its namespace"
    );
}

/// Why this machine cannot do it.
fn possible() -> Result<(), String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .unwrap_or_default();
    if uid.split_whitespace().nth(1) != Some("0") {
        return Err("network namespaces need root".into());
    }
    for (tool, asked) in [("ip", "-V"), ("nft", "-v"), ("sysctl", "-V")] {
        let there = Command::new(tool).arg(asked).stdout(Stdio::null()).status();
        if !there.is_ok_and(|s| s.success()) {
            return Err(format!(
                "{tool} is missing (apt install iproute2 nftables procps)"
            ));
        }
    }
    let probe = unique();
    run("ip", &["netns", "add", &probe]).map_err(|e| format!("no network namespace can be made: {e}"))?;
    run("ip", &["netns", "del", &probe]).map(|_| ())
}

/// What names of namespaces begin with; nobody else's do.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("wn{}x{n}", std::process::id())
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} {}: {}", arguments.join(" "), why.trim()))
    }
}

/// Namespaces that end with this value.
struct Made {
    prefix: String,
}

impl Made {
    fn new() -> Self {
        let made = Self { prefix: unique() };
        made.wire().unwrap();
        made
    }

    fn wire(&self) -> Result<(), String> {
        let name = |n: &str| format!("{}{n}", self.prefix);
        for n in ["w", "f", "t"] {
            run("ip", &["netns", "add", &name(n)])?;
            run("ip", &["-n", &name(n), "link", "set", "lo", "up"])?;
        }
        let ends = [
            (("w", "out", "198.18.0.2/24"), ("f", "weir", "198.18.0.1/24")),
            (("f", "managers", "198.18.1.1/24"), ("t", "in", "198.18.1.2/24")),
            (("w", "side", "198.18.2.2/24"), ("t", "side", "198.18.2.1/24")),
        ];
        for (a, b) in ends {
            let (first, second) = (name(a.0), name(b.0));
            run(
                "ip",
                &[
                    "link", "add", a.1, "netns", &first, "type", "veth", "peer", "name", b.1, "netns",
                    &second,
                ],
            )?;
            for (n, link, address) in [a, b] {
                run("ip", &["-n", &name(n), "addr", "add", address, "dev", link])?;
                run("ip", &["-n", &name(n), "link", "set", link, "up"])?;
            }
        }
        run(
            "ip",
            &[
                "-n",
                &name("w"),
                "route",
                "add",
                "198.18.1.0/24",
                "via",
                "198.18.0.1",
            ],
        )?;
        run(
            "ip",
            &[
                "-n",
                &name("t"),
                "route",
                "add",
                "198.18.0.0/24",
                "via",
                "198.18.1.1",
            ],
        )?;
        run(
            "ip",
            &[
                "netns",
                "exec",
                &name("f"),
                "sysctl",
                "-qw",
                "net.ipv4.ip_forward=1",
            ],
        )?;
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for n in ["w", "f", "t"] {
            let name = format!("{}{n}", self.prefix);
            // Whatever still runs in there would keep it alive.
            for pid in run("ip", &["netns", "pids", &name])
                .unwrap_or_default()
                .split_whitespace()
            {
                let _ = run("kill", &["-KILL", pid]);
            }
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

/// A child that does not outlive this value.
pub(crate) struct Killed(Option<Child>);

impl Killed {
    /// What it printed, at its end or at the limit.
    // Outside there is no runtime: this thread waits.
    #[allow(clippy::disallowed_methods)]
    fn output(mut self) -> String {
        let mut child = self.0.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut stdout, &mut text);
            text
        });
        let mut own = Killed(Some(child));
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline && own.0.as_mut().unwrap().try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(own);
        reader.join().unwrap()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Net {
    /// Weir in `w`, Traffic Managers in `t` behind `f`.
    pub(crate) async fn stage(&self, plan: Plan) -> Stage {
        self.stage_towards(plan, [198, 18, 1, 2]).await
    }

    /// The same with Traffic Managers at another address of `t`.
    pub(crate) async fn stage_towards(&self, plan: Plan, managers: [u8; 4]) -> Stage {
        let start = Start {
            prefix: ["ip", "netns", "exec", &self.name("w")]
                .map(str::to_owned)
                .to_vec(),
            ..Start::default()
        };
        let listen = (SocketAddr::from(TCP), SocketAddr::from(ADMIN));
        Stage::start_at(plan, start, listen, IpAddr::from(managers)).await
    }

    fn name(&self, n: &str) -> String {
        format!("{}{n}", self.prefix)
    }

    /// Runs a command in a namespace; what it printed.
    pub(crate) fn run_in(&self, n: &str, words: &[&str]) -> String {
        let name = self.name(n);
        let mut all = vec!["netns", "exec", name.as_str()];
        all.extend(words);
        run("ip", &all).unwrap()
    }

    /// `ip` in a namespace.
    pub(crate) fn ip(&self, n: &str, words: &[&str]) {
        let name = self.name(n);
        let mut all = vec!["-n", name.as_str()];
        all.extend(words);
        run("ip", &all).unwrap();
    }

    /// An ignored test of this binary as a process in a namespace.
    pub(crate) fn spawn_in(&self, n: &str, test: &str, environment: (&str, &str)) -> Killed {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name(n)])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(environment.0, environment.1)
            .stdout(Stdio::null())
            .spawn();
        Killed(Some(child.unwrap()))
    }

    /// Commands of `nft` for the firewall, all or none.
    pub(crate) fn firewall(&self, commands: &[&str]) {
        self.run_in("f", &["nft", &commands.join("\n")]);
    }
}
