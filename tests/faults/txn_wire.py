"""The requests of a transactional producer, a reader of committed records and an operator of compacted topics, over a bare
socket: the test decides when each is sent, and sees the batches as they are stored.

The versions are the last before "flexible" encodings, but for EndTxn 5, which gives the producer its next epoch, and
DescribeTransactions, which has no other.
"""

import contextlib
import pathlib
import struct
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "clients"), str(ROOT / "differential")]

import records  # noqa: E402
import wire  # noqa: E402
from wire import array, string  # noqa: E402

PRODUCE, FETCH, OFFSET_FETCH, INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN = 0, 1, 9, 22, 24, 25, 26
TXN_OFFSET_COMMIT, DESCRIBE_LOG_DIRS, INCREMENTAL_ALTER_CONFIGS, DESCRIBE_TRANSACTIONS = 28, 35, 44, 65
ACKS_ALL, TIMEOUT_MS, TOPIC_RESOURCE, SET = -1, 120_000, 2, 0
UNCOMMITTED, COMMITTED = 0, 1
FETCH_BYTES = 8 << 20
WINDOW = 64
NO_TAGS = b"\0"
ABORT, COMMIT = 0, 1
UNSTABLE_OFFSET_COMMIT = 88


class Batch(NamedTuple):
    """A batch as it is stored. `marker` is COMMIT or ABORT of a control batch, or None."""

    base_offset: int
    next_offset: int
    producer: tuple  # id and epoch
    marker: int | None
    records: list  # (offset, key, value)


class Fetched(NamedTuple):
    high_watermark: int
    last_stable: int
    aborted: list  # (producer id, first offset)
    batches: list


class Client(wire.Connection):
    """A connection of one client. Whatever is refused that should not be raises BrokerError."""

    def flexible(self, api, version, body):
        """As `call`, of a flexible version: the headers have tags, too."""
        reply = self.call(api, version, NO_TAGS + body + NO_TAGS)
        assert reply.take("b") == 0, "there are tags in the header of an answer"
        return reply

    def send_all(self, api, version, bodies):
        """Yields the answers in order; some requests are on their way at a time."""
        sent = 0
        for answered, _ in enumerate(bodies):
            while sent < min(answered + WINDOW, len(bodies)):
                head = struct.pack(">hhi", api, version, sent) + string("yagura-tests")
                self.socket.sendall(struct.pack(">i", len(head) + len(bodies[sent])) + head + bodies[sent])
                sent += 1
            reply = wire.Reader(self._receive(struct.unpack(">i", self._receive(4))[0]))
            assert reply.take("i") == answered, "an answer out of turn"
            yield reply

    def produce(self, topic, batches, transactional_id=None):
        """A batch for each of some partitions; returns their base offsets."""
        return produced(self.call(PRODUCE, 8, produce_body(topic, batches, transactional_id)), topic)

    def fetch(self, topic, partition, offset, isolation=UNCOMMITTED):
        place = struct.pack(">iqi", partition, offset, FETCH_BYTES)
        body = struct.pack(">iiiib", -1, 0, 0, FETCH_BYTES, isolation) + array([string(topic) + array([place])])
        reply = self.call(FETCH, 4, body)
        reply.take("ii"), reply.string(), reply.take("i")
        _, error, high_watermark, last_stable = reply.take("ihqq")
        check(error, f"Fetch of {topic}-{partition} at {offset}")
        aborted = reply.array(lambda: reply.take("qq"))
        return Fetched(high_watermark, last_stable, aborted, list(batches_of(reply.bytes(max(0, reply.take("i"))))))

    def read_log(self, topic, partition):
        """All batches of a partition, which must follow each other without a gap up to the log end. What compaction has merged since
        the fetch before may begin earlier."""
        at = self.offset(topic, partition, wire.EARLIEST)
        found = []
        while (fetched := self.fetch(topic, partition, at)).high_watermark > at:
            assert fetched.batches, f"{topic}-{partition} has nothing at {at}, before its end at {fetched.high_watermark}"
            for number, batch in enumerate(fetched.batches):
                follows = batch.base_offset == at or (number == 0 and batch.base_offset <= at < batch.next_offset)
                assert follows, f"{topic}-{partition}: a batch at {batch.base_offset}, where one at {at} belongs"
                at = batch.next_offset
                found.append(batch)
        return found

    def records(self, topic, partition):
        """{offset: (key, value)} of all records, without markers."""
        data = [batch for batch in self.read_log(topic, partition) if batch.marker is None]
        return {offset: (key, value) for batch in data for offset, key, value in batch.records}

    def committed_offsets(self, group, topic, partitions):
        listed = array([string(topic) + array([struct.pack(">i", partition) for partition in partitions])])
        reply = self.call(OFFSET_FETCH, 5, string(group) + listed)
        reply.take("ii"), reply.string()

        def one():
            partition, offset, _ = reply.take("iqi")
            reply.string()
            check(reply.take("h"), f"OffsetFetch of {topic}-{partition} for {group}")
            return offset

        return reply.array(one)

    def pending_offsets(self, group, topic, partitions):
        """Whether each offset waits for the end of a transaction, as OffsetFetch with `require_stable` says it."""
        listed = bytes([len(partitions) + 1]) + b"".join(struct.pack(">i", partition) for partition in partitions)
        body = compact(group) + b"\2" + compact(topic) + listed + NO_TAGS + b"\1"
        reply = self.flexible(OFFSET_FETCH, 7, body)
        reply.take("i")
        assert reply.take("b") == 2, "one topic was asked for"
        reply.bytes(reply.take("B") - 1)

        def is_pending():
            reply.take("iqi")
            reply.bytes(max(reply.take("B") - 1, 0))
            error, _ = reply.take("hb")
            check(error if error != UNSTABLE_OFFSET_COMMIT else 0, f"OffsetFetch of {topic} for {group}")
            return error == UNSTABLE_OFFSET_COMMIT

        return [is_pending() for _ in range(reply.take("B") - 1)]

    def transaction_state(self, transactional_id):
        """As DescribeTransactions names it."""
        reply = self.flexible(DESCRIBE_TRANSACTIONS, 0, b"\2" + compact(transactional_id))
        reply.take("i")
        assert reply.take("b") == 2, "one transaction was asked for"
        check(reply.take("h"), f"DescribeTransactions of {transactional_id}")
        reply.bytes(reply.take("B") - 1)
        return reply.bytes(reply.take("B") - 1).decode()

    def alter_config(self, topic, name, value):
        one = struct.pack(">b", TOPIC_RESOURCE) + string(topic) + array([string(name) + struct.pack(">b", SET) + string(value)])
        reply = self.call(INCREMENTAL_ALTER_CONFIGS, 0, array([one]) + b"\0")
        reply.take("ii")
        check(reply.take("h"), f"IncrementalAlterConfigs of {topic}")

    def log_bytes(self, topic, partition=0):
        """The size of a partition, as DescribeLogDirs says it."""
        asked = array([string(topic) + array([struct.pack(">i", partition)])])
        reply = self.call(DESCRIBE_LOG_DIRS, 1, asked)
        reply.take("ii")
        check(reply.take("h"), "DescribeLogDirs")
        reply.string(), reply.take("i"), reply.string(), reply.take("i")
        return reply.take("iqqb")[1]


