"""One run: sinks, somebody in the middle, a load; and what it cost."""

import json
import os
import shutil
import signal
import tempfile
import time

import contenders
import floor
import idle
import machine
import syscalls
from children import Children
from machine import Impossible, Trouble

# Until a stalled group's queue is full and weir has stopped waiting for it.
TROUBLE_WARM_UP_SECONDS = 4.0
DRAIN_LIMIT_SECONDS = 20


def run(bench, cell, contender, number):
    """Measures once. Never raises Trouble: a run that failed is a run that does not count, with the reason."""
    result = {"cell": cell.key, "shape": cell.words(), "contender": contender.name, "round": number,
              "valid": False, "why": None}
    folder = tempfile.mkdtemp(prefix="run-", dir=bench.scratch)
    try:
        with Children(folder) as children:
            if contender.kind == "floor":
                result.update(floor.measure(bench, children, cell, contender))
            else:
                Run(bench, children, cell, contender, result).measure()
        result["valid"] = result["why"] is None
    except Impossible as error:
        result.update(why=str(error), impossible=True)
    except (Trouble, OSError, ValueError, KeyError) as error:
        result["why"] = str(error) if isinstance(error, (Trouble, OSError)) else f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


class Run:
    def __init__(self, bench, children, cell, contender, result):
        self.bench, self.children, self.cell, self.contender = bench, children, cell, contender
        self.result = result
        self.accepted = 0
        self.sinks = []
        self.middle = None
        self.idle = None

    def measure(self):
        cell, contender = self.cell, self.contender
        living = contender.groups - (1 if contender.trouble else 0)
        for index in range(contender.groups):
            if index < living or contender.trouble == "stalled":
                stalled = index >= living
                self.sinks.append(contenders.Sink.start(self.bench, self.children, index, cell, stalled, contender.apart))
        self.middle = contenders.start(self.bench, self.children, cell, contender, self.sinks)
        warm_up = TROUBLE_WARM_UP_SECONDS if contender.trouble else self.bench.warm_up
        try:
            if warm_up:
                self.load(warm_up)
            if contender.idle:
                self.idle = idle.Idle(self.bench, self.middle, cell.idle_connections, contender.idle)
                self.accepted += self.idle.open()
                self.result.update(self.idle.costs())
            if cell.trace:
                self.traced()
            else:
                self.timed()
            if self.middle.child:
                self.middle.child.need_alive()
        finally:
            if self.idle:
                self.idle.close()
        self.settle_accounts(living)

    def load(self, duration):
        """Runs the load to its end and returns its report."""
        cell, contender = self.cell, self.contender
        target = f"{'ssl' if contender.tls else 'tcp'}://127.0.0.1:{self.middle.port}"
        command = [self.bench.lab, "load", "--target", target, "--duration", f"{int(duration * 1000)}ms"]
        command += ["--connections", str(cell.connections), "--report", "json"]
        if cell.agent:
            command += ["--agent", "5.4"]
        else:
            command += ["--events-per-frame", str(cell.events), "--window", str(cell.window)]
        if contender.tls:
            command += ["--insecure"]
        else:
            command += ["--auth", target]
        if cell.rate:
            command += ["--rate", str(cell.rate), "--stamp"]
        child = self.children.start("load", command, self.bench.cores.load)
        code = child.finish(duration + 40)
        if code != 0:
            raise Trouble(f"load: {child.words()}")
        report = json.loads(child.output())
        self.accepted += report["events_acked"]
        wrong = ("events_resent", "refused", "given_up", "resets", "reply_timeouts", "connect_failures")
        trouble = [f"{name} {report[name]}" for name in wrong if report[name]]
        if trouble:
            raise Trouble("the load did not go smoothly: " + ", ".join(trouble))
        return report

    def timed(self):
        cell, middle = self.cell, self.middle.child
        victim = middle or self.sinks[0].child
        (before, waited), sinks_before = machine.scheduled_ns(victim.pid), self.sinks_cpu()
        begin = time.monotonic()
        report = self.load(max(self.bench.duration, cell.seconds_least))
        (cpu, ready), late = machine.scheduled_ns(victim.pid), self.drained()
        if late:
            # What was accepted and not yet delivered is work too.
            cpu, ready = machine.scheduled_ns(victim.pid)
        sinks_cpu = self.sinks_cpu()
        events = report["events_acked"]
        elapsed = report["elapsed_seconds"] + late
        self.result.update(
            events=events,
            elapsed_seconds=elapsed,
            wall_seconds=time.monotonic() - begin,
            events_per_second=events / elapsed,
            cpu_ns_per_event=(cpu - before) / events,
            sink_cpu_ns_per_event=max((b - a) / events for a, b in zip(sinks_before, sinks_cpu)),
            reply_p50_us=report["reply_p50_us"],
            reply_p99_us=report["reply_p99_us"],
            drain_seconds=late,
            waited_share=(ready - waited) / (cpu - before + ready - waited) if self.is_alone() else None,
            rss_bytes=machine.memory(victim.pid),
            rss_peak_bytes=machine.memory(victim.pid, "VmHWM"),
        )
        if cell.agent:
            self.result["refused_by_agent"] = report["queue_full"]
        elif cell.rate and self.result["events_per_second"] < self.bench.rate_share_least * cell.rate:
            self.result["why"] = f"only {self.result['events_per_second']:.0f} events/s of {cell.rate} were offered"

    def is_alone(self):
        """Then it waits for its core only when strangers have it."""
        return self.middle.child is not None and self.bench.cores.alone and self.contender.workers == 1

    def traced(self):
        tracer = syscalls.Tracer(self.bench, self.children, self.middle.child)
        report = self.load(self.bench.trace_duration)
        self.drained()
        calls = tracer.end()
        frames = report["frames_acked"]
        self.result.update(
            events=report["events_acked"],
            syscalls_per_frame=sum(calls.values()) / frames,
            setsockopt_per_frame=calls.get("setsockopt", 0) / frames,
            syscalls={name: count / frames for name, count in calls.items() if count / frames >= 0.001},
        )

    def sinks_cpu(self):
        return [machine.cpu_ns(sink.child.pid) for sink in self.sinks]

    def drained(self):
        """Waits until weir holds nothing for a living group; returns the seconds that took, 0 when it held nothing."""
        if self.contender.kind != "weir":
            return 0.0
        begin, looks = time.monotonic(), 0
        living = self.contender.groups - (1 if self.contender.trouble else 0)
        while True:
            groups = self.middle.status()["groups"][:living]
            if all(g["events"]["queued"] == 0 and g["events"]["inflight"] == 0 for g in groups):
                return time.monotonic() - begin if looks else 0.0
            looks += 1
            if time.monotonic() - begin > DRAIN_LIMIT_SECONDS:
                raise Trouble(f"weir still holds accepted events after {DRAIN_LIMIT_SECONDS} s")
            time.sleep(0.002)

    def settle_accounts(self, living):
        """Delivered must equal accepted times groups."""
        middle = self.middle.child
        if middle and self.contender.trouble:
            # It would wait for the group that is away.
            middle.kill()
        elif middle:
            middle.stop(30, signal.SIGTERM)
        reports = [sink.report() for sink in self.sinks]
        delivered = [report["events"] for report in reports[:living]]
        self.result.update(
            accepted=self.accepted,
            delivered=delivered,
            events_per_frame=min(report["events_per_frame"] for report in reports[:living]),
        )
        for name in ("delivery_p50_us", "delivery_p99_us"):
            times = [report[name] for report in reports[:living] if report.get(name) is not None]
            # Of every group: the slowest.
            self.result[name] = max(times) if times else None
        wrong = [f"group {i + 1} has {n} of {self.accepted}" for i, n in enumerate(delivered) if n != self.accepted]
        if wrong:
            self.result["why"] = "delivered is not accepted times groups: " + ", ".join(wrong)


def scratch():
    return tempfile.mkdtemp(prefix="weir-compare-", dir=os.environ.get("TMPDIR"))
