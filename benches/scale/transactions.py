"""What transactions cost: to produce in them, to end them, beside others, and to read what they have committed."""

import struct
import threading
import time

from crc32c import crc32c

import measure
from records import CRC_FROM, HEAD, TRANSACTIONAL
from scale import batches, cost, stores
from scale.rows import Figure, Row
from scale.wire import ACKS_ALL, ADD_PARTITIONS, END_TXN, FETCH_4, INIT_PRODUCER_ID, NOTHING, PRODUCE_12, Connection
from scale.wire import compact, produced_12, varint

VALUES = [bytes(range(256)) * 4] * 63  # 1 KiB each: a batch of just under 64 KiB
SMALL = [b"v" * 100]
TRANSACTION_BATCHES = 16  # a MB
PRODUCERS, PARTITIONS, IN_FLIGHT = 16, 4, 5  # requests in flight as clients have them
ROUNDS = 3  # of each kind of produce, and of each isolation level, in turns
WINDOW = 500
TIMEOUT_MS = 600_000
FETCH_BYTES = 16 << 20
UNCOMMITTED, COMMITTED = 0, 1
PLAIN, IDEMPOTENT, IN_TRANSACTIONS = "plain", "idempotent", "in transactions"


class Records:
    """Records that are sent again and again, by any producer."""

    def __init__(self, values):
        self.count = len(values)
        self.payload = b"".join(batches.record(number, value) for number, value in enumerate(values))

    def batch(self, producer=(-1, -1), sequence=-1, attributes=0):
        now_ms = int(time.time() * 1000)
        times = (now_ms, now_ms + self.count - 1)
        covered = struct.pack(">hiqqqhii", attributes, self.count - 1, *times, *producer, sequence, self.count) + self.payload
        return struct.pack(">qiibI", 0, CRC_FROM - 12 + len(covered), -1, 2, crc32c(covered)) + covered


class Producer:
    """A producer of one kind, which sends batches to the partitions of a topic in turn."""

    def __init__(self, port, topic, kind, name=None):
        self.connection, self.topic, self.kind = Connection(port), topic, kind
        self.name = name if kind == IN_TRANSACTIONS else None
        self.producer, self.sequences = (-1, -1), {}
        if kind != PLAIN:
            self.producer = init(self.connection, self.name)

    def body(self, records, partitions):
        """A batch for each of some partitions."""
        sent = b""
        for partition in partitions:
            sequence = self.sequences.get(partition, 0) if self.kind != PLAIN else -1
            batch = records.batch(self.producer, sequence, TRANSACTIONAL if self.name else 0)
            self.sequences[partition] = sequence + records.count
            sent += struct.pack(">i", partition) + varint(len(batch) + 1) + batch + NOTHING
        head = (compact(self.name) if self.name else NOTHING) + struct.pack(">hi", ACKS_ALL, 30_000)
        return head + varint(2) + compact(self.topic) + varint(len(partitions) + 1) + sent + NOTHING + NOTHING

    def send(self, records, partitions):
        """Batches, and the answer to them."""
        produced_12(self.connection.ask(PRODUCE_12, self.body(records, partitions)), self.topic, len(partitions))

    def end(self, commit=True):
        """EndTxn 5, with which the next epoch comes."""
        body = compact(self.name) + struct.pack(">qh?", *self.producer, commit) + NOTHING
        reply = self.connection.ask(END_TXN, body)
        error, *producer = struct.unpack_from(">hqh", reply, 4)
        assert error == 0, f"EndTxn: error {error}"
        self.producer, self.sequences = tuple(producer), {}

    def run(self, records, rounds):
        """So many times a MB. The answers to all batches of a transaction are there before its end."""
        waiting = 0
        for number in range(rounds * TRANSACTION_BATCHES):
            self.connection.send(PRODUCE_12, self.body(records, [number % PARTITIONS]))
            waiting += 1
            ends = self.name and (number + 1) % TRANSACTION_BATCHES == 0
            while waiting > (0 if ends else IN_FLIGHT - 1):
                produced_12(self.connection.answer(PRODUCE_12), self.topic)
                waiting -= 1
            if ends:
                self.end()
        for _ in range(waiting):
            produced_12(self.connection.answer(PRODUCE_12), self.topic)

    def close(self):
        self.connection.close()


