//! Decides a login: on which port, how fast, with which password.

use std::net::SocketAddr;

use tokio::time::{Instant, sleep};

use super::Ingress;
use super::auth::Attempt;
use super::hashing::Busy;
use super::slowdown::source;

/// The session id, or the message of the refusal.
pub(super) async fn log_in(
    ingress: &Ingress,
    peer: SocketAddr,
    is_tls: bool,
    user: &str,
    password: String,
) -> Result<String, &'static str> {
    let settings = ingress.settings();
    if !is_tls && !settings.allow_plaintext_login {
        ingress.stats().logins_plaintext_refused_total += 1;
        ingress.warn(
            Some(peer),
            "login over the plain port refused (auth.allow_plaintext_login is false)",
        );
        return Err("login over plain TCP is refused, use the TLS port");
    }
    let from = source(peer.ip());
    let delay = ingress.slowdown.borrow().delay(from, Instant::now());
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let attempt = Attempt::new(&settings.users, user, password);
    let decided = match attempt.decided() {
        Ok(decided) => Ok(decided),
        Err(attempt) => ingress.hashing.settle(from, attempt).await,
    };
    let Ok(decided) = decided.map_err(|Busy| ()) else {
        ingress.stats().logins_busy_total += 1;
        ingress.warn(
            Some(peer),
            "login refused: too many logins wait for their argon2 hash",
        );
        return Err("too many logins at once, try again");
    };
    let Some(good) = decided.and_then(|i| settings.users.get(i)) else {
        ingress.slowdown.borrow_mut().failed(from, Instant::now());
        ingress.stats().logins_failed_total += 1;
        let shown: String = user.chars().take(64).collect();
        ingress.warn(
            Some(peer),
            &format!("login failed: wrong user name or password (user {shown:?})"),
        );
        return Err("wrong userName or password");
    };
    let ttl_ms = i64::try_from(settings.session_ttl.as_millis()).unwrap_or(i64::MAX);
    let now_ms = ingress.unix_ms();
    let issued = ingress.tokens.issue(good, now_ms, now_ms.saturating_add(ttl_ms));
    let session = issued.map_err(|error| {
        tracing::error!(error, "cannot issue a session");
        "no session can be issued now"
    })?;
    ingress.stats().logins_ok_total += 1;
    Ok(session)
}
