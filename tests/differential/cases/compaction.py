"""Compacted topics: what may be written, their configs, and what is left once both brokers have cleaned one.

Kafka cleans whole segments, but for the last; so every batch gets a segment of its own (`segment.ms`, and times that are
apart), and the last batch has a key of its own, that stays in any case. Before it stand two records with one key: once the
first of them is gone, everything before it was cleaned.
"""

import time

import records
from broker import START_SECONDS_MAX, SetupFailed
from cases import case
from cases.configs import APPEND, SET, SUBTRACT, TOPIC, operations, overrides, pairs, resource
from cases.produce import data, send
from transactions import add, ended, initialized
from transactions import send as send_in_transaction

POLICIES = {"compact": "compact", "both": "compact,delete", "both turned": "delete,compact"}
DELETE_HORIZON = 64  # an attribute bit
FUTURE_MS, STEP_MS = 40 * 60_000, 1000  # behind the clock of any broker in this run, so that markers begin no segment


# --- what may be written


def keyed(*keys, value=b"v"):
    return [(key, value, ()) for key in keys]


@case("Produce", each={
    "one": [None], "last": [b"a", b"b", None], "first": [None, b"a"], "all of three": [None, None, None],
    "empty key": [b""], "good": [b"a", b"b"],
})
def keyless_to_a_compacted_topic(b, keys):
    """INVALID_RECORD, and the places in the batch."""
    for label, policy in POLICIES.items():
        name = b.topic(label.replace(" ", "-"), cleanup_policy=policy)
        send(b, name, b.batch(*keyed(*keys)))
        b.contents(name)


@case("Produce", each={"gzip": records.GZIP, "snappy": records.SNAPPY, "lz4": records.LZ4, "zstd": records.ZSTD})
def keyless_to_a_compacted_topic_compressed(b, codec):
    name = b.topic(cleanup_policy="compact")
    send(b, name, b.batch(*keyed(b"a", None), codec=codec)), send(b, name, b.batch(*keyed(b"a"), codec=codec))
    b.contents(name)


@case("Produce")
def keyless_beside_other_mistakes(b):
    """Which is told: the time, the sequence, or the key?"""
    name = b.topic(cleanup_policy="compact")
    send(b, name, b.batch(*keyed(None), back_ms=-9_000_000))
    send(b, name, b.batch(*keyed(None), producer_id=7000, producer_epoch=0, sequence=-1))
    send(b, name, b.batch(*keyed(b"a"), producer_id=7000, producer_epoch=0, sequence=0))
    send(b, name, b.batch(*keyed(None), producer_id=7000, producer_epoch=0, sequence=5))
    b.contents(name)


@case("Produce")
def keyless_to_one_partition_of_two(b):
    name = b.topic(partitions=2, cleanup_policy="compact")
    b.ask(Acks=-1, TimeoutMs=30_000, TopicData=[
        data(b, name, (0, b.batch(*keyed(None))), (1, b.batch(*keyed(b"a"))))])
    b.contents(name), b.contents(name, 1)


@case("Produce")
def keyless_before_and_after_the_policy(b):
    name = b.topic()
    send(b, name, b.batch(*keyed(None)))
    for policy in ("compact", "delete"):
        set_configs(b, name, ("cleanup.policy", policy))
        send(b, name, b.batch(*keyed(None)))
    b.contents(name)


@case("Produce")
def tombstones(b):
    name = b.topic(cleanup_policy="compact")
    send(b, name, b.batch((b"a", None, ()), (b"b", b"", ())))
    b.contents(name)


# --- configs

