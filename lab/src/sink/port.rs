//! One listening port of a stand-in Traffic Manager.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use weir::net::{Acceptor, Listener, Raw, Stream, out_of_descriptors};

use super::connection::{Connection, unique_connection};
use super::counts::add;
use super::{Opener, Shared};

/// One listening port.
pub(super) struct Port {
    pub(super) shared: Arc<Shared>,
    pub(super) opener: Opener,
    pub(super) listener: Option<Listener>,
    pub(super) tls: Option<Acceptor>,
    pub(super) served: Arc<Semaphore>,
}

/// Between two attempts to open a port, or to accept when the process is out of descriptors.
const RETRY: Duration = Duration::from_millis(20);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl Port {
    pub(super) async fn serve(mut self) {
        let mut behaviour = self.shared.behaviour.subscribe();
        let stop = self.shared.stop.clone();
        loop {
            let listening = behaviour.borrow_and_update().listening;
            self.open_or_close(listening);
            // Biased: a port that is to be closed accepts no more connections.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = behaviour.changed() => {}
                () = tokio::time::sleep(RETRY), if listening && self.listener.is_none() => {}
                stream = accept(&mut self.listener) => match stream {
                    Ok(raw) => self.spawn(raw),
                    Err(e) if out_of_descriptors(&e) => tokio::time::sleep(RETRY).await,
                    Err(_) => {}
                },
            }
        }
    }

    fn open_or_close(&mut self, listening: bool) {
        if listening && self.listener.is_none() {
            // The address may still be in use for a moment: the caller tries again.
            if let Ok(listener) = (self.opener)() {
                self.listener = Some(listener);
                self.shared.open.send_modify(|(ports, _)| *ports += 1);
            }
        } else if !listening && self.listener.take().is_some() {
            self.shared.open.send_modify(|(ports, _)| *ports -= 1);
        }
    }

    fn spawn(&self, raw: Raw) {
        let shared = Arc::clone(&self.shared);
        let (tls, served) = (self.tls.clone(), Arc::clone(&self.served));
        add(&shared.counters.connections, 1);
        shared.open.send_modify(|(_, connections)| *connections += 1);
        // From here on: a cut that comes before the task's first turn counts for it too.
        let behaviour = shared.behaviour.subscribe();
        let before = behaviour.borrow().cut.0;
        tokio::spawn(async move {
            let work = async {
                let stream = match tls {
                    None => Stream::Plain(raw),
                    Some(tls) => match tls.handshake(raw, HANDSHAKE_TIMEOUT).await {
                        Ok(stream) => stream,
                        Err(_) => return,
                    },
                };
                let number = unique_connection();
                Connection::new(Arc::clone(&shared), stream, number)
                    .live(behaviour, before, &served)
                    .await;
            };
            // Biased: a dropped sink answers nothing more.
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => {}
                () = work => {}
            }
            add(&shared.counters.ended, 1);
            shared.open.send_modify(|(_, connections)| *connections -= 1);
        });
    }
}

async fn accept(listener: &mut Option<Listener>) -> io::Result<Raw> {
    match listener {
        Some(listener) => listener.accept().await.map(|(raw, _)| raw),
        None => std::future::pending().await,
    }
}
