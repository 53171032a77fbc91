//! Certificates that were shown: whose they are, how long they last, and the lines that make weir accept them.

use serde::Serialize;

use crate::config::Verify;
use crate::net::{CertificateInfo, hex};

/// From so many days before its end on, a certificate is worth a note.
pub(super) const DAYS_LEFT_NOTE: i64 = 30;

/// A certificate and who showed it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// URL.
    pub(super) by: String,
    /// Whether weir accepts it as configured.
    pub(super) accepted: bool,
    pub(super) info: CertificateInfo,
}

impl Shown {
    /// What is worth knowing about one that is accepted. `now` in Unix seconds.
    pub(super) fn note(&self, now: i64) -> Option<String> {
        let days = days_left(&self.info, now);
        let until = self.info.last_day();
        match days {
            _ if !self.accepted => None,
            ..0 => Some(format!(
                "{}: its certificate expired on {until}; weir accepts it because it is pinned",
                self.by
            )),
            0..=DAYS_LEFT_NOTE => Some(format!(
                "{}: its certificate expires on {until}, in {days} days: renew it",
                self.by
            )),
            _ => {
                let early = self.info.not_yet_valid(now)?;
                Some(format!(
                    "{}: its certificate is {early}; weir accepts it because it is pinned",
                    self.by
                ))
            }
        }
    }
}

/// A certificate in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// URLs of those who showed it; `weir` for weir's own.
    pub shown_by: Vec<String>,
    /// Whether weir accepts it as configured, from all of them.
    pub accepted: bool,
    /// Distinguished name of the owner.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// Subject alternative names.
    pub names: Vec<String>,
    /// First day of validity.
    pub valid_from: String,
    /// Last day of validity.
    pub valid_until: String,
    /// Whole days to its end; negative after it.
    pub days_left: i64,
    /// `not valid before …`, while it is not valid yet.
    pub not_yet_valid: Option<String>,
    /// Such as `RSA 2048`.
    pub key: String,
    /// What a pin holds, in hex.
    pub sha256: String,
}

/// Each certificate once, in the order they were shown.
pub(super) fn list(shown: &[Shown], now: i64) -> Vec<Certificate> {
    let mut list: Vec<Certificate> = Vec::new();
    for Shown { by, accepted, info } in shown {
        let sha256 = hex(&info.sha256);
        match list.iter_mut().find(|known| known.sha256 == sha256) {
            Some(known) => {
                known.accepted &= accepted;
                if !known.shown_by.contains(by) {
                    known.shown_by.push(by.clone());
                }
            }
            None => list.push(Certificate {
                shown_by: vec![by.clone()],
                accepted: *accepted,
                subject: info.subject.clone(),
                issuer: info.issuer.clone(),
                names: info.sans.clone(),
                valid_from: info.first_day(),
                valid_until: info.last_day(),
                not_yet_valid: info.not_yet_valid(now),
                days_left: days_left(info, now),
                key: info.key.clone(),
                sha256,
            }),
        }
    }
    list
}

/// Whole days to its end, rounded down.
pub(super) fn days_left(info: &CertificateInfo, now: i64) -> i64 {
    info.not_after.saturating_sub(now).div_euclid(86_400)
}

/// The lines that pin what was shown, when something of it was refused. A pin counts for all servers, so those
/// that are accepted already are named too, and pins that are configured stay. What no pin can mend is left out.
pub(super) fn paste(verify: &Verify, shown: &[Shown]) -> Vec<String> {
    let pinnable = |shown: &&Shown| shown.info.weakness().is_none();
    if !shown.iter().filter(pinnable).any(|shown| !shown.accepted) {
        return Vec::new();
    }
    let mut pins: Vec<String> = match verify {
        Verify::Pin(pins) => pins.iter().map(|pin| hex(pin)).collect(),
        Verify::Full | Verify::Chain => Vec::new(),
    };
    let mut comments = vec![String::new(); pins.len()];
    for shown in shown.iter().filter(pinnable) {
        let pin = shown.info.pin();
        match pins.iter().position(|known| *known == pin) {
            None => {
                pins.push(pin);
                comments.push(shown.by.clone());
            }
            Some(i) => {
                if let Some(comment) = comments.get_mut(i)
                    && !comment.split(' ').any(|by| by == shown.by)
                {
                    *comment = format!("{comment} {}", shown.by).trim_start().to_owned();
                }
            }
        }
    }
    let mut lines = vec!["[tls]".into(), "verify = \"pin\"".into(), "pins = [".into()];
    for (pin, comment) in pins.iter().zip(comments) {
        let line = format!("  \"{pin}\", # {comment}");
        lines.push(line.trim_end_matches(" # ").to_owned());
    }
    lines.push("]".into());
    lines
}