class Producer:
    """A transactional producer that keeps its epoch and sequence numbers, as a client library does."""

    def __init__(self, client, transactional_id, timeout_ms=600_000):
        self.client, self.transactional_id = client, transactional_id
        reply = client.call(INIT_PRODUCER_ID, 1, string(transactional_id) + struct.pack(">i", timeout_ms))
        reply.take("i")
        check(reply.take("h"), f"InitProducerId of {transactional_id}")
        self.id, self.epoch = reply.take("qh")
        self.sequences = {}

    def with_client(self, client):
        """On another connection: the one before ended with its broker."""
        self.client = client
        return self

    def identity(self):
        return struct.pack(">qh", self.id, self.epoch)

    def add_partitions(self, topic, partitions):
        listed = array([string(topic) + array([struct.pack(">i", partition) for partition in partitions])])
        reply = self.client.call(ADD_PARTITIONS, 2, string(self.transactional_id) + self.identity() + listed)
        reply.take("ii"), reply.string()
        for partition, error in reply.array(lambda: reply.take("ih")):
            check(error, f"AddPartitionsToTxn of {topic}-{partition}")

    def produce(self, topic, partitions, values):
        """The same records to each of some partitions, in one request; returns the base offsets."""
        batches = [(partition, self.batch(topic, partition, values)) for partition in partitions]
        return self.client.produce(topic, batches, self.transactional_id)

    def batch(self, topic, partition, values):
        sequence = self.sequences.get((topic, partition), 0)
        self.sequences[topic, partition] = sequence + len(values)
        claims = {"producer_id": self.id, "producer_epoch": self.epoch, "sequence": sequence}
        return records.batch(int(time.time() * 1000), values, attributes=records.TRANSACTIONAL, **claims)

    def commit_offsets(self, group, topic, offsets):
        """`offsets` by partition, to be committed with the transaction."""
        reply = self.client.call(ADD_OFFSETS, 2, string(self.transactional_id) + self.identity() + string(group))
        reply.take("i")
        check(reply.take("h"), f"AddOffsetsToTxn of {group}")
        listed = [struct.pack(">iqi", partition, offset, -1) + string("") for partition, offset in offsets.items()]
        body = string(self.transactional_id) + string(group) + self.identity() + array([string(topic) + array(listed)])
        reply = self.client.call(TXN_OFFSET_COMMIT, 2, body)
        reply.take("ii"), reply.string()
        for partition, error in reply.array(lambda: reply.take("ih")):
            check(error, f"TxnOffsetCommit of {topic}-{partition} for {group}")

    def end(self, commit, version):
        """EndTxn 2 or 5; returns the producer's id and epoch from then on."""
        if version < 3:
            body = string(self.transactional_id) + self.identity() + struct.pack(">?", commit)
            reply = self.client.call(END_TXN, version, body)
            reply.take("i")
            check(reply.take("h"), "EndTxn")
            return self.id, self.epoch
        body = compact(self.transactional_id) + self.identity() + struct.pack(">?", commit)
        reply = self.client.flexible(END_TXN, version, body)
        reply.take("i")
        check(reply.take("h"), "EndTxn")
        return reply.take("qh")

    def go_on_as(self, producer):
        """With the id and the epoch that EndTxn has given: sequence numbers begin anew with an epoch."""
        if producer != (self.id, self.epoch):
            (self.id, self.epoch), self.sequences = producer, {}


