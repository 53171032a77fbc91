"""Child processes: pinned, limited in time, and never outliving this one."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

from machine import Trouble

PR_SET_PDEATHSIG = 1
PR_SET_TIMERSLACK = 29
LIBC = ctypes.CDLL(None, use_errno=True)


class Children:
    """All processes of one run. Use it in a with statement: at its end none is left."""

    def __init__(self, folder):
        self.folder = folder
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.all):
            child.kill()

    def start(self, name, command, cores, environment=None):
        """Starts a process on `cores`; what it says goes to files of the run's folder."""
        child = Child(self, name, command, cores, environment)
        self.all.append(child)
        return child


class Child:
    def __init__(self, children, name, command, cores, environment):
        self.name = name
        number = len(children.all)
        self.out = os.path.join(children.folder, f"{number}-{name}.out")
        self.err = os.path.join(children.folder, f"{number}-{name}.err")
        parent = os.getpid()

        def prepare():
            # Ends with its parent, however that ends.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, cores)
            if name == "load":
                # A rate is kept by sleeping: without this each sleep is 50 us late.
                LIBC.prctl(PR_SET_TIMERSLACK, 1)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    preexec_fn=prepare,
                    start_new_session=True,
                    env={**os.environ, **(environment or {})},
                )
            except OSError as error:
                raise Trouble(f"cannot start {command[0]}: {error.strerror}") from error

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        with open(self.out, encoding="utf-8", errors="replace") as file:
            return file.read()

    def words(self):
        """The last of what it complained about."""
        with open(self.err, encoding="utf-8", errors="replace") as file:
            text = file.read()
        return " / ".join(text.strip().splitlines()[-3:]) or "it said nothing"

    def errors(self):
        with open(self.err, encoding="utf-8", errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process.poll() is None

    def need_alive(self):
        if not self.alive():
            raise Trouble(f"{self.name} ended with {self.process.returncode}: {self.words()}")

    def until(self, what, is_so, limit=20):
        """Waits until `is_so()` gives something; the process must live meanwhile."""
        deadline = time.monotonic() + limit
        while True:
            found = is_so()
            if found:
                return found
            self.need_alive()
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name}: not within {limit} s: {what}; {self.words()}")
            time.sleep(0.01)

    def finish(self, limit):
        """Waits for its end by itself."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Trouble(f"{self.name} took longer than {limit:.0f} s: {self.words()}") from None

    def stop(self, limit=30, how=signal.SIGTERM):
        """Asks it to end and waits."""
        if self.alive():
            self.process.send_signal(how)
        return self.finish(limit)

    def kill(self):
        """Ends the process and what it started, at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()


def free_port():
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