CONFIGS = {
    "compact": [("cleanup.policy", "compact")], "both": [("cleanup.policy", "compact,delete")],
    "blanks": [("cleanup.policy", " compact , delete ")], "twice": [("cleanup.policy", "compact,compact")],
    "capitals": [("cleanup.policy", "Compact")], "none": [("cleanup.policy", "none")], "empty": [("cleanup.policy", "")],
    "empty part": [("cleanup.policy", "compact,")],
    "ratio": [("min.cleanable.dirty.ratio", "0")], "ratio 1": [("min.cleanable.dirty.ratio", "1")],
    "ratio above": [("min.cleanable.dirty.ratio", "1.1")], "ratio negative": [("min.cleanable.dirty.ratio", "-0.1")],
    "ratio no number": [("min.cleanable.dirty.ratio", "half")], "ratio odd": [("min.cleanable.dirty.ratio", "NaN")],
    "lag": [("min.compaction.lag.ms", "10")], "lag negative": [("min.compaction.lag.ms", "-1")],
    "max lag": [("max.compaction.lag.ms", "10")], "max lag 0": [("max.compaction.lag.ms", "0")],
    "lags": [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "10")],
    "lags crossed": [("min.compaction.lag.ms", "11"), ("max.compaction.lag.ms", "10")],
    "tombstones": [("delete.retention.ms", "0")], "tombstones negative": [("delete.retention.ms", "-1")],
    "tombstones long": [("delete.retention.ms", str(2**63 - 1))],
    "all": [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1"), ("min.compaction.lag.ms", "1"),
            ("max.compaction.lag.ms", "2"), ("delete.retention.ms", "3")],
}


@case("CreateTopics", since=5, each=CONFIGS)
def compacted(b, rows):
    b.ask(Topics=[{"Name": b.name(), "NumPartitions": 1, "ReplicationFactor": 1, "Configs": pairs(rows)}], timeoutMs=60_000)


@case("AlterConfigs", each=CONFIGS)
def alter_compaction(b, rows):
    name = b.topic()
    b.ask(Resources=[resource(name, pairs(rows))])
    overrides(b, name)


@case("IncrementalAlterConfigs", each={label: [(key, SET, value) for key, value in rows] for label, rows in CONFIGS.items()} | {
    "append": [("cleanup.policy", APPEND, "compact")], "append and subtract": [("cleanup.policy", APPEND, "compact"),
                                                                              ("cleanup.policy", SUBTRACT, "delete")]})
def change_compaction(b, rows):
    name = b.topic()
    b.ask(Resources=[resource(name, operations(rows))])
    overrides(b, name)


@case("IncrementalAlterConfigs", each={"to delete": "delete", "to both": "compact,delete", "to none": ""})
def change_from_compact(b, policy):
    name = b.topic(cleanup_policy="compact")
    b.ask(Resources=[resource(name, operations([("cleanup.policy", SET, policy)]))])
    overrides(b, name)


@case("DescribeConfigs")
def of_a_compacted_topic(b):
    name = b.topic(cleanup_policy="compact,delete", min_cleanable_dirty_ratio=0.25, min_compaction_lag_ms=7,
                   max_compaction_lag_ms=1000, delete_retention_ms=0)
    keys = ["cleanup.policy", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "max.compaction.lag.ms",
            "delete.retention.ms"]
    b.ask(Resources=[{"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": keys}], IncludeSynonyms=True)


def set_configs(b, name, *rows):
    change = [resource(name, operations([(key, SET, value) for key, value in rows]))]
    answer = b.prepare("IncrementalAlterConfigs", 1, Resources=change)
    if answer["Responses"][0]["ErrorCode"]:
        raise SetupFailed(f"configs of {name}: {answer}")
    b.settle()


# --- the same topic, cleaned by both


def is_gap(head, rows):
    """Whether a batch has nothing but offsets."""
    return not rows and head[9] < 0 and not head[5] & records.CONTROL


