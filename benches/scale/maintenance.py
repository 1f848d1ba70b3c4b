"""What a run of retention and expiry costs beside what rests: nothing of it is due."""

import time

import measure
from scale import batches, cost, stores
from scale.groups import GROUPS, groups_with_offsets
from scale.produce import SMALL_BATCH
from scale.rows import Figure, Row
from scale.wire import PRODUCE, Connection, check_produced, produce

WINDOW = 500
INTERVAL_MS = 100
SECONDS = 5


def fill(bench, folder, size):
    """So many topics with a batch each, and groups with an offset each."""
    broker = stores.broker(bench, folder)
    measure.create_topics(broker.address, size)
    measure.create_topic(broker.address, "load", 4)
    names = [f"topic-{number:05d}" for number in range(size)]
    batch = batches.small(SMALL_BATCH, int(time.time() * 1000))
    with Connection(broker.port) as connection:
        bodies = (produce(name, [(0, batch)]) for name in names)
        for name, reply in zip(names, connection.pipeline(PRODUCE, bodies, WINDOW)):
            check_produced(reply, name)
    groups_with_offsets(broker.port, size)[0].close()
    broker.stop()


def runs(bench, size):
    """CPU of the broker per run, with what it does beside, which is nothing."""
    with stores.folder() as folder:
        fill(bench, folder, size)
        broker = stores.broker(bench, folder, retention_interval=f"{INTERVAL_MS}ms")
        pid = broker.process.pid
        cost.settle(pid)
        before = cost.cpu_seconds(pid)
        time.sleep(SECONDS)
        spent = cost.cpu_seconds(pid) - before
        broker.stop()
    return spent / (SECONDS * 1000 / INTERVAL_MS) * 1e6


ROWS = [
    Row(GROUPS, runs, [Figure("a run of retention and expiry, among topics and groups at rest", allowed=1.2)]),
]
