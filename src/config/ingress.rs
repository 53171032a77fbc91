//! `[listen]`: where gateways connect, and what a connection may cost.

use std::net::SocketAddr;
use std::time::Duration;

use super::kinds::{HOUR, MILLISECOND, SECOND, address, count, size, time, time_from};
use super::section::Section;
use super::settings::settings;

/// Larger frames a Traffic Manager would answer ok and drop; events travel upstream in frames.
pub(super) const UPSTREAM_MAX_BYTES: usize = 8 << 20;

settings! {
    /// The listeners, and what a gateway connection may cost.
    pub struct Ingress("listen.") {
        "tcp" tcp: Option<SocketAddr> = address(), or "0.0.0.0:9611", Restart,
            "Where gateways publish; \"off\" closes it.";
        "tls" tls: Option<SocketAddr> = address(), or "0.0.0.0:9711", Restart,
            "Where gateways log in, and publish with TLS; \"off\" closes it.";
        "max_connections" connections_max: usize = count(1, 1_000_000), or 10_000, Now,
            "Gateway connections at a time; further ones wait.";
        "max_connections_per_address" connections_per_address_max: Option<usize> = count(1, 1_000_000).or("off"),
            or "off", Now,
            "The same for one address; further ones are reset. \"off\" = no limit. Leave it off behind a balancer, where all gateways have its address.";
        "partial_max_bytes" partial_max_bytes: usize = size(1 << 20, 1 << 40), or "64MiB", Now,
            "Memory for frames that have not arrived whole, of all connections. A frame for which there is no memory waits, for reply_timeout at most.";
        "frame_max_bytes" frame_max_bytes: usize = size(1 << 10, 256 << 20), or "16MiB", Now,
            "Largest frame a gateway may send, without its header.";
        "event_max_bytes" event_max_bytes: usize = size(256, UPSTREAM_MAX_BYTES), or "1MiB", Now,
            "Largest event in a frame.";
        "handshake_timeout" handshake_timeout: Duration = time(100 * MILLISECOND, 300 * SECOND), or "10s", Now,
            "Deadline of a gateway's TLS handshake.";
        "frame_timeout" frame_timeout: Duration = time(100 * MILLISECOND, HOUR), or "30s", Now,
            "A connection on which no byte of an unfinished frame arrives for this long is reset.";
        "idle_timeout" idle_timeout: Option<Duration> = time_from(SECOND).or("never"), or "16h", Now,
            "A connection without a byte for this long is reset. Some gateways keep theirs open for 15 hours.";
        "first_frame_timeout" first_frame_timeout: Option<Duration> = time_from(100 * MILLISECOND).or("never"),
            or "30s", Now,
            "A connection without a login or a valid session for this long is reset.";
        "reply_timeout" reply_timeout: Duration = time(100 * MILLISECOND, 25 * SECOND)
            .because("the gateway gives up at 30s and sends again"), or "25s", Now,
            "Longest wait before a publish is answered; at most 25s, because the gateway gives up at 30s and sends again.";
    }
}

/// `[listen]`.
pub(super) fn ingress(s: &Section<'_>) -> Option<Ingress> {
    let ingress = Ingress::read(s, None)?;
    s.finish();
    if ingress.tcp.is_none() && ingress.tls.is_none() {
        let message = "no gateway could connect: tcp and tls are both off";
        s.problem("tcp", message, "leave at least one of them on");
    }
    let sound = s.sound(&["event_max_bytes", "frame_max_bytes"]);
    if sound && ingress.event_max_bytes > ingress.frame_max_bytes {
        let (key, message) = match s.has("event_max_bytes") {
            true => ("event_max_bytes", "is larger than frame_max_bytes"),
            false => ("frame_max_bytes", "is smaller than event_max_bytes"),
        };
        s.problem(key, message, "an event travels in a frame");
    }
    Some(ingress)
}
