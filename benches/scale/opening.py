"""How long a store takes to open, and how much of it is in memory then."""

import socket
import subprocess
import time

import measure
from broker import free_port
from scale import cost, stores
from scale.rows import Figure, Row
from scale.wire import METADATA, OFFSET_COMMIT, Connection, check_committed, check_metadata, metadata, offset_commit, request

# Few partitions, so that nearly all documents of the smallest store are committed offsets, too.
PARTITIONS = 1_000
WINDOW = 8
STARTS = 5
SECONDS_MAX = 120


def make(bench, folder, documents):
    """A store with so many committed offsets, a thousand per group."""
    broker = stores.broker(bench, folder)
    measure.create_topic(broker.address, "wide", PARTITIONS)
    measure.create_topic(broker.address, "narrow", 1)
    bodies = (offset_commit(f"group-{n:05d}", "wide", PARTITIONS, n) for n in range(documents // PARTITIONS))
    with Connection(broker.port) as connection:
        for reply in connection.pipeline(OFFSET_COMMIT, bodies, WINDOW):
            check_committed(reply, "wide", PARTITIONS)
    broker.stop()


def start_to_metadata(bench, folder):
    """Milliseconds from exec to the answer about a topic, for which the store has to be open, and MiB resident then."""
    port = free_port()
    command = [bench.binary, "broker", "--storage", f"sqlite://{folder}/y.db", "--listen", f"127.0.0.1:{port}", "--admin", "off"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with connected(port, started + SECONDS_MAX) as connection:
            connection.sendall(request(METADATA, metadata("narrow")))
            reply = measure.receive(connection)[4:]
        took = time.perf_counter() - started
        resident = cost.resident(process.pid)
    finally:
        process.terminate()
        process.wait()
    check_metadata(reply)
    return took * 1000, resident / 2**20


def connected(port, deadline):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.0002)


def starts(bench, documents):
    """The medians of some starts."""
    folder = bench.kept.folder(f"documents-{documents}", lambda folder: make(bench, folder, documents))
    figures = zip(*(start_to_metadata(bench, folder) for _ in range(STARTS)))
    return tuple(sorted(figure)[STARTS // 2] for figure in figures)


ROWS = [
    Row([10_000, 100_000, 1_000_000], starts, [
        Figure("exec to ready, by documents", "ms", allowed=1.3, goal="<= 10"),
        Figure("resident when ready, by documents", "MiB", goal="<= 16"),
    ]),
]
