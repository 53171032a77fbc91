//! Gauges, counters, wishes.

use super::*;

const S: Duration = Duration::from_secs(1);

#[test]
fn gauges_are_the_sessions_that_live_and_counters_outlive_them() {
    let ledger = Ledger::new(["tcp://a:1".to_owned(), "tcp://b:1".to_owned()].into_iter());
    let t = Instant::now();
    let (one, _wishes) = ledger.open(t);
    let (two, _wishes) = ledger.open(t);
    assert_eq!(*ledger.watch_open().borrow(), 2);
    one.enter(Stage::Held, t);
    let status = ledger.status(t + S * 3);
    assert_eq!(
        (status.client.connections, status.broker.connections),
        ([1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0])
    );
    assert_eq!(status.hold_nanos_total, 3_000_000_000, "a hold under way counts");
    assert_eq!(status.held_ms_max, Some(3000));
    one.enter(Stage::Open, t + S * 4);
    one.placed("tcp://b:1".into());
    one.pause(Side::Broker, true, t + S * 5);
    let status = ledger.status(t + S * 7);
    assert_eq!(
        (status.hold_nanos_total, status.held_ms_max),
        (4_000_000_000, None)
    );
    assert_eq!(status.broker.paused_nanos_total, 2_000_000_000);
    assert_eq!(status.brokers[1].connections, 1);
    one.read(Side::Client, t + S * 6);
    let status = ledger.status(t + S * 7);
    assert_eq!(
        (status.client.silent_ms_max, status.broker.silent_ms_max),
        (1000, 3000)
    );
    one.pause(Side::Broker, false, t + S * 8);
    drop((one, two));
    let status = ledger.status(t + S * 9);
    assert_eq!(status.client.connections, [0; 6]);
    assert_eq!(
        (status.accepted_total, status.broker.paused_nanos_total),
        (2, 3_000_000_000)
    );
    assert_eq!(*ledger.watch_open().borrow(), 0);
}

#[test]
fn a_session_is_asked_to_leave_once_for_each_reason_and_the_status_shows_it() {
    let ledger = Ledger::new(std::iter::empty());
    let t = Instant::now();
    let (ticket, wishes) = ledger.open(t);
    ticket.placed("tcp://b:1".into());
    assert_eq!(ledger.relaying(), [], "not open yet");
    ticket.enter(Stage::Open, t);
    let (id, name) = ledger.relaying().remove(0);
    assert_eq!(name, "tcp://b:1");
    let back = Leave::Failback {
        at_latest: t + S * 10,
        proven_until: t + S,
    };
    let removed = Leave::Removed {
        at_latest: t + S * 30,
    };
    let shown = |now: Instant| {
        let status = ledger.status(now);
        let shown = status.leaving.first().cloned().unwrap_or_default();
        assert_eq!(status.leaving_for(shown.reason), shown.sessions);
        (shown.reason, shown.to, shown.sessions, shown.waiting_ms_max)
    };
    assert!(ledger.ask_to_leave(id, back, Some("tcp://a:1"), t));
    assert!(!ledger.ask_to_leave(id, back, Some("tcp://a:1"), t + S));
    assert!(ledger.is_wanted_back("tcp://a:1") && !ledger.is_wanted_back("tcp://b:1"));
    assert_eq!(*wishes.borrow(), back);
    assert_eq!(shown(t + S * 3), ("failback", Some("tcp://a:1".into()), 1, 3000));
    // Withdrawn, and asked again.
    assert_eq!(ledger.review_failbacks(|_| None), 1);
    assert_eq!((*wishes.borrow(), shown(t).2), (Leave::No, 0));
    assert!(ledger.ask_to_leave(id, back, Some("tcp://a:1"), t));
    // The stronger reason.
    assert!(ledger.ask_to_leave(id, removed, None, t + S * 3));
    assert!(
        !ledger.ask_to_leave(id, removed, None, t + S * 9),
        "and its time stays"
    );
    assert_eq!(*wishes.borrow(), removed);
    assert_eq!(shown(t + S * 5), ("removed", None, 1, 2000));
    ledger.keep(id);
    assert_eq!(
        (*wishes.borrow(), shown(t).2),
        (Leave::No, 0),
        "its broker is back"
    );
    drop(ticket);
    assert!(!ledger.ask_to_leave(id, removed, None, t), "gone");
}

#[test]
fn a_new_configuration_keeps_the_counters_of_brokers_that_stay() {
    let ledger = Ledger::new(["a".to_owned(), "b".to_owned()].into_iter());
    ledger.note(|s| s.broker_mut("b").unwrap().connects_total = 7);
    ledger.name_brokers(["c".to_owned(), "b".to_owned()].into_iter());
    let status = ledger.status(Instant::now());
    let seen: Vec<_> = status
        .brokers
        .iter()
        .map(|b| (b.name.as_str(), b.connects_total))
        .collect();
    assert_eq!(seen, [("c", 0), ("b", 7)]);
    assert!(ledger.note(|s| s.broker_mut("a").is_none()), "removed");
}
