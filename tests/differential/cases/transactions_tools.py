"""What tools ask of transactions: DescribeTransactions, ListTransactions, DescribeProducers, WriteTxnMarkers, the feature."""

from cases import case
from cases.tools import feature
from transactions import (STATES, add, add_group, ask, begun, committed, contents, ended, finished, initialized, look,
                          ongoing, second, send, shared, unknown, without_clock)

MAX = 2**63 - 1
STATE_NAMES = ("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead",
               "PrepareEpochFence")


@case("DescribeTransactions", each=STATES)
def describe(b, make):
    producer = make(b)
    finished(b, producer.transaction)
    b.ask(TransactionalIds=[producer.transaction])


@case("DescribeTransactions", each={"none": [], "null": None, "empty": [""], "null id": [None], "odd": ["an id/é"]})
def describe_ids(b, ids):
    b.ask(TransactionalIds=ids)


@case("DescribeTransactions")
def describe_several(b):
    one, two = initialized(b, b.name("one")), begun(b, shared(b), initialized(b, b.name("two")))
    b.ask(TransactionalIds=[two.transaction, b.name("unknown"), one.transaction, "", two.transaction])


@case("DescribeTransactions")
def describe_partitions(b):
    """Those that were added, whether written to or not; groups are none."""
    producer, one, two = initialized(b), b.topic("one", partitions=12), b.topic("two")
    add(b, producer, one, partitions=(10, 9, 2)), add(b, producer, two)
    b.ask(TransactionalIds=[producer.transaction])
    send(b, producer, two), send(b, producer, one, partition=11)
    b.ask(TransactionalIds=[producer.transaction])


@case("DescribeTransactions")
def describe_after_a_topic_was_deleted(b):
    topic = b.topic()
    producer = begun(b, topic)
    b.prepare("DeleteTopics", 5, TopicNames=[topic], TimeoutMs=30_000)
    b.settle()
    b.ask(lambda answer: answer["TransactionStates"][0]["TransactionState"], TransactionalIds=[producer.transaction])


# --- the list


def own(b):
    """Shows those of this case."""
    return lambda answer: answer | {"TransactionStates": [
        one for one in answer["TransactionStates"] if one["TransactionalId"].startswith(b.prefix)]}


def listed(b):
    """One in each state that lasts."""
    made = {}
    for name, finish in (("empty", None), ("ongoing", None), ("committed", True), ("aborted", False)):
        made[name] = initialized(b, b.name(name))
        if name != "empty":
            begun(b, shared(b), made[name])
        if finish is not None:
            made[name] = ended(b, made[name], finish)
    return made


def list_all(b, **fields):
    return b.ask(own(b), **fields)


@case("ListTransactions")
def list_of_all(b):
    listed(b)
    list_all(b)


@case("ListTransactions", each={name: [name] for name in STATE_NAMES} | {
    "two": ["Ongoing", "Empty"], "unknown": ["NoSuchState"], "small letters": ["ongoing"], "blank": [" Ongoing "],
    "one unknown": ["Ongoing", "NoSuchState", "NoSuchState", "Another"], "empty": [""], "twice": ["Empty", "Empty"],
    "null": None, "null state": [None]})
def list_states(b, states):
    listed(b)
    list_all(b, StateFilters=states)


@case("ListTransactions", each={"one": ["ongoing"], "two": ["empty", "aborted"], "unknown": [], "twice": ["empty", "empty"]})
def list_producers(b, names):
    made = listed(b)
    list_all(b, ProducerIdFilters=[made[name].id for name in names] or [MAX])


@case("ListTransactions", each={"-1": [-1], "null": None})
def list_odd_producers(b, ids):
    listed(b)
    list_all(b, ProducerIdFilters=ids)


@case("ListTransactions")
def list_by_state_and_producer(b):
    made = listed(b)
    for states in (["Ongoing"], ["Empty", "CompleteAbort"]):
        list_all(b, StateFilters=states, ProducerIdFilters=[made["ongoing"].id, made["aborted"].id])


@case("ListTransactions", since=1, each={"-1": -1, "-2": -2, "an hour": 3_600_000, "max": MAX})
def list_by_duration(b, milliseconds):
    listed(b)
    list_all(b, DurationFilter=milliseconds)


@case("ListTransactions", since=2, each={
    "all": ".*", "suffix": ".*-ongoing", "part": "ongoing", "one of two": ".*-(empty|aborted)", "none": "no-such-id",
    "empty": "", "null": None, "broken": "[", "star": "*", "look ahead": ".*(?=ongoing).*", "class": ".*[[:alpha:]]"})
def list_by_pattern(b, pattern):
    listed(b)
    list_all(b, TransactionalIdPattern=pattern)


@case("ListTransactions", since=2)
def list_by_pattern_and_state(b):
    listed(b)
    list_all(b, TransactionalIdPattern=".*-[eo].*", StateFilters=["Ongoing", "CompleteCommit"])


# --- producers of a partition


def producers(b, topic, *partitions):
    b.ask(without_clock, Topics=[{"Name": topic, "PartitionIndexes": list(partitions) or [0]}])


@case("DescribeProducers", each={"1": 1, "2": 2})
def producers_with_open_transactions(b, version):
    """Where it began is told until its end."""
    topic = b.topic(partitions=2)
    b.produce(topic, b.batch())
    producer = begun(b, topic, version=version)
    send(b, producer, topic, sequence=1, version=12 if version == 2 else 10)
    producers(b, topic, 0, 1)
    after = ended(b, producer, version=version)
    producers(b, topic)
    if version == 2:
        begun(b, topic, after)
        producers(b, topic)


