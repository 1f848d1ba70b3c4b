"""Watches the system calls of a running broker by strace, or kills it with -9 at one of them."""

import collections
import pathlib
import signal
import subprocess
import time

from broker import SECONDS_MAX
from fsync import BEGUN, Call

SYNCS = ["fdatasync", "fsync"]
# What changes files. A broker writes to them at places that it names, and to sockets and event counters otherwise.
WRITES = ["pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "unlink", "rename", *SYNCS]
# How an answer leaves.
SENDS = ["sendto", "sendmsg", "writev"]
LET_GO_SECONDS_MAX = 2


class SystemCalls:
    """Attached to a broker while the context lasts.

    With `kill_at`, a name and a number, the broker is killed at the beginning of its call of that name and number, counted
    by thread: what the call would do is not done any more.
    """

    def __init__(self, broker, folder, names, kill_at=None):
        self.file = pathlib.Path(folder, "calls")
        self.file.unlink(missing_ok=True)
        command = ["strace", "-f", "-y", "-s", "0", "-o", str(self.file), "-e", f"trace={','.join(names)}"]
        if kill_at:
            name, number = kill_at
            command += ["-e", f"inject={name}:signal=SIGKILL:when={number}"]
        self.command = [*command, "-p", str(broker.pid())]

    def __enter__(self):
        said = self.file.with_name("strace")
        with open(said, "wb") as stderr:
            self.process = subprocess.Popen(self.command, stderr=stderr)
        deadline = time.monotonic() + SECONDS_MAX
        while "attached" not in said.read_text():
            if self.process.poll() is not None:
                remedy = "run the test as root, or set kernel.yama.ptrace_scope to 0"
                raise AssertionError(f"strace could not attach: {said.read_text()}; {remedy}")
            assert time.monotonic() < deadline, f"strace did not attach in {SECONDS_MAX} s"
            time.sleep(0.005)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # it lets the broker go
        try:
            self.process.wait(LET_GO_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            # Of a broker that was killed it may wait for ever for threads that have ended.
            self.process.kill()
            self.process.wait()

    def begun(self):
        """The calls that have begun so far, as strace has written them."""
        with open(self.file, encoding="latin-1", newline="\n") as trace:
            found = [BEGUN.match(line.rstrip("\n")) for line in trace]
        return [Call(call.group(2), call.group(3), None) for call in found if call]

    def counts(self):
        """{name: how many}"""
        return collections.Counter(call.name for call in self.begun())

    def syncs(self, store):
        """How often a file of the store was synced."""
        return sum(call.name in SYNCS and store in call.descriptor() for call in self.begun())