class Log:
    """A topic that is filled first, and cleaned then; each batch is a second later than the one before."""

    def __init__(self, b, **configs):
        self.b, self.step, self.rounds = b, 0, 0
        self.name = b.topic(**{"retention_ms": -1, "segment_ms": 1, "min_cleanable_dirty_ratio": 0} | configs)

    def claims(self, **claims):
        self.step += 1
        return {"back_ms": -FUTURE_MS - self.step * STEP_MS} | claims

    def put(self, *rows, **claims):
        """Rows are (key, value), with headers if there are any."""
        self.b.produce(self.name, self.b.batch(*[(*row, ())[:3] for row in rows], **self.claims(**claims)))

    def put_in_transaction(self, producer, *rows, **claims):
        send_in_transaction(self.b, producer, self.name, *[(*row, ())[:3] for row in rows], **self.claims(**claims))

    def clean(self, policy="compact", is_shown=True):
        """Everything so far, and shows what is left."""
        self.rounds += 1
        marked = self.mark()
        if self.rounds == 1:
            self.compact(policy)
        self.await_gone(marked)
        if is_shown:
            self.show()

    def mark(self, **claims):
        """Appends what shows that everything before it was cleaned: the offset of a record that is gone then."""
        offset = self.end()
        for key in (b"mark", b"mark", b"last %d" % self.rounds):
            self.put((key, b""), **claims)
        return offset

    def compact(self, policy="compact"):
        set_configs(self.b, self.name, ("cleanup.policy", policy))

    def await_gone(self, offset):
        deadline = time.monotonic() + START_SECONDS_MAX
        while any(record["Offset"] == offset for _, rows in self.batches() for record in rows):
            if time.monotonic() > deadline:
                raise SetupFailed(f"{self.name} was not cleaned in {START_SECONDS_MAX} s")
            time.sleep(0.02)

    def end(self):
        rows = [{"PartitionIndex": 0, "Timestamp": -1}]
        answer = self.b.prepare("ListOffsets", 6, ReplicaId=-1, Topics=[{"Name": self.name, "Partitions": rows}])
        return answer["Topics"][0]["Partitions"][0]["Offset"]

    def batches(self, level=0):
        """All that is stored; committed records and the aborted ones they are told from, with level 1."""
        found, offset = [], self.start()
        while True:
            row = {"Partition": 0, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20}
            answer = self.b.prepare("Fetch", 12, MaxBytes=1 << 20, IsolationLevel=level,
                                    Topics=[{"Topic": self.name, "Partitions": [row]}])
            stored = answer["Responses"][0]["Partitions"][0]
            if stored["ErrorCode"]:
                raise SetupFailed(f"fetch of {self.name} from {offset}: error {stored['ErrorCode']}")
            piece = list(records.unpack(stored["Records"] or b""))
            found += piece
            if not piece:
                return found
            offset = piece[-1][0][0] + piece[-1][0][6] + 1

    def start(self):
        rows = [{"PartitionIndex": 0, "Timestamp": -2}]
        answer = self.b.prepare("ListOffsets", 6, ReplicaId=-1, Topics=[{"Name": self.name, "Partitions": rows}])
        return answer["Topics"][0]["Partitions"][0]["Offset"]

    def show(self):
        """Each record, each batch, and what readers of committed records are told.

        Where nothing is left, Yagura has one batch without records and Kafka a gap: clients see the same.
        """
        batches = [one for one in self.batches() if not is_gap(*one)]
        self.b.note("records", [record for head, rows in batches for record in rows if not head[5] & records.CONTROL])
        self.b.note("batches", [self.shown(*one) for one in batches])
        committed = [one for one in self.batches(level=1) if not is_gap(*one)]
        self.b.note("committed", [head[0] for head, _ in committed])
        row = {"Partition": 0, "FetchOffset": self.start(), "PartitionMaxBytes": 1 << 20}
        answer = self.b.prepare("Fetch", 12, MaxBytes=1 << 20, IsolationLevel=1,
                                Topics=[{"Topic": self.name, "Partitions": [row]}])
        self.b.note("aborted", answer["Responses"][0]["Partitions"][0]["AbortedTransactions"])

    def shown(self, head, rows):
        base, _, _, _, _, attributes, last, first, newest, producer, epoch, sequence, count = head
        has_horizon = bool(attributes & DELETE_HORIZON)
        is_control = bool(attributes & records.CONTROL)
        # With it, what the records' own times count from is of no interest.
        has_append_time = bool(attributes & records.LOG_APPEND_TIME)
        return {"BaseOffset": base, "LastOffset": base + last, "Attributes": attributes, "Count": count, "ProducerEpoch": epoch,
                # The horizon is a time in the broker's future, and so is nothing to compare.
                "BaseTimestamp": "a horizon" if has_horizon else "of its producer" if has_append_time else first,
                "MaxTimestamp": newest, "ProducerId": producer, "BaseSequence": sequence,
                "Marker": rows[0]["Key"] if is_control and rows else None}


