"""PURE: what is run. A cell is one shape of load, and who takes part in its rotation."""

from dataclasses import dataclass, field, replace
from typing import Optional, Tuple

QUEUE_DEFAULT_MIB = 256
IDLE_CONNECTIONS = 9500


@dataclass(frozen=True)
class Contender:
    """Somebody who takes part."""

    name: str
    # direct, haproxy, nginx, weir or floor
    kind: str
    groups: int = 1
    linger: Optional[str] = None
    ack: Optional[str] = None
    workers: int = 1
    # The last group: dead (nobody listens) or stalled (reads and never answers).
    trouble: Optional[str] = None
    # Idle connections beside the load: silent ones, or used ones that have sent a frame.
    idle: Optional[str] = None
    buffer_bytes: Optional[int] = None
    tls: bool = False
    # Its sinks have the core of the process in the middle, so that a wake-up costs direct what it costs the others.
    apart: bool = False


def weir(name, **options):
    return Contender(name, "weir", **{"groups": 2, **options})


DIRECT = Contender("direct", "direct")
DIRECT_APART = Contender("direct apart", "direct", apart=True)
HAPROXY = Contender("haproxy", "haproxy")
HAPROXY_BULK = Contender("haproxy 128 KiB", "haproxy", buffer_bytes=131072)
NGINX = Contender("nginx", "nginx")
WEIR1 = weir("weir 1 group", groups=1)
WEIR2 = weir("weir 2 groups")
WEIR3 = weir("weir 3 groups", groups=3)
NO_LINGER = weir("weir linger 0", linger="0")
LINGER2 = weir("weir linger 2 ms", linger="2ms")
NO_LINGER1 = weir("weir 1 group linger 0", groups=1, linger="0")
DELIVERED = weir("weir ack delivered", ack="delivered")
WORKERS2 = weir("weir 2 workers", workers=2)
DEAD = weir("weir dead group", trouble="dead")
STALLED = weir("weir stalled group", trouble="stalled")
SILENT = weir("weir idle silent", idle="silent")
USED = weir("weir idle used", idle="used")
FLOOR = Contender("kernel floor", "floor", groups=2)
FOUR = (DIRECT, HAPROXY, NGINX, WEIR2)


def with_tls(contender):
    return replace(contender, name=contender.name + " TLS", tls=True)


@dataclass(frozen=True)
class Cell:
    """One shape of load. E = events a frame, C = connections, W = frames in flight on each."""

    key: str
    events: int
    connections: int
    window: int = 1
    rate: int = 0
    contenders: Tuple[Contender, ...] = FOUR
    goals: Tuple[int, ...] = ()
    frame_cost_us: int = 0
    queue_mib: int = QUEUE_DEFAULT_MIB
    own_cores: bool = False
    # Counts system calls; nothing else of such a run is worth anything.
    trace: bool = False
    # The gateway's view: connections are gateways with WSO2's agent, which makes its own frames and refuses what its queue does
    # not hold. E and W mean nothing.
    agent: bool = False
    # A run is at least so long.
    seconds_least: float = 0
    idle_connections: int = IDLE_CONNECTIONS
    notes: str = field(default="", compare=False)

    def words(self):
        text = f"agent C={self.connections}" if self.agent else f"E={self.events} C={self.connections} W={self.window}"
        if self.rate:
            text += f", {self.rate} events/s offered"
        return text + (f", {self.notes}" if self.notes else "")


