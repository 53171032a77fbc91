"""The machine: its cores, what it is, and what the kernel knows of a process."""

import os
import platform
import shutil
import socket
import subprocess


class Trouble(Exception):
    """Something that cannot be measured here, in words for people."""


class Impossible(Trouble):
    """Something that this machine does not allow: it is left out, and no run has failed."""


class Cores:
    """Who runs where: load and sinks together, the process in the middle alone."""

    def __init__(self, allowed):
        self.allowed = sorted(allowed)
        self.load = {self.allowed[0]}
        self.alone = len(self.allowed) > 1
        self.middle = {self.allowed[1]} if self.alone else self.load
        # A process with two workers gets a second core where there is one.
        self.middle_pair = set(self.allowed[1:3]) if len(self.allowed) > 2 else self.middle
        # Goal 9: load, process in the middle and each of two sinks with a core of its own.
        self.own = len(self.allowed) > 3

    def sinks(self, index, own, apart):
        if apart:
            return self.middle
        return {self.allowed[2 + index]} if own and self.own else self.load

    def words(self):
        if not self.alone:
            return (
                f"one core ({self.allowed[0]}): everything shares it, so times and "
                "throughput say little; CPU for each event still does"
            )
        pair = "have two cores" if len(self.middle_pair) > 1 else "share that core"
        return (
            f"load and sinks on core {min(self.load)}, the process in the middle alone on core {min(self.middle)}; "
            f"two workers {pair}"
        )


def read(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return default


def family(pid):
    """The process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in threads(one):
            waiting += [int(child) for child in read(f"/proc/{one}/task/{task}/children").split()]
    return found


def threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def cpu_ns(pid):
    """CPU of a process, its threads and its children so far, in nanoseconds."""
    return scheduled_ns(pid)[0]


def scheduled_ns(pid):
    """The same, and how long it was ready and waited for a core."""
    ran, waited, seen = 0, 0, False
    for one in family(pid):
        for task in threads(one):
            text = read(f"/proc/{one}/task/{task}/schedstat").split()
            if text:
                ran, waited, seen = ran + int(text[0]), waited + int(text[1]), True
    if not seen:
        raise Trouble(f"no CPU times of process {pid}: it ended, or this kernel has no /proc/PID/task/*/schedstat")
    return ran, waited


def system_share(pid):
    """How much of a process's CPU time was the kernel's, from 0 to 1."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 13:
        raise Trouble(f"process {pid} ended early")
    user, system = int(fields[11]), int(fields[12])
    return system / (user + system) if user + system else 1.0


def memory(pid, field="VmRSS"):
    """Resident bytes of a process and its children; `VmHWM` is the most there ever was."""
    total = 0
    for one in family(pid):
        for line in read(f"/proc/{one}/status").splitlines():
            if line.startswith(field + ":"):
                total += int(line.split()[1]) * 1024
    return total


def version(program, *arguments):
    """The first line that a program says of itself; None when it is not there."""
    path = find(program)
    if path is None:
        return None
    try:
        said = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def find(program):
    """Daemons lie where not every shell looks."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def congestion():
    """What a connection over loopback has."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def describe(cores, weir):
    """What a reader must know of the machine, as (what, words) pairs."""
    model = "unknown"
    for line in read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_kib = next((int(l.split()[1]) for l in read("/proc/meminfo").splitlines() if l.startswith("MemTotal")), 0)
    return [
        ("processor", f"{model}, {os.cpu_count()} cores, {len(cores.allowed)} of them allowed here"),
        ("memory", f"{memory_kib / 1024 / 1024:.1f} GiB"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("pins", cores.words()),
        ("congestion control", f"{congestion()}, for everybody"),
        ("load average at the start", " ".join(read("/proc/loadavg").split()[:3])),
        ("weir", version(weir, "--version") or "missing"),
        ("HAProxy", version("haproxy", "-v") or "not installed"),
        ("nginx", version("nginx", "-v") or "not installed"),
    ]
