"""Requests over raw sockets, so that no client library is part of what is measured."""

import collections
import socket
import struct

import measure

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT = (0, 8), (1, 12), (2, 5), (3, 5), (8, 8)
JOIN, SYNC, CREATE_TOPICS, DELETE_RECORDS, API_VERSIONS = (11, 2), (14, 1), (19, 3), (21, 1), (18, 0)
PRODUCE_12, FETCH_4, INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = (0, 12), (1, 4), (22, 1), (24, 2), (26, 5)
ALTER_CONFIGS = (44, 0)
FLEXIBLE = {FETCH, OFFSET_COMMIT, PRODUCE_12, END_TXN}
ACKS_ALL = -1
NOTHING = b"\0"  # no tags; also a compact array or string that is null


def varint(value):
    """Unsigned, as lengths in flexible versions are."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def compact(text):
    return varint(len(text) + 1) + text.encode()


def request(api, body):
    return measure.request(*api, body, api in FLEXIBLE)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, api, body):
        self.socket.sendall(request(api, body))

    def answer(self, api):
        """The next answer's body."""
        return measure.receive(self.socket)[5 if api in FLEXIBLE else 4:]

    def ask(self, api, body):
        self.send(api, body)
        return self.answer(api)

    def pipeline(self, api, bodies, window):
        """Yields the answers in turn, with up to `window` requests on their way."""
        waiting = collections.deque()
        for body in bodies:
            self.send(api, body)
            waiting.append(api)
            if len(waiting) >= window:
                yield self.answer(waiting.popleft())
        while waiting:
            yield self.answer(waiting.popleft())


def produce(topic, batches):
    """A Produce request of one batch for each of some partitions."""
    body = struct.pack(">hhii", -1, ACKS_ALL, 30_000, 1) + measure.string(topic) + struct.pack(">i", len(batches))
    return body + b"".join(struct.pack(">ii", partition, len(batch)) + batch for partition, batch in batches)


def check_produced(reply, topic, partitions=1):
    """Fails unless every partition took its batch."""
    at = 4 + 2 + len(topic) + 4
    for _ in range(partitions):
        partition, error = struct.unpack_from(">ih", reply, at)
        assert error == 0, f"Produce to partition {partition}: error {error}"
        at += 4 + 2 + 8 + 8 + 8
        errors, at = struct.unpack_from(">i", reply, at)[0], at + 4
        assert errors == 0
        at += 2  # no message


def produced_12(reply, topic, partitions=1):
    """Fails unless every partition took its batch, by an answer to Produce 12 about one topic."""
    at = 1 + len(compact(topic)) + len(varint(partitions + 1))
    for _ in range(partitions):
        partition, error = struct.unpack_from(">ih", reply, at)
        assert error == 0, f"Produce to partition {partition}: error {error}"
        at += 4 + 2 + 8 + 8 + 8
        assert reply[at:at + 3] == b"\1\0\0", "no errors, no message, no tags"
        at += 3


def alter_config(topic, name, value):
    """IncrementalAlterConfigs: sets one config of a topic."""
    config = measure.string(name) + b"\0" + measure.string(value)
    return struct.pack(">ib", 1, 2) + measure.string(topic) + struct.pack(">i", 1) + config + b"\0"


def check_altered(reply):
    results, error = struct.unpack_from(">ih", reply, 4)
    assert (results, error) == (1, 0), f"IncrementalAlterConfigs: error {error}"


def metadata(topic):
    return struct.pack(">i", 1) + measure.string(topic) + b"\0"


def check_metadata(reply):
    """Fails unless the answer about one topic is one."""
    (brokers,), at = struct.unpack_from(">i", reply, 4), 8
    for _ in range(brokers):
        at += 4
        at += 2 + struct.unpack_from(">h", reply, at)[0] + 4
        at += 2 + max(struct.unpack_from(">h", reply, at)[0], 0)
    at += 2 + max(struct.unpack_from(">h", reply, at)[0], 0) + 4
    topics, error = struct.unpack_from(">ih", reply, at)
    assert (topics, error) == (1, 0), f"Metadata: {topics} topics, error {error}"


def offset_commit(group, topic, partitions, offset):
    """As a consumer without a group commits: of no generation, and by nobody."""
    body = compact(group) + struct.pack(">i", -1) + b"\1" + NOTHING + varint(2) + compact(topic) + varint(partitions + 1)
    one = struct.pack(">qi", offset, -1) + NOTHING + NOTHING
    return body + b"".join(struct.pack(">i", partition) + one for partition in range(partitions)) + NOTHING + NOTHING


def check_committed(reply, topic, partitions):
    at = 4 + 1 + len(compact(topic)) + len(varint(partitions + 1))
    for place in range(at, at + partitions * 7, 7):
        partition, error = struct.unpack_from(">ih", reply, place)
        assert error == 0, f"OffsetCommit of partition {partition}: error {error}"