@contextlib.contextmanager
def refused(*codes):
    """What is done within must be refused with one of these codes."""
    try:
        yield
    except Refused as refusal:
        assert refusal.code in codes, f"{refusal}, and not one of {codes}"
    else:
        raise AssertionError(f"it was not refused with one of {codes}")


class Refused(wire.BrokerError):
    """With the code that the broker gave."""

    def __init__(self, code, what):
        super().__init__(f"{what}: error code {code}")
        self.code = code


def check(code, what):
    if code:
        raise Refused(code, what)


def compact(text):
    assert len(text) < 127
    return bytes([len(text) + 1]) + text.encode()


def produce_body(topic, batches, transactional_id=None):
    head = struct.pack(">h", -1) if transactional_id is None else string(transactional_id)
    listed = [struct.pack(">ii", partition, len(batch)) + batch for partition, batch in batches]
    return head + struct.pack(">hi", ACKS_ALL, TIMEOUT_MS) + array([string(topic) + array(listed)])


def produced(reply, topic):
    reply.take("i"), reply.string()

    def one():
        partition, error, base_offset, _, _ = reply.take("ihqqq")
        reply.array(lambda: (reply.take("i"), reply.string()))
        message = reply.string()
        check(error, f"Produce to {topic}-{partition}: {message}")
        return base_offset

    return reply.array(one)


def batches_of(data):
    """The whole batches in what a Fetch has returned, which must be uncompressed and have their right CRC."""
    at = 0
    while at + records.BATCH_OVERHEAD <= len(data):
        head = records.HEAD.unpack_from(data, at)
        end = at + 12 + head[1]
        if end > len(data):
            return
        base, crc, attributes, last, producer = head[0], head[4], head[5], head[6], head[9:11]
        assert crc == records.crc32c(data[at + records.CRC_FROM:end]), f"the batch at {base} has a wrong CRC"
        assert attributes & 7 == records.NONE, f"the batch at {base} is compressed"
        found = list(records_of(data[at + records.BATCH_OVERHEAD:end], base, head[12]))
        is_control = attributes & records.CONTROL and found
        marker = struct.unpack(">hh", found[0][1])[1] if is_control else None
        # A cleaner may leave a control batch without its record.
        yield Batch(base, base + last + 1, producer, marker, [] if attributes & records.CONTROL else found)
        at = end


def records_of(payload, base, count):
    at = 0
    for _ in range(count):
        length, at = varint(payload, at)
        end = at + length
        _, at = varint(payload, at + 1)  # after the attributes: the timestamp
        delta, at = varint(payload, at)
        key, at = sized(payload, at)
        value, _ = sized(payload, at)
        at = end
        yield base + delta, key, value


def sized(payload, at):
    length, at = varint(payload, at)
    return (None, at) if length < 0 else (payload[at:at + length], at + length)


def varint(data, at):
    """Zigzag; the value and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at
