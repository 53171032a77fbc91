//! What a check sends to a Traffic Manager after the login: one heartbeat, and the logout.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::Endpoint;
use crate::egress::Failure;
use crate::net::Stream;
use crate::wire::reply::{Reply, SESSION_TIMEOUT, short_class};
use crate::wire::request;

/// Deadline of the reply to the logout, and of closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Publishes zero events, to which a Traffic Manager replies ok.
pub(super) async fn heartbeat(
    stream: &mut Stream,
    endpoint: &Endpoint,
    session: &[u8],
    within: Duration,
) -> Result<(), Failure> {
    let (auth, url) = (&endpoint.auth, &endpoint.data);
    let mut frame = Vec::new();
    request::encode_publish_header(&mut frame, session, 0, 0);
    let failure = |class, message| Err(Failure { class, message });
    match timeout(within, ask(stream, &frame)).await {
        Ok(Ok(Answer::Ok)) => Ok(()),
        Ok(Ok(Answer::Error(text))) if text.starts_with(short_class(SESSION_TIMEOUT)) => failure(
            "session",
            format!(
                "{url} does not know the session that {auth} gave ({text}): do both URLs name the same Traffic Manager?"
            ),
        ),
        Ok(Ok(Answer::Error(text))) => failure("protocol", format!("{url} answered a publish with {text}")),
        Ok(Err(e)) => failure(
            "closed",
            format!("{url} ended the connection instead of replying to a publish: {e}"),
        ),
        Err(_) => failure(
            "timeout",
            format!(
                "{url} accepted the connection but did not reply to a publish within {within:?} (all its receiver threads may be busy)"
            ),
        ),
    }
}

/// Whether a publish of zero events with this session is accepted; `None` without a reply.
pub(super) async fn accepts(stream: &mut Stream, session: &[u8], within: Duration) -> Option<bool> {
    let mut frame = Vec::new();
    request::encode_publish_header(&mut frame, session, 0, 0);
    let answer = timeout(within, ask(stream, &frame)).await.ok()?.ok()?;
    Some(matches!(answer, Answer::Ok))
}

enum Answer {
    Ok,
    /// In words.
    Error(String),
}

/// Writes a frame and reads its reply.
async fn ask(stream: &mut Stream, frame: &[u8]) -> std::io::Result<Answer> {
    stream.write_all(frame).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(match Reply::decode(&bytes) {
            Ok(None) => continue,
            Ok(Some((Reply::Ok, _))) => Answer::Ok,
            Ok(Some((Reply::Error { class, message }, _))) => {
                Answer::Error(format!("{}: {message:?}", short_class(class)))
            }
            Ok(Some((Reply::LoginOk { .. }, _))) => Answer::Error("the answer to a login".into()),
            Err(e) => Answer::Error(format!("no reply: {e} (does a Traffic Manager listen there?)")),
        });
    }
}

/// Logs out where there is a session, and closes the connection.
pub(super) async fn logout(stream: Option<Stream>, session: Option<&[u8]>) -> Result<(), String> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    let mut left = Ok(());
    if let Some(session) = session {
        let mut frame = Vec::new();
        request::encode_logout(&mut frame, session);
        left = match timeout(CLOSE_TIMEOUT, ask(&mut stream, &frame)).await {
            Ok(Ok(Answer::Ok)) => Ok(()),
            Ok(Ok(Answer::Error(text))) => Err(text),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("no reply".into()),
        }
        .map_err(|why| {
            format!("the logout was not accepted ({why}): the session of this check expires by itself")
        });
    }
    close(Some(stream), true).await;
    left
}

/// Closes in good order where nothing is in flight; else resets, because some peers take an end of stream before the reply
/// for success.
pub(super) async fn close(stream: Option<Stream>, nothing_in_flight: bool) {
    match stream {
        Some(stream) if nothing_in_flight => drop(timeout(CLOSE_TIMEOUT, stream.close()).await),
        Some(stream) => stream.abort(),
        None => {}
    }
}
