//! Every key of weir's own tables with its default and one line of help: data for documentation and for the test
//! that `config/weir.toml` names them all.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Full path; `NAME` stands for the name of a group, `[]` for one of several tables.
    pub path: &'static str,
    /// Default as TOML text; `None` = not set.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// Every key of weir's own tables, in the order of `config/weir.toml`.
#[must_use]
pub fn keys() -> &'static [Key] {
    KEYS
}

const fn key(path: &'static str, default: &'static str, help: &'static str) -> Key {
    Key {
        path,
        default: Some(default),
        help,
    }
}

const fn unset(path: &'static str, help: &'static str) -> Key {
    Key {
        path,
        default: None,
        help,
    }
}

// One line for a key reads better than six.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    key("workers", "1", "Threads, each with its own listeners, queues and links; a Traffic Manager has 100 connections to give, each worker takes one per endpoint."),
    key("ack", r#""accepted""#, "When a gateway gets its ok: \"accepted\" = every group's queue has the events, \"delivered\" = every available group has delivered them."),
    key("drain_timeout", r#""20s""#, "How long a stop may take at most: until no gateway is connected and everything queued is delivered."),
    key("drain_notice", r#""5s""#, "The first part of it: not ready, but serving as before, until balancers have noticed."),
    key("drain_sends_away", "true", "After that, answer the next publish on each connection with an error that makes the agent go elsewhere; false for agents of 6.1, which never publish again after it."),
    key("listen.tcp", r#""0.0.0.0:9611""#, "Where gateways publish; \"off\" = not at all."),
    key("listen.tls", r#""0.0.0.0:9711""#, "Where gateways log in, and publish with TLS; \"off\" = not at all."),
    key("listen.max_connections", "10_000", "Gateway connections at a time; further ones wait."),
    key("listen.max_connections_per_address", r#""off""#, "The same from one address, further ones are reset; \"off\" = no limit. Not behind a balancer: there all gateways have its address."),
    key("listen.partial_max_bytes", r#""64MiB""#, "Memory for frames that have not arrived whole, of all connections; a frame that finds no room waits, at most reply_timeout."),
    key("listen.frame_max_bytes", r#""16MiB""#, "Largest frame a gateway may send."),
    key("listen.event_max_bytes", r#""1MiB""#, "Largest event in a frame."),
    key("listen.handshake_timeout", r#""10s""#, "Deadline of a gateway's TLS handshake."),
    key("listen.frame_timeout", r#""30s""#, "A frame whose bytes stop coming for this long resets its connection."),
    key("listen.idle_timeout", r#""16h""#, "A connection without a byte for this long is reset; \"never\" = not at all. Some gateways keep theirs open for 15 hours."),
    key("listen.first_frame_timeout", r#""30s""#, "A connection that has shown neither a login nor a valid session for this long is reset; \"never\" = not at all."),
    key("listen.reply_timeout", r#""25s""#, "Longest wait before a gateway is answered, at most 25s: it gives up at 30s and sends again."),
    unset("auth.session_secret", "Signs session ids; the weirs of one tier share it. Made anew at each start when not set."),
    key("auth.session_ttl", r#""1d""#, "Life of a session; the gateway logs in again by itself."),
    key("auth.allow_plaintext_login", "false", "Serve logins on listen.tcp, where the password can be read on the way."),
    unset("auth.user[].name", "A user who may log in; without any, it is the credentials of [apim.throttling]."),
    unset("auth.user[].password", "Its password; better a reference: \"$file{/run/secrets/gateway}\"."),
    unset("auth.user[].password_argon2", "Instead of password: a PHC string, $argon2id$…"),
    unset("tls.certificate", "PEM file, leaf first; a self-signed certificate is made at start when neither this nor tls.keystore is set."),
    unset("tls.key", "PEM file of its private key, not encrypted."),
    unset("tls.keystore.file", "Instead of certificate and key: JKS or PKCS#12; file_name is accepted too."),
    unset("tls.keystore.type", "\"auto\", \"jks\" or \"pkcs12\"; accepted for WSO2's sake, the file itself tells."),
    unset("tls.keystore.password", "Password of the keystore."),
    unset("tls.keystore.alias", "Which key entry; needed only where there are several."),
    unset("tls.keystore.key_password", "Password of the key; that of the keystore when not set."),
    key("tls.verify", r#""full""#, "How a Traffic Manager's certificate is checked: \"full\" = chain and name, \"chain\" = chain only as WSO2's own agent does, \"pin\" = one of tls.pins."),
    unset("tls.pins", "SHA-256 fingerprints of certificates, in hex, colons allowed."),
    unset("tls.trust.system", "true: trust whom the operating system trusts; what holds when nothing else is set."),
    unset("tls.trust.pem", "Instead: a PEM file of certificates."),
    unset("tls.trust.keystore.file", "Instead: a JKS or PKCS#12 truststore, as client-truststore.jks; file_name is accepted too."),
    unset("tls.trust.keystore.type", "As tls.keystore.type."),
    unset("tls.trust.keystore.password", "Password of the truststore."),
    key("queue.max_events", "1_000_000", "Events a group may hold, queued and in flight."),
    key("queue.max_bytes", r#""256MiB""#, "The same in bytes; groups share the bytes of an event."),
    key("queue.overflow", r#""block""#, "A full queue: \"block\" = gateways wait for block_timeout, then the queue sheds; \"shed\" = at once."),
    key("queue.block_timeout", r#""1s""#, "Longest that a full queue holds the gateways up, per incident; \"never\" = until there is room."),
    key("queue.shed", r#""oldest""#, "Which events a shedding queue gives up: \"oldest\" or \"newest\"."),
    key("queue.unavailable_after", r#""5s""#, "Without a usable link for this long a group holds nobody up; \"never\" = it does."),
    key("queue.max_age", r#""off""#, "Drop events older than this instead of sending them."),
    unset("queue.max_age_streams", "max_age by stream id; wins over max_age."),
    unset("group.NAME.username", "Credentials of this group's Traffic Managers, where they are not those of [apim.throttling]; set username and password together, or neither."),
    unset("group.NAME.password", "Goes with username."),
    key("link.connect_timeout", r#""5s""#, "Deadline of a connection, name resolution included."),
    key("link.tls_timeout", r#""5s""#, "Deadline of its TLS handshake."),
    key("link.login_timeout", r#""10s""#, "Deadline of the answer to the login."),
    key("link.reply_timeout", r#""30s""#, "Deadline of the answer to the oldest unanswered frame."),
    key("link.backoff_min", r#""100ms""#, "First wait before a new connection; doubles, with jitter."),
    key("link.backoff_max", r#""30s""#, "Longest such wait; 1s after a connection that was refused or closed."),
    key("link.linger", r#""10ms""#, "How long a busy link gathers events before it sends, at most; 0 = not at all."),
    key("link.batch_max_bytes", r#""128KiB""#, "Largest frame weir builds; Traffic Managers drop frames of 10 MB."),
    key("link.window_frames", "32", "Frames sent before their answers are there; at most these are sent twice when a connection breaks."),
    key("link.heartbeat.delay", "60", "Silence, in seconds or as \"60s\", before a proof of life is sent; heartbeat = \"off\" sends none."),
    key("link.heartbeat.timeout_factor", "2.0", "delay x this without any answer and the connection is dead; at least 1.5."),
    key("link.failback_after", r#""10s""#, "Failover: how long the first Traffic Manager must be well before it is used again."),
    key("admin.listen", r#""127.0.0.1:9619""#, "Metrics, status, reload, drain; \"off\" = not at all."),
    unset("admin.token", "Bearer token of calls that change state; without it they are served to loopback only."),
    key("admin.tap", r#""masked""#, "What `weir tap` may show to who may make such calls: \"masked\" = nothing that names a person, \"full\" = everything where it is asked for, \"off\" = nothing."),
    unset("admin.tap_streams", "JSON file with the definitions of streams other than the throttle stream, for `weir tap`."),
    key("decisions.listen", r#""0.0.0.0:5672""#, "Where gateways fetch throttling decisions (AMQP); \"off\" = not in clear. Better the address of the host or pod."),
    key("decisions.listen_tls", r#""off""#, "The same with TLS."),
    unset("decisions.endpoints", "Brokers of the Traffic Managers; throttle_decision_endpoints of [apim.throttling] when not set."),
    key("decisions.policy", r#""failover""#, "Order of trial: \"failover\" or \"loadbalance\"."),
    key("decisions.heartbeat.delay", "30", "Towards the broker: silence in whole seconds before a proof of life is asked for."),
    key("decisions.heartbeat.timeout_factor", "2.0", "delay x this without a byte and the peer is dead; at least 1.5."),
    key("decisions.client_heartbeat.delay", "30", "The same towards the gateway."),
    key("decisions.client_heartbeat.timeout_factor", "2.0", "The same towards the gateway."),
    key("decisions.hold", r#""28s""#, "How long a gateway is held, silent, while no broker answers; 30s or more only with amqj.MaximumStateWait."),
    key("decisions.failback_after", r#""never""#, "Failover: go back to the first broker once it has answered for this long."),
    key("decisions.max_connections", "1_000", "Gateway connections at a time."),
    key("log.level", r#""info""#, "off, error, warn, info, debug, trace; per module: \"weir::egress=debug,info\"."),
    key("log.format", r#""text""#, "\"text\" for people, \"json\" for collectors."),
];
