"""Produce in transactions: who may, which partitions, and what is refused."""

import records
from cases import case
from cases.produce import data
from transactions import (STATES, STRANGERS, add, ask, begun, contents, ended, finished, initialized, look, patient,
                          second, shared)

JOINS_SINCE = 12


def send(b, producer, *topics, **fields):
    """A request of these topics, each as `data` makes it."""
    return ask(b, **{"TransactionalId": producer.transaction, "TopicData": list(topics), "Acks": -1, "TimeoutMs": 30_000}
               | fields)


def in_one(b, producer, topic, *values, partition=0, transaction=..., **claims):
    """One batch of a producer; `transaction` is the id that the request names."""
    row = data(b, topic, (partition, producer.batch(b, *values, **claims)))
    return send(b, producer if transaction is ... else producer._replace(transaction=transaction), row)


def ready(b, topic, producer=None, partitions=(0,)):
    """A producer that may write to a topic."""
    producer = producer or initialized(b)
    if b.version < JOINS_SINCE:
        add(b, producer, topic, partitions=partitions)
    return producer


def end(b, producer, commit=True):
    return ended(b, producer, commit, version=2 if b.version >= JOINS_SINCE else 1)


@case("Produce", each={"commit": True, "abort": False})
def in_transaction(b, commit):
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic, b"a", b"b"), in_one(b, producer, topic, b"c", sequence=2)
    look(b, producer.transaction)
    contents(b, topic), b.contents(topic)
    end(b, producer, commit)
    contents(b, topic), b.contents(topic)


@case("Produce")
def two_transactions(b):
    """From version 12 on, the second has an epoch of its own, and begins with 0; before, it goes on."""
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic)
    after = end(b, producer)
    if after == producer:
        add(b, after, topic)
    in_one(b, after, topic, sequence=1), in_one(b, after, topic, sequence=0)
    end(b, after, False)
    contents(b, topic)


@case("Produce", each=STATES)
def to_a_partition_that_was_not_added(b, make):
    """Refused; from version 12 on it joins."""
    topic, producer = b.topic(), make(b)
    in_one(b, producer, topic)
    look(b, producer.transaction)
    b.contents(topic)


@case("Produce", each=STATES)
def after_the_end_without_a_new_one(b, make):
    """To the partition that the transaction before had, in its next sequence."""
    producer = make(b)
    in_one(b, producer, shared(b), sequence=1)
    look(b, producer.transaction)


@case("Produce", each=STRANGERS)
def transactional_as(b, stranger):
    topic = b.topic()
    producer = ready(b, topic, second(b))
    in_one(b, stranger(producer), topic)
    look(b, producer.transaction)
    b.contents(topic)


@case("Produce", each=STRANGERS)
def transactional_as_another_later(b, stranger):
    """The partition knows the producer by then."""
    topic = b.topic()
    producer = ready(b, topic, second(b))
    in_one(b, producer, topic)
    in_one(b, stranger(producer), topic, sequence=1), in_one(b, stranger(producer), topic, sequence=0)
    b.contents(topic)


@case("Produce", each={"null": None, "empty": "", "another": "another"})
def transactional_batch_of_an_open_transaction(b, transaction):
    """With another transactional id in the request."""
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic, transaction=b.name("id-2") if transaction == "another" else transaction)
    b.contents(topic)


@case("Produce", each={"null": None, "its own": "own"})
def plain_batch_of_an_open_transaction(b, transaction):
    """A producer must not write beside its own transaction; before it and after it, it may."""
    topic, attributes = b.topic(), {"attributes": 0}
    producer = initialized(b)
    transaction = producer.transaction if transaction == "own" else None
    in_one(b, producer, topic, transaction=transaction, **attributes)
    ready(b, topic, producer)
    in_one(b, producer, topic, sequence=1)
    in_one(b, producer, topic, sequence=2, transaction=transaction, **attributes)
    in_one(b, producer, topic, sequence=2)
    after = end(b, producer)
    in_one(b, after, topic, sequence=3 if after == producer else 0, transaction=transaction, **attributes)
    contents(b, topic)


@case("Produce")
def plain_batch_of_nobody(b):
    """A request with a transactional id may have batches without a producer."""
    topic = b.topic()
    producer = ready(b, topic)
    send(b, producer, data(b, topic, (0, b.batch())))
    in_one(b, producer, topic)
    end(b, producer)
    contents(b, topic)


