"""Calls by topic id and by fetch session, to both services on one connection. `logs` has a topic of each service."""

import time

from calls import BY_ID_FROM, CREATE, DELETE, INVALID_EPOCH, INVALID_REQUEST, LIST_OFFSETS, METADATA
from calls import SESSION_NOT_FOUND, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID
from calls import SECONDS_MAX, Log, produce, shown

import records

ROUNDS, WAIT_MS, BYTES_MAX = 3, 100, 1 << 20
FULL, FINAL = 0, -1  # the epochs of a request that makes a session, and of one that ends it
NOBODY = "f" * 32  # a topic id that nobody has


def fetch(caller, version, session=(0, FINAL), topics=(), forgotten=()):
    return caller.ask("Fetch", version, MaxWaitMs=WAIT_MS, MinBytes=1, MaxBytes=BYTES_MAX, SessionId=session[0],
                      SessionEpoch=session[1], Topics=list(topics), ForgottenTopicsData=list(forgotten))


def wanted(log, offset):
    """The log's partition in a Fetch."""
    partition = {"Partition": 0, "FetchOffset": offset, "PartitionMaxBytes": BYTES_MAX, "CurrentLeaderEpoch": -1}
    return log.named(Partitions=[partition])


class Session:
    """A fetch session of one partition, as its client keeps it. It begins at the end of the log."""

    def __init__(self, caller, version, log):
        self.caller, self.version, self.log, self.offset = caller, version, log, log.end
        self.id, self.epoch = 0, FULL
        self.id = self.check([], wanted(log, self.offset))
        assert self.id > 0, f"no session for {log.name}"

    def check(self, news, *topics, forgotten=()):
        """The next fetch of the session brings these batches, and nothing of any other topic; the session's id."""
        answer = fetch(self.caller, self.version, (self.id, self.epoch), topics, forgotten)
        what = f"Fetch {self.version} of {self.log.name}, session {self.id}, epoch {self.epoch}"
        assert answer["ErrorCode"] == 0, f"{what}: error {answer['ErrorCode']}"
        is_full = self.epoch == FULL
        self.epoch += 1
        found = {one.get("Topic") or one["TopicId"]: one["Partitions"] for one in answer["Responses"]}
        name = self.log.name if self.version < BY_ID_FROM else self.log.id
        expected = {name} if is_full or news else set()
        assert found.keys() == expected, f"{what}: topics {found.keys()}, not {expected}"
        rows = found.get(name, [{"ErrorCode": 0, "Records": b""}])
        errors = [one["ErrorCode"] for one in rows if one["ErrorCode"]]
        assert len(rows) == 1 and not errors, f"{what}: {len(rows)} partitions, errors {errors}"
        assert shown(rows[0]["Records"]) == news, f"{what}: {shown(rows[0]['Records'])}, not {news}"
        return answer["SessionId"]

    def check_news(self):
        """An incremental fetch without topics: all from where the client last said that it stands."""
        assert self.check(self.log.since(self.offset)) == self.id, "another session answers"

    def advance(self):
        """An incremental fetch that says where the client stands now."""
        self.offset = self.log.end
        self.check([], wanted(self.log, self.offset))

    def produce(self, *values):
        self.log.produce(self.caller, self.version if self.version < BY_ID_FROM else BY_ID_FROM, *values)


def open_both(caller, version, logs):
    both = [Session(caller, version, log) for log in logs]
    assert both[0].id != both[1].id, "two sessions of one connection have one id"
    return both


def check_turns(caller, version, logs):
    """Incremental fetches of both sessions by turns, with news for one of them or for both."""
    both = open_both(caller, version, logs)
    for number in range(ROUNDS):
        for one in both:
            one.produce(f"{version} {number} to {one.log.name}".encode())
        for one in both:
            one.check_news()
    for one in both:
        one.advance()
    for one, other in [both, both[::-1]]:
        one.produce(b"for one", b"of them")
        other.check_news()  # nothing
        one.check_news()
        one.advance()


def check_close(caller, version, logs):
    """Epoch -1 closes the session that it names and no other. A session whose last partition is forgotten is over."""
    for closed, left in [open_both(caller, version, logs), open_both(caller, version, logs)[::-1]]:
        answer = fetch(caller, version, (closed.id, FINAL))
        assert (answer["ErrorCode"], answer["SessionId"], answer["Responses"]) == (0, 0, []), f"closing: {answer}"
        answer = fetch(caller, version, (closed.id, closed.epoch))
        assert answer["ErrorCode"] == SESSION_NOT_FOUND, f"the session is not closed: {answer}"
        left.produce(b"for the one that is left")
        left.check_news()
        left.offset = left.log.end
        assert left.check([], forgotten=[left.log.named(Partitions=[0])]) == 0, "a session of nothing goes on"


