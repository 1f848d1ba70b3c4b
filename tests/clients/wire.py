"""The few Kafka requests that the test programs need, on a bare socket and the standard library.

It exists because a client library cannot be trusted to show what a broker stores: it hides
batches and their compression. It also creates topics for clients that have no admin calls.

Every version here is the last one before "flexible" encodings, and Kafka 4.1 serves them all.
"""

import socket
import struct
import time

API_FETCH, API_LIST_OFFSETS, API_METADATA, API_VERSIONS, API_CREATE_TOPICS = 1, 2, 3, 18, 19
EARLIEST, LATEST = -2, -1
SECONDS_MAX = 120  # for a machine that has no time for the test


class BrokerError(Exception):
    """The broker answered with a Kafka error code."""


class Reader:
    """Reads big-endian Kafka primitives from a reply."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        values = struct.unpack_from(">" + layout, self.data, self.at)
        self.at += struct.calcsize(">" + layout)
        return values[0] if len(values) == 1 else values

    def bytes(self, length):
        piece = self.data[self.at:self.at + length]
        self.at += length
        return piece

    def string(self):
        length = self.take("h")
        return None if length < 0 else self.bytes(length).decode()

    def array(self, read_one):
        return [read_one() for _ in range(self.take("i"))]


def string(text):
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Connection:
    """One connection; requests go out one at a time."""

    def __init__(self, bootstrap, timeout_seconds=SECONDS_MAX):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout_seconds)
        self.correlation_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, api_key, version, body):
        """Sends one request and returns a Reader behind the reply's header."""
        self.correlation_id += 1
        head = struct.pack(">hhi", api_key, version, self.correlation_id) + string("yagura-tests")
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        reply = Reader(self._receive(struct.unpack(">i", self._receive(4))[0]))
        correlation_id = reply.take("i")
        if correlation_id != self.correlation_id:
            raise BrokerError(f"reply {correlation_id} to request {self.correlation_id}")
        return reply

    def _receive(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(length - len(data), 1 << 20))
            if not piece:
                raise ConnectionError("the broker closed the connection")
            data += piece
        return bytes(data)

    def api_versions(self):
        """{api key: (lowest, highest version)}"""
        reply = self.call(API_VERSIONS, 0, b"")
        _check(reply.take("h"), "ApiVersions")
        return {key: (low, high) for key, low, high in reply.array(lambda: reply.take("hhh"))}

    def metadata(self, topics):
        """(number of brokers, {topic: [partition, ...]}); never creates a topic."""
        reply = self.call(API_METADATA, 4, array([string(t) for t in topics]) + b"\0")
        reply.take("i")  # throttle time
        brokers = reply.array(lambda: (reply.take("i"), reply.string(), reply.take("i"), reply.string()))
        reply.string(), reply.take("i")  # cluster id, controller
        found = {}
        for _ in range(reply.take("i")):
            error, topic = reply.take("h"), reply.string()
            _check(error, f"Metadata of {topic}")
            reply.take("b")
            found[topic] = sorted(reply.array(lambda: _metadata_partition(reply)))
        return len(brokers), found

    def create_topic(self, topic, partitions, configs=None):
        settings = [string(k) + string(v) for k, v in (configs or {}).items()]
        one = string(topic) + struct.pack(">ih", partitions, 1) + array([]) + array(settings)
        reply = self.call(API_CREATE_TOPICS, 4, array([one]) + struct.pack(">ib", SECONDS_MAX * 1000, 0))
        reply.take("ii")  # throttle time, count
        reply.string()
        _check(reply.take("h"), f"CreateTopics of {topic}: {reply.string()}")
        self._wait_for_topic(topic, partitions)

    def _wait_for_topic(self, topic, partitions):
        """Kafka answers CreateTopics before its own metadata cache has the topic."""
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                if len(self.metadata([topic])[1][topic]) == partitions:
                    return
            except BrokerError:
                pass
            time.sleep(0.05)
        raise BrokerError(f"{topic} never got its {partitions} partitions")

    def offset(self, topic, partition, timestamp):
        """The offset at a timestamp, or at EARLIEST or LATEST."""
        place = struct.pack(">iq", partition, timestamp)
        reply = self.call(API_LIST_OFFSETS, 1, struct.pack(">i", -1) + array([string(topic) + array([place])]))
        reply.take("i"), reply.string(), reply.take("i")
        _, error, _, offset = reply.take("ihqq")
        _check(error, f"ListOffsets of {topic}-{partition}")
        return offset

    def fetch(self, topic, partition, offset, max_bytes=4 << 20):
        """The stored record batches from `offset` on, as bytes; the last one may be cut short."""
        place = struct.pack(">iqi", partition, offset, max_bytes)
        body = struct.pack(">iiiib", -1, 500, 1, max_bytes, 0) + array([string(topic) + array([place])])
        reply = self.call(API_FETCH, 4, body)
        reply.take("ii"), reply.string(), reply.take("i")
        _, error, _, _ = reply.take("ihqq")
        _check(error, f"Fetch of {topic}-{partition} at {offset}")
        reply.array(lambda: reply.take("qq"))  # aborted transactions
        return reply.bytes(max(0, reply.take("i")))


def _metadata_partition(reply):
    _, partition, _ = reply.take("hii")
    reply.array(lambda: reply.take("i")), reply.array(lambda: reply.take("i"))
    return partition


def _check(error, what):
    if error:
        raise BrokerError(f"{what}: error code {error}")
