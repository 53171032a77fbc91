"""PURE: results as text and as Markdown."""

COLUMNS = (
    ("events/s", "events_per_second", 1, "{:.0f}"),
    ("CPU ns/event", "cpu_ns_per_event", 1, "{:.0f}"),
    ("sink ns/event", "sink_cpu_ns_per_event", 1, "{:.0f}"),
    ("refused by the agent", "refused_by_agent", 1, "{:.0f}"),
    ("reply p50 µs", "reply_p50_us", 1, "{:.0f}"),
    ("reply p99 µs", "reply_p99_us", 1, "{:.0f}"),
    ("delivery p50 µs", "delivery_p50_us", 1, "{:.0f}"),
    ("delivery p99 µs", "delivery_p99_us", 1, "{:.0f}"),
    ("events/upstream frame", "events_per_frame", 1, "{:.1f}"),
    ("RSS MiB", "rss_bytes", 1024 * 1024, "{:.1f}"),
)


def amount(value, unit=""):
    """A number with as many digits as it deserves."""
    if value is None:
        return "–"
    if value == 0:
        shown = "0"
    elif abs(value) >= 100:
        shown = f"{value:,.0f}".replace(",", " ")
    elif abs(value) >= 10:
        shown = f"{value:.1f}"
    else:
        shown = f"{value:.2f}"
    return shown if unit in ("", "x") else f"{shown} {unit}"


def spread(values, scale=1, form="{:.0f}"):
    """Median, and from where to where."""
    if not values:
        return "–"
    median, low, high = (form.format(v / scale) for v in (values.median, values.low, values.high))
    return median if low == high else f"{median} ({low}–{high})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def goal_table(rows):
    body = []
    for row in rows:
        value = "–"
        if row.value is not None:
            value = amount(row.value, row.unit)
            if row.rounds > 1:
                value += f" ({amount(row.low)}–{amount(row.high)})"
        verdict = row.verdict if row.verdict != "not measured" else f"not measured: {row.why}"
        body.append([row.goal, row.what, row.limit, value, f"**{verdict}**" if row.verdict == "miss" else verdict])
    return table(["#", "what", "goal", "measured", "verdict"], body)


def cell_table(cell, results):
    columns = [c for c in COLUMNS if any(results.spread(cell.key, x.name, c[1]) for x in cell.contenders)]
    body = []
    for contender in cell.contenders:
        found = [spread(results.spread(cell.key, contender.name, f), scale, form) for _, f, scale, form in columns]
        body.append([contender.name, *found])
    return table(["who", *[c[0] for c in columns]], body)


def trace_table(cell, results):
    body = []
    for contender in cell.contenders:
        calls = results.rounds(cell.key, contender.name, "syscalls_per_frame")
        names = results.rounds(cell.key, contender.name, "syscalls")
        for number, count in calls.items():
            most = sorted(names[number].items(), key=lambda pair: -pair[1])[:6]
            body.append([contender.name, f"{count:.2f}", ", ".join(f"{name} {n:.2f}" for name, n in most)])
    return table(["who", "system calls a frame", "which"], body)


def cost_table(rows):
    body = [[what, spread(cpu), spread(ratio, 1, "{:.2f}"), spread(rate, 1, "{:.2f}")] for what, cpu, ratio, rate in rows]
    return table(["what", "CPU ns/event", "CPU over plain weir", "throughput over plain weir"], body)


def markdown(report):
    """The whole report. `report` has title, machine, settings, cells, results, goals, costs, invalid and left_out."""
    results = report["results"]
    parts = ["# weir beside HAProxy and nginx", report["title"]]
    parts.append(table(["machine", ""], [[what, words] for what, words in report["machine"]]))
    parts.append(table(["setting", ""], [[what, words] for what, words in report["settings"]]))
    parts += ["## Goals", "Ratios within one rotation; median over the rounds, and from where to where.", goal_table(report["goals"])]
    if report["costs"]:
        parts += ["## What features cost", cost_table(report["costs"])]
    parts.append("## Runs")
    parts.append("Medians (lowest–highest). CPU is that of the process in the middle, for direct the sink's own. HAProxy and nginx "
                 "pass one stream through; weir sends to every group. Delivery times are of the slowest group.")
    for cell in report["cells"]:
        make = trace_table if cell.trace else cell_table
        parts += [f"### {cell.words()}", make(cell, results)]
    if report["invalid"]:
        parts += ["## Runs that do not count",
                  "\n".join(f"* {r['shape']}, {r['contender']}, round {r['round']}: {r['why']}" for r in report["invalid"])]
    if report["left_out"]:
        parts += ["## Left out", "\n".join(f"* {words}" for words in report["left_out"])]
    return "\n\n".join(parts) + "\n"


def line(result):
    """One run, for a terminal."""
    head = f"  {result['contender']:<20}"
    if not result["valid"]:
        return f"{head} {'left out' if result.get('impossible') else 'INVALID'}: {result['why']}"
    if result.get("syscalls_per_frame") is not None:
        return f"{head} {result['syscalls_per_frame']:8.2f} system calls a frame"
    text = f"{head} {result['events_per_second']:>10.0f} events/s {result['cpu_ns_per_event']:>8.0f} ns/event"
    for name, label in (("reply_p50_us", "p50"), ("reply_p99_us", "p99"), ("delivery_p50_us", "delivery p50")):
        if result.get(name) is not None:
            text += f"  {label} {result[name]:>5.0f} us"
    if result.get("refused_by_agent") is not None:
        text += f"  refused {result['refused_by_agent']}"
    if result.get("idle_rss_bytes_each") is not None:
        text += f"  idle: {result['idle_rss_bytes_each']:.0f} bytes each, {result['idle_cpu_ms_per_second']:.3f} ms/s"
        text += f" ({result['no_connections_cpu_ms_per_second']:.3f} without)"
    return text