def fill(log, rounds=4, **claims):
    """Three keys that are written again and again, two that are written once, with headers, and one that is empty."""
    log.put((b"once", b"0", [(b"h", b"1"), (b"h", None), (b"", b"")]), (b"a", b"first"), **claims)
    for at in range(rounds):
        rows = [(key, b"%s %d" % (key, at)) for key in (b"a", b"b", b"c")[at % 2:]]
        log.put(*rows, (b"", b"%d" % at), **claims)
    log.put((b"once more", b"1"), (b"a", b"last", [(b"last", b"x" * 100)]), **claims)


@case("Compaction", each={"plain": records.NONE, "gzip": records.GZIP})
def last_of_each_key(b, codec):
    log = Log(b)
    fill(log, codec=codec)
    log.clean()


@case("Compaction")
def with_codec_of_the_topic(b):
    """What is written plain is kept in the topic's codec."""
    log = Log(b, compression_type="gzip")
    fill(log)
    log.clean()


@case("Compaction", each={"compact, delete": "compact,delete", "delete, compact": "delete,compact"})
def by_both_policies(b, policy):
    log = Log(b)
    fill(log)
    log.clean(policy)


@case("Compaction")
def in_two_rounds(b):
    """What a round has left, the next one thins out further."""
    log = Log(b)
    fill(log), log.clean()
    fill(log, 2), log.clean()


@case("Compaction")
def same_key_in_one_batch(b):
    log = Log(b)
    log.put((b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"a", b"3"))
    log.put((b"c", b"1"), (b"c", b"2"))
    log.clean()


@case("Compaction")
def batches_without_anything_left(b):
    """In front, in the middle, and several in a row."""
    log = Log(b)
    for value in range(6):
        log.put((b"a", b"%d" % value), (b"b", b"%d" % value))
    log.put((b"c", b"0"))
    log.clean()


@case("Compaction", each={"a day": 86_400_000, "0": 0, "1": 1})
def tombstones_cleaned(b, retention_ms):
    """They stay for the first round, and go by a later one, once their time is over."""
    log = Log(b, delete_retention_ms=retention_ms)
    log.put((b"a", b"1"), (b"b", b"1"), (b"c", b"1"))
    log.put((b"a", None)), log.put((b"b", None), (b"d", None)), log.put((b"b", b"2"))
    log.clean()
    time.sleep(0.05)
    log.put((b"e", b"1")), log.clean()
    log.put((b"f", b"1")), log.clean()


@case("Compaction")
def tombstones_written_over(b):
    log = Log(b)
    log.put((b"a", None)), log.put((b"a", b"1")), log.put((b"b", b"1")), log.put((b"b", None)), log.put((b"b", None))
    log.clean()


@case("Compaction", each={"a day": 86_400_000, "0": 0})
def transactions_cleaned(b, retention_ms):
    """Committed, aborted, and one after another; markers go as tombstones do."""
    log = Log(b, delete_retention_ms=retention_ms)
    one, two = initialized(b, b.name("one")), initialized(b, b.name("two"))
    log.put_in_transaction(one, (b"a", b"1"), (b"b", b"1"))
    log.put_in_transaction(two, (b"a", b"aborted"), (b"c", b"aborted"))
    log.put((b"d", b"1"))
    one, two = ended(b, one), ended(b, two, commit=False)
    log.put_in_transaction(one, (b"a", b"2"))
    one = ended(b, one)
    log.put_in_transaction(two, (b"b", b"aborted"))
    two = ended(b, two, commit=False)
    log.put_in_transaction(two, (b"e", b"1"))
    ended(b, two)
    log.clean()
    time.sleep(0.05)
    # Kafka may clean more often than is waited for, and each time brings a marker nearer to its end.
    for at in range(5):
        log.put((b"e", b"%d" % at)), log.clean(is_shown=False)
    log.put((b"f", b"1")), log.clean()


