//! Faulty gateways: gone in the middle of a frame, probing, never reading, talking nonsense. What they
//! issue is never acknowledged to anybody.

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{sleep, timeout};
use weir::config::{Password, Scheme, Secret, Url, User};
use weir::net::Dialer;
use weir_lab::Judge;
use weir_lab::gateway::{Gateway, frame, probe};

use crate::chaos::Fault;
use crate::world::{World, unix_ms};

pub fn url(name: &str) -> Url {
    let (host, port) = name.split_once(':').unwrap();
    Url {
        scheme: Scheme::Tcp,
        host: host.into(),
        port: port.parse().unwrap(),
    }
}

struct Bad {
    judge: Judge,
    dialer: Dialer,
    url: Url,
    session: Vec<u8>,
    origin: u32,
    random: Rng,
    issued: Rc<std::cell::Cell<u64>>,
}

/// Starts one; it ends by itself within some seconds.
pub fn bad_day(world: &World, fault: Fault, random: &mut Rng) {
    let admin = User {
        name: "admin".into(),
        password: Password::Clear(Secret::new("admin")),
    };
    let bad = Bad {
        judge: world.judge.clone(),
        dialer: world.dialer(),
        url: url(crate::plan::WEIR),
        session: world
            .tokens
            .issue(&admin, unix_ms(), unix_ms() + 3_600_000)
            .unwrap()
            .into_bytes(),
        origin: world.new_origins(1),
        random: random.fork(),
        issued: Rc::clone(&world.bad_issued),
    };
    let task = tokio::task::spawn_local(async move {
        // Nobody listens where it happens while weir is down: then nothing is issued either.
        let _ = timeout(Duration::from_secs(20), bad.day(fault)).await;
    });
    world.tasks.borrow_mut().push(task);
}

impl Bad {
    async fn day(mut self, fault: Fault) -> Option<()> {
        if fault == Fault::GatewayProbe {
            return probe(&self.dialer, &self.url).await.ok();
        }
        let mut gateway = Gateway::connect(&self.dialer, &self.url).await.ok()?;
        match fault {
            Fault::GatewayGone => {
                let frame = self.frame(0);
                let at = self.random.usize(0..=frame.len());
                let reset = self.random.bool();
                gateway.gone_after(&frame, at, reset).await;
            }
            Fault::GatewayFlood => {
                for i in 0..self.random.u64(1..40) {
                    let frame = self.frame(i);
                    let sent = timeout(Duration::from_secs(2), gateway.send(&frame)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        break;
                    }
                }
                sleep(Duration::from_millis(self.random.u64(0..3_000))).await;
                gateway.abort();
            }
            _ => {
                let bytes: Vec<u8> = match self.random.u8(..3) {
                    0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                    1 => (0..self.random.usize(1..300))
                        .map(|_| self.random.u8(..))
                        .collect(),
                    // A publish whose body is nonsense behind a sound header.
                    _ => [&[2, 0, 0, 0, 40][..], &[7; 40]].concat(),
                };
                gateway.send(&bytes).await.ok()?;
                sleep(Duration::from_millis(self.random.u64(0..1_000))).await;
                gateway.abort();
            }
        }
        Some(())
    }

    /// Three events, told to the oracle before any byte leaves.
    fn frame(&mut self, i: u64) -> Vec<u8> {
        let mut oracle = self.judge.oracle();
        oracle.issue(self.origin, i * 3, 3, self.judge.now());
        self.issued.set(self.issued.get() + 3);
        frame(&self.session, oracle.events(), self.origin, i * 3, 3)
    }
}
