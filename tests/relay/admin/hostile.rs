//! Clients that are slow, greedy, or talk nonsense: each ends by itself and the next one is served.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::support::{Answer, Weir};

#[test]
fn garbage_is_refused_and_the_next_request_is_served() {
    let weir = Weir::start(None);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET /\x00\xff HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let mut stream = weir.connect();
        stream.write_all(bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let answer = Answer::read(stream);
        assert!(!(200..300).contains(&answer.status), "{answer:?}");
        assert_eq!(weir.get("/livez").status, 200);
    }
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let weir = Weir::start(None);
    let head = format!("PUT /log-level HTTP/1.1\r\nHost: {}\r\n", weir.address);
    let fits = format!("{head}Content-Length: 4096\r\n\r\n{:<4096}", "debug");
    assert_eq!(weir.send(fits.as_bytes()).status, 200);
    let greedy = format!("{head}Content-Length: 4097\r\n\r\n{:<4097}", "trace");
    assert_eq!(weir.send(greedy.as_bytes()).status, 413);
    assert_eq!(weir.get("/log-level").body, "debug\n");
}

#[test]
fn slow_requests_end_after_a_second_and_slow_readers_after_ten_without_delaying_others() {
    let weir = Weir::start(None);
    // More than a kernel buffers for a reader that does not read.
    enlarge(&weir, 2500);
    let begun = Instant::now();
    let silent = weir.connect();
    let dripping = weir.connect();
    let half_body = weir.connect();
    (&half_body)
        .write_all(b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nde")
        .unwrap();
    let never_reading = small_window(&weir);
    (&never_reading)
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut drip = dripping.try_clone().unwrap();
    let dripper = thread::spawn(move || {
        let request = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1000));
        for byte in request.bytes() {
            if drip.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(weir.get("/livez").status, 200);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "others are served meanwhile"
    );
    for stream in [silent, dripping, half_body] {
        let answer = Answer::read(stream);
        assert!(!(200..300).contains(&answer.status), "{answer:?}");
    }
    let cut = begun.elapsed();
    assert!(cut >= Duration::from_secs(1), "cut off after {cut:?}");
    dripper.join().unwrap();
    // Who does not read cannot see the end; ten seconds after its beginning it has come.
    let ten = Duration::from_secs(10);
    assert!(cut < ten, "cut off after {cut:?}");
    thread::sleep(ten + ten / 10 - begun.elapsed());
    let got = Answer::read(never_reading);
    let promised = got
        .head
        .split("content-length: ")
        .nth(1)
        .and_then(|l| l.lines().next())
        .unwrap();
    let promised: usize = promised.parse().unwrap();
    assert!(
        got.body.len() < promised,
        "{} of {promised} bytes",
        got.body.len()
    );
    assert_eq!(weir.get("/log-level").body, "info\n");
}

#[test]
fn probes_are_answered_within_a_second_beside_400_connections_that_send_no_byte() {
    probed_beside_400(b"");
}

#[test]
fn probes_are_answered_within_a_second_beside_400_connections_with_half_a_head() {
    probed_beside_400(b"GET /livez HTTP/1.1\r\nHost: local");
}

#[test]
fn probes_are_answered_within_a_second_beside_400_connections_with_half_a_body() {
    probed_beside_400(b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nde");
}

#[test]
fn probes_are_answered_within_a_second_beside_400_connections_that_never_read_a_large_answer() {
    probed_beside_400(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

/// 400 connections that have sent `bytes` and do nothing more, twenty of them replaced before each probe; as a
/// kubelet does, a probe gives up after a second.
fn probed_beside_400(bytes: &[u8]) {
    // One crowd at a time: what is measured is the port, not a machine with four of them on it.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let weir = Weir::start(None);
    // More than the kernel's buffers take for a reader that does not read.
    enlarge(&weir, 300);
    let slow = || {
        let stream = small_window(&weir);
        (&stream).write_all(bytes).unwrap();
        stream
    };
    let mut crowd: VecDeque<TcpStream> = (0..400).map(|_| slow()).collect();
    let mut late = Vec::new();
    for path in ["/livez", "/readyz"].into_iter().cycle().take(20) {
        for _ in 0..20 {
            crowd.pop_front();
            crowd.push_back(slow());
        }
        let begun = Instant::now();
        let answered = probe(&weir, path);
        if !answered || begun.elapsed() >= PROBE_TIMEOUT {
            late.push((path, begun.elapsed()));
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(late.is_empty(), "{} of 20 probes failed: {late:?}", late.len());
}

/// As Kubernetes has it by default.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the answer is 200, whole, and each step of it in time.
fn probe(weir: &Weir, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&weir.address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", weir.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"))
}

#[test]
fn a_request_that_is_being_answered_is_not_evicted() {
    let (weir, _ends) = Weir::stuck();
    let ask = |path: &str| {
        let mut stream = weir.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    // Each waits two seconds for the worker that is stuck.
    let asked: Vec<TcpStream> = (0..64).map(|_| ask("/livez")).collect();
    let over_the_limit = ask("/readyz");
    let begun = Instant::now();
    for (n, stream) in asked.into_iter().enumerate() {
        let answer = Answer::read(stream);
        assert_eq!(
            answer.status,
            503,
            "the {n}th after {:?}: {answer:?}",
            begun.elapsed()
        );
    }
    assert_eq!(Answer::read(over_the_limit).status, 200);
}

/// Makes /metrics and /status larger by so many endpoints.
fn enlarge(weir: &Weir, endpoints: usize) {
    let mut snapshot = weir.snapshot.lock().unwrap();
    let group = snapshot.groups.last_mut().unwrap();
    let endpoint = group.endpoints[0].clone();
    for i in 0..endpoints {
        let mut another = endpoint.clone();
        another.name = format!("tm{i}.example.with.a.long.name:9611");
        group.endpoints.push(another);
    }
}

fn small_window(weir: &Weir) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    // Small segments: the kernel gives the sender a buffer in proportion.
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&weir.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}
