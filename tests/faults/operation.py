#!/usr/bin/env python3
"""A broker in operation: reload on SIGHUP, drain on SIGTERM, the admin server, JSON logs.

    operation.py --binary PATH
"""

import argparse
import json
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "benches"))

from confluent_kafka import Producer  # noqa: E402

import measure  # noqa: E402
from broker import SECONDS_MAX, free_port  # noqa: E402

CONFIG = """
[node]
shutdown_grace = "60s"
reload_drain = "1s"
[log]
level = "debug"
format = "json"
[admin]
bind = "127.0.0.1:{admin}"
token = "sesame"
[listeners.main]
bind = "127.0.0.1:{main}"
stack = {stack}
{extra}
[layers.limits]
connections_per_address_max = {per_address}
[services.local]
kind = "storage"
url = "memory://"
"""


class Operation:
    def __init__(self, binary, folder):
        self.binary, self.file, self.log = binary, f"{folder}/y.toml", f"{folder}/log"
        self.main, self.other, self.admin = free_port(), free_port(), free_port()
        self.process = None

    def write(self, stack='["limits", "framing", "metrics", "trace", "local"]', extra="", per_address=100, admin=None):
        text = CONFIG.format(main=self.main, admin=admin or self.admin, stack=stack, extra=extra, per_address=per_address)
        pathlib.Path(self.file).write_text(text)

    def start(self):
        self.process = subprocess.Popen([self.binary, "run", self.file], stderr=open(self.log, "wb"))
        self.wait(lambda: self.get("/readyz")[0] == 200, "ready")

    def said(self):
        return pathlib.Path(self.log).read_text()

    def wait(self, condition, what):
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not {what() if callable(what) else what}: {self.said()[-3000:]}")

    def reload(self, word):
        before = self.said().count(word)
        self.process.send_signal(signal.SIGHUP)
        self.wait(lambda: self.said().count(word) > before, f"reloaded with {word!r}")

    def get(self, path, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS_MAX) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
    connection.sendall(measure.request(18, 0, b"", False))
    measure.receive(connection)
    return connection


