"""Fetch without sessions: from where, how much, how long."""

import records
from cases import case
from schema import ZERO_UUID, random_uuid

LARGE = 1 << 20
LONG_MS = 10_000  # nobody who answers within half of it has waited for it


def topic(b, name, *partitions):
    """One topic: its name, or from version 13 on its id. Partitions are dicts or offsets of partition 0, 1, ..."""
    rows = [one if isinstance(one, dict) else {"FetchOffset": one} for one in partitions]
    rows = [{"Partition": index, "PartitionMaxBytes": LARGE} | row for index, row in enumerate(rows)]
    return {"Topic": name, "TopicId": b.broker.topic_ids.get(name, random_uuid(name or "null")), "Partitions": rows}


def ask(b, *topics, **fields):
    return b.ask(**{"MaxWaitMs": 0, "MinBytes": 1, "MaxBytes": LARGE, "Topics": list(topics)} | fields)


def filled(b):
    """Ten records in three batches: offsets 0, 1-5 and 6-9. Made once, as it is only read."""
    def make(at):
        name = at.topic(partitions=2)
        at.produce(name, at.batch(b"0"), at.batch(b"1", b"2", b"3", b"4", b"5"), at.batch(b"6", b"7", b"8", b"9"))
        at.produce(name, at.batch(b"other partition"), partition=1)
        return name
    return b.shared_topic("fetch", make)


@case("Fetch", each={"first": 0, "begin of a batch": 1, "middle of a batch": 3, "last": 9, "end": 10})
def offset(b, offset):
    """A batch comes whole, from its beginning."""
    ask(b, topic(b, filled(b), offset))


@case("Fetch", each={"past the end": 11, "far past the end": 2**62, "-1": -1, "-2": -2, "min": -2**63})
def offset_out_of_range(b, offset):
    ask(b, topic(b, filled(b), offset))


@case("Fetch")
def empty_topic(b):
    name = b.topic()
    ask(b, topic(b, name, 0))
    ask(b, topic(b, name, 1))


@case("Fetch")
def below_the_log_start(b):
    name = b.topic()
    b.produce(name, b.batch(b"a", b"b", b"c"), b.batch(b"d"))
    b.delete_records(name, 2)
    for offset in (0, 1, 2, 3, 4):
        ask(b, topic(b, name, offset))


