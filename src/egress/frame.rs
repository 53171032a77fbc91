//! The next frame to a Traffic Manager: its bytes go to the [`Outbox`], what it carries to the [`Pipeline`].

use std::rc::Rc;

use tokio::time::Instant;

use super::outbox::Outbox;
use super::pipeline::{Frame, Pipeline};
use crate::relay::GroupQueue;
use crate::wire::request::encode_publish_header;

/// Takes what is queued, up to `batch_max_bytes`, as one frame. Returns its events; 0 = nothing was queued.
pub fn next_frame(
    queue: &Rc<GroupQueue>,
    session: &[u8],
    batch_max_bytes: usize,
    now: Instant,
    outbox: &mut Outbox,
    pipeline: &mut Pipeline,
) -> usize {
    let Some(delivery) = queue.take(batch_max_bytes, now) else {
        return 0;
    };
    let events = delivery.events();
    let bytes = delivery.batches().iter().map(|b| b.bytes().len()).sum();
    outbox.header(|out| encode_publish_header(out, session, events, bytes));
    for batch in delivery.batches() {
        outbox.batch(batch.bytes());
    }
    pipeline.push(Frame {
        delivery: Some(delivery),
        sent_at: now,
    });
    events
}

/// An empty publish, which shows that a silent link is alive.
pub(super) fn heartbeat(session: &[u8], now: Instant, outbox: &mut Outbox, pipeline: &mut Pipeline) {
    outbox.header(|out| encode_publish_header(out, session, 0, 0));
    pipeline.push(Frame {
        delivery: None,
        sent_at: now,
    });
}
