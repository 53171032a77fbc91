//! As much HTTP as the admin port needs from a client: one request, one answer, one connection.
//!
//! It asks in HTTP/1.0, so that no server or proxy in between answers in chunks; the answer ends where the
//! connection does, checked against its Content-Length. Blocking, as a command that does nothing else may.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::Secret;

/// Each of: connecting to an address, waiting for a byte.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Largest answer taken.
const REPLY_MAX_BYTES: u64 = 16 << 20;

/// Largest head of a streamed answer.
const HEAD_MAX_BYTES: u64 = 16 * 1024;

/// Where the admin port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, IPv6 in brackets.
    authority: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// All of the body.
    pub body: String,
}

impl Target {
    /// Reads `http://host:port`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "--admin {url}: {why}; it looks like http://127.0.0.1:9619"
            ))
        };
        if url.starts_with("https://") {
            return wrong("weir's admin port speaks plain HTTP");
        }
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let Some((host, port)) = authority.rsplit_once(':') else {
            return wrong("the port is missing");
        };
        if host.is_empty()
            || !host
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b))
        {
            return wrong("this is no host name");
        }
        match port.parse::<u16>() {
            Ok(1..) => Ok(Self {
                authority: authority.into(),
            }),
            _ => wrong("this is no port"),
        }
    }
}

/// Escapes a name for use as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Sends a request and reads the whole answer.
///
/// # Errors
///
/// The network's, or `InvalidData` for an answer that is not whole or not HTTP.
pub fn call(
    target: &Target,
    token: Option<&Secret>,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<Reply> {
    let stream = send(target, token, method, path, body)?;
    let mut answer = Vec::new();
    stream.take(REPLY_MAX_BYTES).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(not_http)
}

/// An answer that is read as it comes.
#[derive(Debug)]
pub struct Streamed {
    /// HTTP status.
    pub status: u16,
    /// The body, which ends where the connection does; a silence of 15 seconds is an error.
    pub body: BufReader<TcpStream>,
}

/// Sends a request and reads the head of the answer.
///
/// # Errors
///
/// As [`call`].
pub fn open(target: &Target, token: Option<&Secret>, path: &str, body: &str) -> io::Result<Streamed> {
    let mut stream = BufReader::new(send(target, token, "POST", path, body)?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let left = HEAD_MAX_BYTES.saturating_sub(head.len() as u64);
        if (&mut stream).take(left).read_until(b'\n', &mut head)? == 0 {
            return Err(not_http());
        }
    }
    let status = status(&String::from_utf8_lossy(&head)).ok_or_else(not_http)?;
    Ok(Streamed { status, body: stream })
}

fn not_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not whole, or not HTTP")
}

fn send(
    target: &Target,
    token: Option<&Secret>,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<TcpStream> {
    let mut stream = connect(&target.authority)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n",
        target.authority,
        body.len()
    );
    if let Some(token) = token {
        let token = token.expose();
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the token has characters that a header cannot hold",
            ));
        }
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Splits an answer; `None` if it is not HTTP or ends before its Content-Length.
fn parse(answer: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = status(head)?;
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") && value.trim().parse() != Ok(body.len()) {
            return None;
        }
    }
    Some(Reply {
        status,
        body: body.to_owned(),
    })
}

fn status(head: &str) -> Option<u16> {
    let mut first = head.split("\r\n").next()?.split(' ');
    first.next().filter(|version| version.starts_with("HTTP/1."))?;
    first.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_short_is_no_answer() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX: y\r\n\r\nno";
        assert_eq!(
            parse(whole),
            Some(Reply {
                status: 404,
                body: "no".into()
            })
        );
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), None);
    }

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
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert!(
                error.contains(bad) && error.contains("http://127.0.0.1:9619"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("tm1.example:9611"), "tm1.example:9611");
        assert_eq!(segment("a/../b c?%\n"), "a%2F..%2Fb%20c%3F%25%0A");
    }
}
