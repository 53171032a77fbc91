"""The kernel's floor in bulk: what receiving the bytes once and sending them to every group costs the kernel.

A trivial process receives frames of the same size over as many connections, sends the same bytes to each of two
receivers, and answers a byte for each frame. It parses nothing. It is Python, so only its system time counts.
Run by measure.py: `floor.py relay`, `floor.py discard`, `floor.py feed`.
"""

import json
import select
import socket
import sys
import time

BUFFER_BYTES = 256 * 1024
# An event of the load on average, with its length; and what is in front of the events of a frame.
EVENT_BYTES = 608
HEADER_BYTES = 49
# The long connections to the receivers begin slowly, and their beginning is not the floor.
WARM_UP_SECONDS = 1.0


def measure(bench, children, cell, contender):
    """The floor as a run: CPU for each event of the kernel alone."""
    import machine

    def start(name, cores, *arguments):
        child = children.start(name, [sys.executable, __file__, name, *map(str, arguments)], cores)
        return child

    def port(child):
        return child.until("its port is open", lambda: child.output().strip() or None).split()[0]

    frame = HEADER_BYTES + cell.events * EVENT_BYTES
    discards = [start("discard", bench.cores.load) for _ in range(contender.groups)]
    relay = start("relay", bench.cores.middle, frame, *[port(child) for child in discards])
    place = port(relay)
    feed(bench, start, place, frame, cell, max(bench.warm_up, WARM_UP_SECONDS))
    before = machine.cpu_ns(relay.pid)
    fed = feed(bench, start, place, frame, cell, bench.duration)
    cpu = machine.cpu_ns(relay.pid) - before
    share = machine.system_share(relay.pid)
    relay.need_alive()
    events = fed["frames"] * cell.events
    return {
        "events": events,
        "elapsed_seconds": fed["elapsed_seconds"],
        "events_per_second": events / fed["elapsed_seconds"],
        "cpu_ns_per_event": cpu * share / events,
        "cpu_with_python_ns_per_event": cpu / events,
        "rss_bytes": machine.memory(relay.pid),
    }


def feed(bench, start, place, frame, cell, duration):
    child = start("feed", bench.cores.load, place, frame, cell.connections, duration)
    child.finish(duration + 20)
    return json.loads(child.output())


def listen():
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    return listener


def relay(frame, *ports):
    sinks = [socket.create_connection(("127.0.0.1", port)) for port in ports]
    for sink in sinks:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    got = {}

    def take(one):
        n = one.recv_into(buffer)
        for sink in sinks:
            sink.sendall(buffer[:n])
        whole, got[one] = divmod(got.get(one, 0) + n, frame)
        if whole:
            one.send(bytes(whole))
        return n

    serve(take)


def discard():
    buffer = bytearray(BUFFER_BYTES)
    serve(lambda one: one.recv_into(buffer))


def serve(take):
    """Accepts for ever and calls `take` for each readable connection; 0 ends a connection."""
    listener, poll, known = listen(), select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                one, _ = listener.accept()
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                known[one.fileno()] = one
                poll.register(one, select.EPOLLIN)
            elif take(known[descriptor]) == 0:
                poll.unregister(descriptor)
                known.pop(descriptor).close()


def feeder(port, frame, connections, duration):
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    data = bytes(frame)
    begin, frames = time.monotonic(), 0
    while time.monotonic() - begin < duration:
        for link in links:
            link.sendall(data)
        for link in links:
            link.recv(1)
        frames += len(links)
    print(json.dumps({"frames": frames, "elapsed_seconds": time.monotonic() - begin}))


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "relay":
        relay(*map(int, rest))
    elif what == "discard":
        discard()
    else:
        feeder(int(rest[0]), int(rest[1]), int(rest[2]), float(rest[3]))
