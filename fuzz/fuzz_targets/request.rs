//! A connection's bytes: whatever is decoded is what lies there, and however it is cut the frames are the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::wire::{Decoded, Decoder, FrameError, Request, events};

const DECODER: Decoder = Decoder {
    frame_max_bytes: 2048,
    event_max_bytes: 512,
};

fn frames(bytes: &[u8], cut: usize) -> (usize, usize, Option<FrameError>) {
    let (mut at, mut seen, mut count) = (0, cut.min(bytes.len()), 0);
    loop {
        match DECODER.decode(&bytes[at..seen]) {
            Ok(Decoded::Frame { request, length }) => {
                assert!(length <= seen - at);
                if let Ok(Request::Publish { events, .. }) = request {
                    let each: Vec<_> = events::iterate(events.bytes()).collect();
                    assert_eq!(each.len(), events.count());
                    assert!(each.iter().all(|e| e.bytes().len() <= DECODER.event_max_bytes));
                    let held: usize = each.iter().map(|e| e.bytes().len() + 4).sum();
                    assert_eq!(held, events.bytes().len());
                    let (run, rest) = events.split(cut.max(1));
                    let front = run.events;
                    assert_eq!(front.count() + rest.count(), events.count());
                    assert_eq!([front.bytes(), rest.bytes()].concat(), events.bytes());
                    for event in each {
                        let _ = (event.timestamp_ms(), event.stream_id());
                    }
                }
                at += length;
                count += 1;
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > seen - at && needed <= DECODER.frame_max_bytes + 5);
                if seen == bytes.len() {
                    return (count, at, None);
                }
                seen = bytes.len();
            }
            Err(error) => return (count, at, Some(error)),
        }
    }
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = input;
    assert_eq!(frames(&bytes, usize::from(cut)), frames(&bytes, bytes.len()));
});
