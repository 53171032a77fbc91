"""The arguments."""

import argparse
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = "cargo build --profile dist --locked"


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python3 benches/compare",
        description="Runs the same load straight to a stand-in Traffic Manager, through HAProxy, through nginx and through weir, "
        "in turn, and says which goals of docs/PERFORMANCE.md are met. Everything happens on 127.0.0.1.",
        epilog="Exit codes: 0 every run counts (goals may be missed); 1 some run does not; 2 wrong arguments; 130 interrupted.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--full", action="store_true", help="the whole grid besides: about an hour and a half")
    what.add_argument("--quick", action="store_true", help="everything once and short, about a minute: do runs count? judges no goal")
    what.add_argument("--goal", type=int, metavar="N", choices=range(1, 17), help="only what goal N needs")
    what.add_argument("--cell", action="append", default=[], metavar="KEY", help="only this cell, as --list names it; may be repeated")
    what.add_argument("--list", action="store_true", help="name the cells and end")
    parser.add_argument("--weir", default=os.path.join(ROOT, "target", "dist", "weir"), metavar="PATH",
                        help="the binary, default target/dist/weir; built before")
    parser.add_argument("--lab", default=os.path.join(ROOT, "target", "dist", "weir-lab"), metavar="PATH",
                        help="the load and the Traffic Managers, default target/dist/weir-lab; built before")
    parser.add_argument("--build", action="store_true", help=f"build it first ({BUILD})")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rotations, default 5 (1 with --quick)")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="of each run, default 2 (0.5 with --quick)")
    parser.add_argument("--warm-up", type=seconds, default=0.3, metavar="SECONDS", help="before each run, default 0.3")
    parser.add_argument("--congestion", metavar="NAME",
                        help="congestion control of everybody, in a network namespace of its own; needs root and iproute2 "
                             "(default: the system's)")
    parser.add_argument("--out", default=os.path.join(ROOT, "target", "compare"), metavar="DIR",
                        help="for compare.md, compare.json and the plots, default target/compare")
    parser.add_argument("--docs", action="store_true", help="plots to docs/images as well")
    given = parser.parse_args(arguments)
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.duration = given.duration or (0.5 if given.quick else 2.0)
    if given.congestion and not given.congestion.isalnum():
        parser.error(f"--congestion {given.congestion}: a name such as cubic")
    given.weir, given.lab = os.path.abspath(given.weir), os.path.abspath(given.lab)
    if given.docs and (given.quick or given.cell or given.goal):
        parser.error("--docs needs the cells of the whole run: leave --quick, --goal and --cell out")
    return parser, given


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def seconds(text):
    value = float(text)
    if not 0.1 <= value <= 600:
        raise argparse.ArgumentTypeError("from 0.1 to 600 seconds")
    return value
