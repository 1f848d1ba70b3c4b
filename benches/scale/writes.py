"""How much is written to the disk for small batches."""

import itertools
import time

import measure
from scale import batches, cost, stores
from scale.produce import SMALL_BATCH, LoneProducer
from scale.rows import Figure, Row
from scale.wire import PRODUCE, Connection, check_produced, produce, request

AT_ONCE = 500  # batches that are sent together, so that they can share a commit or a few
ROUNDS = 240  # 20 MB of batches
SETTLE_SECONDS = 1  # for what the broker writes after its answers
LONE = 200
APART_SECONDS = 0.02


def rounds(partitions):
    """Requests of a round, with their numbers of partitions: a request may hold one batch for a partition."""
    each = min(AT_ONCE, partitions)
    batch = batches.small(SMALL_BATCH, int(time.time() * 1000))
    next_partition = 0
    while True:
        bodies = []
        for _ in range(AT_ONCE // each):
            bodies.append(produce("spread", [((next_partition + index) % partitions, batch) for index in range(each)]))
            next_partition += each
        yield bodies, each


def amplification(bench, partitions):
    """Bytes written per byte of batches, sent in rounds over the partitions in turn."""
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topic(broker.address, "spread", partitions)
        with Connection(broker.port) as connection:
            written = cost.bytes_written(broker.process.pid, lambda: send(connection, partitions), SETTLE_SECONDS)
        broker.stop()
    return written / (ROUNDS * AT_ONCE * SMALL_BATCH)


def send(connection, partitions):
    for bodies, each in itertools.islice(rounds(partitions), ROUNDS):
        connection.socket.sendall(b"".join(request(PRODUCE, body) for body in bodies))
        for _ in bodies:
            check_produced(connection.answer(PRODUCE), "spread", each)


def lone(bench, batches_sent):
    """KiB written per batch, of batches that come alone."""
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topic(broker.address, "lone", 1)
        producer = LoneProducer(broker.port, "lone")
        producer.send()
        written = cost.bytes_written(broker.process.pid, lambda: send_apart(producer, batches_sent), SETTLE_SECONDS)
        producer.close()
        broker.stop()
    return written / batches_sent / 1024


def send_apart(producer, count):
    for _ in range(count):
        time.sleep(APART_SECONDS)
        producer.send()


ROWS = [
    Row([1, 100, 1_000], amplification, [
        Figure("bytes written per byte produced, 170-byte batches, 500 batches a commit, over partitions", "x", goal="<= 20"),
    ]),
    Row([LONE], lone, [Figure("a lone small batch, KiB written, of batches 20 ms apart", "KiB", goal="<= 64")]),
]
