//! Clients that are slow, greedy, or talk nonsense: each ends by itself and the next one is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Weir};

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
fn slow_clients_are_cut_off_after_ten_seconds_and_meanwhile_hurt_nobody() {
    let weir = Weir::start(None);
    enlarge(&weir);
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
    assert!(cut > Duration::from_secs(9), "cut off after {cut:?}");
    dripper.join().unwrap();
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
fn connections_over_the_limit_wait_for_a_place() {
    let weir = Weir::start(None);
    let mut held: Vec<TcpStream> = (0..64).map(|_| weir.connect()).collect();
    let mut waiting = weir.connect();
    waiting
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let early = waiting.read(&mut [0; 1]).unwrap_err();
    assert_eq!(
        early.kind(),
        std::io::ErrorKind::WouldBlock,
        "the 65th connection was served"
    );
    held.pop();
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(Answer::read(waiting).status, 200);
}

/// Makes /metrics larger than what a kernel buffers for a reader that does not read.
fn enlarge(weir: &Weir) {
    let mut snapshot = weir.snapshot.lock().unwrap();
    let group = snapshot.groups.last_mut().unwrap();
    let endpoint = group.endpoints[0].clone();
    for i in 0..2500 {
        let mut another = endpoint.clone();
        another.name = format!("tm{i}.example.with.a.long.name:9611");
        group.endpoints.push(another);
    }
}

fn small_window(weir: &Weir) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&weir.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}