def is_closed(connection):
    """Waits for the end of a connection that has nothing to read any more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def check_admin(operation):
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{operation.main}", "log_level": 0})
    producer.produce("seen", b"x" * 100)
    assert producer.flush(SECONDS_MAX) == 0
    assert operation.get("/livez")[0] == 200
    assert operation.get("/metrics")[0] == 401 and operation.get("/metrics", "wrong")[0] == 401
    status, page = operation.get("/metrics", "sesame")
    assert status == 200
    for line in ['yagura_partition_high_watermark{topic="seen",partition="0"} 1', "yagura_calls_total", "# TYPE"]:
        assert line in page, f"{line!r} is not in\n{page}"
    shown = json.loads(operation.get("/config", "sesame")[1])
    assert shown["admin"]["token"] == "***", shown
    stack = json.loads(operation.get("/stack", "sesame")[1])
    assert stack["main"]["stack"][-1] == "local", stack
    assert operation.get("/nothing", "sesame")[0] == 404


def check_logs(operation):
    """Every line is an object; a call is one line with its facts."""
    def produced():
        # The last line may be being written.
        lines = [json.loads(line) for line in operation.said().split("\n")[:-1] if line.startswith("{")]
        return [line for line in lines if line.get("api") == "Produce"]

    operation.wait(produced, "a line for the Produce")
    assert "seen" in json.dumps(produced()[0]), operation.said()[:3000]


def check_reload(operation):
    """A bad file changes nothing; a good one adds a listener, changes another, and old connections are drained."""
    old = connect(operation.main)
    operation.write(stack='["limits", "fraiming", "local"]')
    operation.reload("was not taken")
    old.sendall(measure.request(18, 0, b"", False))
    assert measure.receive(old), "the old stack must go on"

    operation.write(admin=free_port())
    operation.reload("only with a restart")

    extra = f'[listeners.other]\nbind = "127.0.0.1:{operation.other}"\nstack = ["framing", "local"]'
    operation.write(extra=extra, per_address=2)
    operation.reload("is in force")
    assert is_closed(old), "a connection of the old tower must be wound down"
    connect(operation.other).close()
    first, second = connect(operation.main), connect(operation.main)
    third = socket.create_connection(("127.0.0.1", operation.main), timeout=SECONDS_MAX)
    assert is_closed(third), "the third connection of one address must be closed now"
    first.close()
    second.close()

    operation.write()
    operation.reload("is in force")
    operation.wait(lambda: refuses(operation.other), "closed")


def check_unchanged(operation):
    """A file that is as before changes nothing: no connection, no metric; and the metrics go on counting."""
    # A connection is counted out after its last call was counted; what else there was of the checks before is over.
    operation.wait(lambda: metric(operation, "yagura_connections_open") == 0, "without connections")
    before = calls(operation)
    held = connect(operation.main)
    operation.wait(lambda: calls(operation) == before + 1, "counting one call")
    page = metrics_at_rest(operation)
    shown = operation.get("/config", "sesame"), operation.get("/stack", "sesame")
    for _ in range(3):
        operation.reload("nothing changed")
    assert metrics(operation) == page
    assert (operation.get("/config", "sesame"), operation.get("/stack", "sesame")) == shown
    before = calls(operation)
    held.sendall(measure.request(18, 0, b"", False))
    assert measure.receive(held), "a connection of before the reload must go on"
    connect(operation.main).close()
    operation.wait(lambda: calls(operation) == before + 2, lambda: f"{before + 2} calls, but {calls(operation)}, after a reload")
    held.close()


def metrics_at_rest(operation):
    """The metrics, once what came before has been counted."""
    pages = [metrics(operation)]

    def is_at_rest():
        time.sleep(0.2)
        pages.append(metrics(operation))
        return pages[-1] == pages[-2]

    operation.wait(is_at_rest, "at rest")
    return pages[-1]


def metrics(operation):
    """All but those of the store, which works on by itself."""
    page = operation.get("/metrics", "sesame")[1].splitlines()
    return [line for line in page if not line.startswith("yagura_store_")]


def calls(operation, api=""):
    return metric(operation, "yagura_calls_total", api and f'{{api="{api}"}}')


def metric(operation, name, labels=""):
    """The sum over whatever else tells its series apart."""
    page = operation.get("/metrics", "sesame")[1].splitlines()
    series = (name + labels,) if labels else (name + "{", name + " ")
    return sum(float(line.split()[-1]) for line in page if line.startswith(series))


def check_bind(operation):
    """A listener moves to the port that its file says, or the reload is refused by name; what is shown is what is."""
    old, new = operation.main, free_port()

    def is_on(port):
        connect(port).close()
        config = json.loads(operation.get("/config", "sesame")[1])["listeners"]["main"]
        stack = json.loads(operation.get("/stack", "sesame")[1])["main"]
        address = f"127.0.0.1:{port}"
        return (config["bind"], stack["bind"], stack["address"]) == (address,) * 3

    assert is_on(old)
    busy = socket.create_server(("127.0.0.1", 0))
    operation.main = busy.getsockname()[1]
    operation.write()
    operation.reload(f"listener main cannot bind 127.0.0.1:{operation.main}")
    busy.close()
    assert is_on(old)

    # Another listener cannot take the port in the same step in which this one leaves it.
    operation.main = new
    operation.write(extra=f'[listeners.other]\nbind = "127.0.0.1:{old}"\nstack = ["framing", "local"]')
    operation.reload(f"listener other cannot bind 127.0.0.1:{old} while listener main is on 127.0.0.1:{old}")
    assert is_on(old) and refuses(new)

    held = connect(old)
    operation.write()
    operation.reload("is in force")
    assert is_on(new)
    operation.wait(lambda: refuses(old), "closed")
    assert is_closed(held), "a connection to the old port must be wound down"


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX).close()
        return False
    except ConnectionRefusedError:
        return True


def check_drain(operation):
    """SIGTERM: a parked fetch is answered instead of waiting for its 20 minutes, and the broker ends well.

    A fetch that it left parked would be cut off unanswered after `shutdown_grace`.
    """
    topic = b"seen"
    body = struct.pack(">iiiib", -1, 20 * 60_000, 1, 1 << 20, 0) + struct.pack(">ih", 1, len(topic)) + topic
    body += struct.pack(">iiqi", 1, 0, 1, 1 << 20)
    before = calls(operation, "Fetch")
    parked = connect(operation.main)
    parked.sendall(measure.request(1, 4, body, False))
    operation.wait(lambda: calls(operation, "Fetch") == before + 1, "fetching")
    said_before = len(operation.said())
    operation.process.terminate()
    assert measure.receive(parked), "the parked fetch must be answered"
    assert operation.process.wait(timeout=SECONDS_MAX) == 0, operation.said()[-2000:]
    assert "panicked" not in operation.said()
    assert "did not end in time" not in operation.said()[said_before:], operation.said()[-2000:]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    with tempfile.TemporaryDirectory() as folder:
        operation = Operation(arguments.parse_args().binary, folder)
        operation.write()
        try:
            operation.start()
            for check in [check_admin, check_logs, check_unchanged, check_bind, check_reload, check_drain]:
                check(operation)
                print(f"ok: {check.__name__}", flush=True)
        finally:
            if operation.process:
                operation.process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
