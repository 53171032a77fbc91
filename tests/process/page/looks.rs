//! What the page must show, and how fast, in every light and on a small screen.

use std::time::Duration;

use tokio::time::Instant;
use weir_lab::load::{TwinOptions, Version};
use weir_lab::sink::{Answer, Close};
use weir_lab::{Load, LoadOptions, Sink};

use super::browser::{Browser, turn};
use crate::support::peer::Peer;
use crate::support::{Bed, Plan, story};

/// From the death of a Traffic Manager to the words on the page.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// The least contrast of text that WCAG 2 asks for (level AA).
const CONTRAST_MIN: f64 = 4.5;

/// Every text of the page with less contrast than that, and how many there are, measured as painted: the
/// colour of the text against the nearest ground behind it.
const CONTRAST: &str = r#"(() => {
  const channel = (c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => { const [r, g, b] = parts(colour).map(channel); return .2126 * r + .7152 * g + .0722 * b; };
  const clear = (colour) => parts(colour)[3] === 0;
  const ground = (node) => { let n = node; while (n && clear(getComputedStyle(n).backgroundColor)) n = n.parentElement;
    return getComputedStyle(n ?? document.body).backgroundColor; };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = []; let seen = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    seen += 1;
    if (contrast < LEAST) poor.push(`${contrast.toFixed(2)}: ${text}`);
  }
  return { seen, poor, ground: light(getComputedStyle(document.body).backgroundColor) };
})()"#;

/// How far the page is wider than its window, in pixels, and what sticks out.
const TOO_WIDE: &str = r#"(() => {
  const width = document.documentElement.clientWidth;
  const out = [...document.body.querySelectorAll("*")].filter((n) => n.getBoundingClientRect().right > width + .5);
  return { by: document.documentElement.scrollWidth - width, out: out.map((n) => n.outerHTML.slice(0, 80)) };
})()"#;

/// Two groups of two Traffic Managers, and gateways that publish.
async fn bed() -> (Bed, Load) {
    let bed = Bed::start(Plan {
        groups: vec![("east", "loadbalance", 2), ("west", "failover", 2)],
        ..Plan::default()
    })
    .await;
    let load = Load::start(LoadOptions {
        connections: 3,
        events_per_frame: 10,
        rate: Some(2_000.0),
        ..bed.load()
    });
    (bed, load)
}

/// The address of the page.
pub(crate) fn address(bed: &Bed) -> String {
    format!("http://{}/", bed.weir.addresses().admin.unwrap())
}