@case("DescribeProducers")
def producers_two_open(b):
    topic, one, two = b.topic(), initialized(b, b.name("one")), initialized(b, b.name("two"))
    begun(b, topic, one), begun(b, topic, two)
    producers(b, topic)
    ended(b, one, commit=False)
    producers(b, topic)


@case("DescribeProducers")
def producers_of_a_partition_without_records(b):
    """It was added, and ended."""
    topic, producer = b.topic(), initialized(b)
    add(b, producer, topic)
    producers(b, topic)
    ended(b, producer, version=1)
    producers(b, topic)


@case("DescribeProducers")
def producers_that_timed_out(b):
    topic = b.topic()
    producer = begun(b, topic, initialized(b, timeout_ms=2_000))
    finished(b, producer.transaction, "CompleteAbort")
    producers(b, topic)


# --- an operator's markers


def marker(producer, *topics, commit=False, coordinator_epoch=0, partitions=(0,), **fields):
    rows = [{"Name": topic, "PartitionIndexes": list(partitions)} for topic in topics]
    return {"ProducerId": producer.id, "ProducerEpoch": producer.epoch, "TransactionResult": commit, "Topics": rows,
            "CoordinatorEpoch": coordinator_epoch} | fields


def mark(b, *markers):
    return b.ask(Markers=list(markers))


@case("WriteTxnMarkers", each={"abort": False, "commit": True})
def marker_where_nothing_is_open(b, commit):
    topic = b.topic()
    mark(b, marker(unknown(b), topic, commit=commit))
    producer = ended(b, begun(b, topic))
    mark(b, marker(producer, topic, commit=commit))
    contents(b, topic)


@case("WriteTxnMarkers", each={"abort": False, "commit": True})
def marker_of_an_open_transaction(b, commit):
    """That is not hanging: its transactional id will end it."""
    topic = b.topic()
    producer = begun(b, topic)
    mark(b, marker(producer, topic, commit=commit))
    ended(b, producer, commit)
    contents(b, topic)


@case("WriteTxnMarkers", each={"before": -1, "next": 1})
def marker_of_another_epoch(b, more):
    topic = b.topic()
    initialized(b)
    producer = begun(b, topic, initialized(b))
    mark(b, marker(producer._replace(epoch=producer.epoch + more), topic))
    ended(b, producer)
    contents(b, topic)


@case("WriteTxnMarkers")
def marker_of_another_producer(b):
    topic = b.topic()
    producer = begun(b, topic)
    mark(b, marker(producer._replace(id=producer.id + 4_000_000), topic))
    ended(b, producer)
    contents(b, topic)


@case("WriteTxnMarkers", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def marker_in_topic(b, name):
    mark(b, marker(unknown(b), b.name() if name == "unknown" else name, shared(b), partitions=(0, 9)))


@case("WriteTxnMarkers", each={"9": 9, "-1": -1})
def marker_in_partition(b, index):
    mark(b, marker(unknown(b), b.topic(), partitions=(index, 0)))


@case("WriteTxnMarkers", each={"none": [], "null": None})
def markers(b, rows):
    b.ask(Markers=rows)


@case("WriteTxnMarkers", each={"none": [], "null": None})
def marker_of_topics(b, rows):
    mark(b, marker(unknown(b)) | {"Topics": rows})


@case("WriteTxnMarkers")
def marker_without_partitions(b):
    mark(b, marker(unknown(b), shared(b), b.name("unknown"), partitions=()))


@case("WriteTxnMarkers")
def markers_of_two_producers(b):
    one, two = b.topic("one", partitions=2), b.topic("two")
    producer = unknown(b)
    mark(b, marker(producer, one, two, partitions=(0,)), marker(producer._replace(id=producer.id + 1), one, partitions=(1,)))
    contents(b, one), contents(b, one, 1), contents(b, two)


# --- the feature


@case("UpdateFeatures", each={"0": 0, "1": 1, "2": 2, "3": 3, "-1": -1})
def transaction_version(b, level):
    b.ask(timeoutMs=30_000, FeatureUpdates=[feature("transaction.version", level, version=b.version)],
          **{"ValidateOnly": True} if b.version else {})


@case("UpdateFeatures", since=1, each={"0": 0, "1": 1, "2": 2})
def transaction_version_down(b, level):
    """Safely, and unsafely."""
    for kind in (2, 3):
        b.ask(timeoutMs=30_000, FeatureUpdates=[feature("transaction.version", level, kind)], ValidateOnly=True)


@case("ApiVersions", since=3)
def feature_of_transactions(b):
    answer = b.prepare("ApiVersions", b.version, ClientSoftwareName="a-client", ClientSoftwareVersion="1")
    for field in ("SupportedFeatures", "FinalizedFeatures"):
        b.note(f"transaction.version {field[:9]}", [one for one in answer[field] if one["Name"] == "transaction.version"])


@case("FindCoordinator", since=1)
def coordinator_of_an_open_transaction(b):
    transaction = second(b).transaction
    b.ask(Key=transaction, CoordinatorKeys=[transaction, b.name("unknown")], KeyType=1)


@case("OffsetForLeaderEpoch")
def with_an_open_transaction(b):
    """Markers are of an epoch like all others; what is open counts."""
    topic = b.topic()
    producer = begun(b, topic)
    for is_open in (True, False):
        rows = [{"Partition": 0, "CurrentLeaderEpoch": -1, "LeaderEpoch": b.leader_epoch(topic)}]
        b.ask(ReplicaId=-1, Topics=[{"Topic": topic, "Partitions": rows}])
        if is_open:
            ended(b, producer)
