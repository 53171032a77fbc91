//! Back to the preferred broker, at a quiet moment.
//!
//! WSO2's own client never goes back. While gateways sit on a later broker, the earlier ones are asked for a
//! Start every now and then; once one has answered for `failback_after` without a break, sessions on later
//! ones are asked to leave, a few at a time, each when it is quiet: their gateways connect anew and get it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep};

use super::brokers::{Answer, attempt};
use super::end::farewell;
use super::frame::HEADER_0_9_1;
use super::room::Room;
use super::stage::Leave;
use crate::config::{Policy, Url};

/// Bounds of the time between two looks; a quarter of `failback_after` within them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A session that finds no quiet moment goes back after this long: 20 decisions a second leave none.
const FAILBACK_WITHIN: Duration = Duration::from_secs(10);
/// Sessions asked to leave in one look: all gateways logging in at once is what broke many a broker.
const LEAVERS_MAX: usize = 32;

/// Looks after the order of preference until weir stops.
pub(super) async fn run(room: Arc<Room>) {
    let mut healthy_since: HashMap<String, Instant> = HashMap::new();
    loop {
        let config = room.config();
        let after = match (config.policy, config.failback_after) {
            (Policy::Failover, Some(after)) => after,
            _ => {
                healthy_since.clear();
                sleep(LOOK_EVERY.1).await;
                continue;
            }
        };
        let (least, most) = LOOK_EVERY;
        sleep((after / 4).clamp(least, most)).await;
        let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
        let placed = sitting(&names, room.ledger.relaying());
        let worst = placed.iter().map(|(_, at)| *at).max().unwrap_or_default();
        for (url, name) in config.brokers.iter().zip(&names).take(worst) {
            match greets(&room, url).await {
                Ok(()) => {
                    room.seen(url, None);
                    healthy_since.entry(name.clone()).or_insert_with(Instant::now);
                }
                Err(why) => {
                    room.seen(url, Some(why));
                    healthy_since.remove(name);
                }
            }
        }
        healthy_since.retain(|name, _| names.iter().take(worst).any(|n| n == name));
        let now = Instant::now();
        let proven = names
            .iter()
            .position(|name| healthy_since.get(name).is_some_and(|since| now >= *since + after));
        let Some(best) = proven else { continue };
        let leavers = placed.iter().filter(|(_, at)| *at > best);
        let wish = Leave::Failback {
            at_latest: now + FAILBACK_WITHIN,
            proven_until: now + FAILBACK_WITHIN * 2,
        };
        let to = names.get(best).map(String::as_str);
        let asked = leavers.filter(|(id, _)| room.ledger.ask_to_leave(*id, wish, to, now));
        let asked = asked.take(LEAVERS_MAX).count();
        if asked > 0 {
            room.ledger.note(|s| s.failbacks_total += asked as u64);
            tracing::info!(broker = ?names.get(best), sessions = asked, "preferred broker answers again: sessions move back when quiet");
        }
    }
}

/// Asks a broker for its Start, and leaves without logging in.
async fn greets(room: &Room, url: &Url) -> Result<(), String> {
    let asked = attempt(&room.dialer(), url, &HEADER_0_9_1).await;
    let answered = asked.map_err(|refusal| format!("{}: {}", refusal.class, refusal.message))?;
    farewell(answered.stream, BytesMut::new()).await;
    match answered.answer {
        Answer::Start => Ok(()),
        Answer::OtherVersion => Err(format!("version: {url} does not speak AMQP 0-9-1")),
    }
}

/// Sessions and the place of their broker in the order of preference; those elsewhere are not ours to judge.
fn sitting(names: &[String], placements: Vec<(u64, String)>) -> Vec<(u64, usize)> {
    let place = |(id, name): (u64, String)| Some((id, names.iter().position(|n| *n == name)?));
    placements.into_iter().filter_map(place).collect()
}
