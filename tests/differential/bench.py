"""What a case holds in its hand: one broker, one API at one version, and every answer so far.

A case is a function of a `Bench`. `ask` sends the API under test, `other` any other call whose answer
matters as well; `topic`, `produce` and their like prepare things and fail the case if that fails.
"""

import re
import socket
import struct
import time

import records
import schema

ANSWER_SECONDS_MAX, IMPATIENT_SECONDS = 30, 3
CLIENT_ID = "differential"
API_VERSIONS_KEY = 18
SHORT_BYTES = 24  # a reply so short is shown, but for its correlation id
HALF_AN_HOUR_MS = 1_800_000


class SetupFailed(Exception):
    """The case could not be prepared: a failure, whatever the other broker does."""


class Link:
    """One connection; requests go out one at a time."""

    def __init__(self, bootstrap, seconds):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next frame, or "closed" or "silence"."""
        try:
            head = self._exactly(4)
            return self._exactly(struct.unpack(">i", head)[0])
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
    """A running broker and what is known about it."""

    def __init__(self, name, bootstrap, apis, now_ms):
        self.name, self.bootstrap, self.apis, self.now_ms = name, bootstrap, apis, now_ms
        self.topic_names, self.topic_ids = {}, {}  # each by the other
        self.settles = name == "kafka"
        self.marks = 0
        with Bench(self, "Metadata", 12, "start") as bench:
            cluster = bench.prepare("Metadata", 12, Topics=[])
            self.node_id = cluster["Brokers"][0]["NodeId"]
            self.config_marker = bench.topic("marker")
            if self.settles:
                wake(bench)


def wake(bench):
    """Kafka makes a few things when they are first asked for, and answers "not yet" until they are there."""
    share_key = "group:AAAAAAAAAAAAAAAAAAAAAQ:0"
    waiting = [lambda: bench.prepare("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=1000)]
    for key_type, key in enumerate(("group", "transaction", share_key)):
        waiting.append(lambda fields={"CoordinatorKeys": [key], "KeyType": key_type}:
                       bench.prepare("FindCoordinator", 6, **fields)["Coordinators"][0])
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    for one in waiting:
        while one()["ErrorCode"]:
            if time.monotonic() > deadline:
                raise SetupFailed("Kafka's coordinators do not come up")
            time.sleep(0.05)


class Bench:
    """One case on one broker."""

    def __init__(self, broker, api, version, case):
        self.broker, self.api, self.version = broker, api, version
        readable = f"{api}-{version}-{case}".lower().replace(": -", ": minus ").replace(": ", "--")
        self.prefix = re.sub(r"[^a-z0-9-]+", "-", readable)
        self.now = broker.now_ms
        self.node = broker.node_id if hasattr(broker, "node_id") else None
        self.answers = []
        self.patience_seconds = ANSWER_SECONDS_MAX
        self._link = None
        self._correlation_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()

    # --- calls whose answers are compared

    def ask(self, shown=None, **fields):
        """The API under test, at the version under test. `shown` takes out what is not to be compared."""
        return self.other(self.api, self.version, shown, **fields)

    def other(self, api, version, shown=None, **fields):
        """Any call; its answer is compared too."""
        answer = self._exchange(api, version, self._encode(api, version, fields))
        self.note(f"{api} v{version}", answer if isinstance(answer, str) or not shown else shown(answer))
        return answer

    def own_topics(self, answer):
        """The answer with no topics in it but those of this case."""
        own = [one for one in answer["Topics"] if one["Name"].startswith(self.prefix)]
        return answer | {"Topics": own}

    def body(self, **fields):
        """What `ask` would send."""
        return self._encode(self.api, self.version, fields)

    def ask_bytes(self, body, shown=None):
        """The API under test with this body, whatever it is."""
        answer = self._exchange(self.api, self.version, body)
        self.note(f"{self.api} v{self.version}", answer if isinstance(answer, str) or not shown else shown(answer))
        return answer

    def ask_key(self, key, version, body=b"", flexible=False):
        """A key that need not belong to any API; of a reply only that it came is noted."""
        self._try_frame(f"key {key} v{version}", self._frame(key, version, body, flexible))

    def ask_frame(self, frame):
        """Bare bytes on the connection, length and all."""
        self._try_frame("frame", frame)

    def await_another(self):
        """The next reply on this connection, if it is still there."""
        self._try_frame("another", b"") if self._link else self.note("another", "closed")

    def _try_frame(self, what, frame):
        answer = self._send_and_receive(frame)
        short = not isinstance(answer, str) and len(answer) <= SHORT_BYTES
        self.note(what, answer if isinstance(answer, str) else f"answered {answer[4:].hex()}" if short else "answered")

    def ask_unanswered(self, **fields):
        """A call that gets no reply; whether the connection lives on shows in the next call's answer."""
        body = self._encode(self.api, self.version, fields)
        self.link().send(self._frame(self.broker.apis[self.api].key, self.version, body))
        return self.other("ApiVersions", 0)

    def ask_timed(self, seconds, **fields):
        """As `ask`; notes whether the answer took so many seconds."""
        start = time.monotonic()
        answer = self.ask(**fields)
        self.note("waited", time.monotonic() - start >= seconds)
        return answer

    def note(self, what, value):
        """Puts anything else among the answers."""
        self.answers.append([what, value])

    def look(self, *names):
        """What has become of these topics, once all earlier calls have taken effect."""
        self.settle()
        for name in names:
            answer = self._exchange("Metadata", 12, self._encode(
                "Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}))
            self.note(f"Metadata of {name}", answer if isinstance(answer, str) else {"Topics": answer["Topics"]})

    # --- calls that prepare

    def prepare(self, api, version, **fields):
        """A call that must be answered; not compared."""
        answer = self._exchange(api, version, self._encode(api, version, fields))
        if isinstance(answer, str):
            raise SetupFailed(f"{api}: {answer}")
        return answer

    def name(self, suffix="t"):
        """A topic name that only this case uses."""
        return f"{self.prefix}-{suffix}"

    def topic(self, suffix="t", partitions=1, **configs):
        """Creates a topic and returns its name; in configs `_` stands for `.`."""
        name = self.name(suffix)
        settings = [{"Name": key.replace("_", "."), "Value": str(value)} for key, value in configs.items()]
        wanted = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": settings}
        created = self.prepare("CreateTopics", 7, Topics=[wanted], timeoutMs=ANSWER_SECONDS_MAX * 1000)["Topics"][0]
        if created["ErrorCode"]:
            raise SetupFailed(f"create {name}: error {created['ErrorCode']} {created['ErrorMessage']}")
        self.settle()
        return name

    def shared_topic(self, key, make):
        """What `make(bench)` returns, made once per broker: for cases that only read."""
        shared = self.broker.__dict__.setdefault("shared", {})
        if key not in shared:
            with Bench(self.broker, "shared", 0, key) as bench:
                shared[key] = make(bench)
        return shared[key]

    def topic_id(self, name):
        """The id of an existing topic, or what it was when last heard of."""
        if name in self.broker.topic_ids:
            return self.broker.topic_ids[name]
        found = self.prepare("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=False)["Topics"][0]
        if found["ErrorCode"]:
            raise SetupFailed(f"metadata of {name}: error {found['ErrorCode']}")
        return found["TopicId"]

    def leader_epoch(self, name):
        """Of partition 0."""
        found = self.prepare("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=False)["Topics"][0]
        return found["Partitions"][0]["LeaderEpoch"]

    def produce(self, topic, *batches, partition=0):
        """Appends batches, one request each."""
        for one in batches:
            data = [{"Name": topic, "PartitionData": [{"Index": partition, "Records": one}]}]
            answer = self.prepare("Produce", 9, Acks=-1, TimeoutMs=30_000, TopicData=data)
            result = answer["Responses"][0]["PartitionResponses"][0]
            if result["ErrorCode"]:
                raise SetupFailed(f"produce to {topic}: error {result['ErrorCode']} {result['ErrorMessage']}")

    def batch(self, *values, **claims):
        """A batch of these values, half an hour old: no clock of a broker shows such a time."""
        return records.batch(self.now - claims.pop("back_ms", HALF_AN_HOUR_MS), values or (b"value",), **claims)

    def contents(self, topic, partition=0):
        """Notes all that is stored in a partition."""
        asked = [{"Topic": topic, "Partitions": [{"Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}]}]
        self.other("Fetch", 12, Topics=asked, MaxBytes=1 << 20)

    def settle(self):
        """Waits until Kafka's broker has taken in what its controller has answered.

        The broker follows the controller's log one step behind. Two marks, the second written once the
        first is seen, prove that the step with the first one, and all before it, is fully applied.
        """
        if self.broker.settles and getattr(self.broker, "config_marker", None):
            self._mark(), self._mark()
        elif self.broker.settles:
            time.sleep(1)

    def _mark(self):
        self.broker.marks += 1
        value, resource = str(self.broker.marks), {"ResourceType": 2, "ResourceName": self.broker.config_marker}
        change = [{"Name": "flush.ms", "ConfigOperation": 0, "Value": value}]
        self.prepare("IncrementalAlterConfigs", 1, Resources=[resource | {"Configs": change}])
        asked = [resource | {"ConfigurationKeys": ["flush.ms"]}]
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while time.monotonic() < deadline:
            results = self.prepare("DescribeConfigs", 4, Resources=asked)["Results"]
            if results[0]["Configs"] and results[0]["Configs"][0]["Value"] == value:
                return
            time.sleep(0.002)
        raise SetupFailed("Kafka did not apply a config change")

    # --- the wire

    def be_impatient(self):
        """For the next answer only: there may be none."""
        self.hang_up()
        self.patience_seconds = IMPATIENT_SECONDS

    def link(self):
        if not self._link:
            self._link = Link(self.broker.bootstrap, self.patience_seconds)
            self.patience_seconds = ANSWER_SECONDS_MAX
        return self._link

    def hang_up(self):
        if self._link:
            self._link.close()
        self._link = None

    def _encode(self, api, version, fields):
        return schema.Encoder(self.broker.apis[api].request, version).encode(fields)

    def _frame(self, key, version, body, flexible=None):
        self._correlation_id += 1
        if flexible is None:
            api = next((one for one in self.broker.apis.values() if one.key == key), None)
            flexible = bool(api) and schema.is_flexible(api.request, version)
        head = schema.request_header(key, version, self._correlation_id, CLIENT_ID, flexible)
        return struct.pack(">i", len(head) + len(body)) + head + body

    def _exchange(self, api, version, body):
        """The decoded reply, or in a word what came instead."""
        definition = self.broker.apis[api]
        answer = self._send_and_receive(self._frame(definition.key, version, body))
        return answer if isinstance(answer, str) else self._decode(definition, version, answer)

    def _send_and_receive(self, frame):
        try:
            self.link().send(frame)
            answer = self.link().receive()
        except OSError:
            answer = "closed"
        if isinstance(answer, str):
            self.hang_up()
        return answer

    def _decode(self, api, version, answer):
        if answer[:4] != struct.pack(">i", self._correlation_id):
            return "malformed: another correlation id"
        at, flexible = 4, schema.is_flexible(api.response, version)
        if flexible and api.key != API_VERSIONS_KEY:
            if answer[4] != 0:
                return "malformed: tags in the header"
            at = 5
        if api.key == API_VERSIONS_KEY and answer[4:6] == b"\0\x23":
            version = 0  # a reply to a version it does not know
        try:
            decoded = schema.Decoder(api.response, version).decode(answer, at)
        except schema.Malformed as error:
            return f"malformed: {error}"
        self._learn(decoded)
        return decoded

    def _learn(self, answer):
        """Topic ids are shown by name, wherever they come up again."""
        for topic in answer.get("Topics") or []:
            if topic.get("Name") and not topic.get("ErrorCode") and topic.get("TopicId", schema.ZERO_UUID) != schema.ZERO_UUID:
                self.broker.topic_names[topic["TopicId"]] = topic["Name"]
                self.broker.topic_ids[topic["Name"]] = topic["TopicId"]
