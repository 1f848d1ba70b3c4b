"""Starts the real binary for a test, and ends it the way the test wants."""

import os
import re
import resource
import signal
import socket
import subprocess
import time


def free_port():
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """One broker process on one store, which may be started again and again on the same port."""

    def __init__(self, binary, store, wrapper=(), file_bytes_max=None, admin="off"):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.command = [*wrapper, binary, "broker", "--storage", store, "--admin", admin, "--listen", self.address]
        self.file_bytes_max = file_bytes_max
        self.process = None
        self.log = b""

    def start(self):
        limit = self.file_bytes_max

        def lower_limit():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        self.process = subprocess.Popen(
            self.command, stderr=subprocess.PIPE, preexec_fn=lower_limit
        )
        os.set_blocking(self.process.stderr.fileno(), False)
        self._wait_until_it_listens()
        return self

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended with {self.process.returncode}: {self.stderr()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError("the broker does not listen")

    def stderr(self):
        """What the broker has said so far."""
        while True:
            piece = self.process.stderr.read() if self.process.stderr else None
            if not piece:
                return self.log.decode(errors="replace")
            self.log += piece

    def pid(self):
        """The broker's own, under whatever wraps it: strace keeps signals to itself."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            wrapped = children.read().split()
        return int(wrapped[0]) if wrapped else self.process.pid

    def kill(self):
        """As a power cut would: no handler runs."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.stderr()

    def stop(self):
        """As an operator would; it must end by itself, and well."""
        os.kill(self.pid(), signal.SIGTERM)
        code = self.process.wait(timeout=30)
        log = self.stderr()
        assert code == 0, f"exit code {code}: {log}"
        assert not re.search("panicked", log), log

    def set_file_limit(self, size):
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