@case("Fetch", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    ask(b, topic(b, b.name() if name == "unknown" else name, 0))


@case("Fetch", since=13, each={"unknown": random_uuid("fetch"), "zero": ZERO_UUID})
def topic_id(b, topic_id):
    ask(b, topic(b, filled(b), 0) | {"TopicId": topic_id})


@case("Fetch", each={"2": 2, "-1": -1, "-2": -2, "max": 2**31 - 1})
def partition(b, index):
    ask(b, topic(b, filled(b), {"Partition": index, "FetchOffset": 0}))


@case("Fetch")
def good_and_bad(b):
    name = filled(b)
    ask(b, topic(b, b.name("unknown"), 0), topic(b, name, 99, 0, 0))


@case("Fetch")
def partition_twice(b):
    row = {"Partition": 0, "FetchOffset": 0}
    ask(b, topic(b, filled(b), row, row | {"FetchOffset": 9}))


@case("Fetch")
def topic_twice(b):
    name = filled(b)
    ask(b, topic(b, name, 0), topic(b, name, {"Partition": 1, "FetchOffset": 0}))


@case("Fetch")
def two_topics(b):
    two = b.topic("two")
    b.produce(two, b.batch(b"of two"))
    ask(b, topic(b, two, 0), topic(b, filled(b), 0, 0))


@case("Fetch")
def partitions_in_another_order(b):
    ask(b, topic(b, filled(b), {"Partition": 1, "FetchOffset": 0}, {"Partition": 0, "FetchOffset": 0}))


@case("Fetch")
def nothing(b):
    ask(b)


@case("Fetch")
def null_topics(b):
    ask(b, Topics=None)


@case("Fetch")
def no_partitions(b):
    ask(b, topic(b, filled(b)))


@case("Fetch", each={"waits": (500, 1), "min bytes 0": (0, 0), "no wait": (0, 1), "negative wait": (-1, 1)})
def at_the_end(b, how):
    wait_ms, min_bytes = how
    b.ask_timed(0.45, MaxWaitMs=wait_ms, MinBytes=min_bytes, MaxBytes=LARGE, Topics=[topic(b, filled(b), 10)])


@case("Fetch", each={"min bytes 0": ((10,), 0), "one byte": ((0,), 1), "negative": ((10,), -1),
                     "data elsewhere": ((10, 0), 1),
                     "an error elsewhere": ((10, 99), LARGE), "an error": ((99,), LARGE), "nothing": ((), 1)})
def does_not_wait(b, how):
    offsets, min_bytes = how
    topics = [topic(b, filled(b), *offsets)] if offsets else []
    b.ask_timed(LONG_MS / 2000, MaxWaitMs=LONG_MS, MinBytes=min_bytes, MaxBytes=LARGE, Topics=topics)


@case("Fetch")
def waits_for_more_than_there_is(b):
    b.ask_timed(0.45, MaxWaitMs=500, MinBytes=LARGE, MaxBytes=LARGE, Topics=[topic(b, filled(b), 0)])


@case("Fetch")
def min_bytes_above_max_bytes(b):
    """Nobody can wait for more than may be sent."""
    b.ask_timed(LONG_MS / 2000, MaxWaitMs=LONG_MS, MinBytes=LARGE, MaxBytes=70, Topics=[topic(b, filled(b), 0)])


# The batches of `filled` have 69, 101 and 93 bytes.
@case("Fetch", each={"0": 0, "1": 1, "-1": -1, "one batch": 69, "one and a bit": 100, "two": 170, "all": 263,
                     "max": 2**31 - 1})
def max_bytes(b, limit):
    """The first batch comes whole, however small the limit."""
    ask(b, topic(b, filled(b), 0), MaxBytes=limit)


@case("Fetch", each={"0": 0, "1": 1, "-1": -1, "one batch": 69, "one and a bit": 100, "two": 170, "all": 263,
                     "max": 2**31 - 1})
def partition_max_bytes(b, limit):
    ask(b, topic(b, filled(b), {"FetchOffset": 0, "PartitionMaxBytes": limit}))


@case("Fetch", each={"1": 1, "one batch": 69, "first partition": 263, "all": LARGE})
def max_bytes_of_two_partitions(b, limit):
    """Of the others, nothing comes that is larger than what is left."""
    ask(b, topic(b, filled(b), 0, 0), MaxBytes=limit)


@case("Fetch")
def partition_max_bytes_of_two_partitions(b):
    """Only the first partition that has anything is allowed to be larger."""
    ask(b, topic(b, filled(b), {"FetchOffset": 0, "PartitionMaxBytes": 1}, {"FetchOffset": 0, "PartitionMaxBytes": 1}))


@case("Fetch")
def first_partition_is_at_its_end(b):
    ask(b, topic(b, filled(b), 10, {"FetchOffset": 0, "PartitionMaxBytes": 1}), MaxBytes=1)


@case("Fetch", each={"uncommitted": 0, "committed": 1, "2": 2, "-1": -1})
def isolation_level(b, level):
    ask(b, topic(b, filled(b), 3), IsolationLevel=level)


@case("Fetch", each={"the leader": "me", "999": 999, "-2": -2, "-3": -3})
def replica(b, replica_id):
    """As a broker that is no follower of the partition."""
    replica_id = b.node if replica_id == "me" else replica_id
    ask(b, topic(b, filled(b), 0), ReplicaId=replica_id, ReplicaState={"ReplicaId": replica_id, "ReplicaEpoch": -1})


@case("Fetch", since=9, each={"current": 0, "next": 1, "far": 1000, "-2": None})
def leader_epoch(b, more):
    name = filled(b)
    epoch = -2 if more is None else b.leader_epoch(name) + more
    ask(b, topic(b, name, {"FetchOffset": 0, "CurrentLeaderEpoch": epoch}, 0))


@case("Fetch", since=12, each={"current": 0, "next": 1, "none": None})
def last_fetched_epoch(b, more):
    name = filled(b)
    epoch = -1 if more is None else b.leader_epoch(name) + more
    ask(b, topic(b, name, {"FetchOffset": 6, "LastFetchedEpoch": epoch}))


@case("Fetch", since=12)
def last_fetched_epoch_at_the_end(b):
    name = filled(b)
    ask(b, topic(b, name, {"FetchOffset": 11, "LastFetchedEpoch": b.leader_epoch(name)}))


@case("Fetch", since=5, each={"5": 5, "far": 2**62})
def log_start_offset(b, offset):
    """Which only followers tell."""
    ask(b, topic(b, filled(b), {"FetchOffset": 0, "LogStartOffset": offset}))


@case("Fetch", since=11)
def rack(b):
    ask(b, topic(b, filled(b), 9), RackId="a-rack")


@case("Fetch", since=12)
def cluster_id(b):
    ask(b, topic(b, filled(b), 9), ClusterId="of another cluster")


@case("Fetch", each={"gzip": records.GZIP, "zstd": records.ZSTD})
def codec(b, codec):
    """Before version 10, nobody gets zstd."""
    name = b.topic()
    b.produce(name, b.batch(codec=codec))
    ask(b, topic(b, name, 0))


@case("Fetch")
def zstd_behind_plain(b):
    name = b.topic()
    b.produce(name, b.batch(), b.batch(codec=records.ZSTD))
    ask(b, topic(b, name, 0))
    ask(b, topic(b, name, 1))


@case("Fetch")
def deleted_topic(b):
    name = b.topic()
    ask(b, topic(b, name, 0))
    b.prepare("DeleteTopics", 5, TopicNames=[name], TimeoutMs=30_000)
    b.settle()
    ask(b, topic(b, name, 0))