def check_by_id(caller, logs):
    """Produce, Metadata and DeleteTopics by id reach the topic's service; an id that nobody has is UNKNOWN_TOPIC_ID."""
    for log in logs:
        log.produce(caller, BY_ID_FROM, b"by id")
        (topic,) = fetch(caller, BY_ID_FROM - 1, topics=[wanted(log, log.end - 1)])["Responses"]
        assert shown(topic["Partitions"][0]["Records"]) == log.batches[-1:], f"{log.name} by name: {topic}"
        assert caller.ends(log.name, 1) == [log.end]
        (topic,) = caller.ask("Metadata", METADATA, Topics=[{"TopicId": log.id, "Name": None}])["Topics"]
        assert (topic["ErrorCode"], topic["Name"]) == (0, log.name), f"Metadata of {log.name} by id: {topic}"
    (topic,) = fetch(caller, BY_ID_FROM, topics=[wanted(logs[0], 0) | {"TopicId": NOBODY}])["Responses"]
    assert topic["Partitions"][0]["ErrorCode"] == UNKNOWN_TOPIC_ID, f"Fetch of nobody's id: {topic}"
    for log in logs:
        gone = Log(caller, f"{log.name}.gone")
        (topic,) = caller.ask("DeleteTopics", DELETE, Topics=[{"TopicId": gone.id, "Name": None}],
                              TimeoutMs=SECONDS_MAX * 1000)["Responses"]
        assert topic["ErrorCode"] == 0, f"DeleteTopics of {gone.name} by id: {topic}"
        assert caller.topic(gone.name)["ErrorCode"] == UNKNOWN_TOPIC, f"{gone.name} is still there"


def news_of(answer, logs, version):
    """{name: batches} of a Fetch; nothing else may be in it, and no error."""
    assert answer["ErrorCode"] == 0, f"Fetch {version}: {answer}"
    names = {log.name if version < BY_ID_FROM else log.id: log.name for log in logs}
    rows = {names[one.get("Topic") or one["TopicId"]]: one["Partitions"] for one in answer["Responses"]}
    errors = [row["ErrorCode"] for partitions in rows.values() for row in partitions if row["ErrorCode"]]
    assert not errors, f"Fetch {version}: errors {errors}"
    return {name: shown(partitions[0]["Records"]) for name, partitions in rows.items() if shown(partitions[0]["Records"])}


def check_session_of_both(caller, version, logs):
    """One session with a topic of each service: every batch comes once, whichever of them it is in."""
    answer = fetch(caller, version, (0, FULL), [wanted(log, 0) for log in logs])
    assert news_of(answer, logs, version) == {} and len(answer["Responses"]) == 2, f"Fetch {version}: {answer}"
    session, epoch = answer["SessionId"], 1
    assert session > 0, "no session"
    by_name = min(version, BY_ID_FROM)
    changed = []
    for turn in [[0], [0], [1], [0, 1], [1]]:
        for number in turn:
            logs[number].produce(caller, by_name, f"{version} {epoch}".encode())
        expected, found = {logs[number].name: logs[number].batches[-1:] for number in turn}, {}
        # An answer may have the news of one service only, or of none that had the time.
        deadline = time.monotonic() + SECONDS_MAX
        while found != expected and time.monotonic() < deadline:
            answer = fetch(caller, version, (session, epoch), changed)
            epoch += 1
            assert answer["SessionId"] == session, f"another session: {answer}"
            news = news_of(answer, logs, version)
            assert not news.keys() & found.keys(), f"twice: {news}"
            found |= news
            # A client names only what has moved.
            changed = [wanted(log, log.end) for log in logs if log.name in news]
        assert found == expected, f"Fetch {version}: {found}, not {expected}"
    answer = fetch(caller, version, (session, epoch - 1))
    assert answer["ErrorCode"] == INVALID_EPOCH, f"an epoch of before: {answer}"
    answer = fetch(caller, version, (session, epoch), changed, [logs[0].named(Partitions=[0])])
    assert (answer["ErrorCode"], answer["SessionId"]) == (0, session), f"one is forgotten: {answer}"
    answer = fetch(caller, version, (session, FINAL))
    assert (answer["ErrorCode"], answer["SessionId"]) == (0, 0), f"closing: {answer}"
    assert fetch(caller, version, (session, epoch + 1))["ErrorCode"] == SESSION_NOT_FOUND


