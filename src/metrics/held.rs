//! Metrics that are held: histograms, recorded by links through handles.
//!
//! Histograms of links that are not in the snapshot are left out when the text is rendered; should such an
//! endpoint come back, its counts go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Histogram;

use super::histogram::Buckets;
use super::render;
use super::table::{ENDPOINT_DELIVERY_SECONDS, ENDPOINT_FRAME_EVENTS, ENDPOINT_REPLY_SECONDS, Read, TABLE};
use crate::status::Snapshot;

/// What a link observes, once per upstream frame or batch (never per event).
#[derive(Debug, Clone)]
pub struct LinkObservers {
    /// From a publish frame's write to its reply, in seconds.
    pub reply_seconds: Histogram,
    /// From the acceptance of a batch's first event to its delivery, in seconds.
    pub delivery_seconds: Histogram,
    /// Events in a publish frame.
    pub frame_events: Histogram,
}

impl LinkObservers {
    /// Nobody looks: what is recorded is forgotten at once.
    #[must_use]
    pub fn none() -> Self {
        Self {
            reply_seconds: Histogram::noop(),
            delivery_seconds: Histogram::noop(),
            frame_events: Histogram::noop(),
        }
    }
}

/// One link's histograms.
struct OfLink {
    reply_seconds: Arc<Buckets>,
    delivery_seconds: Arc<Buckets>,
    frame_events: Arc<Buckets>,
}

impl OfLink {
    fn new() -> Self {
        let of = |name| {
            let bounds = TABLE.iter().find(|row| row.name == name).map(|row| &row.read);
            match bounds {
                Some(Read::Observed(bounds)) => Buckets::new(bounds),
                _ => Buckets::new(&[]),
            }
        };
        Self {
            reply_seconds: of(ENDPOINT_REPLY_SECONDS),
            delivery_seconds: of(ENDPOINT_DELIVERY_SECONDS),
            frame_events: of(ENDPOINT_FRAME_EVENTS),
        }
    }

    fn named(&self, metric: &str) -> Option<&Buckets> {
        match metric {
            ENDPOINT_REPLY_SECONDS => Some(&self.reply_seconds),
            ENDPOINT_DELIVERY_SECONDS => Some(&self.delivery_seconds),
            ENDPOINT_FRAME_EVENTS => Some(&self.frame_events),
            _ => None,
        }
    }
}

/// The histograms of links by the names of group and endpoint.
pub(super) struct Held {
    links: Mutex<HashMap<(String, String), OfLink>>,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            links: Mutex::default(),
        }
    }

    pub(super) fn link(&self, group: &str, endpoint: &str) -> LinkObservers {
        let mut links = self.links();
        let link = links
            .entry((group.to_owned(), endpoint.to_owned()))
            .or_insert_with(OfLink::new);
        LinkObservers {
            reply_seconds: link.reply_seconds.handle(),
            delivery_seconds: link.delivery_seconds.handle(),
            frame_events: link.frame_events.handle(),
        }
    }

    /// Appends the histograms of the links that are in `snapshot`.
    pub(super) fn render(&self, text: &mut String, snapshot: &Snapshot) {
        let links = self.links();
        for row in TABLE.iter().filter(|row| matches!(row.read, Read::Observed(_))) {
            render::heading(text, row.name, row.help, row.kind);
            for group in &snapshot.groups {
                for endpoint in &group.endpoints {
                    let labels = [("group", group.name.as_str()), ("endpoint", &endpoint.name)];
                    let link = links.get(&(group.name.clone(), endpoint.name.clone()));
                    if let Some(buckets) = link.and_then(|link| link.named(row.name)) {
                        render::histogram(text, row.name, &labels, buckets);
                    }
                }
            }
        }
    }

    fn links(&self) -> MutexGuard<'_, HashMap<(String, String), OfLink>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
