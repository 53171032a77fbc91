//! The next upstream frame: what the queue gives, merged up to the size of a batch. Pure.

use std::rc::Rc;

use tokio::time::Instant;

use super::outbox::Outbox;
use super::pipeline::{Frame, Pipeline};
use crate::relay::{GroupQueue, Parcel};
use crate::wire::request::encode_publish_header;

/// Takes the oldest batch, and as many behind it as may share a frame with it and
/// `batch_max_bytes` holds, into one frame: its bytes go to
/// `outbox`, its parcels to `pipeline`. Returns its events; 0 = there was nothing to take.
pub fn next_frame(
    queue: &Rc<GroupQueue>,
    session: &[u8],
    batch_max_bytes: usize,
    now: Instant,
    outbox: &mut Outbox,
    pipeline: &mut Pipeline,
) -> usize {
    let Some(first) = queue.take(now) else {
        return 0;
    };
    let (mut events, mut bytes) = (first.events(), first.bytes().len());
    let mut parcels = pipeline.list();
    parcels.push(first);
    let beside = |parcels: &[Parcel], bytes: usize| {
        let room = batch_max_bytes.saturating_sub(bytes);
        queue.take_beside(parcels.first()?, room, now)
    };
    while let Some(more) = beside(&parcels, bytes) {
        events += more.events();
        bytes += more.bytes().len();
        parcels.push(more);
    }
    outbox.header(|out| encode_publish_header(out, session, events, bytes));
    for parcel in &parcels {
        outbox.batch(parcel.bytes());
    }
    pipeline.push(Frame {
        parcels,
        sent_at: now,
    });
    events
}

/// An empty publish: the proof of life of a silent link.
pub(super) fn heartbeat(session: &[u8], now: Instant, outbox: &mut Outbox, pipeline: &mut Pipeline) {
    outbox.header(|out| encode_publish_header(out, session, 0, 0));
    let parcels = pipeline.list();
    pipeline.push(Frame {
        parcels,
        sent_at: now,
    });
}