def goal_cells():
    """Every goal, and the costs."""
    cells = [
        Cell("c8", 1, 8, goals=(1,)),
        Cell("c64", 1, 64, contenders=(DIRECT, HAPROXY, NGINX, WEIR1, WEIR2, WEIR3, DELIVERED, WORKERS2),
             goals=(1, 2, 9, 11, 13)),
        Cell("c256", 1, 256, contenders=FOUR + (DELIVERED,), goals=(1, 13)),
        Cell("c1000", 1, 1000, goals=(1,)),
        Cell("e10", 10, 64, goals=(3,)),
        Cell("w32", 1, 64, window=32, goals=(4,)),
        Cell("bulk", 200, 8, contenders=(DIRECT, HAPROXY, HAPROXY_BULK, NGINX, WEIR2, FLOOR), goals=(5,)),
        Cell("e200", 200, 64, contenders=(DIRECT, HAPROXY, HAPROXY_BULK, NGINX, WEIR2)),
    ]
    for rate in (5000, 20000):
        cells.append(Cell(f"rate{rate}", 1, 64, rate=rate, contenders=FOUR + (DIRECT_APART, NO_LINGER, NO_LINGER1),
                          goals=(6, 7, 8)))
    cells += [
        Cell("quiet", 1, 64, rate=100, contenders=(HAPROXY, WEIR2, NO_LINGER), goals=(8,), notes="links idle between events"),
        Cell("own", 1, 64, contenders=(DIRECT, WEIR2), goals=(9,), own_cores=True, notes="each process a core of its own"),
        Cell("idle", 1, 64, contenders=(WEIR2, SILENT, USED), goals=(12,), notes="idle connections beside"),
        Cell("away", 1, 64, contenders=(WEIR2, DEAD, STALLED), goals=(14,), queue_mib=64, notes="queues of 64 MiB"),
    ]
    for rate in (5000, 20000):
        cells.append(Cell(f"cost{rate}", 1, 64, rate=rate, contenders=(DIRECT, WEIR2), goals=(15,), frame_cost_us=15,
                          notes="sinks spend 15 us on a frame"))
    cells += [
        Cell("tls", 1, 64, contenders=(WEIR2,) + tuple(map(with_tls, FOUR)), notes="TLS on both sides where named so"),
        Cell("trace", 1, 64, contenders=(HAPROXY, NGINX, WEIR2), goals=(10,), trace=True, notes="traced"),
        Cell("agenttrace", 0, 1, rate=20000, contenders=(HAPROXY, WEIR2), goals=(10,), trace=True, agent=True, notes="traced"),
    ]
    for rate in (5000, 20000):
        # Long enough that a queue of 32,768 events is full where half of them are taken.
        cells.append(Cell(f"agent{rate}", 0, 1, rate=rate, contenders=(DIRECT, HAPROXY, WEIR2, LINGER2), goals=(16,), agent=True,
                          seconds_least=6, notes="the gateway's view"))
    return cells


def quick_cells():
    """Everything that has machinery of its own, once, small."""
    small = [
        Cell("c8", 1, 8, contenders=(DIRECT, HAPROXY, NGINX, WEIR1, WEIR2, DELIVERED), goals=(1,)),
        Cell("bulk", 200, 8, contenders=(HAPROXY_BULK, WEIR2, FLOOR), goals=(5,)),
        Cell("rate5000", 1, 64, rate=2000, contenders=FOUR + (NO_LINGER,), goals=(6, 7, 8), notes="smaller than the goal's"),
        Cell("idle", 1, 64, contenders=(WEIR2, USED), goals=(12,), idle_connections=200),
        Cell("away", 1, 8, contenders=(DEAD, STALLED), goals=(14,), queue_mib=32),
        Cell("cost5000", 1, 64, rate=2000, contenders=(DIRECT, WEIR2), goals=(15,), frame_cost_us=15),
        Cell("tls", 1, 8, contenders=tuple(map(with_tls, FOUR))),
        Cell("trace", 1, 8, contenders=(WEIR2,), goals=(10,), trace=True),
        Cell("agent20000", 0, 1, rate=2000, contenders=(DIRECT, WEIR2), goals=(16,), agent=True, notes="smaller than the goal's"),
    ]
    return small


# So many events in flight are several hundred MiB in the load generator alone.
IN_FLIGHT_MAX = 200_000


def grid_cells():
    """The whole grid, without what would measure memory; and in words what was left out."""
    cells, left_out = [], []
    for tls in (False, True):
        for events in (1, 10, 200):
            for connections in (1, 8, 64, 256):
                for window in (1, 32):
                    shape = f"E={events} C={connections} W={window}"
                    if events * connections * window > IN_FLIGHT_MAX:
                        if not tls:
                            left_out.append(f"{shape}: more than {IN_FLIGHT_MAX} events in flight")
                        continue
                    who = (DIRECT, HAPROXY, NGINX, WEIR1, WEIR2, WEIR3)
                    key = f"grid-{events}-{connections}-{window}" + ("-tls" if tls else "")
                    who = tuple(map(with_tls, who)) if tls else who
                    cells.append(Cell(key, events, connections, window, contenders=who, notes="TLS" if tls else ""))
    return cells, left_out


def choose(quick=False, full=False, goal=None, keys=()):
    """The cells of a run, and in words what was left out."""
    if quick:
        return quick_cells(), []
    cells, left_out = goal_cells(), []
    if full or keys:
        more, left_out = grid_cells()
        cells += more
    if goal is not None:
        cells = [cell for cell in cells if goal in cell.goals]
    if keys:
        cells, left_out = [cell for cell in cells if cell.key in keys], []
    return cells, left_out


def seconds(cells, rounds, duration, warm_up):
    """About how long it takes."""
    total = 0.0
    for cell in cells:
        for contender in cell.contenders:
            one = max(duration, cell.seconds_least) + warm_up + 0.4
            one += 10 if contender.idle else 0
            one += 4 if contender.trouble else 0
            total += one * (1 if cell.trace else rounds)
    return total
