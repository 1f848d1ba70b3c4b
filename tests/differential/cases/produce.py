"""Produce: where to, how often acknowledged, and requests with mistakes around the batches."""

import records
from cases import case
from schema import ZERO_UUID, random_uuid


def data(b, name, *partitions):
    """One topic: its name, or from version 13 on its id. Partitions are (index, records)."""
    topic_id = b.broker.topic_ids.get(name, random_uuid(name or "null"))
    return {"Name": name, "TopicId": topic_id, "PartitionData": [
        {"Index": index, "Records": one} for index, one in partitions]}


def send(b, name, one, index=0, acks=-1, **fields):
    """One batch to one partition."""
    return b.ask(TopicData=[data(b, name, (index, one))], Acks=acks, TimeoutMs=30_000, **fields)


@case("Produce", each={"1": 1, "all": -1})
def good(b, acks):
    name = b.topic()
    send(b, name, b.batch(), acks=acks)
    send(b, name, b.batch(b"a", b"b", b"c"), acks=acks)
    b.contents(name)


@case("Produce", each={"2": 2, "-2": -2, "max": 32767})
def bad_acks(b, acks):
    name = b.topic()
    send(b, name, b.batch(), acks=acks)
    b.contents(name)


@case("Produce")
def bad_acks_unknown_topic(b):
    send(b, b.name(), b.batch(), acks=2)


@case("Produce")
def acks_0(b):
    name = b.topic()
    b.ask_unanswered(TopicData=[data(b, name, (0, b.batch()))], Acks=0, TimeoutMs=30_000)
    b.contents(name)


@case("Produce", each={"unknown topic": ("unknown", None), "unknown partition": ("t", 1), "corrupt": ("t", 0)})
def acks_0_with_a_mistake(b, where):
    """Nobody is answered, so the connection is closed."""
    topic, index = b.topic(), where[1] or 0
    name = b.name(where[0])
    one = b.batch(crc=1) if where[1] == 0 else b.batch()
    b.ask_unanswered(TopicData=[data(b, name, (index, one))], Acks=0, TimeoutMs=30_000)
    b.contents(topic)


@case("Produce")
def acks_0_nothing(b):
    b.ask_unanswered(TopicData=[], Acks=0, TimeoutMs=30_000)


@case("Produce", each={"0": 0, "-1": -1, "1": 1})
def timeout(b, milliseconds):
    name = b.topic()
    b.ask(TopicData=[data(b, name, (0, b.batch()))], Acks=1, TimeoutMs=milliseconds)
    b.contents(name)


@case("Produce", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    """Nobody creates a topic by producing to it."""
    send(b, b.name() if name == "unknown" else name, b.batch())


@case("Produce", since=13, each={"unknown": random_uuid("produce"), "zero": ZERO_UUID})
def topic_id(b, topic_id):
    topic = {"TopicId": topic_id, "PartitionData": [{"Index": 0, "Records": b.batch()}]}
    b.ask(TopicData=[topic], Acks=-1, TimeoutMs=30_000)


@case("Produce", each={"1": 1, "-1": -1, "-2": -2, "max": 2**31 - 1})
def partition(b, index):
    send(b, b.topic(), b.batch(), index)


@case("Produce")
def several(b):
    one, two = b.topic("one", partitions=2), b.topic("two")
    b.ask(Acks=-1, TimeoutMs=30_000, TopicData=[
        data(b, two, (0, b.batch(b"x"))), data(b, one, (1, b.batch(b"y")), (0, b.batch(b"z", b"z")))])
    b.contents(one, 0), b.contents(one, 1), b.contents(two)


@case("Produce")
def good_and_bad(b):
    name = b.topic(partitions=3)
    b.ask(Acks=-1, TimeoutMs=30_000, TopicData=[
        data(b, b.name("unknown"), (0, b.batch())),
        data(b, name, (0, b.batch(crc=1)), (1, b.batch()), (7, b.batch()), (2, b.batch()))])
    for index in range(3):
        b.contents(name, index)


@case("Produce")
def partition_twice(b):
    name = b.topic()
    b.ask(TopicData=[data(b, name, (0, b.batch(b"a")), (0, b.batch(b"b")))], Acks=-1, TimeoutMs=30_000)
    b.contents(name)


@case("Produce")
def topic_twice(b):
    name = b.topic(partitions=2)
    b.ask(TopicData=[data(b, name, (0, b.batch(b"a"))), data(b, name, (1, b.batch(b"b")))], Acks=-1, TimeoutMs=30_000)
    b.contents(name, 0), b.contents(name, 1)


@case("Produce", each={"none": [], "null": None})
def topics(b, topics):
    b.ask(TopicData=topics, Acks=-1, TimeoutMs=30_000)


@case("Produce")
def no_partitions(b):
    b.ask(TopicData=[data(b, b.topic())], Acks=-1, TimeoutMs=30_000)


@case("Produce")
def null_partitions(b):
    b.ask(TopicData=[data(b, b.topic()) | {"PartitionData": None}], Acks=-1, TimeoutMs=30_000)


@case("Produce", since=13)
def null_records(b):
    """Kafka never answers: once is enough to show it."""
    name = b.topic()
    b.be_impatient()
    send(b, name, None)
    b.contents(name)


@case("Produce", each={"empty": b"", "one byte": b"\0", "a head only": bytes(12), "61 zeros": bytes(61)})
def no_batch(b, one):
    name = b.topic()
    send(b, name, one)
    b.contents(name)


@case("Produce")
def transactional_id(b):
    """Without a batch that is part of a transaction."""
    name = b.topic()
    send(b, name, b.batch(), TransactionalId="an-id")
    b.contents(name)


@case("Produce")
def transactional_batch_without_id(b):
    name = b.topic()
    send(b, name, b.batch(attributes=records.TRANSACTIONAL, producer_id=7000, producer_epoch=0, sequence=0))
    b.contents(name)


@case("Produce")
def transactional_batch_with_id(b):
    """Of a producer that nobody has begun a transaction for."""
    name = b.topic()
    one = b.batch(attributes=records.TRANSACTIONAL, producer_id=7000, producer_epoch=0, sequence=0)
    send(b, name, one, TransactionalId="an-id")
    b.contents(name)