@case("Produce")
def transactional_beside_plain(b):
    """In one request, to two partitions."""
    topic = b.topic(partitions=2)
    producer = ready(b, topic)
    send(b, producer, data(b, topic, (0, producer.batch(b)), (1, b.batch())))
    b.contents(topic), b.contents(topic, 1)


@case("Produce", each={"ids": {"producer_id": 9_000_000}, "epochs": {"producer_epoch": 5}})
def two_producers_in_one_request(b, claims):
    topic = b.topic(partitions=2)
    producer = ready(b, topic, partitions=(0, 1))
    send(b, producer, data(b, topic, (0, producer.batch(b)), (1, producer.batch(b, **claims))))
    b.contents(topic), b.contents(topic, 1)


@case("Produce")
def good_beside_one_that_was_not_added(b):
    topic = b.topic(partitions=3)
    producer = ready(b, topic)
    send(b, producer, data(b, b.name("unknown"), (0, producer.batch(b))),
         data(b, topic, (0, producer.batch(b)), (1, producer.batch(b)), (9, producer.batch(b))))
    look(b, producer.transaction)
    b.contents(topic), b.contents(topic, 1)


@case("Produce", each={"corrupt": {"crc": 1}, "gap": {"sequence": 5}, "too late": {"back_ms": -9_000_000},
                       "control": {"attributes": records.TRANSACTIONAL | records.CONTROL},
                       "no sequence": {"sequence": -1}})
def bad_batch_in_transaction(b, claims):
    """Does the partition join even so?"""
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic, **claims)
    look(b, producer.transaction)
    in_one(b, producer, topic), in_one(b, producer, topic, sequence=1)
    end(b, producer)
    contents(b, topic)


@case("Produce")
def sequences_in_transaction(b):
    topic = b.topic()
    producer = ready(b, topic)
    for sequence in (0, 1, 0, 1, 3, 2, 2):
        in_one(b, producer, topic, sequence=sequence)
    after = end(b, producer)
    in_one(b, producer, topic, sequence=2), in_one(b, producer, topic, sequence=3)
    in_one(b, after, topic, sequence=3), in_one(b, after, topic, sequence=0)
    contents(b, topic)


@case("Produce", each={"1": 1, "all": -1, "2": 2})
def transactional_acks(b, acks):
    topic = b.topic()
    producer = ready(b, topic)
    send(b, producer, data(b, topic, (0, producer.batch(b))), Acks=acks)
    look(b, producer.transaction)


@case("Produce", each={"good": 0, "with a gap": 5})
def transactional_acks_0(b, sequence):
    topic = b.topic()
    producer = ready(b, topic)
    if sequence:
        in_one(b, producer, topic)
    one = producer.batch(b, sequence=sequence)
    b.ask_unanswered(TransactionalId=producer.transaction, TopicData=[data(b, topic, (0, one))], Acks=0, TimeoutMs=30_000)
    contents(b, topic)


@case("Produce", each={"gzip": records.GZIP, "lz4": records.LZ4})
def transactional_compressed(b, codec):
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic, b"a", b"b", codec=codec)
    end(b, producer)
    contents(b, topic)


@case("Produce")
def transactional_to_log_append_time(b):
    topic = b.topic(message_timestamp_type="LogAppendTime")
    producer = ready(b, topic)
    in_one(b, producer, topic)
    end(b, producer)
    contents(b, topic)


@case("Produce", since=JOINS_SINCE)
def joins_after_it_was_added(b):
    """A client may do both."""
    producer = initialized(b)
    add(b, producer, shared(b))
    in_one(b, producer, shared(b))
    look(b, producer.transaction)
    patient(b, "EndTxn", 5, **producer.call(Committed=True))
    look(b, producer.transaction)


@case("Produce", until=JOINS_SINCE - 1)
def not_added_beside_one_that_joined(b):
    """As a client that changes its version."""
    topic = b.topic(partitions=2)
    producer = begun(b, topic)
    in_one(b, producer, topic, partition=1)
    in_one(b, producer, topic, sequence=1)
    look(b, producer.transaction)


@case("Produce")
def fenced_with_an_open_transaction(b):
    """It goes on writing after another has come."""
    topic = b.topic()
    producer = ready(b, topic)
    in_one(b, producer, topic)
    current = initialized(b, producer.transaction)
    finished(b, producer.transaction)
    in_one(b, producer, topic, sequence=1)
    ready(b, topic, current)
    in_one(b, current, topic), in_one(b, producer, topic, sequence=1)
    end(b, current)
    contents(b, topic)
