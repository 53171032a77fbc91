//! A configuration and a snapshot made by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use weir::config::{
    Ack, Admin, Auth, Config, Endpoint, Group, Ingress, Link, Log, LogFormat, Password, Policy, Queue,
    Scheme, Secret, Shed, TapMode, Tls, Trust, Url, User, Verify,
};
use weir::status::{self, Dropped, Events, FAILURES, LinkState, Overflow, Snapshot};

/// The passwords in [`config`], none of which may ever be seen.
pub(crate) const SECRETS: [&str; 3] = ["hidden-session", "hidden-user", "hidden-tm"];

pub(crate) fn config(token: Option<&str>) -> Config {
    let second = Duration::from_secs(1);
    Config {
        workers: 1,
        ingress: Ingress {
            tcp: Some(SocketAddr::from(([127, 0, 0, 1], 9611))),
            tls: None,
            connections_max: 1000,
            connections_per_address_max: None,
            partial_max_bytes: 64 << 20,
            frame_max_bytes: 16 << 20,
            event_max_bytes: 1 << 20,
            handshake_timeout: second,
            frame_timeout: second,
            idle_timeout: None,
            first_frame_timeout: None,
            reply_timeout: second,
        },
        auth: Auth {
            users: vec![User {
                name: "hidden-user-name".into(),
                password: Password::Clear(Secret::new(SECRETS[1])),
            }],
            session_secret: Some(Secret::new(SECRETS[0])),
            session_ttl: second,
            allow_plaintext_login: false,
        },
        tls: Tls {
            identity: None,
            trust: Trust::System,
            verify: Verify::Full,
        },
        ack: Ack::Accepted,
        link: Link {
            connect_timeout: second,
            tls_timeout: second,
            login_timeout: second,
            reply_timeout: second,
            backoff_min: second,
            backoff_max: second,
            linger: Duration::ZERO,
            batch_max_bytes: 1 << 17,
            window_frames: 8,
            heartbeat: None,
            failback_after: second,
        },
        groups: vec![
            group("east", &["tm1.example", "tm2.example"]),
            group("west", &["tm3.example"]),
        ],
        admin: Some(Admin {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(Secret::new),
            tap: TapMode::Masked,
            tap_streams: None,
        }),
        decisions: None,
        log: Log {
            level: "info".into(),
            format: LogFormat::Text,
        },
        drain_timeout: Duration::from_secs(30),
        drain_notice: Duration::ZERO,
        drain_sends_away: true,
    }
}

fn group(name: &str, hosts: &[&str]) -> Group {
    let url = |host: &str, port| Url {
        scheme: Scheme::Tcp,
        host: host.into(),
        port,
    };
    Group {
        name: name.into(),
        policy: Policy::Failover,
        endpoints: hosts
            .iter()
            .map(|host| Endpoint {
                name: format!("{host}:9611"),
                data: url(host, 9611),
                auth: url(host, 9711),
            })
            .collect(),
        username: "admin".into(),
        password: Secret::new(SECRETS[2]),
        queue: Queue {
            events_max: 1000,
            bytes_max: 1 << 20,
            block_timeout: Some(Duration::from_secs(1)),
            shed: Shed::Oldest,
            unavailable_after: None,
            max_age: None,
            max_age_streams: BTreeMap::new(),
        },
    }
}

/// A snapshot of [`config`]'s groups in which all numbers differ and the balance holds.
pub(crate) fn snapshot() -> Snapshot {
    let mut last = 1_000;
    let mut n = || {
        last += 7;
        last
    };
    Snapshot {
        gateways: status::Gateways::default(),
        ingress: status::Ingress {
            connections_tcp: n(),
            connections_tls: n(),
            accepted_total: n(),
            closed_by_peer_total: n(),
            closed_mid_frame_total: n(),
            reset_bad_input_total: n(),
            reset_idle_total: n(),
            reset_no_session_total: n(),
            reset_per_address_total: n(),
            reset_drain_total: n(),
            handshake_failed_total: n(),
            accept_paused_total: n(),
            received_bytes_total: n(),
            frames_total: n(),
            publishes_ok_total: n(),
            events_ok_total: n(),
            publishes_refused_total: n(),
            publishes_sent_away_total: n(),
            partial_refused_total: n(),
            partial_bytes: n(),
            session_errors_total: n(),
            malformed_total: n(),
            unknown_type_total: n(),
            logins_ok_total: n(),
            logins_failed_total: n(),
            logins_plaintext_refused_total: n(),
            logins_busy_total: n(),
            logouts_total: n(),
            blocked_nanos_total: 2_500_000_000 + n(),
            blocked_now: n(),
        },
        groups: config(None)
            .groups
            .iter()
            .map(|g| group_status(&g.name, &g.endpoints, &mut n))
            .collect(),
    }
}

fn group_status(name: &str, endpoints: &[Endpoint], n: &mut impl FnMut() -> u64) -> status::Group {
    let mut events = Events {
        accepted: 0,
        delivered: n(),
        rejected: n(),
        dropped: Dropped {
            queue_full: n(),
            unavailable: n(),
            max_age: n(),
            drain_timeout: n(),
            group_removed: n(),
            lost: n(),
        },
        queued: n(),
        inflight: n(),
    };
    events.accepted =
        events.delivered + events.rejected + events.dropped.total() + events.queued + events.inflight;
    assert!(events.balanced());
    status::Group {
        name: name.into(),
        policy: "failover",
        available: true,
        overflow: Overflow::Blocking,
        events,
        held_bytes: n(),
        held_bytes_max: n(),
        held_events_max: n(),
        oldest_queued_ms: n(),
        oldest_undelivered_ms: n(),
        blocked_incidents_total: n(),
        shed_incidents_total: n(),
        resent_events_total: n(),
        endpoints: endpoints
            .iter()
            .enumerate()
            .map(|(i, e)| endpoint_status(&e.name, i, n))
            .collect(),
    }
}

fn endpoint_status(name: &str, index: usize, n: &mut impl FnMut() -> u64) -> status::Endpoint {
    let (state, reason) = match index {
        0 => (LinkState::Up, None),
        _ => (
            LinkState::Down,
            Some("refused: connection refused\x1b[31m".to_owned()),
        ),
    };
    status::Endpoint {
        name: name.into(),
        state,
        last_failure: reason.clone(),
        reason,
        since_ms: n(),
        again_in_ms: (state == LinkState::Down).then_some(80_000),
        enabled: true,
        logging_in: false,
        links_up: n(),
        connects_total: n(),
        failures_total: [0; FAILURES.len()].map(|_| n()),
        frames_sent_total: n(),
        events_sent_total: n(),
        sent_bytes_total: n(),
        heartbeats_total: n(),
        replies_ok_total: n(),
        replies_error_total: n(),
        delivered_events_total: n(),
        inflight_frames: n(),
        oldest_inflight_ms: n(),
    }
}