/// An expression: whether the endpoint's entry holds all of these words.
pub(crate) fn endpoint_says(sink: &Sink, words: &[&str]) -> String {
    format!(
        "[...document.querySelectorAll('#groups li')].some((li) => li.innerText.includes('{}') && \
         {words:?}.every((word) => li.innerText.includes(word)))",
        sink.data_address()
    )
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn a_killed_traffic_manager_is_shown_within_two_seconds_with_the_reason() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let (bed, load) = bed().await;
        let killed = &bed.sinks[0][0];
        let mut page = Browser::open(&address(&bed), (1200, 1000)).await;
        for sink in bed.sinks.iter().flatten() {
            page.until("every endpoint is up", &endpoint_says(sink, &["● up"]))
                .await;
        }
        page.until("events flow", "rate('gateways') > 0").await;

        let begun = Instant::now();
        killed.kill(Close::Rst).await;
        page.until(
            "the endpoint is down, and why",
            &endpoint_says(killed, &["● down", "refused"]),
        )
        .await;
        let seen = begun.elapsed();
        println!("a killed Traffic Manager was seen after {} ms", seen.as_millis());
        assert!(seen <= SEEN_WITHIN, "after {seen:?}");
        let change = format!(
            "document.querySelector('#changes li').innerText.includes('{}')",
            killed.data_address()
        );
        page.until("the change is the newest of the list", &change).await;

        killed.revive().await;
        page.until("the endpoint is up again", &endpoint_says(killed, &["● up"]))
            .await;

        // Broken and mended between two looks, most likely; the list says so all the same.
        let cut = &bed.sinks[0][1];
        cut.cut(Close::Rst);
        let change = format!(
            "[...document.querySelectorAll('#changes li')].some((li) => li.innerText.includes('{}') && \
             li.innerText.includes('→ up'))",
            cut.data_address()
        );
        page.until("a short break is in the list", &change).await;
        assert_eq!(page.complaints, Vec::<String>::new(), "the browser complains");
        load.stop();
        let report = load.finish().await;
        bed.assert_clean(report.counts.events_acked).await;
    });
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn the_page_can_be_read_in_light_and_dark_and_on_a_small_screen() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let (bed, load) = bed().await;
        let mut page = Browser::open(&address(&bed), (1200, 1000)).await;
        bed.sinks[0][0].kill(Close::Rst).await;
        page.until(
            "an endpoint is down",
            &endpoint_says(&bed.sinks[0][0], &["● down"]),
        )
        .await;
        for (scheme, dark) in [("light", false), ("dark", true)] {
            page.prefer(scheme).await;
            let look = page
                .value(&CONTRAST.replace("LEAST", &CONTRAST_MIN.to_string()))
                .await;
            assert!(look["seen"].as_u64().unwrap() > 50, "{look:#}");
            assert_eq!(look["poor"], serde_json::json!([]), "{scheme}: hard to read");
            let ground = look["ground"].as_f64().unwrap();
            assert_eq!(ground < 0.2, dark, "{scheme}: the ground's lightness is {ground}");
        }
        for width in [400, 700, 1200] {
            page.resize(width, 900).await;
            let wide = page.value(TOO_WIDE).await;
            assert_eq!(wide["by"], 0, "{width} px: {wide:#}");
            assert_eq!(wide["out"], serde_json::json!([]), "{width} px: sticks out");
        }
        let labelled = "[...document.querySelectorAll('[role=img], [role=meter]')].every((n) => n.getAttribute('aria-label'))";
        assert_eq!(page.value(labelled).await, true, "a drawing without words");
        assert_eq!(page.complaints, Vec::<String>::new(), "the browser complains");
        load.stop();
        load.finish().await;
    });
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn a_weir_that_has_ended_is_reported_and_the_last_numbers_fade() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let bed = Bed::start(Plan::groups(&["east"])).await;
        let mut page = Browser::open(&address(&bed), (800, 800)).await;
        let up = endpoint_says(&bed.sinks[0][0], &["● up"]);
        page.until("the endpoint is up", &up).await;
        let _ = bed.weir.stop();
        let silent =
            "!document.getElementById('silence').hidden && document.body.classList.contains('stale')";
        page.until("weir is silent", silent).await;
        assert_eq!(page.value(&up).await, true, "what was last known stays");
    });
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn connected_addresses_are_on_the_page_during_a_drain() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let bed = Bed::start(Plan::groups(&["east"])).await;
        let mut idle = Vec::new();
        for n in 2..40 {
            idle.push(Peer::tcp_from(&bed, [127, 0, 0, n]).await);
        }
        let load = Load::start(LoadOptions {
            agent: Some(TwinOptions::new(Version::V5_4)),
            rate: Some(500.0),
            ..bed.load()
        });
        let mut page = Browser::open(&address(&bed), (800, 800)).await;
        page.until("events flow", "rate('gateways') > 0").await;
        let row = |address: &str, words: &str| {
            format!(
                "[...document.querySelectorAll('#gateways li')].some((li) => li.innerText.startsWith('{address}') && \
                 li.innerText.includes('{words}'))"
            )
        };
        assert_eq!(
            page.value("document.querySelector('#gateways li')").await,
            serde_json::Value::Null
        );
        let hour = Duration::from_secs(3600);
        bed.weir.lifecycle().drain(Instant::now(), Duration::ZERO, hour);
        page.until(
            "the agent came back",
            &row("127.0.0.1", "1 sent away, 1 publishing"),
        )
        .await;
        page.until(
            "who is idle",
            &row("127.0.0.2", "1 connected\\n0 sent away, 0 publishing, 1 idle"),
        )
        .await;
        page.until("how many more", &row("and 7 more addresses", ""))
            .await;
        assert_eq!(page.value(TOO_WIDE).await["by"], 0, "wider than its window");
        drop(idle);
        page.until(
            "they have gone",
            "document.querySelectorAll('#gateways li').length === 1",
        )
        .await;
        load.stop();
        load.finish().await;
        page.until(
            "nobody is left",
            &format!(
                "document.getElementById('gateways').innerText.includes('{}')",
                "no gateway is connected"
            ),
        )
        .await;
        bed.weir.lifecycle().ready();
        page.until(
            "ready again",
            "!document.getElementById('gateways').innerText.includes('no gateway')",
        )
        .await;
        assert_eq!(page.complaints, Vec::<String>::new(), "the browser complains");
    });
}

#[test]
#[ignore = "nightly: needs Chromium"]
fn a_hung_traffic_manager_is_amber_and_its_repeats_are_one_line() {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(why) => return println!("skipped: {why}"),
    };
    story(async {
        let bed = Bed::start(Plan {
            link: "reply_timeout = \"2s\"",
            ..Plan::groups(&["east"])
        })
        .await;
        let hung = &bed.sinks[0][0];
        let mut page = Browser::open(&address(&bed), (800, 800)).await;
        page.until("the endpoint is up", &endpoint_says(hung, &["● up"]))
            .await;
        hung.set(|b| b.answer(Answer::Stall));
        let load = Load::start(LoadOptions {
            rate: Some(100.0),
            ..bed.load()
        });
        page.until(
            "it does not answer",
            &endpoint_says(hung, &["● up, not answering for"]),
        )
        .await;
        let amber = "[...document.querySelectorAll('#groups li .busy')].some((n) => n.innerText.includes('not answering'))";
        page.until("in amber", amber).await;
        let undelivered = "[...document.querySelectorAll('#groups dl div')].some((n) => \
                           n.innerText.startsWith('oldest undelivered') && !n.innerText.includes('ms'))";
        page.until("the oldest event ages", undelivered).await;
        let repeated = "[...document.querySelectorAll('#changes li')].some((li) => \
                        /→ up ×\\d/.test(li.innerText) && li.innerText.includes('timeout: no reply for'))";
        page.until("a repeat is counted with its reason", repeated).await;
        let lines = "changes.map((c) => [c.what, c.from, c.state].join())";
        let different = format!("new Set({lines}).size === changes.length && changes.length <= CHANGES_MAX");
        assert_eq!(page.value(&different).await, true, "each change is there once");
        hung.set(|b| b.answer(Answer::Ok));
        let well = "![...document.querySelectorAll('#groups li')].some((n) => n.innerText.includes('not answering'))";
        page.until("it answers again", well).await;
        load.stop();
        load.finish().await;
        assert_eq!(page.complaints, Vec::<String>::new(), "the browser complains");
    });
}