@case("Compaction")
def transactions_without_records(b):
    log, producer = Log(b, delete_retention_ms=0), initialized(b)
    for commit in (True, False):
        add(b, producer, log.name)
        ended(b, producer, commit, version=1)
        log.put((b"a", b"1"))
    log.clean()
    log.put((b"a", b"2")), log.clean()


@case("Compaction")
def aborted_records_over_committed(b):
    """An aborted record takes nothing's place."""
    log, producer = Log(b), initialized(b)
    log.put((b"a", b"stays"))
    log.put_in_transaction(producer, (b"a", b"aborted"))
    ended(b, producer, commit=False)
    log.clean()


@case("Compaction")
def last_sequences(b):
    """A batch that holds a producer's last sequence stays, if only as an empty one; and sequences go on."""
    log = Log(b)
    claims = {"producer_id": 7000, "producer_epoch": 0}
    for sequence in (0, 1, 2):
        log.put((b"a", b"%d" % sequence), sequence=sequence, **claims)
    log.put((b"b", b"1"), (b"c", b"1"), sequence=0, producer_id=7001, producer_epoch=3)
    log.put((b"a", b"over it")), log.put((b"b", b"over it"))
    log.clean()
    for sequence in (2, 4, 3):
        send_at(b, log, sequence, **claims)
    log.put((b"z", b"1"), sequence=4, **claims)
    log.clean()


def send_at(b, log, sequence, **claims):
    """A batch whose answer counts."""
    one = b.batch((b"y", b"%d" % sequence, ()), **log.claims(sequence=sequence, **claims))
    b.other("Produce", 9, Acks=-1, TimeoutMs=30_000, TopicData=[
        {"Name": log.name, "PartitionData": [{"Index": 0, "Records": one}]}])


@case("Compaction")
def behind_an_open_transaction(b):
    """What is not stable is not cleaned, and takes nothing's place."""
    log, producer = Log(b), initialized(b)
    log.put((b"a", b"1")), log.put((b"a", b"2")), log.put((b"mark-2", b"1")), log.put((b"mark-2", b"2"))
    log.put_in_transaction(producer, (b"a", b"open"))
    log.put((b"a", b"3")), log.put((b"a", b"4"))
    log.compact()
    log.await_gone(2)
    log.show()
    ended(b, producer)
    # Cleaning goes on meanwhile, and each time brings the marker nearer to its end.
    for _ in range(3):
        log.clean(is_shown=False)
    log.clean()


@case("Compaction")
def after_records_were_deleted(b):
    log = Log(b)
    fill(log)
    b.delete_records(log.name, 5)
    log.clean("compact,delete")


@case("Compaction")
def log_append_time_kept(b):
    """Batches of one time each; what is left has it still."""
    log = Log(b, message_timestamp_type="LogAppendTime")
    for rows in ([(b"a", b"1"), (b"b", b"1")], [(b"a", b"2")], [(b"mark", b"1")], [(b"mark", b"2")], [(b"last", b"")]):
        log.put(*rows)
        time.sleep(0.005)  # so that the next one begins a segment
    log.compact()
    log.await_gone(3)
    log.show()


@case("Compaction", each={"min lag": {"min_compaction_lag_ms": 1_800_000}, "max lag": {
    "max_compaction_lag_ms": 1, "min_cleanable_dirty_ratio": 1}})
def lags(b, configs):
    """Old records are cleaned, young ones are not; or all are, though few are dirty."""
    log = Log(b, **configs)
    rows = [(7_200_000, b"a"), (7_200_000, b"a"), (7_200_000, b"mark"), (7_200_000, b"mark"), (60_000, b"a"), (60_000, b"a"),
            (60_000, b"last")]
    for at, (back_ms, key) in enumerate(rows):
        log.put((key, b"%d" % at), back_ms=back_ms - at * STEP_MS)
    log.compact()
    log.await_gone(2)
    log.show()