def init_body(name):
    named = struct.pack(">h", -1) if name is None else measure.string(name)
    return named + struct.pack(">i", TIMEOUT_MS)


def initialized(reply):
    error, *producer = struct.unpack_from(">hqh", reply, 4)
    assert error == 0, f"InitProducerId: error {error}"
    return tuple(producer)


def init(connection, name):
    return initialized(connection.ask(INIT_PRODUCER_ID, init_body(name)))


def all_at_once(producers, records, rounds):
    failures = []

    def run(producer):
        try:
            producer.run(records, rounds)
        except (AssertionError, OSError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(producer,)) for producer in producers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def produces(bench, megabytes):
    """Speed and CPU of each kind over those of plain produce. All take turns on brokers of their own, a fresh one each time,
    because a store that grows becomes slower."""
    records, seconds, spent = Records(VALUES), {}, {}
    for _ in range(ROUNDS):
        for kind in [PLAIN, IDEMPOTENT, IN_TRANSACTIONS]:
            with stores.folder() as folder:
                broker = stores.broker(bench, folder)
                measure.create_topic(broker.address, "load", PARTITIONS)
                producers = [Producer(broker.port, "load", kind, f"producer-{number}") for number in range(PRODUCERS)]
                before, started = cost.cpu_seconds(broker.process.pid), time.perf_counter()
                all_at_once(producers, records, megabytes // PRODUCERS)
                seconds[kind] = seconds.get(kind, 0) + time.perf_counter() - started
                spent[kind] = spent.get(kind, 0) + cost.cpu_seconds(broker.process.pid) - before
                for producer in producers:
                    producer.close()
                broker.stop()
    speeds = [seconds[PLAIN] / seconds[kind] for kind in [IDEMPOTENT, IN_TRANSACTIONS]]
    costs = [spent[kind] / spent[PLAIN] for kind in [IDEMPOTENT, IN_TRANSACTIONS]]
    plain = ROUNDS * megabytes / seconds[PLAIN]
    return (plain, *speeds, *costs)


def ends(bench, partitions):
    """Microseconds of an EndTxn per partition, and milliseconds of all of it: from the request to the answer."""
    records, took = Records(SMALL), []
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topic(broker.address, "wide", partitions)
        producer = Producer(broker.port, "wide", IN_TRANSACTIONS, "wide")
        for _ in range(100):
            producer.send(records, range(partitions))
            started = time.perf_counter()
            producer.end()
            took.append(time.perf_counter() - started)
        producer.close()
        broker.stop()
    median = sorted(took)[len(took) // 2]
    return median / partitions * 1e6, median * 1000


def beside_others(bench, ids):
    """CPU of a transaction of one batch and its end, beside ids that have ended theirs."""
    records = Records(SMALL)
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        measure.create_topic(broker.address, "load", PARTITIONS)
        rest(broker.port, ids)
        producer = Producer(broker.port, "load", IN_TRANSACTIONS, "one")
        cost.settle(broker.process.pid)

        def transact(number):
            producer.send(records, [number % PARTITIONS])
            producer.end()

        spent = cost.microseconds(broker, transact)
        producer.close()
        broker.stop()
    return spent


def rest(port, count):
    """So many ids that have committed a transaction. Many are on their way at once, so that they share commits."""
    names = [f"id-{number:06d}" for number in range(count)]
    with Connection(port) as connection:
        replies = connection.pipeline(INIT_PRODUCER_ID, map(init_body, names), WINDOW)
        heads = [measure.string(name) + struct.pack(">qh", *initialized(reply)) for name, reply in zip(names, replies)]
        one = struct.pack(">i", 1) + measure.string("load") + struct.pack(">ii", 1, 0)
        for reply in connection.pipeline(ADD_PARTITIONS, (head + one for head in heads), WINDOW):
            assert reply[-2:] == b"\0\0", "AddPartitionsToTxn failed"
        for reply in connection.pipeline((END_TXN[0], 2), (head + b"\1" for head in heads), WINDOW):
            assert reply[-2:] == b"\0\0", "EndTxn failed"


class Committed:
    """A store with a log of transactions of a MB, of which each tenth was aborted."""

    def __init__(self, bench, megabytes):
        self.bench, self.megabytes = bench, megabytes
        self.folder = bench.kept.folder(f"transactions-{megabytes}", self.make)

    def make(self, folder):
        records = Records(VALUES)
        broker = stores.broker(self.bench, folder)
        measure.create_topic(broker.address, "log", 1)
        producer = Producer(broker.port, "log", IN_TRANSACTIONS, "writer")
        for number in range(self.megabytes):
            for _ in range(TRANSACTION_BATCHES):
                producer.send(records, [0])
            producer.end(number % 10 != 9)
        producer.close()
        broker.stop()


def fetch_all(connection, isolation):
    """Bytes of all records of the log."""
    at, found = 0, 0
    while True:
        body = struct.pack(">iiiib", -1, 0, 0, FETCH_BYTES, isolation) + struct.pack(">i", 1) + measure.string("log")
        reply = connection.ask(FETCH_4, body + struct.pack(">iiqi", 1, 0, at, FETCH_BYTES))
        place = 4 + 4 + 2 + len("log") + 4
        _, error, high_watermark, _ = struct.unpack_from(">ihqq", reply, place)
        assert error == 0, f"Fetch: error {error}"
        place += struct.calcsize(">ihqq")
        aborted = struct.unpack_from(">i", reply, place)[0]
        place += 4 + 16 * max(aborted, 0) + 4
        found += len(reply) - place
        at = next_offset(reply, place)
        if at >= high_watermark:
            return found


def next_offset(reply, at):
    """Behind the last whole batch."""
    following = None
    while at + HEAD.size <= len(reply):
        base, length = struct.unpack_from(">qi", reply, at)
        if at + 12 + length > len(reply):
            break
        following = base + struct.unpack_from(">i", reply, at + 23)[0] + 1
        at += 12 + length
    assert following is not None, "a Fetch without a batch, before the log end"
    return following


def fetches(bench, megabytes):
    """Speed of reading committed records over reading all of them. They take turns."""
    broker = stores.broker(bench, Committed(bench, megabytes).folder)
    took = {UNCOMMITTED: [], COMMITTED: []}
    with Connection(broker.port) as connection:
        sizes = [fetch_all(connection, UNCOMMITTED)]
        for number in range(2 * ROUNDS + 1):
            # Which is first changes, too.
            for isolation in [UNCOMMITTED, COMMITTED] if number % 2 else [COMMITTED, UNCOMMITTED]:
                started = time.perf_counter()
                sizes.append(fetch_all(connection, isolation))
                took[isolation].append(time.perf_counter() - started)
    broker.stop()
    assert min(sizes) > 0.99 * max(sizes), "one of them has not read the whole log"
    middle = {isolation: sorted(seconds)[ROUNDS] for isolation, seconds in took.items()}
    return middle[UNCOMMITTED] / middle[COMMITTED], sizes[0] / 1e6 / middle[COMMITTED]


ROWS = [
    Row([256], produces, [
        Figure("produce, plain, 16 producers, in MB", "MB/s"),
        Figure("idempotent produce over plain, 16 producers, in MB", "x", goal=">= 0.95"),
        Figure("produce in transactions of 1 MB over plain, 16 producers, in MB", "x", goal=">= 0.85"),
        Figure("broker CPU of idempotent produce over plain, in MB", "x"),
        Figure("broker CPU of produce in transactions of 1 MB over plain, in MB", "x"),
    ], disk=2_600_000),
    Row([1, 10, 100], ends, [
        Figure("EndTxn, time per partition, over partitions", "us", allowed=1.0),
        Figure("EndTxn, over partitions", "ms"),
    ]),
    Row([10, 1_000, 100_000], beside_others, [Figure("a transaction, beside transactional ids at rest", allowed=1.2)]),
    Row([100], fetches, [
        Figure("read_committed Fetch over read_uncommitted, in MB stored", "x", goal=">= 0.98"),
        Figure("read_committed Fetch, in MB stored", "MB/s"),
    ], disk=2_600_000),
]
