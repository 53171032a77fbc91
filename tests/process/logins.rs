//! Floods of logins against a password that is an argon2 hash.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use weir::wire::reply::Reply;
use weir::wire::request::encode_login;

use crate::support::process::{Process, Start};
use crate::support::{Plan, story, toml};

/// What one login needs with a hash of argon2's default cost.
const HASH_BYTES: u64 = 19_456 * 1024;
const FLOOD: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);

/// A connection from this address of the loopback network, with a login sent.
async fn send_login(from: Ipv4Addr, to: SocketAddr, user: &str, password: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let mut frame = Vec::new();
    encode_login(&mut frame, user, password);
    stream.write_all(&frame).await.unwrap();
    stream
}

/// Whether the login succeeded.
async fn answer(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        let read = timeout(LIMIT, stream.read_buf(&mut bytes)).await;
        assert_ne!(read.expect("no answer to a login").unwrap(), 0);
        match Reply::decode(&bytes).unwrap() {
            Some((Reply::LoginOk { .. }, _)) => return true,
            Some((Reply::Error { message, .. }, _)) => {
                assert_eq!(message, "wrong userName or password");
                return false;
            }
            other => assert_eq!(other, None),
        }
    }
}

#[test]
fn two_hundred_wrong_logins_at_once_need_the_memory_of_one_and_a_good_one_from_elsewhere_does_not_wait_for_them()
 {
    story(async {
        let hash = argon2::Argon2::default().hash_password_with_salt(b"hash me", b"a salt of 16 byt");
        let hash = hash.unwrap().to_string();
        let users = format!("[[auth.user]]\nname = \"gateway\"\npassword_argon2 = \"{hash}\"\n");
        let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://127.0.0.1:1\"]\n";
        let plan = Plan {
            tables: users,
            ..Plan::default()
        };
        let weir = Process::start(&toml(&plan, group), Start::default(), None).await;
        let before = weir.rss_bytes();
        let mut flood = Vec::new();
        for n in 0..FLOOD {
            let user = ["gateway", "nobody"][n % 2];
            flood.push(send_login(Ipv4Addr::new(127, 0, 0, 2), weir.tcp, user, "wrong").await);
        }
        let began = Instant::now();
        let mut good = send_login(Ipv4Addr::new(127, 0, 0, 1), weir.tcp, "gateway", "hash me").await;
        assert!(answer(&mut good).await);
        let waited = began.elapsed();
        let ahead = weir.status().0["ingress"]["logins_failed_total"]
            .as_u64()
            .unwrap();
        for stream in &mut flood {
            assert!(!answer(stream).await);
        }
        let all = began.elapsed();
        let (after, peak) = (weir.rss_bytes(), weir.rss_peak_bytes());
        let mib = |bytes: u64| bytes / (1024 * 1024);
        println!(
            "{FLOOD} wrong logins in {all:.1?}: RSS {} MiB before, {} MiB at most, {} MiB after; \
             the good one waited {waited:.1?}, behind {ahead} wrong ones",
            mib(before),
            mib(peak),
            mib(after)
        );
        assert!(
            peak - before < HASH_BYTES + (8 << 20),
            "{} MiB",
            mib(peak - before)
        );
        // One address against one: they take turns, so it is the second or third. The rest of the room is for the
        // flood that was answered before the good login was sent.
        assert!(
            ahead < FLOOD as u64 / 2,
            "the good login waited for {ahead} wrong ones"
        );
    });
}
