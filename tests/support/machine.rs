//! What tests with processes share with everybody else on this machine.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses that nobody else on this machine uses: every test has a loopback address of its own, so a port
/// can be known before it is opened, and opened again.
pub fn own_addresses() -> (SocketAddr, SocketAddr) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, a, b, c] = n.to_be_bytes();
    // 127.128.0.0/9: away from everything well known.
    let ip = [127, 128 | a, b, c];
    (SocketAddr::from((ip, 9611)), SocketAddr::from((ip, 9619)))
}

/// Raises this process' limit of open files to `wanted`; why it cannot be.
pub fn allow_descriptors(wanted: u64) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))
        .unwrap();
    let hard = line.split_whitespace().nth(1).unwrap();
    if hard.parse().is_ok_and(|hard: u64| hard < wanted) {
        return Err(format!(
            "the hard limit of open files is {hard}, {wanted} are needed"
        ));
    }
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={wanted}:{hard}")])
        .status();
    match raised {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("prlimit: {status}")),
        Err(e) => Err(format!("prlimit: {e}")),
    }
}
