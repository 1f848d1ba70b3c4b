"""Where things are: ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeLogDirs."""

import time

import records
from cases import case

MINUTE_MS = 60_000


def ask(b, name, *timestamps, partition=0, **fields):
    rows = [{"PartitionIndex": partition, "Timestamp": timestamp} for timestamp in timestamps]
    return b.ask(**{"ReplicaId": -1, "IsolationLevel": 0, "Topics": [{"Name": name, "Partitions": rows}]} | fields)


def began(b):
    """The time of the first record of `filled`."""
    return b.now - 60 * MINUTE_MS


def filled(b):
    """Records of minutes 0, 1, 2, then 5, 4, 3, then 10 twice; partition 1 is empty."""
    def make(at):
        name = at.topic(partitions=2)
        for minutes, codec in (((0, 1, 2), 0), ((5, 4, 3), records.GZIP), ((10, 10), 0)):
            times = [began(at) + minute * MINUTE_MS for minute in minutes]
            at.produce(name, at.batch(*[b"x"] * len(times), timestamps=times, codec=codec))
        return name
    return b.shared_topic("offsets", make)


@case("ListOffsets", each={"latest -1": -1, "earliest -2": -2, "max timestamp -3": -3, "earliest local -4": -4,
                           "latest tiered -5": -5, "earliest pending upload -6": -6, "-7": -7, "min": -2**63})
def special(b, timestamp):
    ask(b, filled(b), timestamp)


@case("ListOffsets", each={"latest -1": -1, "earliest -2": -2, "max timestamp -3": -3, "earliest local -4": -4,
                           "latest tiered -5": -5, "0": 0})
def special_of_nothing(b, timestamp):
    ask(b, filled(b), timestamp, partition=1)


@case("ListOffsets", each={"before all": -1, "first": 0, "second": 1, "between": 1.5, "begin of the second batch": 3,
                           "in disorder": 4,
                           "highest of the second batch": 5, "between batches": 7, "last": 10, "after all": 11})
def timestamp(b, minute):
    ask(b, filled(b), began(b) + int(minute * MINUTE_MS))


@case("ListOffsets", each={"0": 0, "max": 2**63 - 1})
def extreme_timestamp(b, timestamp):
    ask(b, filled(b), timestamp)


@case("ListOffsets")
def log_append_time(b):
    """Every record of a batch has the time of the batch, whatever it says itself."""
    name = b.topic(message_timestamp_type="LogAppendTime")
    b.produce(name, b.batch(b"a", b"b"))
    time.sleep(0.005)  # so that the second batch has the highest time for itself
    b.produce(name, b.batch(b"c"))
    for timestamp in (b.now - 60 * MINUTE_MS, b.now + 600 * MINUTE_MS, -3):
        ask(b, name, timestamp)


@case("ListOffsets")
def after_records_were_deleted(b):
    name = b.topic()
    b.produce(name, b.batch(b"a", b"b", b"c"), b.batch(b"d"))
    b.delete_records(name, 2)
    for timestamp in (-1, -2, 0):
        ask(b, name, timestamp)


@case("ListOffsets")
def all_records_deleted(b):
    name = b.topic()
    b.produce(name, b.batch(b"a", b"b", b"c"))
    b.delete_records(name, -1)
    for timestamp in (-1, -2, 0):
        ask(b, name, timestamp)


@case("ListOffsets")
def partition_twice(b):
    ask(b, filled(b), -1, -2)


@case("ListOffsets")
def topic_twice(b):
    name = filled(b)
    b.ask(ReplicaId=-1, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": index,
                                                               "Timestamp": -1}]} for index in (0, 1)])


