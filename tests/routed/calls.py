"""Single calls of any API and version, as dicts with Kafka's names, and one partition that they write to."""

import struct
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Behind the others: it has a module `broker` of its own.
sys.path += [str(HERE.parent / "clients"), str(HERE.parent / "differential")]

import records  # noqa: E402
import schema  # noqa: E402
import wire  # noqa: E402

TOOLS = HERE.parent.parent / "target/test-tools"
SECONDS_MAX = 120  # for a machine that has no time for the test
BY_ID_FROM = 13  # of both Produce and Fetch (KIP-516)
CREATE, METADATA, LIST_OFFSETS, OFFSET_FETCH, DELETE = 7, 12, 6, 8, 6  # the versions that only look or prepare
INVALID_REQUEST, UNKNOWN_TOPIC, SESSION_NOT_FOUND, INVALID_EPOCH, UNKNOWN_TOPIC_ID = 42, 3, 70, 71, 100


class Caller(wire.Connection):
    """A connection that speaks by the schemas in the jar of kafka-clients."""

    def __init__(self, address):
        super().__init__(address, SECONDS_MAX)
        (jar,) = (TOOLS / "java/libs").glob("kafka-clients-*.jar")
        self.apis = schema.load_apis(jar)

    def ask(self, name, version, **fields):
        api = self.apis[name]
        reply = self.call(api.key, version, self.body(name, version, fields))
        is_flexible = schema.is_flexible(api.request, version)
        return schema.Decoder(api.response, version).decode(reply.data, reply.at + is_flexible)

    def send(self, name, version, **fields):
        """A request that is not answered."""
        self.correlation_id += 1
        head = struct.pack(">hhi", self.apis[name].key, version, self.correlation_id) + wire.string("yagura-tests")
        frame = head + self.body(name, version, fields)
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def body(self, name, version, fields):
        api = self.apis[name]
        # What a flexible version adds to both headers: a count of tagged fields, here none.
        return b"\0" * schema.is_flexible(api.request, version) + schema.Encoder(api.request, version).encode(fields)

    def topic(self, name, version=METADATA):
        """What Metadata says of a topic."""
        (topic,) = self.ask("Metadata", version, Topics=[{"Name": name}], AllowAutoTopicCreation=False)["Topics"]
        return topic

    def ends(self, name, partitions):
        """Where each partition ends."""
        wanted = [{"PartitionIndex": number, "Timestamp": wire.LATEST} for number in range(partitions)]
        answer = self.ask("ListOffsets", LIST_OFFSETS, ReplicaId=-1, Topics=[{"Name": name, "Partitions": wanted}])
        found = {one["PartitionIndex"]: one for one in answer["Topics"][0]["Partitions"]}
        errors = {one["ErrorCode"] for one in found.values()} - {0}
        assert not errors, f"ListOffsets of {name}: errors {errors}"
        return [found[number]["Offset"] for number in range(partitions)]

    def committed(self, group, *topics, partitions):
        """{topic: [offset, ...]} of the topics, all in one call."""
        wanted = [{"Name": topic, "PartitionIndexes": list(range(partitions))} for topic in topics]
        (found,) = self.ask("OffsetFetch", OFFSET_FETCH, Groups=[{"GroupId": group, "Topics": wanted}])["Groups"]
        errors = {found["ErrorCode"]} | {one["ErrorCode"] for topic in found["Topics"] for one in topic["Partitions"]}
        assert errors == {0}, f"OffsetFetch of {group}: errors {errors}"
        return {topic["Name"]: [one["CommittedOffset"] for one in topic["Partitions"]] for topic in found["Topics"]}


class Log:
    """A new topic of one partition, and what was produced to it."""

    def __init__(self, caller, name):
        self.name, self.end, self.batches = name, 0, []
        topic = {"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}
        (created,) = caller.ask("CreateTopics", CREATE, Topics=[topic], timeoutMs=SECONDS_MAX * 1000)["Topics"]
        assert not created["ErrorCode"], f"CreateTopics of {name}: error {created['ErrorCode']}"
        self.id = created["TopicId"]
        deadline = time.monotonic() + SECONDS_MAX
        while caller.topic(name)["ErrorCode"]:
            assert time.monotonic() < deadline, f"{name} does not come up"
            time.sleep(0.05)

    def named(self, **fields):
        """This topic in a Fetch or a Produce; the encoder leaves out what a version does not have."""
        return {"Topic": self.name, "TopicId": self.id} | fields

    def produce(self, caller, version, *values):
        """One batch, which must come to the end of the log."""
        now = int(time.time() * 1000)
        (topic,) = produce(caller, version, self.rows(records.batch(now, values)))
        (answer,) = topic["PartitionResponses"]
        assert (answer["ErrorCode"], answer["BaseOffset"]) == (0, self.end), f"Produce to {self.name}: {answer}"
        self.batches += shown(records.batch(now, values, base_offset=self.end))
        self.end += len(values)

    def rows(self, batch):
        """This topic in a Produce."""
        return {"Name": self.name, "TopicId": self.id, "PartitionData": [{"Index": 0, "Records": batch}]}

    def since(self, offset):
        """The batches from an offset on."""
        return [batch for batch in self.batches if batch[0] >= offset]


def produce(caller, version, *topics):
    return caller.ask("Produce", version, Acks=-1, TimeoutMs=SECONDS_MAX * 1000, TopicData=list(topics))["Responses"]


def shown(data):
    """What is compared of batches: where each stands, and what is in it."""
    return [(one["BaseOffset"], one["Payload"]) for one in records.show(data)]
