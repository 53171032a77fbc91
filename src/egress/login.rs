//! Login at a Traffic Manager: one short connection to its auth URL.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::pump::LAST_LOOK;
use super::state::Failure;
use crate::config;
use crate::net::{Dialer, Stream};
use crate::wire::reply::{AUTHENTICATION, Reply, short_class};
use crate::wire::request;

/// Logs in and returns the session id. The connection is closed afterwards: a Traffic Manager serves at most 100, with a
/// thread each, and the session outlives it.
///
/// # Errors
/// With the class: dns, refused, timeout, tls, authentication, protocol, closed; loop when `is_own` recognises the session:
/// then weir itself has answered.
pub async fn login(
    dialer: &Dialer,
    auth: &config::Url,
    username: &str,
    password: &config::Secret,
    times: &config::Link,
    is_own: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Failure> {
    let mut stream = dialer
        .dial(auth, times.connect_timeout, times.tls_timeout)
        .await?;
    let session = login_over(&mut stream, auth, username, password, times.login_timeout).await?;
    match is_own(&session) {
        true => Err(leads_back(auth)),
        false => Ok(session),
    }
}

/// The failure of a URL that leads back to weir: events sent there would circle for ever.
#[must_use]
pub fn leads_back(auth: &config::Url) -> Failure {
    let text = format!(
        "{auth} answers the login with a session of weir's own: traffic_manager_urls lead back to weir, or to another \
         weir with the same auth.session_secret and users. Name the Traffic Manager there"
    );
    Failure::new("loop", text)
}

/// [`login`] over an open connection, which stays open. `auth` is for messages.
///
/// # Errors
/// As [`login`].
pub async fn login_over(
    stream: &mut Stream,
    auth: &config::Url,
    username: &str,
    password: &config::Secret,
    within: Duration,
) -> Result<Vec<u8>, Failure> {
    let mut exchange = pin!(exchange(stream, auth, username, password));
    let mut answer = timeout(within, &mut exchange).await;
    if answer.is_err() {
        // If weir itself stood still, the reply has arrived and lies unread.
        answer = timeout(LAST_LOOK, exchange).await;
    }
    match answer {
        Ok(result) => result,
        Err(_) => {
            let text = format!(
                "{auth} accepted the connection but did not answer the login within {within:?} (all its receiver threads may be taken)"
            );
            Err(Failure::new("timeout", text))
        }
    }
}

async fn exchange(
    stream: &mut Stream,
    auth: &config::Url,
    username: &str,
    password: &config::Secret,
) -> Result<Vec<u8>, Failure> {
    let closed =
        |e: std::io::Error| Failure::new("closed", format!("{auth} ended the connection during login: {e}"));
    let mut bytes = Vec::new();
    request::encode_login(&mut bytes, username, password.expose());
    stream.write_all(&bytes).await.map_err(closed)?;
    stream.flush().await.map_err(closed)?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await.map_err(closed)? == 0 {
            let text = format!("{auth} closed the connection without a reply to the login");
            return Err(Failure::new("closed", text));
        }
        match Reply::decode(&answer) {
            Ok(None) => {}
            Ok(Some((Reply::LoginOk { session }, _))) if !session.is_empty() => return Ok(session.to_vec()),
            Ok(Some((Reply::Error { class, message }, _))) => {
                let kind = if class == AUTHENTICATION {
                    "authentication"
                } else {
                    "protocol"
                };
                let text = format!(
                    "{auth} refused the login of {username:?}: {}: {message:?}",
                    short_class(class)
                );
                return Err(Failure::new(kind, text));
            }
            Ok(Some(_)) => {
                return Err(Failure::new(
                    "protocol",
                    format!("{auth} sent a login reply without a session id"),
                ));
            }
            Err(e) => {
                return Err(Failure::new(
                    "protocol",
                    format!("{auth} sent a malformed login reply: {e}"),
                ));
            }
        }
    }
}
