"""A running broker: how to reach it, what is known of it, and when it has taken everything in."""

import socket
import struct
import time

START_SECONDS_MAX = 120
SHARE_KEY = "group:AAAAAAAAAAAAAAAAAAAAAQ:0"


class SetupFailed(Exception):
    """Something could not be prepared: a failure, whatever the other broker does."""


class Link:
    """One connection; requests go out one at a time."""

    def __init__(self, bootstrap, seconds):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.socket.sendall(data)

    def exchange(self, frame):
        """Sends a frame, and receives one."""
        try:
            self.send(frame)
        except socket.timeout:
            return "silence"
        except OSError:
            return "closed"
        return self.receive()

    def receive(self):
        """The next frame that comes, or "closed" or "silence"."""
        try:
            return self._exactly(struct.unpack(">i", self._exactly(4))[0])
        except socket.timeout:
            return "silence"
        except OSError:
            return "closed"

    def _exactly(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(length - len(data), 1 << 20))
            if not piece:
                raise ConnectionError("the broker closed the connection")
            data += piece
        return bytes(data)

    def close(self):
        self.socket.close()


class Broker:
    """One of the two that are compared."""

    def __init__(self, name, bootstrap, apis, now_ms, attempt=0):
        """`attempt`: how often the cases were asked before, under other names."""
        self.name, self.bootstrap, self.apis, self.now_ms, self.attempt = name, bootstrap, apis, now_ms, attempt
        self.is_kafka = name == "kafka"
        self.topic_names, self.topic_ids = {}, {}  # each by the other
        self.shared_topics = {}
        self.node_id = self.marker = None
        self.marks = 0

    def begin(self, bench):
        """Learns what the cases need to know, and wakes up what sleeps."""
        self.node_id = bench.prepare("Metadata", 12, Topics=[])["Brokers"][0]["NodeId"]
        self.marker = bench.topic("marker")
        if self.is_kafka:
            self._wake(bench)

    def _wake(self, bench):
        """Kafka makes a few things when they are first asked for, and answers "not yet" until they are there."""
        def producer_ids():
            return bench.prepare("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=1000)

        def coordinator(kind, key):
            return bench.prepare("FindCoordinator", 6, KeyType=kind, CoordinatorKeys=[key])["Coordinators"][0]

        deadline = time.monotonic() + START_SECONDS_MAX
        while any(one["ErrorCode"] for one in (
                producer_ids(), coordinator(0, "group"), coordinator(1, "transaction"), coordinator(2, SHARE_KEY))):
            if time.monotonic() > deadline:
                raise SetupFailed("Kafka's coordinators do not come up")
            time.sleep(0.05)

    def settle(self, bench):
        """Waits until Kafka's broker has taken in what its controller has answered.

        The broker follows the controller's log one step behind. Two marks, the second written once the
        first is seen, prove that the step with the first one, and all before it, is fully applied.
        """
        if self.is_kafka and self.marker:
            self._mark(bench), self._mark(bench)
        elif self.is_kafka:
            time.sleep(1)

    def _mark(self, bench):
        self.marks += 1
        value, resource = str(self.marks), {"ResourceType": 2, "ResourceName": self.marker}
        change = [{"Name": "flush.ms", "ConfigOperation": 0, "Value": value}]
        bench.prepare("IncrementalAlterConfigs", 1, Resources=[resource | {"Configs": change}])
        asked = [resource | {"ConfigurationKeys": ["flush.ms"]}]
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            results = bench.prepare("DescribeConfigs", 4, Resources=asked)["Results"]
            if results[0]["Configs"] and results[0]["Configs"][0]["Value"] == value:
                return
            time.sleep(0.002)
        raise SetupFailed("Kafka did not apply a config change")

    def learn(self, answer):
        """Topic ids are shown by name, wherever they come up again."""
        for topic in answer.get("Topics") or []:
            if topic.get("Name") and not topic.get("ErrorCode") and int(topic.get("TopicId", "0"), 16):
                self.topic_names[topic["TopicId"]] = topic["Name"]
                self.topic_ids[topic["Name"]] = topic["TopicId"]
