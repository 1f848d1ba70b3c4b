"""Starts the real binary for a test, and ends it the way the test wants."""

import atexit
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

import several  # noqa: E402
from ports import free_port  # noqa: E402

# For whatever must happen in the end. It costs nothing when all is well, and a machine that is busy with other work may
# need much of it.
SECONDS_MAX = 120
TAIL_LINES = 30


def wait_until(condition, what, seconds=SECONDS_MAX):
    """Waits for what can be seen; `what` says what was not, or is called to say it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.02)


class Broker:
    """One broker process on one store, which may be started again and again on the same port; or several (see several.py)."""

    all = []

    def __init__(self, binary, store, wrapper=(), file_bytes_max=None, admin="off"):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.command = [*wrapper, binary, "broker", "--storage", store, "--admin", admin, "--listen", self.address]
        self.file_bytes_max = file_bytes_max
        self.process = None
        # A file and no pipe, which would stop the broker whenever it is full and the test does not read it.
        self._log = tempfile.TemporaryFile()
        Broker.all.append(self)

    def start(self):
        limit = self.file_bytes_max

        def lower_limit():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        def start_one(command):
            return subprocess.Popen(command, stderr=self._log, preexec_fn=lower_limit)

        count, apart = several.asked_for()
        if count == 1:
            self.process = start_one(self.command)
            self._wait_until_it_listens(self.port)
            return self
        if not self.process or self.process.balancer.poll() is not None:
            self.process = several.Process(self, count, apart)
        for port in [*self.process.start(start_one), self.port]:
            self._wait_until_it_listens(port)
        return self

    def _wait_until_it_listens(self, port):
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended with {self.process.returncode}: {self.stderr()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"the broker does not listen: {self.stderr()}")

    def stderr(self):
        """What the broker has said so far, since it was first started."""
        file = self._log.fileno()
        # Not by seek and read: the place in the file is the broker's, too.
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def pid(self):
        """The broker's own, under whatever wraps it: strace keeps signals to itself."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            wrapped = children.read().split()
        return int(wrapped[0]) if wrapped else self.process.pid

    def kill(self):
        """As a power cut would: no handler runs. Of several brokers one is killed."""
        if isinstance(self.process, several.Process):
            self.process.kill_one()
            return
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """As an operator would; it must end by itself, and well."""
        if isinstance(self.process, several.Process):
            self.process.send_signal(signal.SIGTERM)
        else:
            os.kill(self.pid(), signal.SIGTERM)
        try:
            code = self.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{SECONDS_MAX} s after SIGTERM the broker still runs: {self.stderr()}") from None
        log = self.stderr()
        assert code == 0, f"exit code {code}: {log}"
        assert "panicked" not in log, log

    def set_file_limit(self, size):
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@atexit.register
def _end_all():
    """A test that fails leaves no broker behind."""
    for broker in Broker.all:
        if isinstance(broker.process, several.Process):
            broker.process.kill()
        elif broker.process:
            broker.kill()


def _show_failure(kind, error, traceback):
    """What each broker said last stands above the test's own words."""
    for broker in Broker.all:
        for line in broker.stderr().splitlines()[-TAIL_LINES:]:
            print(f"{broker.address} | {line}", file=sys.stderr)
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = _show_failure
