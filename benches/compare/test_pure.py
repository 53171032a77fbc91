"""What can be shown without a machine: `python3 -B -m unittest discover -s benches/compare`."""

import os
import re
import sys
import unittest
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import chart
import contenders
import goals
import plan
import syscalls
import tables
from machine import Trouble
from sums import Results, Spread, quiet


def run(cell, contender, number, valid=True, **values):
    return {"cell": cell, "contender": contender, "round": number, "valid": valid, "why": None if valid else "broken",
            "shape": cell, **values}


def rotations(cell, field, **contenders_values):
    """Runs of one cell: `name=[value of each round]`, with _ for a blank."""
    return [run(cell, name.replace("_", " "), n, **{field: value})
            for name, values in contenders_values.items() for n, value in enumerate(values, 1)]


class Sums(unittest.TestCase):
    def test_a_ratio_pairs_runs_of_one_rotation_only(self):
        runs = rotations("c", "cpu", weir=[10, 40, 90], haproxy=[20, 50])
        runs += [run("c", "haproxy", 3, valid=False, cpu=1)]
        ratio = Results(runs).ratio("c", "cpu", "weir", "haproxy")
        self.assertEqual(ratio.values, [0.5, 0.8])
        self.assertEqual((ratio.median, ratio.low, ratio.high), (0.65, 0.5, 0.8))

    def test_a_run_that_does_not_count_is_not_looked_at(self):
        results = Results([run("c", "weir", 1, valid=False, cpu=1)])
        self.assertFalse(results.spread("c", "weir", "cpu"))
        self.assertIsNone(results.spread("c", "weir", "cpu").json())

    def test_the_median_of_an_even_number_lies_between(self):
        self.assertEqual(Spread([4, 1, 3, 2]).median, 2.5)


    def test_strangers_on_the_core_are_counted(self):
        runs = [run("c", "weir", n, waited_share=share) for n, share in enumerate((0.01, 0.02, 0.3))]
        self.assertIn("in 1 of 3 runs", quiet(runs))
        self.assertEqual(quiet([run("c", "direct", 1, waited_share=None)]), "not looked at")


class Goals(unittest.TestCase):
    def verdict(self, runs, what):
        rows = [row for row in goals.judge(Results(runs)) if what in row.what]
        self.assertEqual(len(rows), 1, what)
        return rows[0]

    def test_a_goal_is_met_at_its_limit_and_missed_above(self):
        for cpu, verdict in ((0.58, "pass"), (0.59, "miss")):
            runs = rotations("c64", goals.CPU, weir_2_groups=[cpu] * 3, haproxy=[1.0] * 3)
            rows = [r for r in goals.judge(Results(runs)) if r.goal == "1" and "C=64" in r.what]
            self.assertEqual([r.verdict for r in rows], [verdict])

    def test_a_goal_that_asks_for_more_is_missed_below(self):
        for rate, verdict in ((2.0, "pass"), (1.9, "miss")):
            runs = rotations("c64", goals.RATE, weir_2_groups=[rate], haproxy=[1.0])
            self.assertEqual(self.verdict(runs, "throughput over HAProxy's").verdict, verdict)

    def test_the_median_decides_not_the_worst_round(self):
        runs = rotations("e10", goals.CPU, weir_2_groups=[0.5, 0.6, 9.0], haproxy=[1.0] * 3)
        row = self.verdict(runs, "E=10 C=64 W=1")
        self.assertEqual((row.verdict, row.value, row.high, row.rounds), ("pass", 0.6, 9.0, 3))

    def test_without_a_result_there_is_a_reason_and_no_verdict(self):
        reasons = {("own", "direct"): "a core for each process needs 4 cores, here are 2"}
        rows = goals.judge(Results([]), reasons)
        self.assertEqual({row.verdict for row in rows}, {"not measured"})
        self.assertIn("4 cores", [r.why for r in rows if "each with its core" in r.what][0])
        self.assertEqual(goals.tally(rows)["not measured"], len(rows))

    def test_every_goal_has_a_row_and_its_cells_exist(self):
        numbers = {row.goal.rstrip("b*") for row in goals.judge(Results([]))}
        self.assertEqual(numbers, {str(n) for n in range(1, 17)})
        self.assertEqual({n for cell in plan.goal_cells() for n in cell.goals}, set(range(1, 17)))

    def test_every_row_is_filled_by_the_cells_of_the_plan(self):
        fields = ("cpu_ns_per_event events_per_second reply_p50_us reply_p99_us delivery_p50_us delivery_p99_us syscalls_per_frame events_per_frame "
                  "idle_rss_bytes_each idle_cpu_ms_per_second rss_peak_bytes sink_cpu_ns_per_event "
                  "refused_by_agent setsockopt_per_frame").split()
        runs = [run(cell.key, c.name, 1, **dict.fromkeys(fields, 1.0)) for cell in plan.goal_cells() for c in cell.contenders]
        empty = [row.what for row in goals.judge(Results(runs)) if row.verdict == "not measured"]
        self.assertEqual(empty, [])
        self.assertEqual(len(goals.costs(Results(runs))), 6)


