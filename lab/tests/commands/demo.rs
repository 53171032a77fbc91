//! `weir-lab demo`.

use super::printed;

fn demo(options: &[&str]) -> String {
    printed(&[&["demo"], options].concat())
}

/// The numbers under the head of the decisions' table.
fn decisions(said: &str) -> Vec<String> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("decisions "));
    let head: Vec<&str> = lines.next().expect(said).split_whitespace().collect();
    assert_eq!(
        head[..4],
        ["decisions", "published", "delivered", "lost"],
        "{said}"
    );
    let row = lines.next().unwrap().split_whitespace();
    row.map(str::to_owned).collect()
}

#[test]
fn events_and_decisions_survive_the_trouble_and_the_judges_say_so() {
    let said = demo(&["--duration", "3s", "--gateways", "4", "--rate", "1000"]);
    for part in [
        "0 copies were sent again; 0 were refused by the agent",
        "the broker of decisions is stopped",
        "the gateway is subscribed again",
        "the oracle says: every accepted event was delivered to every group",
        "the judge of decisions says: every decision that was sent arrived, once and in order",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    let row = decisions(&said);
    let number = |column: usize| row[column].parse::<u64>().unwrap();
    assert!(number(1) > 20, "delivered: {said}");
    assert_eq!((number(2), number(3), number(4)), (0, 0, 0), "{said}");
    assert_eq!(number(0), number(1) + number(5), "delivered or missed: {said}");
    assert_eq!(row.last().unwrap(), "ms", "there was an outage: {said}");
}

#[test]
fn a_calm_demo_has_no_outage() {
    let said = demo(&["--calm", "--duration", "1s", "--gateways", "1", "--rate", "100"]);
    assert!(!said.contains("stopped"), "{said}");
    assert_eq!(decisions(&said).last().unwrap(), "-", "{said}");
}
