"""Idle gateway connections: plain sockets that are held open, silent or after one frame."""

import resource
import socket
import struct
import time

import machine
from machine import Impossible, Trouble

# Not for the connections: logs, pipes, the load's port.
SPARE_DESCRIPTORS = 200
SETTLE_SECONDS = 0.5
WATCH_SECONDS = 3.0


class Idle:
    """`kind` is silent (never a byte) or used (one frame, answered)."""

    def __init__(self, bench, middle, count, kind):
        self.bench, self.middle, self.kind = bench, middle, kind
        self.count = count
        self.open_sockets = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count + SPARE_DESCRIPTORS:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < count + SPARE_DESCRIPTORS:
            raise Impossible(f"{count} connections need {count + SPARE_DESCRIPTORS} open files, and {hard} are allowed (ulimit -Hn)")

    def open(self):
        """Opens all of them; returns the events that were accepted over them."""
        pid = self.middle.child.pid
        time.sleep(SETTLE_SECONDS)
        self.base = self.watch()
        session = log_in(self.middle.port)
        self.rss_before = machine.memory(pid)
        frame = publish(session)
        for _ in range(self.count):
            one = connect(self.middle.port)
            self.open_sockets.append(one)
            if self.kind == "used":
                one.sendall(frame)
                if one.recv(1) != b"\0":
                    raise Trouble("weir refused the frame of a connection that is to be idle")
        ingress = lambda: self.middle.status()["ingress"]["connections_tcp"]
        self.middle.child.until(f"{self.count} connections are open", lambda: ingress() >= self.count)
        time.sleep(SETTLE_SECONDS)
        self.rss = machine.memory(pid)
        return self.count if self.kind == "used" else 0

    def costs(self):
        """Memory for each connection, and the CPU of doing nothing."""
        return {
            "idle_connections": self.count,
            "idle_rss_bytes_each": (self.rss - self.rss_before) / self.count,
            "idle_cpu_ms_per_second": self.watch(),
            "no_connections_cpu_ms_per_second": self.base,
        }

    def watch(self):
        pid = self.middle.child.pid
        begin, before = time.monotonic(), machine.cpu_ns(pid)
        time.sleep(WATCH_SECONDS)
        spent, elapsed = machine.cpu_ns(pid) - before, time.monotonic() - begin
        return spent / 1e6 / elapsed

    def close(self):
        for one in self.open_sockets:
            one.close()
        self.open_sockets.clear()


def connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=10)
    except OSError as error:
        raise Trouble(f"an idle connection to port {port}: {error}") from error


def text(value):
    return struct.pack(">i", len(value)) + value


def log_in(port):
    """A session, as docs/PROTOCOL.md says: type 0, length, two lengths, user, password."""
    user = password = b"admin"
    body = struct.pack(">ii", len(user), len(password)) + user + password
    with connect(port) as one:
        one.sendall(b"\0" + text(body))
        head = one.recv(1)
        if head != b"\x02":
            raise Trouble(f"weir refused the login of idle connections: {head + one.recv(200)!r}")
        (length,) = struct.unpack(">i", one.recv(4, socket.MSG_WAITALL))
        return one.recv(length, socket.MSG_WAITALL)


def publish(session):
    """A frame of one small event: a date, a stream and nothing more."""
    event = struct.pack(">q", int(time.time() * 1000)) + text(b"org.wso2.throttle.request.stream:1.0.0")
    return b"\x02" + text(text(session) + struct.pack(">i", 1) + text(event))