class Plan(unittest.TestCase):
    def test_keys_are_unique_and_names_within_a_cell_too(self):
        for cells in (plan.choose(full=True)[0], plan.choose(quick=True)[0]):
            keys = [cell.key for cell in cells]
            self.assertEqual(len(keys), len(set(keys)))
            for cell in cells:
                names = [c.name for c in cell.contenders]
                self.assertEqual(len(names), len(set(names)), cell.key)

    def test_the_default_takes_less_than_twenty_five_minutes(self):
        self.assertLess(plan.seconds(plan.choose()[0], 5, 2.0, 0.3), 25 * 60)

    def test_the_grid_says_what_it_leaves_out(self):
        cells, left_out = plan.grid_cells()
        shapes = {(c.events, c.connections, c.window) for c in cells}
        self.assertEqual(len(shapes) + len(left_out), 3 * 4 * 2)

    def test_a_cell_of_the_grid_can_be_asked_for(self):
        self.assertEqual([c.key for c in plan.choose(keys=["grid-200-8-32-tls", "tls"])[0]], ["tls", "grid-200-8-32-tls"])

    def test_a_goal_takes_its_cells_only(self):
        self.assertEqual([c.key for c in plan.choose(goal=15)[0]], ["cost5000", "cost20000"])


class Text(unittest.TestCase):
    def report(self, runs, cells):
        results = Results(runs)
        return tables.markdown({
            "title": "now", "machine": [("processor", "one")], "settings": [("rounds", "1")], "cells": cells, "results": results,
            "goals": goals.judge(results), "costs": goals.costs(results),
            "invalid": [r for r in runs if not r["valid"]], "left_out": ["nginx is not installed"]})

    def test_the_gateways_view_has_what_the_agent_refused_beside_its_times(self):
        cell = next(c for c in plan.goal_cells() if c.key == "agent20000")
        runs = [run(cell.key, name, 1, refused_by_agent=n, reply_p50_us=us, reply_p99_us=us, delivery_p50_us=us)
                for name, n, us in (("direct", 9000, 2_500_000), ("haproxy", 8000, 2_000_000), ("weir 2 groups", 0, 2100))]
        text = self.report(runs, [cell])
        self.assertIn("### agent C=1, 20000 events/s offered, the gateway's view", text)
        self.assertIn("| who | refused by the agent | reply p50 µs | reply p99 µs | delivery p50 µs |", text)
        self.assertIn("| direct | 9000 | 2500000 | 2500000 | 2500000 |", text)
        self.assertIn("| weir 2 groups | 0 | 2100 | 2100 | 2100 |", text)

    def test_a_report_names_misses_and_runs_that_do_not_count(self):
        cell = next(c for c in plan.goal_cells() if c.key == "e10")
        runs = rotations("e10", goals.CPU, weir_2_groups=[900, 1000], haproxy=[1000, 1000]) + [run("e10", "nginx", 1, valid=False)]
        text = self.report(runs, [cell])
        self.assertIn("| 3 | CPU over HAProxy's, E=10 C=64 W=1 | ≤ 0.65 | 0.95 (0.90–1.00) | **miss** |", text)
        self.assertIn("round 1: broken", text)
        self.assertIn("* nginx is not installed", text)
        self.assertIn("| weir 2 groups | 950 (900–1000) |", text)

    def test_rows_of_a_table_have_as_many_columns_as_its_head(self):
        for block in self.report([], list(plan.goal_cells())).split("\n\n"):
            widths = {len(re.findall(r"\|", line)) for line in block.splitlines() if line.startswith("|")}
            self.assertLessEqual(len(widths), 1, block)

    def test_numbers_have_the_digits_they_deserve(self):
        shown = [tables.amount(v, u) for v, u in ((None, ""), (0, ""), (0.456, "x"), (12.34, "µs"), (12345.6, "bytes"))]
        self.assertEqual(shown, ["–", "0", "0.46", "12.3 µs", "12 346 bytes"])


