"""System calls of a process, counted by strace in a run of its own."""

import os
import signal

import machine
from machine import Impossible, Trouble


class Tracer:
    """Attached from its making to `end`."""

    def __init__(self, bench, children, victim):
        path = machine.find("strace")
        if path is None:
            raise Impossible("strace is not installed (Debian: apt install strace)")
        self.table = os.path.join(children.folder, "strace.table")
        command = [path, "-c", "-f", "-p", str(victim.pid), "-o", self.table]
        self.child = children.start("strace", command, bench.cores.load)
        try:
            self.child.until("it is attached", lambda: "attached" in self.child.errors(), 10)
        except Trouble as error:
            raise Impossible(f"{error} (be root, or set kernel.yama.ptrace_scope to 0)") from None

    def end(self):
        """Calls by name."""
        self.child.stop(20, signal.SIGINT)
        return parse(machine.read(self.table))


def parse(table):
    """PURE: the table of `strace -c`, as calls by name."""
    calls = {}
    for line in table.splitlines():
        fields = line.split()
        # % time, seconds, usecs/call, calls, perhaps errors, name.
        if len(fields) in (5, 6) and fields[0].replace(".", "").isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    if not calls:
        raise Trouble("strace counted nothing: " + (table.strip() or "its table is empty"))
    return calls
