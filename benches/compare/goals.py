"""PURE: the goals of docs/PERFORMANCE.md, each judged by the median of its ratio within rotations."""

from dataclasses import dataclass
from typing import Optional

from sums import Spread

MIB = 1024 * 1024
CPU, RATE, P50, P99 = "cpu_ns_per_event", "events_per_second", "reply_p50_us", "reply_p99_us"
# Why a row is empty whose cell was not asked for.
ELSEWHERE = "not part of this run"
HAPROXY, DIRECT, WEIR2 = "haproxy", "direct", "weir 2 groups"


@dataclass
class Row:
    """One line of the table of goals."""

    goal: str
    what: str
    limit: str
    value: Optional[float]
    low: Optional[float]
    high: Optional[float]
    rounds: int
    unit: str
    # pass, miss or not measured
    verdict: str
    why: str = ""

    def json(self):
        return dict(self.__dict__)


class Judge:
    def __init__(self, results, reasons=None):
        self.results = results
        # Why a cell has no result, by (cell, contender).
        self.reasons = reasons or {}
        self.rows = []

    def add(self, goal, what, spread, most=None, least=None, unit="x", why=""):
        limit = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
        limit += "" if unit == "x" else f" {unit}"
        if not spread:
            self.rows.append(Row(goal, what, limit, None, None, None, 0, unit, "not measured", why))
            return
        value = spread.median
        good = value <= most if most is not None else value >= least
        self.rows.append(Row(goal, what, limit, value, spread.low, spread.high, len(spread.values), unit,
                             "pass" if good else "miss"))

    def ratio(self, goal, what, cell, field, one, other, **limit):
        why = self.reason(cell, one, other)
        self.add(goal, what, self.results.ratio(cell, field, one, other), why=why, **limit)

    def difference(self, goal, what, cell, field, one, other, unit, **limit):
        why = self.reason(cell, one, other)
        self.add(goal, what, self.results.difference(cell, field, one, other), unit=unit, why=why, **limit)

    def value(self, goal, what, cell, contender, field, unit, **limit):
        why = self.reason(cell, contender)
        self.add(goal, what, self.results.spread(cell, contender, field), unit=unit, why=why, **limit)

    def reason(self, cell, *contenders):
        found = [self.reasons[(cell, c)] for c in contenders if (cell, c) in self.reasons]
        return "; ".join(dict.fromkeys(found)) or ELSEWHERE