class Chart(unittest.TestCase):
    def test_a_chart_is_sound_xml_with_its_labels(self):
        series = [("weir <2>", {1: (100, 90, 120), 10: (20, 20, 20)}), ("HAProxy", {1: (300, 250, 350)})]
        for logarithmic in (True, False):
            text = chart.lines("CPU & more", "events in a frame", "ns an event", (1, 10), series, logarithmic)
            root = ElementTree.fromstring(text)
            words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
            for word in ("CPU & more", "events in a frame", "ns an event", "weir <2>", "HAProxy", "1", "10"):
                self.assertIn(word, words)
            self.assertIn("prefers-color-scheme:dark", text)

    def test_higher_values_are_drawn_higher_and_inside(self):
        for logarithmic in (True, False):
            axis = chart.Axis(37, 9100, logarithmic)
            spots = [axis.y(v) for v in (37, 500, 9100)]
            self.assertEqual(spots, sorted(spots, reverse=True))
            self.assertTrue(all(chart.TOP <= y <= chart.HEIGHT - chart.BOTTOM for y in spots), spots)

    def test_nothing_is_not_drawn(self):
        with self.assertRaises(ValueError):
            chart.lines("t", "x", "y", (1,), [("a", {})])


class Strace(unittest.TestCase):
    TABLE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 86.51    0.548848          37     14552           sendto
 10.73    0.068103          14      4856        12 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.616951          31     19408        12 total
"""

    def test_the_table_of_strace_is_read_with_and_without_errors(self):
        self.assertEqual(syscalls.parse(self.TABLE), {"sendto": 14552, "recvfrom": 4856})

    def test_an_empty_table_is_no_zero(self):
        with self.assertRaises(Trouble):
            syscalls.parse("")


class Configuration(unittest.TestCase):
    def test_a_contender_changes_what_it_is_about_and_nothing_else(self):
        sinks = [contenders.Sink(None, 1001, 1002, "aa"), contenders.Sink(None, 1003, 1004, "bb")]
        cell = plan.goal_cells()[0]
        plain = contenders.weir_toml(None, cell, plan.WEIR2, sinks)
        self.assertNotIn("linger", plain)
        self.assertNotIn("ack", plain)
        self.assertIn('tls = "off"', plain)
        self.assertEqual(plain.count("[[apim.throttling.url_group]]"), 2)
        for contender, line in ((plan.NO_LINGER, "linger = 0"), (plan.DELIVERED, 'ack = "delivered"'), (plan.WORKERS2, "workers = 2")):
            text = contenders.weir_toml(None, cell, contender, sinks)
            self.assertIn(line, text.splitlines())
        dead = contenders.weir_toml(None, cell, plan.DEAD, sinks[:1])
        self.assertEqual(dead.count("[[apim.throttling.url_group]]"), 2)


if __name__ == "__main__":
    unittest.main()
