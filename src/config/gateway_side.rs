//! `[listen]` and `[auth]`: where gateways connect and who may log in. Also `[admin]` and `[log]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;

use super::given::Given;
use super::problem::Bad;
use super::raw::Section;
use super::values::{
    address, count, duration, duration_or_never, flag, is_never, path, secret, size, text, word,
};
use super::{Admin, Auth, Ingress, Log, LogFormat, Password, Secret, TapMode, User};

/// Larger frames a Traffic Manager would answer ok and drop; events travel upstream in frames.
pub(super) const UPSTREAM_MAX_BYTES: usize = 8 << 20;
/// A shorter secret can be found by trial.
const SECRET_MIN_BYTES: usize = 16;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// `[listen]`.
pub(super) fn listen(s: &Section<'_>) -> Ingress {
    let any = |port| Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let ingress = Ingress {
        tcp: s.read("tcp", any(9611), address),
        tls: s.read("tls", any(9711), address),
        connections_max: s.read("max_connections", 10_000, |g| count(g, 1, 1_000_000)),
        connections_per_address_max: s.read("max_connections_per_address", None, |g| match is_never(g) {
            true => Ok(None),
            false => count(g, 1, 1_000_000).map(Some),
        }),
        partial_max_bytes: s.read("partial_max_bytes", 64 << 20, |g| size(g, 1 << 20, 1 << 40)),
        frame_max_bytes: s.read("frame_max_bytes", 16 << 20, |g| size(g, 1 << 10, 256 << 20)),
        event_max_bytes: s.read("event_max_bytes", 1 << 20, |g| size(g, 256, UPSTREAM_MAX_BYTES)),
        handshake_timeout: s.read("handshake_timeout", 10 * SECOND, |g| {
            duration(g, 100 * MILLISECOND, 300 * SECOND)
        }),
        frame_timeout: s.read("frame_timeout", 30 * SECOND, |g| {
            duration(g, 100 * MILLISECOND, 3600 * SECOND)
        }),
        idle_timeout: s.read("idle_timeout", Some(16 * 3600 * SECOND), |g| {
            duration_or_never(g, SECOND)
        }),
        first_frame_timeout: s.read("first_frame_timeout", Some(30 * SECOND), |g| {
            duration_or_never(g, 100 * MILLISECOND)
        }),
        reply_timeout: s.read("reply_timeout", 25 * SECOND, |g| {
            duration(g, 100 * MILLISECOND, 25 * SECOND).map_err(|bad| Bad {
                hint: bad
                    .hint
                    .map(|hint| format!("{hint}: the gateway gives up at 30s and sends again")),
                ..bad
            })
        }),
    };
    s.finish();
    if ingress.tcp.is_none() && ingress.tls.is_none() {
        s.problem(
            "tcp",
            "no gateway could connect: tcp and tls are both off",
            "leave at least one of them on",
        );
    }
    let sound = s.sound(&["event_max_bytes", "frame_max_bytes"]);
    if sound && ingress.event_max_bytes > ingress.frame_max_bytes {
        match s.has("event_max_bytes") {
            true => s.problem(
                "event_max_bytes",
                "is larger than frame_max_bytes",
                "an event travels in a frame",
            ),
            false => s.problem(
                "frame_max_bytes",
                "is smaller than event_max_bytes",
                "an event travels in a frame",
            ),
        }
    }
    ingress
}

/// `[auth]`; `fallback` is who may log in when no user is named.
pub(super) fn auth(s: &Section<'_>, fallback: Option<&(String, Secret)>) -> Auth {
    let session_secret = s.maybe("session_secret", |g| {
        let value = secret(g)?;
        if value.expose().len() < SECRET_MIN_BYTES {
            return Err(Bad::new(
                "is shorter than 16 bytes",
                "make one with: openssl rand -base64 32",
            ));
        }
        Ok(value)
    });
    let session_ttl = s.read("session_ttl", 24 * 3600 * SECOND, |g| {
        duration(g, 60 * SECOND, 365 * 86_400 * SECOND)
    });
    let allow_plaintext_login = s.read("allow_plaintext_login", false, flag);
    let tables = s.tables("user");
    s.finish();
    if allow_plaintext_login {
        s.warning(
            "allow_plaintext_login",
            "gateways may send their password over the plain port, where anybody on the way can read it",
            "use the TLS port for logins, as WSO2 gateways do by default",
        );
    }
    let mut users: Vec<User> = Vec::new();
    for table in &tables {
        let Some(user) = user(table) else {
            continue;
        };
        if users.contains(&user) {
            table.problem(
                "name",
                "this user is named twice",
                "keep one of the [[auth.user]] tables",
            );
        } else if users.iter().any(|other| other.name == user.name) {
            table.warning(
                "name",
                "this user has more than one password, and each of them is good",
                "remove the old one when all gateways have the new one",
            );
        }
        users.push(user);
    }
    if tables.is_empty() {
        users.extend(fallback.map(|(name, password)| User {
            name: name.clone(),
            password: Password::Clear(password.clone()),
        }));
    }
    Auth {
        users,
        session_secret,
        session_ttl,
        allow_plaintext_login,
    }
}

