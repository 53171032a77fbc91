// Asks /status each second and draws the answer. Rates, sparklines and state changes are worked out here, from
// one answer to the next. Text from weir is only ever set as text, never as markup.
"use strict";

const MINUTE = 60;
const history = []; // {at, total: Map(name -> counter)}, oldest first, one a second
const states = new Map(); // what -> state as last seen
const changes = []; // newest first, each kind of change once
const CHANGES_MAX = 50;
let answeredAt = Date.now();
let lateAfter = Infinity; // ms without an answer after which an endpoint does not answer

const byId = (id) => document.getElementById(id);

function el(tag, kind, ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

// --- numbers for people

function count(n) {
  if (n < 10000) return String(Math.round(n));
  const units = ["k", "M", "G", "T"];
  let i = -1;
  do { n /= 1000; i += 1; } while (n >= 999.5 && i < units.length - 1);
  return n.toPrecision(3) + " " + units[i];
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return (i ? n.toFixed(1) : n) + " " + units[i];
}

function age(ms) {
  const s = ms / 1000;
  if (s < 1) return Math.round(ms) + " ms";
  if (s < 60) return s.toFixed(s < 10 ? 1 : 0) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function moment(ms) {
  const at = new Date(ms), today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

// --- a minute of counters

function remember(status) {
  const total = new Map([["gateways", status.ingress.events_ok_total]]);
  for (const g of status.groups) {
    total.set("in " + g.name, g.events.accepted);
    total.set("out " + g.name, g.events.delivered);
    for (const e of g.endpoints) total.set("to " + g.name + " " + e.name, e.delivered_events_total);
  }
  const before = history[history.length - 1];
  // A restart begins at zero: what came before says nothing about rates.
  if (before && total.get("gateways") < before.total.get("gateways")) history.length = 0;
  history.push({ at: performance.now(), total });
  while (history.length > MINUTE + 1) history.shift();
}

function rates(name) {
  const list = [];
  for (let i = 1; i < history.length; i += 1) {
    const [a, b] = [history[i - 1], history[i]];
    const from = a.total.get(name), to = b.total.get(name);
    const known = from !== undefined && to !== undefined && to >= from;
    list.push(known ? (to - from) * 1000 / Math.max(1, b.at - a.at) : 0);
  }
  return list;
}

const rate = (name) => rates(name).at(-1) ?? 0;

function spark(name, label) {
  const values = rates(name);
  const top = Math.max(1, ...values);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${MINUTE - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${label}, last minute, at most ${count(top)} a second`);
  const shift = MINUTE - values.length;
  const points = values.map((v, i) => `${i + shift},${(98 - 96 * v / top).toFixed(1)}`).join(" ");
  const shape = (name, points) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    node.setAttribute("points", points);
    svg.append(node);
  };
  if (values.length) shape("polygon", `${shift},100 ${points} ${MINUTE - 1},100`);
  shape("polyline", points);
  const text = el("div", "label", el("span", "", label), el("span", "", `peak ${count(top)}/s`));
  return el("div", "", text, svg);
}

// --- state changes

// `age` in ms: how long the state has lasted, where weir says so; then also what happened before the page was
// opened is known, and `connects` (a counter) tells of a connection that broke and was there again before the next look,
// `broke` why. A change that was there before counts up, with its last reason.
function note(what, state, kind, why, age, connects, broke) {
  const before = states.get(what);
  states.set(what, { state, connects });
  const again = before && state === "up" && connects > before.connects &&
    (before.state === state || before.state === LATE);
  if (before ? before.state === state && !again : age === undefined) return;
  const from = again ? "broken" : before ? before.state : null;
  const at = Date.now() - (age ?? 0), reason = again ? broke : why;
  const same = changes.find((c) => c.what === what && c.from === from && c.state === state);
  if (same) Object.assign(same, { at, kind, why: reason || same.why, times: same.times + 1 });
  else changes.push({ at, what, from, state, kind, why: reason, times: 1 });
  changes.sort((a, b) => b.at - a.at);
  changes.length = Math.min(changes.length, CHANGES_MAX);
}

const LATE = "not answering";

const phaseKind = { starting: "busy", ready: "good", draining: "busy", stopped: "bad" };
const linkKind = { up: "good", connecting: "busy", down: "bad", disabled: "off" };

function groupState(g) {
  const overflow = g.overflow === "open" ? [] : [g.overflow];
  if (!g.available) return [["unavailable", ...overflow].join(", "), "bad"];
  return { open: ["available", "good"], blocking: ["blocking", "busy"] }[g.overflow] ?? ["shedding", "bad"];
}

// An endpoint that is up and owes an answer for too long hangs, or is overloaded.
const isLate = (e) => e.state === "up" && e.oldest_inflight_ms >= lateAfter;
const endpointKind = (e) => isLate(e) ? "busy" : linkKind[e.state];

function noteAll(status) {
  note("weir", status.phase, phaseKind[status.phase], "");
  for (const g of status.groups) {
    const [state, kind] = groupState(g);
    note(g.name, state, kind, "");
    for (const e of g.endpoints) {
      const late = isLate(e);
      note(`${g.name} → ${e.name}`, late ? LATE : e.state, endpointKind(e), e.state === "up" ? "" : e.reason ?? "",
        late ? e.oldest_inflight_ms : e.since_ms, e.connects_total, e.last_failure ?? "");
    }
  }
  for (const b of status.decisions?.brokers ?? []) {
    if (b.up !== null) note(`return leg → ${b.name}`, b.up ? "up" : "down", b.up ? "good" : "bad", b.reason ?? "", b.since_ms ?? undefined);
  }
}

// --- drawing

function numbers(...pairs) {
  return el("dl", "numbers", ...pairs.map(([name, value, kind]) =>
    el("div", "", el("dt", "", name), el("dd", kind ?? "", value))));
}

function bar(label, part, whole, show) {
  const full = whole > 0 ? Math.min(1, part / whole) : 0;
  const fill = el("div", "");
  fill.style.width = (full * 100).toFixed(1) + "%";
  const trough = el("div", "bar" + (full > 0.9 ? " bad" : full > 0.5 ? " busy" : ""), fill);
  trough.setAttribute("role", "meter");
  trough.setAttribute("aria-label", label);
  trough.setAttribute("aria-valuenow", (full * 100).toFixed(0));
  const text = el("div", "label", el("span", "", label), el("span", "", `${show(part)} of ${show(whole)}`));
  return el("div", "", text, trough);
}

const failuresOf = (counts) => Object.entries(counts).filter(([, n]) => n > 0).map(([c, n]) => `${c} ${count(n)}`);

function drawEndpoint(g, e) {
  const failures = failuresOf(e.failures_total);
  const late = isLate(e) ? `, ${LATE} for ${age(e.oldest_inflight_ms)}` : "";
  const head = el("div", "head",
    el("span", endpointKind(e), `● ${e.state}${late}`), el("strong", "", e.name),
    el("span", "dim", `${late ? "up " : ""}for ${age(e.since_ms)}`),
    el("span", "rate", `${count(rate("to " + g.name + " " + e.name))}/s`));
  const item = el("li", "", head);
  if (e.reason && e.state !== "up") item.append(el("div", "why " + linkKind[e.state], e.reason));
  if (failures.length) item.append(el("div", "why dim", "failures: " + failures.join(", ")));
  if (e.inflight_frames) {
    item.append(el("div", "why dim", `${count(e.inflight_frames)} frames unanswered, the oldest for ${age(e.oldest_inflight_ms)}`));
  }
  return item;
}

function drawGroup(g) {
  const [state, kind] = groupState(g);
  const ev = g.events;
  const held = ev.queued + ev.inflight;
  const drops = Object.entries(ev.dropped).filter(([, n]) => n > 0);
  const dropped = drops.reduce((sum, [, n]) => sum + n, 0);
  const card = el("section", "card",
    el("div", "head", el("h2", "", g.name), el("span", "dim policy", g.policy), el("span", "chip " + kind, state)),
    numbers(["accepted", count(ev.accepted)], ["delivered", count(ev.delivered)],
      ["queued", count(ev.queued)], ["in flight", count(ev.inflight)],
      ["rejected", count(ev.rejected), ev.rejected ? "bad" : ""], ["dropped", count(dropped), dropped ? "bad" : ""],
      ["oldest undelivered", age(g.oldest_undelivered_ms), g.oldest_undelivered_ms >= lateAfter ? "busy" : ""], ["sent again", count(g.resent_events_total)]));
  if (drops.length) card.append(el("div", "why bad", "dropped: " + drops.map(([r, n]) => `${r} ${count(n)}`).join(", ")));
  card.append(
    bar("queue, bytes", g.held_bytes, g.held_bytes_max, bytes),
    bar("queue, events", held, g.held_events_max, count),
    spark("out " + g.name, `delivered ${count(rate("out " + g.name))}/s`),
    el("ul", "", ...g.endpoints.map((e) => drawEndpoint(g, e))));
  return card;
}

function drawBroker(b) {
  const [state, kind] = b.up === null ? ["not tried", "off"] : b.up ? ["up", "good"] : ["down", "bad"];
  const item = el("li", "", el("div", "head",
    el("span", kind, `● ${state}`), el("strong", "", b.name),
    b.since_ms === null ? null : el("span", "dim", `for ${age(b.since_ms)}`),
    el("span", "rate", `${count(b.connections)} gateway connections`)));
  if (b.reason && !b.up) item.append(el("div", "why " + kind, b.reason));
  const failures = failuresOf(b.failures_total);
  if (failures.length) item.append(el("div", "why dim", "failures: " + failures.join(", ")));
  return item;
}

function drawDecisions(d) {
  const now = d.client.connections;
  const held = d.held_ms_max ? `, the first for ${age(d.held_ms_max)}` : "";
  const parts = [el("h2", "", "Return leg"),
    numbers(["gateway connections open", count(now.open)], ["held", count(now.held) + held, now.held ? "bad" : ""],
      ["decisions delivered", count(d.deliveries_total)], ["holds", count(d.holds_total)], ["failbacks", count(d.failbacks_total)])];
  if (d.refusing) parts.push(el("div", "why bad", "gateways are refused until a broker answers"));
  for (const l of d.leaving ?? []) {
    parts.push(el("div", "why busy", `${count(l.sessions)} to leave ${l.from}${l.to ? ` for ${l.to}` : ""} (${l.reason}), asked ${age(l.waiting_ms_max)} ago`));
  }
  parts.push(el("ul", "", ...d.brokers.map(drawBroker)));
  return parts;
}

// Who is still connected while weir drains.
function drawGateways(gateways) {
  const item = (g) => el("li", "", el("div", "head", el("strong", "", g.address),
    el("span", "", `${count(g.connections)} connected`),
    el("span", "rate", `${count(g.sent_away)} sent away, ${count(g.publishing)} publishing, ${count(g.idle)} idle`)));
  const list = el("ul", "", ...gateways.list.map(item));
  if (gateways.more) list.append(el("li", "dim", `and ${count(gateways.more)} more addresses with fewer connections`));
  return gateways.list.length ? list : el("div", "dim", "no gateway is connected");
}

function drawNotices(status) {
  const notices = [];
  const reload = status.last_reload;
  if (reload && !reload.successful) {
    notices.push(el("p", "notice bad", `Reload refused at ${reload.at}, the old configuration is in force: ${reload.problems.join("; ")}`));
  }
  for (const w of status.warnings) notices.push(el("p", "notice busy", w));
  return notices;
}

function draw(status) {
  const phase = byId("phase");
  phase.textContent = status.phase;
  phase.className = "chip " + phaseKind[status.phase];
  const left = status.drain_remaining_seconds;
  byId("about").textContent = `${status.version}, up ${age(status.uptime_seconds * 1000)}, configuration of ${status.config_loaded_at}` +
    (left === null ? "" : `, draining: ${status.drain_stage}, ${age(left * 1000)} left`);
  byId("notices").replaceChildren(...drawNotices(status));
  const i = status.ingress;
  byId("gateways").replaceChildren(el("h2", "", "Gateways"),
    numbers(["connections, TCP", count(i.connections_tcp)], ["connections, TLS", count(i.connections_tls)],
      ["waiting for capacity", count(i.blocked_now), i.blocked_now ? "busy" : ""], ["events taken", count(i.events_ok_total)],
      ["logins failed", count(i.logins_failed_total), i.logins_failed_total ? "bad" : ""],
      ["publishes refused", count(i.publishes_refused_total), i.publishes_refused_total ? "bad" : ""]),
    spark("gateways", `taken ${count(rate("gateways"))}/s`), ...(left === null ? [] : [drawGateways(status.gateways)]));
  byId("groups").replaceChildren(...status.groups.map(drawGroup));
  byId("decisions").hidden = !status.decisions;
  byId("decisions").replaceChildren(...(status.decisions ? drawDecisions(status.decisions) : []));
  byId("changes").replaceChildren(...changes.map((c) => el("li", "",
    el("time", "dim", moment(c.at)), el("strong", "", c.what),
    el("span", c.kind, (c.from ? `${c.from} → ${c.state}` : c.state) + (c.times > 1 ? ` ×${c.times}` : "")), c.why ? el("span", "why dim", c.why) : null)));
}

async function look() {
  try {
    const answer = await fetch("status", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
    const status = await answer.json();
    answeredAt = Date.now();
    lateAfter = status.config.late_after_ms;
    remember(status);
    noteAll(status);
    byId("silence").hidden = true;
    document.body.classList.remove("stale");
    // Drawing anew would take away what somebody is about to copy.
    if (getSelection().isCollapsed) draw(status);
  } catch (error) {
    byId("silence").textContent = `No answer for ${age(Date.now() - answeredAt)}: ${error.message}`;
    byId("silence").hidden = false;
    document.body.classList.add("stale");
  }
  setTimeout(look, 1000);
}

look();
