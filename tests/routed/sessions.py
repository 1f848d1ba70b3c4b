"""Calls by topic id and by fetch session, to both services on one connection. `logs` has a topic of each service."""

from calls import BY_ID_FROM, DELETE, INVALID_REQUEST, METADATA, SESSION_NOT_FOUND, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID
from calls import Log, produce, shown

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
                              TimeoutMs=1000)["Responses"]
        assert topic["ErrorCode"] == 0, f"DeleteTopics of {gone.name} by id: {topic}"
        assert caller.topic(gone.name)["ErrorCode"] == UNKNOWN_TOPIC, f"{gone.name} is still there"


def check_refusals(caller, logs):
    """A call with topics of both services is refused, by name and by id, and nothing of it is done."""
    batch = records.batch(0, [b"nobody may see this"])
    for version in [BY_ID_FROM - 1, BY_ID_FROM]:
        answer = fetch(caller, version, (0, FULL), [wanted(log, 0) for log in logs])
        assert (answer["ErrorCode"], answer["SessionId"]) == (INVALID_REQUEST, 0), f"Fetch {version}: {answer}"
        answer = produce(caller, version, *(log.rows(batch) for log in logs))
        errors = [one["ErrorCode"] for topic in answer for one in topic["PartitionResponses"]]
        assert errors == [INVALID_REQUEST] * 2, f"Produce {version}: {answer}"
    for by in [lambda log: {"Name": log.name}, lambda log: {"TopicId": log.id, "Name": None}]:
        topics = caller.ask("Metadata", METADATA, Topics=[by(log) for log in logs])["Topics"]
        assert [one["ErrorCode"] for one in topics] == [INVALID_REQUEST] * 2, f"Metadata: {topics}"
    ends = [caller.ends(log.name, 1)[0] for log in logs]
    assert ends == [log.end for log in logs], f"something of a refused call was done: {ends}"
    one, other = open_both(caller, BY_ID_FROM, logs)
    answer = fetch(caller, BY_ID_FROM, (one.id, one.epoch), [wanted(other.log, 0)], [one.log.named(Partitions=[0])])
    # A client that subscribes anew sends this. Either error makes it begin a new session.
    errors = INVALID_REQUEST, SESSION_NOT_FOUND
    assert answer["ErrorCode"] in errors, f"a session that moves to the other service: {answer}"
