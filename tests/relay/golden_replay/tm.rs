//! A Traffic Manager of a few lines that answers with captured bytes and keeps what it is sent.
#![allow(unreachable_pub)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::wire::{Decoded, Request, events};

use super::{DECODER, capture};

pub struct Tm {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    script: VecDeque<Vec<u8>>,
    login: Option<Vec<u8>>,
    /// Publishes are answered when so many are there, or not.
    together: usize,
    /// Answers leave a byte at a time.
    slow: bool,
    /// Events of frames that were answered ok.
    taken: Vec<Vec<u8>>,
    logins: u64,
    frames: u64,
}

impl Tm {
    /// Answers publishes with `script`, one by one, then ok.
    pub async fn start(script: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            script: script.into(),
            together: 1,
            ..Shared::default()
        }));
        let own = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, Arc::clone(&own)));
            }
        });
        Self { address, shared }
    }

    /// Answers logins so.
    pub fn login(self, answer: Vec<u8>) -> Self {
        self.shared.lock().unwrap().login = Some(answer);
        self
    }

    /// Answers the first publishes when there are so many, all at once.
    pub fn together(self, frames: usize) -> Self {
        self.shared.lock().unwrap().together = frames;
        self
    }

    /// Each byte of an answer leaves alone.
    pub fn slow(self) -> Self {
        self.shared.lock().unwrap().slow = true;
        self
    }

    pub fn events(&self) -> Vec<Vec<u8>> {
        self.shared.lock().unwrap().taken.clone()
    }

    pub fn logins(&self) -> u64 {
        self.shared.lock().unwrap().logins
    }

    pub fn frames(&self) -> u64 {
        self.shared.lock().unwrap().frames
    }
}

async fn serve(mut tcp: TcpStream, shared: Arc<Mutex<Shared>>) {
    tcp.set_nodelay(true).unwrap();
    let (mut input, mut held) = (Vec::new(), Vec::new());
    loop {
        while let Ok(Decoded::Frame { request, length }) = DECODER.decode(&input) {
            let answers = answers(&mut shared.lock().unwrap(), &request.unwrap(), &mut held);
            let slow = shared.lock().unwrap().slow;
            for piece in answers.chunks(if slow { 1 } else { usize::MAX }) {
                if tcp.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            input.drain(..length);
        }
        if !matches!(tcp.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

fn answers(shared: &mut Shared, request: &Request<'_>, held: &mut Vec<Vec<Vec<u8>>>) -> Vec<u8> {
    match request {
        Request::Login { .. } => {
            shared.logins += 1;
            let login = shared.login.clone();
            login.unwrap_or_else(|| capture("receiver-5.4.9-login-ok.reply.bin"))
        }
        Request::Logout { .. } => capture("receiver-5.4.9-logout.reply.bin"),
        Request::Publish { events, .. } => {
            shared.frames += 1;
            held.push(
                events::iterate(events.bytes())
                    .map(|e| e.bytes().to_vec())
                    .collect(),
            );
            if held.len() < shared.together {
                return Vec::new();
            }
            shared.together = 1;
            let mut out = Vec::new();
            for events in held.drain(..) {
                let answer = shared.script.pop_front().unwrap_or_else(|| vec![0]);
                if answer == [0] {
                    shared.taken.extend(events);
                }
                out.extend(answer);
            }
            out
        }
    }
}