def check_both(caller, logs):
    """Calls with topics of both services, by name and by id: the answers are those of one, in the order asked for."""
    for version in [BY_ID_FROM - 1, BY_ID_FROM]:
        batch = records.batch(int(time.time() * 1000), [b"both"])
        for order in [logs, logs[::-1]]:
            answer = produce(caller, version, *(log.rows(batch) for log in order))
            found = [(one["Name"] if version < BY_ID_FROM else one["TopicId"], row["ErrorCode"], row["BaseOffset"])
                     for one in answer for row in one["PartitionResponses"]]
            assert found == [(log.name if version < BY_ID_FROM else log.id, 0, log.end) for log in order], found
            for log in order:
                log.end += 1
        answer = fetch(caller, version, topics=[wanted(log, log.end - 1) for log in logs])
        counts = [len(shown(one["Partitions"][0]["Records"])) for one in answer["Responses"]]
        assert (answer["ErrorCode"], counts) == (0, [1, 1]), f"Fetch {version}: {answer}"
    names = [log.name for log in logs]
    for by in [lambda log: {"Name": log.name}, lambda log: {"TopicId": log.id, "Name": None}]:
        topics = caller.ask("Metadata", METADATA, Topics=[by(log) for log in logs])["Topics"]
        assert [(one["ErrorCode"], one["Name"]) for one in topics] == [(0, name) for name in names], topics
    rows = [{"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]} for name in names]
    topics = caller.ask("ListOffsets", LIST_OFFSETS, ReplicaId=-1, Topics=rows)["Topics"]
    found = [(one["Name"], one["Partitions"][0]["Offset"]) for one in topics]
    assert found == [(log.name, log.end) for log in logs], f"ListOffsets: {found}"
    rows = [{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": 0}]} for name in names]
    topics = caller.ask("DeleteRecords", 2, Topics=rows, TimeoutMs=SECONDS_MAX * 1000)["Topics"]
    found = {one["Name"]: one["Partitions"][0]["LowWatermark"] for one in topics}
    assert found == dict.fromkeys(names, 0), f"DeleteRecords: {found}"
    gone = [f"{name}.gone" for name in names]
    rows = [{"Name": name, "NumPartitions": 1, "ReplicationFactor": 1} for name in gone]
    topics = caller.ask("CreateTopics", CREATE, Topics=rows, timeoutMs=SECONDS_MAX * 1000)["Topics"]
    assert {one["Name"]: one["ErrorCode"] for one in topics} == dict.fromkeys(gone, 0), f"CreateTopics: {topics}"
    rows = [{"Name": name, "TopicId": "0" * 32} for name in gone]
    topics = caller.ask("DeleteTopics", DELETE, Topics=rows, TimeoutMs=SECONDS_MAX * 1000)["Responses"]
    assert {one["Name"]: one["ErrorCode"] for one in topics} == dict.fromkeys(gone, 0), f"DeleteTopics: {topics}"


def check_unacked(caller, logs):
    """A Produce with acks=0 is answered by nothing, and done in both services before what follows it is."""
    for version in [BY_ID_FROM - 1, BY_ID_FROM]:
        rows = [log.rows(records.batch(int(time.time() * 1000), [b"unacked"])) for log in logs]
        caller.send("Produce", version, Acks=0, TimeoutMs=SECONDS_MAX * 1000, TopicData=rows)
        for log in logs:
            log.end += 1
            assert caller.ends(log.name, 1) == [log.end], f"Produce {version}: {log.name}"


def check_pages(caller, logs):
    """DescribeTopicPartitions, one partition a page: the topics in the order of names, each once."""
    names, cursor = [], None
    for _ in range(len(logs)):
        answer = caller.ask("DescribeTopicPartitions", 0, Topics=[{"Name": log.name} for log in logs[::-1]],
                            ResponsePartitionLimit=1, Cursor=cursor)
        names += [one["Name"] for one in answer["Topics"]]
        cursor = answer["NextCursor"]
    assert (names, cursor) == (sorted(log.name for log in logs), None), f"{names}, and then {cursor}"


def check_refusals(caller, logs):
    """A call that cannot be split is refused, and says so."""
    rows = [{"Name": log.name, "Partitions": [{"PartitionIndex": 0, "Replicas": None}]} for log in logs]
    answer = caller.ask("AlterPartitionReassignments", 0, TimeoutMs=SECONDS_MAX * 1000, Topics=rows)
    assert answer["ErrorCode"] == INVALID_REQUEST and "does not split" in answer["ErrorMessage"], answer
