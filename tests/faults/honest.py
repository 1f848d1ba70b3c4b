"""Clients that do nothing unusual: each asks for one thing, again and again, and checks every answer."""

import math
import pathlib
import struct
import threading
import time

import measure
from records import batch
from scale import wire
from scale.wire import API_VERSIONS, METADATA, OFFSET_COMMIT, PRODUCE, Connection

FETCH = (1, 4)
SMALL, LARGE, COMMITTED = "honest-small", "honest-large", "honest-commits"
LARGE_PARTITIONS = 5
MIB = 1 << 20
PAUSE = 0.05
BEGIN_SECONDS_MAX = 120
# Within seconds, on a machine that is busy with other work as well. On an idle one the slowest take about a quarter of it.
ANSWER_SECONDS_MAX = 30
# A client that gets no processor for so long cannot keep the broker's `stall_timeout`, and is closed with good reason.
STARVED_SECONDS = 1.5
NOW_MS = int(time.time() * 1000)


def one_mib():
    """A batch of nearly 1 MiB, which is the most that a topic takes unless it is told otherwise."""
    return batch(NOW_MS, [b"v" * 65_000] * 16)


def starved_seconds():
    """For how long this thread has been ready to run, and did not."""
    return int(pathlib.Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class Kind:
    """Clients of one kind. The time of every answer is kept, and what was wrong."""

    def __init__(self, name, ask, connects=False):
        self.name, self.ask, self.connects = name, ask, connects

    def run(self, port, goes_on):
        """Asks at least once, and while it `goes_on`."""
        times, faults, connection = [], [], None
        while not times or goes_on():
            if self.connects and connection:
                connection = connection.close()
            started, starved = time.monotonic(), starved_seconds()
            try:
                connection = connection or connect(port)
                self.ask(connection)
            except (OSError, AssertionError, struct.error) as fault:
                connection = connection and connection.close()
                is_own = isinstance(fault, ConnectionError) and starved_seconds() - starved >= STARVED_SECONDS
                if is_own and time.monotonic() - started < ANSWER_SECONDS_MAX:
                    continue
                faults.append(f"{type(fault).__name__}: {fault}, after {time.monotonic() - started:.1f} s")
            times.append(time.monotonic() - started)
            time.sleep(PAUSE)
        if connection:
            connection.close()
        return times, faults


def connect(port):
    connection = Connection(port)
    connection.socket.settimeout(ANSWER_SECONDS_MAX)
    return connection


def kinds(long_topic, last, topics):
    """`last` is the offset and the value of the last record of `long_topic`; there are at least so many topics."""
    small, large = batch(NOW_MS, [b"v" * 1024]), one_mib()
    return [
        Kind("Produce of 1 KiB", lambda c: produce(c, SMALL, [(0, small)])),
        Kind("Produce of 5 MiB", lambda c: produce(c, LARGE, [(p, large) for p in range(LARGE_PARTITIONS)])),
        Kind("Fetch of the last record", lambda c: fetch(c, long_topic, *last)),
        Kind("Metadata of one topic", lambda c: wire.check_metadata(c.ask(METADATA, wire.metadata(SMALL)))),
        Kind("OffsetCommit", commit),
        Kind(f"Metadata of {topics:,} topics", lambda c: metadata_of_all(c, topics)),
        Kind("ApiVersions of a new connection", api_versions, connects=True),
    ]


def produce(connection, topic, batches):
    wire.check_produced(connection.ask(PRODUCE, wire.produce(topic, batches)), topic, len(batches))


def fetch(connection, topic, offset, value):
    body = struct.pack(">iiiib", -1, 500, 1, MIB, 0) + struct.pack(">i", 1) + measure.string(topic)
    reply = connection.ask(FETCH, body + struct.pack(">iiqi", 1, 0, offset, MIB))
    error, high_watermark = struct.unpack_from(">hq", reply, 4 + 4 + 2 + len(topic) + 4 + 4)
    assert (error, high_watermark) == (0, offset + 1), f"Fetch: error {error}, high watermark {high_watermark}"
    assert value in reply, "Fetch: not the record that was asked for"


def commit(connection):
    reply = connection.ask(OFFSET_COMMIT, wire.offset_commit("honest", COMMITTED, 1, 7))
    wire.check_committed(reply, COMMITTED, 1)


def metadata_of_all(connection, topics):
    reply = connection.ask(METADATA, struct.pack(">ib", -1, 0))
    brokers, _, host = struct.unpack_from(">iih", reply, 4)
    at = 4 + 4 + 4 + 2 + host + 4 + 2  # its rack is null
    cluster = struct.unpack_from(">h", reply, at)[0]
    found = struct.unpack_from(">i", reply, at + 2 + cluster + 4)[0]
    assert brokers == 1 and found >= topics, f"Metadata: {brokers} brokers, {found} topics"


def api_versions(connection):
    error, apis = struct.unpack_from(">hi", connection.ask(API_VERSIONS, b""))
    assert error == 0 and apis > 20, f"ApiVersions: error {error}, {apis} APIs"


def measure_all(port, kinds_of_clients, seconds, has_begun):
    """Each kind on a connection of its own, for so many seconds, and until that has begun beside which it is measured;
    returns the times and the faults of each by its name."""
    results, started = {}, time.monotonic()

    def goes_on():
        passed = time.monotonic() - started
        return passed < seconds or (passed < seconds + BEGIN_SECONDS_MAX and not has_begun())

    def run(kind):
        results[kind.name] = kind.run(port, goes_on)

    threads = [threading.Thread(target=run, args=(kind,)) for kind in kinds_of_clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {kind.name: results[kind.name] for kind in kinds_of_clients}


def quantile(times, part):
    return sorted(times)[max(math.ceil(len(times) * part) - 1, 0)]