@case("ListOffsets", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    ask(b, b.name() if name == "unknown" else name, -1)


@case("ListOffsets", each={"2": 2, "-1": -1, "-2": -2})
def partition(b, index):
    ask(b, filled(b), -1, partition=index)


@case("ListOffsets")
def good_and_bad(b):
    name = filled(b)
    rows = [{"PartitionIndex": index, "Timestamp": -1} for index in (9, 1, 0)]
    b.ask(ReplicaId=-1, Topics=[{"Name": b.name("unknown"), "Partitions": rows}, {"Name": name, "Partitions": rows}])


@case("ListOffsets", each={"none": [], "null": None})
def topics(b, topics):
    b.ask(ReplicaId=-1, Topics=topics)


@case("ListOffsets")
def no_partitions(b):
    ask(b, filled(b))


@case("ListOffsets", since=2, each={"committed": 1, "2": 2, "-1": -1})
def isolation_level(b, level):
    ask(b, filled(b), -1, IsolationLevel=level)


@case("ListOffsets", each={"the leader": "me", "999": 999, "-2": -2, "-3": -3})
def replica(b, replica_id):
    ask(b, filled(b), -1, ReplicaId=b.node if replica_id == "me" else replica_id)


@case("ListOffsets", since=4, each={"current": 0, "next": 1, "-2": None})
def leader_epoch(b, more):
    name = filled(b)
    epoch = -2 if more is None else b.leader_epoch(name) + more
    for timestamp in (-1, 0):
        rows = [{"PartitionIndex": 0, "Timestamp": timestamp, "CurrentLeaderEpoch": epoch}]
        b.ask(ReplicaId=-1, Topics=[{"Name": name, "Partitions": rows}])


@case("ListOffsets", since=10, each={"0": 0, "-1": -1})
def timeout(b, milliseconds):
    ask(b, filled(b), -1, TimeoutMs=milliseconds)



def epochs(b, name, *rows, **fields):
    """Rows of (partition, current leader epoch, epoch asked for)."""
    rows = [{"Partition": index, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch} for index, current,
            epoch in rows]
    return b.ask(Topics=[{"Topic": name, "Partitions": rows}], **{"ReplicaId": -1} | fields)


@case("OffsetForLeaderEpoch", each={"current": 0, "next": 1, "far": 1000, "-1": None})
def epoch(b, more):
    name = filled(b)
    now = b.leader_epoch(name)
    epochs(b, name, (0, -1, -1 if more is None else now + more))


@case("OffsetForLeaderEpoch", each={"current": 0, "next": 1, "-2": -2})
def current_epoch(b, more):
    name = filled(b)
    now = b.leader_epoch(name)
    epochs(b, name, (0, now + more, now))


@case("OffsetForLeaderEpoch")
def epoch_of_nothing(b):
    """No record has been written in any epoch."""
    name = filled(b)
    epochs(b, name, (1, -1, b.leader_epoch(name)))


@case("OffsetForLeaderEpoch", each={"2": 2, "-1": -1})
def epoch_of_partition(b, index):
    epochs(b, filled(b), (index, -1, 0))


@case("OffsetForLeaderEpoch", each={"unknown": "unknown", "empty": "", "null": None})
def epoch_of_topic(b, name):
    epochs(b, b.name() if name == "unknown" else name, (0, -1, 0))


@case("OffsetForLeaderEpoch")
def epoch_of_partition_twice(b):
    name = filled(b)
    now = b.leader_epoch(name)
    epochs(b, name, (0, -1, now), (0, -1, now + 5))


@case("OffsetForLeaderEpoch")
def epoch_of_good_and_bad(b):
    good = filled(b)
    now = b.leader_epoch(good)
    rows = [{"Partition": index, "CurrentLeaderEpoch": -1, "LeaderEpoch": now} for index in (9, 1, 0)]
    b.ask(Topics=[{"Topic": name, "Partitions": rows} for name in (b.name("unknown"), good, "a b")], ReplicaId=-1)


@case("OffsetForLeaderEpoch", since=3, each={"the leader": "me", "999": 999, "-2": -2})
def epoch_for_replica(b, replica_id):
    name = filled(b)
    epochs(b, name, (0, -1, b.leader_epoch(name)), ReplicaId=b.node if replica_id == "me" else replica_id)


@case("OffsetForLeaderEpoch", each={"none": [], "null": None})
def epoch_of_topics(b, topics):
    b.ask(Topics=topics)
