//! Bugs planted between weir and those who judge it, each as it would look from outside: the simulation must
//! find every one. Weir itself is not touched: a mutant rewrites the frames weir sends to the endpoints of one
//! group, or what weir says of itself.

use std::collections::BTreeMap;

use weir::status::Snapshot;
use weir::wire::decoder::{Decoded, Decoder, FRAME_MAX_BYTES_LIMIT};
use weir::wire::request::{PUBLISH, Request, encode_publish_header};
use weir_lab::sim::Interceptor;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The first frame of a connection that is not an endpoint's first is taken for delivered and lost.
    LoseOnReconnect,
    /// The last frame that was answered ok goes out again on the next connection.
    ResendAcknowledged,
    /// One event of a frame never reaches this group.
    SplitBatch,
    /// Two events of a frame change places.
    OutOfOrder,
    /// One byte of an event is another.
    Corrupt,
    /// What is shed is not counted, neither as accepted nor as dropped.
    ShedSilently,
    /// What is shed is counted as delivered.
    ShedAsDelivered,
    /// Frames are taken apart and put together as they were: nothing may be found.
    Nothing,
}

impl Mutation {
    pub const ALL: [Mutation; 7] = [
        Mutation::LoseOnReconnect,
        Mutation::ResendAcknowledged,
        Mutation::SplitBatch,
        Mutation::OutOfOrder,
        Mutation::Corrupt,
        Mutation::ShedSilently,
        Mutation::ShedAsDelivered,
    ];

    /// Rewrites the last look at weir; whether there was anything to rewrite.
    pub fn tampers(self, snapshot: &mut Snapshot) -> bool {
        let mut any = false;
        for group in &mut snapshot.groups {
            let e = &mut group.events;
            let shed = match self {
                Mutation::ShedSilently | Mutation::ShedAsDelivered => {
                    std::mem::take(&mut e.dropped.queue_full)
                }
                _ => return false,
            };
            match self {
                Mutation::ShedSilently => e.accepted -= shed,
                _ => e.delivered += shed,
            }
            any |= shed > 0;
        }
        any
    }
}

/// In the way of every connection to the endpoints of the first group.
pub struct Mutant {
    mutation: Mutation,
    links: BTreeMap<u64, Link>,
    /// Connections per host so far that carried events, and the events answered last.
    hosts: BTreeMap<String, (u64, Option<Events>)>,
    frames: u64,
}

#[derive(Default)]
struct Link {
    host: String,
    partial: Vec<u8>,
    /// Frames of events that are unanswered, oldest first; `None` = a heartbeat or a login.
    unanswered: std::collections::VecDeque<Option<Events>>,
    fresh: bool,
    /// Not one byte of an error reply is told from another: after it nothing is an ok.
    spoilt: bool,
}

#[derive(Clone)]
struct Events {
    count: usize,
    bytes: Vec<u8>,
}

const DECODER: Decoder = Decoder {
    frame_max_bytes: FRAME_MAX_BYTES_LIMIT,
    event_max_bytes: FRAME_MAX_BYTES_LIMIT,
};

/// A mutation that would strike every frame strikes every so many.
const EVERY: u64 = 5;

impl Mutant {
    /// Of a mutation that shows on the wire.
    pub fn on_the_wire(mutation: Mutation) -> Option<Self> {
        let silent = matches!(mutation, Mutation::ShedSilently | Mutation::ShedAsDelivered);
        (!silent).then(|| Self {
            mutation,
            links: BTreeMap::new(),
            hosts: BTreeMap::new(),
            frames: 0,
        })
    }

    fn rewrite(&mut self, link: &mut Link, events: Events) -> Events {
        let (connections, answered) = self.hosts.entry(link.host.clone()).or_default();
        let first = std::mem::replace(&mut link.fresh, false);
        *connections += u64::from(first);
        let again = first && *connections > 1;
        self.frames += 1;
        let due = self.frames.is_multiple_of(EVERY);
        match self.mutation {
            Mutation::LoseOnReconnect if again => Events {
                count: 0,
                bytes: Vec::new(),
            },
            Mutation::ResendAcknowledged if again && let Some(old) = answered.take() => Events {
                count: old.count + events.count,
                bytes: [old.bytes, events.bytes].concat(),
            },
            Mutation::SplitBatch if due => {
                let mut each = split(&events);
                each.pop();
                join(&each)
            }
            Mutation::OutOfOrder if due => {
                let mut each = split(&events);
                each.reverse();
                join(&each)
            }
            Mutation::Corrupt if due => {
                let mut events = events;
                if let Some(last) = events.bytes.last_mut() {
                    *last ^= 1;
                }
                events
            }
            _ => events,
        }
    }
}

impl Interceptor for Mutant {
    fn connected(&mut self, connection: u64, host: &str) {
        if host.starts_with("tm0") {
            let link = Link {
                host: host.to_owned(),
                fresh: true,
                ..Link::default()
            };
            self.links.insert(connection, link);
        }
    }

    fn wants(&self, connection: u64) -> bool {
        self.links.contains_key(&connection)
    }

    fn bytes(&mut self, connection: u64, side: usize, bytes: &[u8]) -> Vec<u8> {
        let Some(mut link) = self.links.remove(&connection) else {
            return bytes.to_vec();
        };
        let mut out = Vec::new();
        if side == 1 {
            link.spoilt |= bytes.iter().any(|b| *b != 0);
            for _ in bytes.iter().filter(|_| !link.spoilt) {
                if let Some(Some(events)) = link.unanswered.pop_front() {
                    self.hosts.entry(link.host.clone()).or_default().1 = Some(events);
                }
            }
            out.extend_from_slice(bytes);
        } else {
            link.partial.extend_from_slice(bytes);
            let partial = std::mem::take(&mut link.partial);
            let mut rest = partial.as_slice();
            while let Ok(Decoded::Frame { request, length }) = DECODER.decode(rest) {
                let (frame, after) = rest.split_at(length);
                rest = after;
                match request {
                    Ok(Request::Publish { session, events }) if frame[0] == PUBLISH && events.count() > 0 => {
                        let events = Events {
                            count: events.count(),
                            bytes: events.bytes().to_vec(),
                        };
                        let new = self.rewrite(&mut link, events.clone());
                        encode_publish_header(&mut out, session, new.count, new.bytes.len());
                        out.extend_from_slice(&new.bytes);
                        link.unanswered.push_back(Some(events));
                    }
                    _ => {
                        out.extend_from_slice(frame);
                        link.unanswered.push_back(None);
                    }
                }
            }
            link.partial = rest.to_vec();
        }
        self.links.insert(connection, link);
        out
    }

    fn ended(&mut self, connection: u64) {
        self.links.remove(&connection);
    }
}

fn split(events: &Events) -> Vec<Vec<u8>> {
    weir::wire::events::iterate(&events.bytes)
        .map(|e| {
            let length = i32::try_from(e.bytes().len()).unwrap();
            [&length.to_be_bytes()[..], e.bytes()].concat()
        })
        .collect()
}

fn join(each: &[Vec<u8>]) -> Events {
    Events {
        count: each.len(),
        bytes: each.concat(),
    }
}
