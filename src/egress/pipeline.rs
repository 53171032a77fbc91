//! The ledger of frames that are written (or being written) and unanswered: replies carry no id, they come
//! in the order of the frames. Pure but for the parcels it owns: dropped, it gives all of them back.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::relay::Parcel;

/// One upstream frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Empty for a heartbeat.
    pub(super) parcels: Vec<Parcel>,
    pub(super) sent_at: Instant,
}

impl Frame {
    /// Back to the queue: the last parcel first, so that order is kept.
    fn give_back(mut self) {
        while let Some(parcel) = self.parcels.pop() {
            parcel.give_back();
        }
    }
}

/// One connection's frames, oldest first.
#[derive(Debug, Default)]
pub struct Pipeline {
    frames: VecDeque<Frame>,
    /// Refused because their session had expired, and older than all of the above.
    expired: Vec<Frame>,
    /// Emptied parcel lists, to be filled again.
    spare: Vec<Vec<Parcel>>,
}

/// Parcel lists kept for reuse.
const SPARE_MAX: usize = 64;

impl Pipeline {
    /// An empty list for the next frame's parcels.
    pub(super) fn list(&mut self) -> Vec<Parcel> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// The oldest frame was answered ok: its parcels, to be ended by `each`. False when there is none.
    pub fn answered(&mut self, mut each: impl FnMut(Parcel, Instant)) -> bool {
        let Some(mut frame) = self.frames.pop_front() else {
            return false;
        };
        for parcel in frame.parcels.drain(..) {
            each(parcel, frame.sent_at);
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(frame.parcels);
        }
        true
    }

    /// The oldest frame was refused because its session has expired; it keeps its place until
    /// [`give_back_expired`](Self::give_back_expired). False when there is none.
    pub(super) fn expired(&mut self) -> bool {
        let oldest = self.frames.pop_front();
        let known = oldest.is_some();
        self.expired.extend(oldest);
        known
    }

    /// Back to the queue with frames whose session had expired.
    pub(super) fn give_back_expired(&mut self) {
        while let Some(frame) = self.expired.pop() {
            frame.give_back();
        }
    }

    /// The oldest frame was refused: everything younger goes back first, then each of its parcels meets
    /// its refusal, so that what goes back is in front and in order. Returns how many events were rejected for good.
    pub(super) fn refused(mut self) -> usize {
        let oldest = self.frames.pop_front();
        let expired = std::mem::take(&mut self.expired);
        drop(self);
        let mut rejected = 0;
        if let Some(mut frame) = oldest {
            let only = frame.parcels.len() == 1;
            while let Some(parcel) = frame.parcels.pop() {
                rejected += usize::from(parcel.refused(only));
            }
        }
        expired.into_iter().rev().for_each(Frame::give_back);
        rejected
    }

    /// Gateways' answers wait for none of them any longer.
    pub(super) fn let_go(&mut self) {
        for frame in &mut self.frames {
            frame.parcels.iter_mut().for_each(Parcel::let_go);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// When the oldest event in flight was accepted.
    pub(super) fn oldest_accepted_at(&self) -> Option<Instant> {
        self.frames
            .iter()
            .find_map(|frame| frame.parcels.first()?.accepted_at())
    }

    pub(super) fn oldest(&self) -> Option<&Frame> {
        self.frames.front()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        while let Some(frame) = self.frames.pop_back() {
            frame.give_back();
        }
        self.give_back_expired();
    }
}
