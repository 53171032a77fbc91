//! The frame that is being written: its header and its batches, and how far partial writes have come. Pure.
//!
//! Small batches are copied behind the header, large ones are shared: a system call with many small slices costs more
//! than a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Batches up to this size are copied.
pub(super) const COPY_MAX_BYTES: usize = 16 * 1024;

/// Slices handed to one system call.
pub const SLICES_MAX: usize = 16;

/// What is left to write of the frames of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Copied bytes, in order; segments refer to them by length.
    inline: Vec<u8>,
    inline_done: usize,
    segments: VecDeque<Segment>,
    left: usize,
}

#[derive(Debug)]
enum Segment {
    Inline(usize),
    Shared(Bytes),
}

impl Outbox {
    /// Appends what `write` puts into the buffer.
    pub(super) fn header(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.left == 0 {
            self.inline.clear();
            self.inline_done = 0;
        }
        let before = self.inline.len();
        write(&mut self.inline);
        self.grew(self.inline.len() - before);
    }

    /// Appends a batch.
    pub(super) fn batch(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_MAX_BYTES {
            self.header(|inline| inline.extend_from_slice(bytes));
        } else {
            self.left += bytes.len();
            self.segments.push_back(Segment::Shared(bytes.clone()));
        }
    }

    /// The kernel has taken everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// What is left to write, as far as it fits into one system call.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut inline = self.inline.get(self.inline_done..).unwrap_or_default();
        let mut used = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = match segment {
                Segment::Inline(length) => {
                    let (head, rest) = inline.split_at((*length).min(inline.len()));
                    inline = rest;
                    IoSlice::new(head)
                }
                Segment::Shared(bytes) => IoSlice::new(bytes),
            };
            used += 1;
        }
        used
    }

    /// The kernel has taken `written` bytes of the slices.
    pub fn advance(&mut self, mut written: usize) {
        self.left -= written;
        while let Some(segment) = self.segments.front_mut() {
            let length = match segment {
                Segment::Inline(length) => *length,
                Segment::Shared(bytes) => bytes.len(),
            };
            let step = written.min(length);
            match segment {
                Segment::Inline(length) => {
                    *length -= step;
                    self.inline_done += step;
                }
                Segment::Shared(bytes) => bytes.advance(step),
            }
            written -= step;
            if step < length {
                break;
            }
            self.segments.pop_front();
        }
    }

    fn grew(&mut self, by: usize) {
        self.left += by;
        match self.segments.back_mut() {
            Some(Segment::Inline(length)) => *length += by,
            _ => self.segments.push_back(Segment::Inline(by)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_kernel_takes_the_bytes_leave_in_order(
            sizes in prop::collection::vec(prop_oneof![0_usize..50, COPY_MAX_BYTES - 2..COPY_MAX_BYTES + 50], 0..25),
            steps in prop::collection::vec(1_usize..40_000, 1..50)) {
            let mut outbox = Outbox::default();
            let mut expected = b"header".to_vec();
            outbox.header(|out| out.extend_from_slice(b"header"));
            for (i, size) in sizes.iter().enumerate() {
                let bytes = Bytes::from(vec![i as u8; *size]);
                expected.extend_from_slice(&bytes);
                outbox.batch(&bytes);
            }
            let mut seen = Vec::new();
            let mut steps = steps.iter().cycle();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = outbox.slices(&mut slices);
                let offered: Vec<u8> = slices[..used].iter().flat_map(|s| s.to_vec()).collect();
                prop_assert!(!offered.is_empty());
                let taken = offered.len().min(*steps.next().unwrap());
                seen.extend_from_slice(&offered[..taken]);
                outbox.advance(taken);
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
