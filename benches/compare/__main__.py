"""`python3 benches/compare`: weir beside HAProxy and nginx, by one command. docs/PERFORMANCE.md tells how to read it."""

import sys

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

import datetime
import json
import os
import shutil
import signal
import subprocess

import chart
import contenders
import goals
import measure
import options
import plan
import tables
from machine import Cores, Trouble, describe
from sums import Results, quiet

# Set where --congestion has done its work.
OWN_NETWORK = "WEIR_COMPARE_OWN_NETWORK"


class Bench:
    """What all runs have in common."""

    def __init__(self, given, cores, scratch):
        self.weir, self.lab, self.cores, self.scratch = given.weir, given.lab, cores, scratch
        self.duration, self.warm_up = given.duration, given.warm_up
        # Slow under strace: long enough that connecting does not count for much.
        self.trace_duration = 1.0 if given.quick else max(5.0, given.duration)
        # Only equal offered rates are compared. A short run has hardly begun.
        self.rate_share_least = 0.5 if given.quick else 0.97


def main():
    parser, given = options.parse()
    if given.congestion and not os.environ.pop(OWN_NETWORK, None):
        return own_network(given.congestion)
    cells, left_out = plan.choose(given.quick, given.full or given.list, given.goal, given.cell)
    if given.list:
        for cell in cells:
            print(f"{cell.key:<10} {cell.words():<60} goals {', '.join(map(str, cell.goals)) or '–'}")
        return 0
    unknown = set(given.cell) - {cell.key for cell in cells}
    if unknown:
        parser.error(f"no cell is called {', '.join(sorted(unknown))}: see --list")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        need_weir(given)
    except Trouble as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cores = Cores(os.sched_getaffinity(0))
    facts = describe(cores, given.weir)
    # This process sleeps most of the time; what it does must not be seen in the middle.
    os.sched_setaffinity(0, cores.load)
    for what, words in facts:
        print(f"{what}: {words}")
    reasons = gaps(cells, cores)
    cells = [cell for cell in cells if not (cell.own_cores and not cores.own)]
    for words in left_out + sorted(set(reasons.values())):
        print(f"left out: {words}")
    minutes = plan.seconds(cells, given.rounds, given.duration, given.warm_up) / 60
    print(f"{len(cells)} cells, {given.rounds} rounds of {given.duration:g} s: about {minutes:.0f} minutes", flush=True)
    runs, scratch, ended = [], measure.scratch(), False
    try:
        rotate(Bench(given, cores, scratch), cells, reasons, given.rounds, runs)
        ended = True
    except KeyboardInterrupt:
        print("\ninterrupted: the report has what there is", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write(given, cells, facts, left_out, reasons, runs)
    if not ended:
        return 130
    return 0 if all(run["valid"] or run.get("impossible") for run in runs) else 1


def own_network(congestion):
    """This command once more, on a loopback whose connections have this congestion control."""
    routes = " && ".join(
        f"ip route change local {to} dev lo proto kernel scope host src 127.0.0.1 table local congctl {congestion}"
        for to in ("127.0.0.0/8", "127.0.0.1")
    )
    command = ["unshare", "--net", "sh", "-c", f'ip link set lo up && {routes} && exec "$@"', "sh", sys.executable, *sys.argv]
    try:
        return subprocess.run(command, env={**os.environ, OWN_NETWORK: "yes"}, check=False).returncode
    except OSError as error:
        print(f"error: --congestion needs unshare and ip: {error}", file=sys.stderr)
        return 2


def need_weir(given):
    if given.build:
        try:
            subprocess.run(options.BUILD.split(), cwd=options.ROOT, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Trouble(f"{options.BUILD}: {error}") from error
    for program in (given.weir, given.lab):
        if not os.access(program, os.X_OK):
            raise Trouble(f"{program} is not there: build it with `{options.BUILD}`, or name another one with --weir or --lab")
    said = subprocess.run([given.lab, "sink", "--help"], capture_output=True, text=True, check=False).stdout
    if "--delivery-times" not in said:
        raise Trouble(f"{given.lab} is older than this script: build it anew with `{options.BUILD}`")


def gaps(cells, cores):
    """Who cannot take part, and why, by (cell, contender)."""
    reasons = {}
    for cell in cells:
        for contender in cell.contenders:
            why = contenders.missing(contender)
            if cell.own_cores and not cores.own:
                why = f"a core for each process needs 4 cores, here are {len(cores.allowed)}"
            if why:
                reasons[(cell.key, contender.name)] = why
    return reasons


def rotate(bench, cells, reasons, rounds, runs):
    for cell in cells:
        print(f"\n{cell.key}: {cell.words()}")
        for number in range(1, (1 if cell.trace else rounds) + 1):
            for contender in cell.contenders:
                if (cell.key, contender.name) in reasons:
                    continue
                result = measure.run(bench, cell, contender, number)
                runs.append(result)
                print(tables.line(result), flush=True)


def write(given, cells, facts, left_out, reasons, runs):
    results = Results(runs)
    invalid = [run for run in runs if not run["valid"] and not run.get("impossible")]
    for run in runs:
        if run.get("impossible"):
            reasons.setdefault((run["cell"], run["contender"]), run["why"])
    # A goal whose runs failed says so.
    for run in invalid:
        reasons.setdefault((run["cell"], run["contender"]), f"no run of {run['contender']} counts: {run['why']}")
    judged = [] if given.quick else goals.judge(results, reasons)
    if given.goal is not None or given.cell:
        judged = [row for row in judged if row.why != goals.ELSEWHERE and given.goal in (None, int(row.goal.rstrip("b*")))]
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    report = {
        "title": f"{now}, `{' '.join(['python3 benches/compare', *sys.argv[1:]])}`",
        "machine": facts,
        "settings": [("rounds", str(given.rounds)), ("run", f"{given.duration:g} s after {given.warm_up:g} s of warm-up"),
                     ("events", "448 to 760 bytes, 604 on average"), ("quiet", quiet(runs))],
        "cells": cells,
        "results": results,
        "goals": judged,
        "costs": goals.costs(results),
        "invalid": invalid,
        "left_out": left_out + sorted({why for why in reasons.values() if not why.startswith("no run of")}),
    }
    os.makedirs(given.out, exist_ok=True)
    save(given.out, "compare.md", tables.markdown(report))
    data = {"at": now, "machine": dict(facts), "settings": dict(report["settings"]), "runs": runs,
            "goals": [row.json() for row in judged], "tally": goals.tally(judged), "left_out": report["left_out"]}
    save(given.out, "compare.json", json.dumps(data, indent=1) + "\n")
    places = [given.out] + ([os.path.join(options.ROOT, "docs", "images")] if given.docs else [])
    for name, text in plots(results):
        for place in places:
            os.makedirs(place, exist_ok=True)
            save(place, name, text)
    if judged:
        print("\n" + tables.goal_table(judged))
        print("\n" + ", ".join(f"{n} {verdict}" for verdict, n in goals.tally(judged).items()))
    print(f"\nquiet: {quiet(runs)}")
    for run in invalid:
        print(f"does not count: {run['cell']}, {run['contender']}, round {run['round']}: {run['why']}", file=sys.stderr)
    print(f"\n{os.path.join(given.out, 'compare.md')}, compare.json")


def plots(results):
    """The charts for which there are results."""
    def point(cell, name):
        found = results.spread(cell, name, "cpu_ns_per_event")
        return (found.median, found.low, found.high) if found else None

    def series(name, places):
        return name, {tick: point(cell, who) for tick, cell, who in places if point(cell, who)}

    over_events = [series(label, [(1, "c64", who), (10, "e10", who), (200, "e200", who)])
                   for label, who in (("HAProxy", "haproxy"), ("nginx", "nginx"), ("weir, 2 groups", "weir 2 groups"))]
    over_groups = [series(f"{label}, 1 stream", [(1, "c64", who)]) for label, who in (("HAProxy", "haproxy"), ("nginx", "nginx"))]
    over_groups.append(series("weir", [(1, "c64", "weir 1 group"), (2, "c64", "weir 2 groups"), (3, "c64", "weir 3 groups")]))
    wanted = (
        ("cpu-over-events.svg", "CPU an event, 64 gateways, one frame in flight each", "events in a frame", (1, 10, 200), over_events, True, 2),
        ("cpu-over-groups.svg", "CPU an event, 64 gateways, single-event frames", "url groups", (1, 2, 3), over_groups, False, 1),
    )
    for name, title, label, ticks, lines, logarithmic, least in wanted:
        lines = [one for one in lines if one[1]]
        if any(len(points) > 1 for _, points in lines) and len(lines) >= least:
            yield name, chart.lines(title, label, "CPU of the process in the middle, ns an event", ticks, lines, logarithmic)


def save(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
