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
    one.enter(Stage::Open, t + S * 4);
    one.placed("tcp://b:1".into());
    one.pause(Side::Broker, true, t + S * 5);
    let status = ledger.status(t + S * 7);
    assert_eq!(status.hold_nanos_total, 4_000_000_000);
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
fn a_session_is_asked_to_leave_once() {
    let ledger = Ledger::new(std::iter::empty());
    let (ticket, wishes) = ledger.open(Instant::now());
    ticket.placed("tcp://b:1".into());
    let (id, name) = ledger.placements().remove(0);
    assert_eq!(name, "tcp://b:1");
    let wish = Leave::Quietly { at_latest: None };
    assert!(ledger.ask_to_leave(id, wish));
    assert!(!ledger.ask_to_leave(id, wish));
    assert_eq!(*wishes.borrow(), wish);
    drop(ticket);
    assert!(!ledger.ask_to_leave(id, wish), "gone");
}

#[test]
fn a_new_configuration_keeps_the_counters_of_brokers_that_stay() {
    let ledger = Ledger::new(["a".to_owned(), "b".to_owned()].into_iter());
    ledger.note(|s| s.broker_mut("b").connects_total = 7);
    ledger.name_brokers(["c".to_owned(), "b".to_owned()].into_iter());
    let status = ledger.status(Instant::now());
    let seen: Vec<_> = status
        .brokers
        .iter()
        .map(|b| (b.name.as_str(), b.connects_total))
        .collect();
    assert_eq!(seen, [("c", 0), ("b", 7)]);
}
