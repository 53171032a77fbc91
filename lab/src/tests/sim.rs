//! The simulated network ends, delays and loses as a real one does.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use weir::net::{Listener, Raw, Stream};

use super::*;
use crate::sim::{Sim, Trace};

const TM: &str = "tm:9611";
const LONG: Duration = Duration::from_secs(60);

struct Net {
    sim: Sim,
    dialer: Dialer,
    listener: Listener,
}

impl Net {
    fn new() -> Self {
        let sim = Sim::new(1, Trace::new(false));
        Self {
            dialer: Dialer::over(Arc::new(sim.clone()), ClientTls::trusting_nobody().unwrap()),
            listener: sim.listen(TM),
            sim,
        }
    }

    async fn dial(&self) -> Result<Stream, weir::net::DialError> {
        let url = args::url("tcp://tm:9611").unwrap();
        self.dialer.dial(&url, Duration::from_secs(3), LONG).await
    }

    async fn pair(&mut self) -> (Stream, Raw) {
        let near = self.dial().await.unwrap();
        (near, self.listener.accept().await.unwrap().0)
    }
}

async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1000];
    let n = timeout(LONG, from.read(&mut bytes)).await??;
    bytes.truncate(n);
    Ok(bytes)
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_when_the_weather_lets_them() {
    let mut net = Net::new();
    let (mut near, mut far) = net.pair().await;
    net.sim.conditions(TM, |w| {
        w.forth.latency = Duration::from_millis(100);
        w.forth.bandwidth = Some(1_000);
        w.forth.slice_bytes = Some(50);
    });
    let start = Instant::now();
    near.write_all(&[7; 100]).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "the sender's buffer takes them");
    assert_eq!(read(&mut far).await.unwrap().len(), 50);
    assert_eq!(start.elapsed(), Duration::from_millis(150));
    assert_eq!(read(&mut far).await.unwrap().len(), 50);
    assert_eq!(start.elapsed(), Duration::from_millis(200));

    net.sim.conditions(TM, |w| w.forth.stopped = true);
    near.write_all(b"later").await.unwrap();
    let waiting = tokio::spawn(async move { read(&mut far).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    net.sim.conditions(TM, |w| w.forth.stopped = false);
    assert_eq!(waiting.await.unwrap(), b"later");
}

#[tokio::test(start_paused = true)]
async fn ends_are_those_of_tcp() {
    let mut net = Net::new();
    let (mut near, mut far) = net.pair().await;
    far.write_all(b"last words").await.unwrap();
    drop(far);
    assert_eq!(read(&mut near).await.unwrap(), b"last words");
    assert_eq!(read(&mut near).await.unwrap(), b"", "FIN behind the bytes");
    near.write_all(b"anybody?").await.unwrap();
    assert!(near.write_all(b"no").await.is_err(), "a reset came back");

    let (mut near, far) = net.pair().await;
    near.write_all(b"unread").await.unwrap();
    drop(far);
    assert!(read(&mut near).await.is_err(), "closed with bytes unread");

    let (mut near, mut far) = net.pair().await;
    far.reset_on_close();
    drop(far);
    assert!(read(&mut near).await.is_err());
    assert_eq!(net.sim.fins_of(TM), 1);
}

#[tokio::test(start_paused = true)]
async fn what_vanishes_is_never_heard_of_again() {
    let mut net = Net::new();
    let (mut near, mut far) = net.pair().await;
    net.sim.conditions(TM, |w| w.forth.black_hole = true);
    near.write_all(b"gone").await.unwrap();
    net.sim.conditions(TM, |w| w.forth.black_hole = false);
    near.write_all(b"behind a hole").await.unwrap();
    drop(near);
    assert!(read(&mut far).await.is_err(), "silence: neither bytes nor an end");
    assert_eq!(net.sim.counts().vanished_bytes, 17);

    let (mut near, far) = net.pair().await;
    net.sim.conditions(TM, |w| w.back.half_open = true);
    far.abort();
    assert!(read(&mut near).await.is_err(), "nobody tells");
    assert_eq!(net.sim.counts().half_opens, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_cut_at_the_byte_it_was_told() {
    for (how, byte) in [(Close::Fin, 3), (Close::Rst, 3), (Close::Rst, 10)] {
        let mut net = Net::new();
        net.sim.conditions(TM, |w| w.forth.cut_at = Some((byte, how)));
        let (mut near, mut far) = net.pair().await;
        assert!(near.write_all(b"0123456789x").await.is_err());
        let got = read(&mut far).await.unwrap();
        assert_eq!(got, b"0123456789"[..usize::try_from(byte).unwrap()]);
        let end = read(&mut far).await;
        assert_eq!(end.is_ok(), how == Close::Fin, "{end:?}");
        assert_eq!(net.sim.counts().cuts, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_can_be_nameless_silent_or_closed() {
    let net = Net::new();
    net.sim.conditions(TM, |w| w.nameless = true);
    assert_eq!(net.dial().await.unwrap_err().class.as_str(), "dns");
    net.sim.conditions(TM, |w| (w.nameless, w.silent) = (false, true));
    assert_eq!(net.dial().await.unwrap_err().class.as_str(), "timeout");
    net.sim.conditions(TM, |w| w.silent = false);
    let mut waiting = net.dial().await.unwrap();
    let Net {
        sim,
        dialer,
        listener,
    } = net;
    drop(listener);
    assert!(read(&mut waiting).await.is_err(), "never accepted");
    let net = Net {
        listener: sim.listen("other:1"),
        sim,
        dialer,
    };
    assert_eq!(net.dial().await.unwrap_err().class.as_str(), "refused");
}