def judge(results, reasons=None, queue_mib=64):
    """All rows, in the order of the goals."""
    j = Judge(results, reasons)
    for connections, most in ((8, 0.55), (64, 0.58), (256, 0.45), (1000, 0.40)):
        j.ratio("1", f"CPU an event over HAProxy's, E=1 C={connections} W=1", f"c{connections}", CPU, WEIR2, HAPROXY, most=most)
    j.ratio("2", "CPU of the second group, E=1 C=64", "c64", CPU, WEIR2, "weir 1 group", most=1.12)
    j.ratio("2", "CPU of the third group", "c64", CPU, "weir 3 groups", WEIR2, most=1.12)
    j.ratio("3", "CPU over HAProxy's, E=10 C=64 W=1", "e10", CPU, WEIR2, HAPROXY, most=0.65)
    j.ratio("4", "CPU over HAProxy's, E=1 C=64 W=32", "w32", CPU, WEIR2, HAPROXY, most=0.80)
    j.ratio("5", "CPU over HAProxy's, E=200 C=8 W=1", "bulk", CPU, WEIR2, HAPROXY, most=1.0)
    j.ratio("5", "CPU over the kernel's floor", "bulk", CPU, WEIR2, "kernel floor", most=1.25)
    for rate, cpu in ((5000, 0.75), (20000, 0.88)):
        j.ratio("6", f"CPU over HAProxy's at {rate} events/s", f"rate{rate}", CPU, WEIR2, HAPROXY, most=cpu)
    for rate in (5000, 20000):
        cell = f"rate{rate}"
        j.difference("7", f"answer p50 over direct at {rate} events/s", cell, P50, WEIR2, DIRECT, "µs", most=20)
        j.difference("7*", "the same, the sink of direct on the core of the process in the middle", cell, P50, WEIR2, "direct apart",
                     "µs", most=20)
        j.ratio("7", f"answer p99 over HAProxy's at {rate} events/s", cell, P99, WEIR2, HAPROXY, most=1.0)
    for rate in (5000, 20000):
        cell, field = f"rate{rate}", "delivery_p50_us"
        j.ratio("8", f"delivery p50 over HAProxy's at {rate} events/s, linger 0", cell, field, "weir linger 0", HAPROXY, most=1.1)
        j.ratio("8*", "the same with one group, as HAProxy has", cell, field, "weir 1 group linger 0", HAPROXY, most=1.1)
        j.value("8b", f"delivery p99 at {rate} events/s, default linger", cell, WEIR2, "delivery_p99_us", "µs", most=15000)
    j.ratio("8b", "delivery p50 on an idle link, default linger over linger 0", "quiet", "delivery_p50_us", WEIR2, "weir linger 0", most=1.1)
    j.ratio("9", "throughput over HAProxy's, E=1 C=64 W=1", "c64", RATE, WEIR2, HAPROXY, least=2)
    j.ratio("9", "throughput over direct, each with its core", "own", RATE, WEIR2, DIRECT, least=0.9)
    j.value("10", "system calls a single-event frame, C=64", "trace", WEIR2, "syscalls_per_frame", "calls", most=2.2)
    j.value("10", "of them setsockopt, those of connecting included", "trace", WEIR2, "setsockopt_per_frame", "calls", most=0.05)
    j.value("10", "setsockopt a frame of WSO2's agent, 20000 events/s", "agenttrace", WEIR2, "setsockopt_per_frame", "calls", most=2)
    j.value("11", "events an upstream frame, C=64, saturated", "c64", WEIR2, "events_per_frame", "events", least=60)
    for name, what in (("weir idle silent", "silent"), ("weir idle used", "after a frame each")):
        j.value("12", f"memory of an idle connection, {what}", "idle", name, "idle_rss_bytes_each", "bytes", most=1536)
        j.value("12", f"CPU with idle connections only, {what}", "idle", name, "idle_cpu_ms_per_second", "ms/s", most=0.1)
        j.ratio("12", f"throughput of 64 active ones beside, {what}", "idle", RATE, name, WEIR2, least=0.9)
        j.ratio("12", f"answer p50 of 64 active ones beside, {what}", "idle", P50, name, WEIR2, most=1.1)
    for connections in (64, 256):
        cell = f"c{connections}"
        j.ratio("13", f"CPU of ack = delivered over accepted, C={connections}", cell, CPU, "weir ack delivered", WEIR2, most=1.1)
        j.ratio("13", f"answer p50 of ack = delivered over HAProxy's, C={connections}", cell, P50, "weir ack delivered", HAPROXY, most=1.1)
    for name, what in (("weir dead group", "dead"), ("weir stalled group", "stalled")):
        j.ratio("14", f"throughput beside a {what} group", "away", RATE, name, WEIR2, least=0.9)
        j.ratio("14", f"answer p50 beside a {what} group", "away", P50, name, WEIR2, most=1.1)
        peak = Spread(v / MIB for v in results.spread("away", name, "rss_peak_bytes").values)
        j.add("14", f"memory beside a {what} group, queues of {queue_mib} MiB", peak, most=queue_mib + 24, unit="MiB",
              why=j.reason("away", name))
    for rate, most in ((5000, 0.12), (20000, 0.08)):
        j.ratio("15", f"receiver's CPU over direct at {rate} events/s, 15 µs a frame", f"cost{rate}", "sink_cpu_ns_per_event",
                WEIR2, DIRECT, most=most)
    for name, what, most in ((WEIR2, "default linger", 10), ("weir linger 2 ms", "linger 2 ms", 5)):
        j.value("16", f"WSO2's agent, one connection, 20000 events/s, {what}: refused", "agent20000", name, "refused_by_agent", "events",
                most=0)
        j.value("16", "from publish to every group, p50", "agent20000", name, "delivery_p50_us", "µs", most=1000 * most)
    return j.rows


def costs(results):
    """What features cost beside plain weir with two groups, in the same rotation: (what, CPU ratio, throughput ratio)."""
    wanted = [
        ("TLS on both sides", "tls", "weir 2 groups TLS"),
        ("`ack = \"delivered\"`, 64 gateways", "c64", "weir ack delivered"),
        ("`ack = \"delivered\"`, 256 gateways", "c256", "weir ack delivered"),
        ("`workers = 2`", "c64", "weir 2 workers"),
        ("idle connections beside, silent", "idle", "weir idle silent"),
        ("idle connections beside, after a frame each", "idle", "weir idle used"),
    ]
    rows = []
    for what, cell, name in wanted:
        cpu = results.spread(cell, name, CPU)
        if cpu:
            rows.append((what, cpu, results.ratio(cell, CPU, name, WEIR2), results.ratio(cell, RATE, name, WEIR2)))
    return rows


def tally(rows):
    """How many of each verdict."""
    return {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("pass", "miss", "not measured")}
