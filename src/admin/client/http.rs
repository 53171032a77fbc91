//! An HTTP client for the admin port: one request, one answer, one connection.

use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::http::uri::Authority;
use axum::http::{Request, Response, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Secret;

/// Longest silence of a streamed answer; weir writes something every ten seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest answer accepted.
const REPLY_MAX_BYTES: usize = 16 << 20;

/// Longest line accepted; an event of the longest copy is shorter, however much of it has to be escaped.
const LINE_MAX_BYTES: usize = 1 << 20;

/// What a name may hold in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// Where the admin port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, IPv6 in brackets.
    authority: Authority,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Target {
    /// Reads `http://host:port`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--admin {url}: {why}; it looks like http://127.0.0.1:9619");
        if url.starts_with("https://") {
            return Err(wrong("weir's admin port speaks plain HTTP"));
        }
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let authority: Authority = authority.parse().map_err(|_| wrong("not a host and a port"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(wrong("not a host name"));
        }
        match authority.port_u16() {
            Some(1..) => Ok(Self { authority }),
            _ => Err(wrong("the port is missing")),
        }
    }
}

/// Escapes a name for use as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Sends a request and reads the whole answer, all within `within`.
///
/// # Errors
///
/// The network's, or that of an answer that is not whole or not HTTP.
pub async fn call(
    target: &Target,
    token: Option<&Secret>,
    method: &str,
    path: &str,
    body: &str,
    within: Duration,
) -> io::Result<Reply> {
    let reply = async {
        let answer = send(target, token, method, path, body).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), REPLY_MAX_BYTES).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { status, body })
    };
    timeout(within, reply).await.map_err(|_| no_answer(within))?
}

/// Posts a request and reads the head of the answer, both within `within`.
///
/// # Errors
///
/// As [`call`].
pub async fn open(
    target: &Target,
    token: Option<&Secret>,
    path: &str,
    body: &str,
    within: Duration,
) -> io::Result<Streamed> {
    let answer = timeout(within, send(target, token, "POST", path, body)).await;
    let answer = answer.map_err(|_| no_answer(within))??;
    Ok(Streamed {
        status: answer.status().as_u16(),
        body: answer.into_body(),
        unread: BytesMut::new(),
    })
}

/// An answer that is read as it arrives.
#[derive(Debug)]
pub struct Streamed {
    /// HTTP status.
    pub status: u16,
    body: Incoming,
    unread: BytesMut,
}

impl Streamed {
    /// The next line, with its newline unless the answer ends without one; `None` at the end.
    ///
    /// # Errors
    ///
    /// The network's, a silence of 15 seconds, or a line longer than a mebibyte.
    pub async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.unread.len() > LINE_MAX_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            let frame = timeout(SILENCE_TIMEOUT, self.body.frame()).await;
            match frame.map_err(|_| no_answer(SILENCE_TIMEOUT))? {
                None if self.unread.is_empty() => return Ok(None),
                None => return Ok(Some(String::from_utf8_lossy(&self.unread.split()).into_owned())),
                Some(frame) => {
                    let data = frame.map_err(io::Error::other)?.into_data();
                    self.unread.extend_from_slice(&data.unwrap_or_default());
                }
            }
        }
    }
}

async fn send(
    target: &Target,
    token: Option<&Secret>,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<Response<Incoming>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, target.authority.as_str());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let request = request.body(body).map_err(io::Error::other)?;
    let stream = TcpStream::connect(target.authority.as_str()).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

fn no_answer(within: Duration) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("no answer within {within:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_http_with_a_port() {
        for good in ["http://127.0.0.1:9619", "http://[::1]:1/", "weir.example:9619"] {
            Target::parse(good).unwrap();
        }
        for bad in [
            "https://x:1",
            "http://x",
            "http://:1",
            "http://x:0",
            "http://x:99999",
            "http://a/b:1",
            "http://a b:1",
            "http://user@a:1",
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert!(
                error.contains(bad) && error.contains("http://127.0.0.1:9619"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_is_escaped_to_one_segment_of_a_path() {
        assert_eq!(segment("tm1.example:9611"), "tm1.example:9611");
        assert_eq!(segment("a/../b c?%\n"), "a%2F..%2Fb%20c%3F%25%0A");
    }
}
