//! A gateway's end: subscribes, takes decisions, and comes back as WSO2's client does.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use weir::config::Url;
use weir::net::Dialer;

use super::Book;
use super::broker::{PASSWORD, USER};
use super::frames::{self, Said};
use super::line::{Event, Line};

/// How long WSO2's client gives a connection to be subscribed; silent that long it gives it up.
const PATIENCE: Duration = Duration::from_secs(30);
/// WSO2's client tries so often without a pause of note, …
const QUICK_RETRIES: u32 = 3;
const QUICK: Duration = Duration::from_millis(100);
/// … and then sleeps, twice as long each time, up to an hour.
const SLEEP: Duration = Duration::from_secs(20);
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// Subscribes at `url`, again and again, until it is dropped; tells the book what it gets.
pub async fn subscribe(dialer: Dialer, url: Url, book: Book) {
    let mut attempts = 0;
    for subscription in 0.. {
        attempts += 1;
        match timeout(PATIENCE, open(&dialer, &url, subscription)).await {
            Ok(Ok(line)) => {
                book.tally().subscribed(subscription, attempts, book.now());
                attempts = 0;
                follow(line, subscription, &book).await;
            }
            // What was tried counts; why it failed does not.
            Ok(Err(_)) | Err(_) => sleep(pause(attempts)).await,
        }
    }
}

/// PURE: before the next attempt.
fn pause(attempts: u32) -> Duration {
    match attempts.checked_sub(QUICK_RETRIES) {
        None => QUICK,
        Some(more) => SLEEP.saturating_mul(1 << more.min(10)).min(SLEEP_MAX),
    }
}

/// Connects and subscribes.
async fn open(dialer: &Dialer, url: &Url, subscription: usize) -> Result<Line, String> {
    let dialed = dialer.dial(url, PATIENCE, PATIENCE).await;
    let mut line = Line::new(dialed.map_err(|e| e.message)?);
    let (queue, tag) = (format!("tmp_{subscription}"), format!("weir-lab-{subscription}"));
    line.send(&frames::PROTOCOL_HEADER).await?;
    expect(&mut line, frames::START).await?;
    line.send(&frames::start_ok(USER, PASSWORD)).await?;
    let offered = expect(&mut line, frames::TUNE).await?;
    let heartbeat = frames::heartbeat_of(&offered).ok_or("a short Tune")?;
    line.send(&frames::tuning(frames::TUNE_OK, heartbeat)).await?;
    line.tuned(heartbeat);
    for (question, answer) in [
        (frames::open(), frames::OPEN_OK),
        (frames::channel_open(), frames::CHANNEL_OPEN_OK),
        (frames::declare(&queue), frames::DECLARE_OK),
        (frames::bind(&queue), frames::BIND_OK),
        (frames::consume(&queue, &tag), frames::CONSUME_OK),
    ] {
        line.send(&question).await?;
        expect(&mut line, answer).await?;
    }
    Ok(line)
}

/// The arguments of this method, which must come next.
async fn expect(line: &mut Line, wanted: (u16, u16)) -> Result<bytes::Bytes, String> {
    loop {
        match line.next().await {
            Event::Said(Said::Method(method, arguments)) if method == wanted => return Ok(arguments),
            Event::Said(Said::Heartbeat) => {}
            Event::Said(other) => return Err(format!("{other:?} instead of {wanted:?}")),
            Event::Beat => line.send(&frames::heartbeat()).await?,
            Event::Over(why) => return Err(why),
        }
    }
}

/// Takes decisions until the connection ends.
async fn follow(mut line: Line, subscription: usize, book: &Book) {
    let (mut body, mut bytes_left) = (Vec::new(), 0);
    loop {
        match line.next().await {
            Event::Said(Said::Message(bytes)) => (body, bytes_left) = (Vec::new(), bytes),
            Event::Said(Said::Body(part)) => {
                bytes_left = u64::saturating_sub(bytes_left, part.len() as u64);
                body.extend_from_slice(&part);
                if bytes_left == 0 {
                    book.tally().received(subscription, &body);
                }
            }
            Event::Said(Said::Method(frames::DELIVER, _) | Said::Heartbeat) => {}
            Event::Beat => {
                if line.send(&frames::heartbeat()).await.is_err() {
                    return;
                }
            }
            Event::Said(Said::Method(..)) | Event::Over(_) => return line.close().await,
        }
    }
}
