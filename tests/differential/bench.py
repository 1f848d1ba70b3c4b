"""What a case holds in its hand: one broker, one API at one version, and every answer so far.

A case is a function of a `Bench`. `ask` sends the API under test, `other` any other call whose answer
matters as well; `topic`, `produce` and their like prepare things and fail the case if that fails.
"""

import re
import struct
import time

import records
import schema
from broker import Link, SetupFailed

ANSWER_SECONDS_MAX, IMPATIENT_SECONDS = 120, 3
CLIENT_ID = "differential"
API_VERSIONS_KEY = 18
SHORT_BYTES = 24  # a reply so short is shown, but for its correlation id
HALF_AN_HOUR_MS = 1_800_000
REPEATED_AT_ONCE = 100


class Bench:
    """One case on one broker."""

    def __init__(self, broker, api, version, case):
        self.broker, self.api, self.version = broker, api, version
        again = f" again {broker.attempt}" if broker.attempt else ""
        readable = f"{api}-{version}-{case}{again}".lower().replace(": -", ": minus ").replace(": ", "--")
        self.prefix = re.sub(r"[^a-z0-9-]+", "-", readable)
        self.now = broker.now_ms
        self.node = broker.node_id
        self.answers = []
        self.patience_seconds = ANSWER_SECONDS_MAX
        self.client_id = CLIENT_ID
        self.members = []  # the ids of group members, in the order in which they were heard of
        self._link = self._begun = None
        self._beside = []
        self._correlation_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in [self, *self._beside]:
            one.hang_up()

    # --- calls whose answers are compared

    def ask(self, shown=None, **fields):
        """The API under test, at the version under test. `shown` takes out what is not to be compared."""
        return self.other(self.api, self.version, shown, **fields)

    def other(self, api, version, shown=None, **fields):
        """Any call; its answer is compared too."""
        answer = self._exchange(api, version, self._encode(api, version, fields))
        self.note(f"{api} v{version}", answer if isinstance(answer, str) or not shown else shown(answer))
        return answer

    def beside(self):
        """Another client in the same case, on a connection of its own."""
        other = Bench(self.broker, self.api, self.version, "")
        other.prefix, other.answers, other.members = self.prefix, self.answers, self.members
        self._beside.append(other)
        return other

    def begin(self, api, version, **fields):
        """Sends a call whose answer may be long in coming: `finish` takes it, and until then comes no other."""
        self.link().send(self._call(api, version, self._encode(api, version, fields)))
        self._begun = api, version

    def finish(self, compared=True):
        """The answer to the call that was begun."""
        api, version = self._begun
        raw = self.link().receive()
        answer = raw if isinstance(raw, str) else self._decode(self.broker.apis[api], version, raw)
        if compared:
            self.note(f"{api} v{version}", answer)
        if isinstance(answer, str):
            self.hang_up()
            if not compared:
                raise SetupFailed(f"{api}: {answer}")
        return answer

    def own_topics(self, answer):
        """The answer with no topics in it but those of this case."""
        own = [one for one in answer["Topics"] if one["Name"].startswith(self.prefix)]
        return answer | {"Topics": own}

    def own_groups(self, answer):
        """The answer with no groups in it but those of this case."""
        own = [one for one in answer["Groups"] if one["GroupId"].startswith(self.prefix)]
        return answer | {"Groups": own}

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
        if not isinstance(answer, str):
            answer = f"answered {answer[4:].hex()}" if len(answer) <= SHORT_BYTES else "answered"
        self.note(what, answer)

    def ask_unanswered(self, **fields):
        """A call that gets no reply; whether the connection lives on shows in the next call's answer."""
        self.link().send(self._call(self.api, self.version, self.body(**fields)))
        self.other("ApiVersions", 0, lambda _: "answered")

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
            body = self._encode("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False})
            answer = self._exchange("Metadata", 12, body)
            self.note(f"Metadata of {name}", answer if isinstance(answer, str) else {"Topics": answer["Topics"]})

    # --- calls that prepare

    def prepare(self, api, version, **fields):
        """A call that must be answered; not compared."""
        answer = self.attempt(api, version, **fields)
        if isinstance(answer, str):
            raise SetupFailed(f"{api}: {answer}")
        return answer

    def attempt(self, api, version, **fields):
        """The answer to a call, or in a word what came instead; not compared."""
        return self._exchange(api, version, self._encode(api, version, fields))

    def repeat(self, api, version, times, **fields):
        """The last answer to a call that must be answered many times; many are under way at once."""
        body, answer = self._encode(api, version, fields), None
        for sent in range(0, times, REPEATED_AT_ONCE):
            count = min(REPEATED_AT_ONCE, times - sent)
            first = self._correlation_id + 1
            self.link().send(b"".join(self._call(api, version, body) for _ in range(count)))
            for self._correlation_id in range(first, first + count):
                raw = self.link().receive()
                answer = raw if isinstance(raw, str) else self._decode(self.broker.apis[api], version, raw)
                if isinstance(answer, str):
                    raise SetupFailed(f"{api}: {answer}")
        return answer

    def name(self, suffix="t"):
        """A name, of a topic or a group, that only this case uses."""
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
        shared = self.broker.shared_topics
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

    def delete_records(self, topic, offset):
        """Of partition 0, up to an offset."""
        rows = [{"PartitionIndex": 0, "Offset": offset}]
        answer = self.prepare("DeleteRecords", 2, Topics=[{"Name": topic, "Partitions": rows}], TimeoutMs=30_000)
        if answer["Topics"][0]["Partitions"][0]["ErrorCode"]:
            raise SetupFailed(f"delete records of {topic}: {answer}")

    def batch(self, *values, **claims):
        """A batch of these values, half an hour old: no clock of a broker shows such a time."""
        return records.batch(self.now - claims.pop("back_ms", HALF_AN_HOUR_MS), values or (b"value",), **claims)

    def contents(self, topic, partition=0):
        """Notes all that is stored in a partition."""
        row = {"Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}
        self.other("Fetch", 12, Topics=[{"Topic": topic, "Partitions": [row]}], MaxBytes=1 << 20)

    def settle(self):
        """Waits until everything so far has taken effect."""
        self.broker.settle(self)

    # --- the wire

    def be_impatient(self):
        """For the next answer only: Kafka may give none. If it should have, it is asked again, and has longer."""
        self.hang_up()
        if self.broker.is_kafka:
            self.patience_seconds = IMPATIENT_SECONDS * (10 if self.broker.attempt else 1)

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

    def _call(self, api, version, body):
        """The frame of a call."""
        definition = self.broker.apis[api]
        return self._frame(definition.key, version, body, schema.is_flexible(definition.request, version))

    def _frame(self, key, version, body, flexible):
        self._correlation_id += 1
        head = schema.request_header(key, version, self._correlation_id, self.client_id, flexible)
        return struct.pack(">i", len(head) + len(body)) + head + body

    def _exchange(self, api, version, body):
        """The decoded reply, or in a word what came instead."""
        answer = self._send_and_receive(self._call(api, version, body))
        return answer if isinstance(answer, str) else self._decode(self.broker.apis[api], version, answer)

    def _send_and_receive(self, frame):
        answer = self.link().exchange(frame)
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
        self.broker.learn(decoded)
        self._meet(decoded)
        return decoded

    def _meet(self, answer):
        for place in [answer, *(answer.get("Members") or []), *(answer.get("Groups") or [])]:
            if place is not answer and "Members" in place:
                self._meet(place)
            elif place.get("MemberId") and place["MemberId"] not in self.members:
                self.members.append(place["MemberId"])
