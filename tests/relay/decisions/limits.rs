//! Limits, and what never appears in a log.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::decisions::frame::HEADER_0_9_1;

use super::support::*;

#[tokio::test]
async fn above_the_limit_gateways_wait_and_are_served_when_another_leaves() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.connections_max = 2;
    let weir = Weir::new(config);
    tokio::spawn(stub.serve_handshakes());
    let one = Wire::gateway(weir.addr(), 0).await;
    let _two = Wire::gateway(weir.addr(), 0).await;
    let mut three = Wire::connect(weir.addr()).await;
    three.send(&HEADER_0_9_1).await;
    assert!(three.silent_for(Duration::from_millis(300)).await);
    assert_eq!(weir.handle.status().accepted_total, 2);
    drop(one);
    three.expect(&start_frame()).await;

    // A reload that raises the limit is enough, too.
    let mut four = Wire::connect(weir.addr()).await;
    four.send(&HEADER_0_9_1).await;
    assert!(four.silent_for(Duration::from_millis(300)).await);
    let mut wider = weir.config.clone();
    wider.connections_max = 3;
    weir.handle.apply(wider).unwrap();
    four.expect(&start_frame()).await;
}

#[test]
fn it_runs_on_a_local_runtime_and_takes_a_reload_from_another_thread() {
    use tokio::runtime::{Builder, LocalOptions};
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let stub = StubBroker::new().await;
        let weir = Weir::new(config(&[stub.addr()]));
        tokio::spawn(stub.serve_handshakes());
        let _gateway = Wire::gateway(weir.addr(), 0).await;
        let (handle, mut changed) = (weir.handle.clone(), weir.config.clone());
        changed.listen = Some("127.0.0.3:0".parse().unwrap());
        let reload = std::thread::spawn(move || handle.apply(changed));
        soon("the reload", async {
            while !reload.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        reload.join().unwrap().unwrap();
        let _gateway = Wire::gateway(weir.addr(), 0).await;
    });
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One thread and its own subscriber, so that no other test's lines are looked at.
#[test]
fn no_log_level_shows_the_password_and_a_broken_frame_is_logged_with_its_offset() {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let stub = StubBroker::new().await;
            let weir = Weir::new(config(&[stub.addr()]));
            let (mut gateway, mut broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
            gateway.send(&body(5, 1)).await;
            broker.expect(&body(5, 1)).await;
            gateway.send(&[3, 0, 1, 0, 0, 0, 0, 0x42]).await;
            assert!(broker.closed().await);
            drop(gateway);
            weir.until("the end", |s| s.client.connections == [0; 6]).await;
            // 0-10, twice, to see that it is said once.
            for _ in 0..2 {
                let mut gateway = Wire::connect(weir.addr()).await;
                gateway.send(b"AMQP\x01\x01\x00\x0A").await;
                let mut broker = stub.accept().await;
                broker.send(b"A").await;
                gateway.exactly(1).await;
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("broker answers"), "a log there was: {text}");
    assert!(
        !text.contains(PASSWORD) && !text.contains("correct-horse"),
        "{text}"
    );
    let offset = 8 + start_ok_frame().len() + 20 + 13 + 7;
    assert!(
        text.contains(&format!("(byte {offset} of the stream)")),
        "{offset}: {text}"
    );
    assert_eq!(text.matches("relayed as bytes").count(), 1, "{text}");
    assert_eq!(
        text.matches("collide on the broker").count(),
        1,
        "the loopback trap is told once: {text}"
    );
}