fn user(s: &Section<'_>) -> Option<User> {
    let name = s.maybe("name", text);
    let clear = s.maybe("password", secret);
    let hashed = s.maybe("password_argon2", argon2);
    s.finish();
    if !s.has("name") {
        s.problem(
            "name",
            "is missing",
            "write name = \"…\", as the gateway sends it",
        );
    }
    match (s.has("password"), s.has("password_argon2")) {
        (true, true) => s.problem(
            "password",
            "password and password_argon2 are both set",
            "keep one of them",
        ),
        (false, false) => s.problem("password", "is missing", "set password or password_argon2"),
        _ => {}
    }
    let password = hashed.map(Password::Argon2).or(clear.map(Password::Clear))?;
    Some(User {
        name: name?,
        password,
    })
}

/// A PHC string that can be checked against: algorithm, version, cost, salt and hash.
fn argon2(given: &Given) -> Result<String, Bad> {
    let hint = "make one with: echo -n PASSWORD | argon2 SALT -id -e";
    let value = given.text()?;
    let hash =
        PasswordHash::new(&value).map_err(|_| Bad::new("is not a PHC string ($argon2id$v=19$…)", hint))?;
    if argon2::Algorithm::try_from(hash.algorithm.as_str()).is_err() {
        return Err(Bad::new("is not of the argon2 family", hint));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(Bad::new("has no salt or no hash in it", hint));
    }
    if hash
        .version
        .is_some_and(|version| argon2::Version::try_from(version).is_err())
    {
        return Err(Bad::new("has a version that argon2 does not know", hint));
    }
    let params = argon2::Params::try_from(&hash);
    let params = params.map_err(|_| Bad::new("has cost parameters argon2 does not allow", hint))?;
    // Logins are rare but not free: 1 GiB and 64 passes are far beyond any recommendation.
    if params.m_cost() > 1 << 20 || params.t_cost() > 64 {
        return Err(Bad::new(
            "would cost more than 1 GiB or 64 passes at each login",
            "use a cheaper hash",
        ));
    }
    Ok(value)
}

/// `[admin]`.
pub(super) fn admin(s: &Section<'_>) -> Option<Admin> {
    let listen = s.read(
        "listen",
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9619))),
        address,
    );
    let token = s.maybe("token", secret);
    let words = [
        ("off", TapMode::Off),
        ("masked", TapMode::Masked),
        ("full", TapMode::Full),
    ];
    let tap = s.read("tap", TapMode::Masked, |g| word(g, &words));
    let tap_streams = s.maybe("tap_streams", path);
    s.finish();
    let listen = listen?;
    if token.is_none() && !listen.ip().is_loopback() {
        s.warning(
            "listen",
            "everybody who reaches this address can read metrics and status; calls that change state are served to loopback only",
            "set admin.token, or listen on 127.0.0.1",
        );
    }
    let short = |token: &Secret| token.expose().len() < SECRET_MIN_BYTES;
    if token.as_ref().is_some_and(short) {
        s.warning(
            "token",
            "is shorter than 16 bytes: it can be guessed",
            "make one with: openssl rand -base64 32",
        );
    }
    Some(Admin {
        listen,
        token,
        tap,
        tap_streams,
    })
}

/// `[log]`.
pub(super) fn log(s: &Section<'_>) -> Log {
    let log = Log {
        level: s.read("level", "info".to_owned(), level),
        format: s.read("format", LogFormat::Text, |g| {
            word(g, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
        }),
    };
    s.finish();
    log
}

/// `info`, or per module: `weir::egress=debug,info`.
fn level(given: &Given) -> Result<String, Bad> {
    let hint = "write off, error, warn, info, debug or trace; per module: \"weir::egress=debug,info\"";
    let value = text(given)?;
    if value.split(',').all(sound_directive) {
        Ok(value)
    } else {
        Err(Bad::new(format!("{} is not a log level", given.quote()), hint))
    }
}

/// Targets would take a misspelt level for the name of a module, and nothing for `error`.
fn sound_directive(directive: &str) -> bool {
    let (module, level) = match directive.split_once('=') {
        Some((module, level)) => (Some(module.trim()), level.trim()),
        None => (None, directive.trim()),
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let module_ok = module.is_none_or(|module| !module.is_empty() && module.chars().all(sound));
    let words = ["off", "error", "warn", "info", "debug", "trace"];
    module_ok && words.iter().any(|word| level.eq_ignore_ascii_case(word))
}
