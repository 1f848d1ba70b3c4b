"""Costs of calls beside many topics, and of fetch sessions with many partitions."""

import struct

import measure
from scale import cost, stores
from scale.rows import Figure, Row
from scale.wire import CREATE_TOPICS, FETCH, METADATA, NOTHING, Connection, check_metadata, compact, metadata, varint

TOPICS = [100, 1_000, 10_000]
CREATED = 200  # few, because they are added to the smallest size, too
FETCHES = 1_000
MAX_WAIT_MS, MIN_BYTES, MAX_BYTES = 1, 1, 50 << 20


def creations(bench, topics):
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topics(broker.address, topics)
        # A broker folds its journal when it stops: what the others still cost is not counted.
        broker.stop()
        broker.start()
        with Connection(broker.port) as connection:
            names = (f"new-{number:05d}" for number in range(2 * CREATED))
            spent = cost.microseconds(broker, lambda _: create(connection, next(names)), CREATED)
        broker.stop()
    return spent


def create(connection, name):
    body = struct.pack(">i", 1) + measure.string(name) + struct.pack(">ihii", 1, 1, 0, 0) + struct.pack(">ib", 30_000, 0)
    reply = connection.ask(CREATE_TOPICS, body)
    error = struct.unpack_from(">h", reply, 4 + 4 + 2 + len(name))[0]
    assert error == 0, f"CreateTopics: error {error}"


def lookups(bench, topics):
    """Of one topic, CPU; of all, the best of some times, in milliseconds."""
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topics(broker.address, topics)
        with Connection(broker.port) as connection:
            name = f"topic-{topics // 2:05d}"
            check_metadata(connection.ask(METADATA, metadata(name)))
            spent = cost.microseconds(broker, lambda _: connection.ask(METADATA, metadata(name)))
        of_all = sorted(measure.metadata_all(broker.port) * 1000 for _ in range(5))[2]
        broker.stop()
    return spent, of_all


class FetchSession:
    """A fetch session (KIP-227) with partitions that nobody writes to."""

    def __init__(self, connection, topic, partitions):
        self.connection, self.id, self.epoch = connection, 0, 0
        whole = struct.Struct(">iiqiqi")
        listed = b"".join(whole.pack(number, -1, 0, -1, -1, 1 << 20) + NOTHING for number in range(partitions))
        self.fetch(varint(2) + compact(topic) + varint(partitions + 1) + listed + NOTHING)
        assert self.id != 0, "the broker made no session"

    def fetch(self, topics=b"\1"):
        """All partitions of the session, after changing them by `topics`."""
        body = struct.pack(">iiiib", -1, MAX_WAIT_MS, MIN_BYTES, MAX_BYTES, 0) + struct.pack(">ii", self.id, self.epoch)
        reply = self.connection.ask(FETCH, body + topics + b"\1" + b"\1" + NOTHING)
        error, session = struct.unpack_from(">hi", reply, 4)
        assert error == 0, f"Fetch: error {error}"
        # An answer without partitions, and no tags: nothing has changed.
        assert self.epoch == 0 or reply[10:] == b"\1\0", "a partition at rest has changed"
        self.id, self.epoch = session, self.epoch + 1


def fetches(bench, partitions):
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topic(broker.address, "resting", partitions)
        with Connection(broker.port) as connection:
            session = FetchSession(connection, "resting", partitions)
            spent = cost.microseconds(broker, lambda _: session.fetch(), FETCHES)
        broker.stop()
    return spent


ROWS = [
    Row(TOPICS, creations, [Figure("create a topic, among topics", allowed=1.2)]),
    Row(TOPICS, lookups, [
        Figure("Metadata of one topic, among topics", allowed=1.2),
        Figure("Metadata of all topics", "ms", goal="< 20", only_largest=True),
    ]),
    Row([10, 1_000, 10_000], fetches, [Figure("incremental Fetch, resting partitions", allowed=2)]),
]
