"""AddPartitionsToTxn and AddOffsetsToTxn: what a transaction of version 1 is about to write to."""

from cases import case
from transactions import STATES, STRANGERS, ask, initialized, look, old_call, rows_to_add, second, shared, unknown

CLIENTS_UNTIL, BROKERS_SINCE = 3, 4


def add(b, producer, *topics, partitions=(0,)):
    return ask(b, **old_call(producer, V3AndBelowTopics=rows_to_add(*topics, partitions=partitions)))


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL)
def add_partitions(b):
    """Once, once more, and others."""
    producer, topic = initialized(b), b.topic(partitions=3)
    for partitions in ((0,), (0,), (2, 0, 1)):
        add(b, producer, topic, partitions=partitions)
        look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL)
def add_partitions_of_two_topics(b):
    producer = initialized(b)
    add(b, producer, b.topic("b"), b.topic("a"))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each=STATES)
def add_partitions_in_state(b, make):
    producer = make(b)
    add(b, producer, shared(b), partitions=(1,))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each=STRANGERS)
def add_partitions_as(b, stranger):
    producer = second(b)
    add(b, stranger(producer), shared(b), partitions=(1,))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def add_unknown_topic(b, name):
    """Nothing is added, not even what could be."""
    producer = initialized(b)
    add(b, producer, b.name() if name == "unknown" else name, shared(b))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each={"3": 3, "-1": -1, "max": 2**31 - 1})
def add_unknown_partition(b, index):
    producer = initialized(b)
    add(b, producer, shared(b), partitions=(index, 0))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL)
def add_partition_twice(b):
    producer = initialized(b)
    add(b, producer, shared(b), partitions=(0, 0))
    add(b, producer, shared(b), shared(b), partitions=(1,))
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each={"none": [], "null": None})
def add_topics(b, topics):
    """To a transaction of one's own, and to one that nobody knows."""
    for producer in (initialized(b), unknown(b)._replace(transaction=b.name("unknown"))):
        ask(b, **old_call(producer, V3AndBelowTopics=topics))
    look(b, b.name("id"))


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL)
def add_no_partitions(b):
    producer = initialized(b)
    add(b, producer, shared(b), partitions=())
    look(b, producer.transaction)


@case("AddPartitionsToTxn", until=CLIENTS_UNTIL, each=STRANGERS)
def add_unknown_topic_as(b, stranger):
    """Which of two mistakes is told?"""
    add(b, stranger(second(b)), b.name("unknown"), shared(b))


def of_broker(producer, *topics, **fields):
    return {"Topics": rows_to_add(*topics)} | producer.call() | fields


@case("AddPartitionsToTxn", since=BROKERS_SINCE, each={"one": 1, "two": 2})  # Kafka never answers to none
def add_partitions_as_brokers_do(b, count):
    """Whoever is no broker is refused; Kafka asks its authorizer, and has none here."""
    rows = [of_broker(initialized(b, b.name(f"id-{index}")), shared(b)) for index in range(count)]
    ask(b, Transactions=rows)


@case("AddPartitionsToTxn", since=BROKERS_SINCE, each={"open": second, "empty": initialized, "unknown": unknown})
def verify_partitions_as_brokers_do(b, make):
    ask(b, Transactions=[of_broker(make(b), shared(b), VerifyOnly=True)])


@case("AddPartitionsToTxn", since=BROKERS_SINCE)
def add_null_transactions(b):
    ask(b, Transactions=None)


# --- groups


def add_group(b, producer, group):
    return ask(b, **producer.call(GroupId=group))


@case("AddOffsetsToTxn")
def add_groups(b):
    """They are no partitions that anyone is told of."""
    producer = initialized(b)
    for group in ("g", "g", "another"):
        add_group(b, producer, b.name(group))
    b.other("DescribeTransactions", 0, lambda answer: [
        {key: value for key, value in one.items() if key != "Topics"} for one in answer["TransactionStates"]],
        TransactionalIds=[producer.transaction])


@case("AddOffsetsToTxn", each=STATES)
def add_group_in_state(b, make):
    add_group(b, make(b), b.name("g"))


@case("AddOffsetsToTxn", each=STRANGERS)
def add_group_as(b, stranger):
    add_group(b, stranger(second(b)), b.name("g"))


@case("AddOffsetsToTxn", each={"empty": "", "null": None, "odd": "a group/é"})
def add_group_id(b, group):
    add_group(b, initialized(b), group)


@case("AddOffsetsToTxn")
def add_empty_group_as_a_stranger(b):
    """Which of two mistakes is told?"""
    add_group(b, unknown(b), "")
