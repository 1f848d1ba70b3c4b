"""InitProducerId, and Produce with producer ids, epochs and sequences."""

import records
from cases import case
from cases.produce import data, send

MAX = 2**31 - 1


@case("InitProducerId")
def idempotent(b):
    b.ask(TransactionalId=None, TransactionTimeoutMs=60_000)
    b.ask(TransactionalId=None, TransactionTimeoutMs=60_000)


@case("InitProducerId")
def two_ids_differ(b):
    ids = {b.prepare("InitProducerId", b.version, TransactionalId=None,
                     TransactionTimeoutMs=60_000)["ProducerId"] for _ in range(3)}
    b.note("different ids", len(ids))


@case("InitProducerId", each={"0": 0, "-1": -1, "max": MAX})
def timeout(b, milliseconds):
    """Which only matters to transactions."""
    b.ask(TransactionalId=None, TransactionTimeoutMs=milliseconds)


@case("InitProducerId", since=3, each={
    "both": (7000, 3), "epoch 0": (7000, 0), "last epoch": (7000, 32767), "last but one": (7000, 32766),
    "id without epoch": (7000, -1), "epoch without id": (-1, 3), "negative": (-5, -5), "negative id": (-5, 0),
    "negative epoch": (7000, -5),
})
def with_id_and_epoch(b, given):
    b.ask(TransactionalId=None, TransactionTimeoutMs=60_000, ProducerId=given[0], ProducerEpoch=given[1])


@case("InitProducerId")
def empty_transactional_id(b):
    b.ask(TransactionalId="", TransactionTimeoutMs=60_000)


@case("InitProducerId", each={"0": 0, "-1": -1, "too long": MAX})
def bad_transaction_timeout(b, milliseconds):
    b.ask(TransactionalId=b.name(), TransactionTimeoutMs=milliseconds)



def producer(b, name, *steps, codec=0):
    """Sends a batch per step: (sequence, records, epoch)."""
    for step in steps:
        sequence, count, epoch = (*step, 0)[:3]
        values = [b"%d" % index for index in range(count)]
        send(b, name, b.batch(*values, producer_id=7000, producer_epoch=epoch, sequence=sequence, codec=codec))


SEQUENCES = {
    "in order": [(0, 1), (1, 3), (4, 1)],
    "begins anywhere": [(5, 1), (6, 1)],
    "duplicate": [(0, 1), (0, 1), (1, 1)],
    "duplicate of five before": [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (0, 1), (4, 1), (5, 1)],
    "duplicate of six before": [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (0, 1), (1, 1)],
    "duplicate of many records": [(0, 5), (5, 2), (0, 5), (5, 2)],
    "gap": [(0, 1), (2, 1), (1, 1)],
    "gap after a batch of many": [(0, 5), (6, 1), (5, 1)],
    "part of a duplicate": [(0, 5), (0, 3), (2, 3), (3, 4), (5, 1)],
    "begins again": [(0, 1), (1, 1), (2, 1), (0, 2)],
    "next epoch": [(0, 1), (1, 1), (0, 1, 1), (1, 1, 1)],
    "next epoch, not from 0": [(0, 1), (1, 1, 1), (0, 1, 1)],
    "old epoch": [(0, 1, 2), (1, 1, 1), (0, 1, 0), (1, 1, 2)],
    "epoch skipped": [(0, 1), (0, 1, 9)],
    "duplicate after an epoch": [(0, 1), (1, 1), (0, 1, 1), (1, 1, 0)],
    "wraps": [(MAX - 1, 2), (0, 1), (1, 1)],
    "wraps in a batch": [(MAX - 1, 5), (3, 1)],
    "wraps in a batch, duplicate": [(MAX - 1, 5), (MAX - 1, 5), (3, 1)],
    "wraps wrongly": [(MAX, 1), (1, 1), (0, 1)],
    "gap in front of the wrap": [(MAX - 5, 1), (MAX, 1)],
    "last epoch": [(0, 1, 32767), (1, 1, 32767), (0, 1, 0)],
}


@case("Produce", each=SEQUENCES)
def sequences(b, steps):
    name = b.topic()
    producer(b, name, *steps)
    b.contents(name)


@case("Produce", since=9, until=9, each=SEQUENCES)
def sequences_compressed(b, steps):
    name = b.topic()
    producer(b, name, *steps, codec=records.GZIP)
    b.contents(name)


@case("Produce", since=9, until=9, each=SEQUENCES)
def sequences_log_append_time(b, steps):
    name = b.topic(message_timestamp_type="LogAppendTime")
    producer(b, name, *steps)
    b.contents(name)


@case("Produce", each={
    "no sequence": {"producer_id": 7000, "producer_epoch": 0}, "no epoch": {"producer_id": 7000, "sequence": 0},
    "no id": {"producer_epoch": 0, "sequence": 0}, "only an epoch": {"producer_epoch": 0},
    "only a sequence": {"sequence": 0},
    "negative sequence": {"producer_id": 7000, "producer_epoch": 0, "sequence": -5},
    "negative epoch": {"producer_id": 7000, "producer_epoch": -5, "sequence": 0},
    "negative id": {"producer_id": -7, "producer_epoch": 0, "sequence": 0},
})
def half_a_producer(b, claims):
    name = b.topic()
    send(b, name, b.batch(**claims))
    b.contents(name)


@case("Produce")
def ids_are_taken_at_their_word(b):
    """As none was given out by the broker, and each partition begins on its own."""
    name = b.topic(partitions=2)
    one = b.batch(producer_id=2**60, producer_epoch=5, sequence=0)
    send(b, name, one, 0), send(b, name, one, 1), send(b, name, one, 0)
    b.contents(name, 0), b.contents(name, 1)


@case("Produce")
def two_producers(b):
    name = b.topic()
    for sequence in (0, 1):
        for producer_id in (7000, 7001):
            send(b, name, b.batch(producer_id=producer_id, producer_epoch=0, sequence=sequence))
    send(b, name, b.batch(producer_id=7000, producer_epoch=0, sequence=0))
    b.contents(name)


@case("Produce")
def one_that_the_broker_gave(b):
    name = b.topic()
    given = b.prepare("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=60_000)
    claims = {"producer_id": given["ProducerId"], "producer_epoch": given["ProducerEpoch"]}
    for sequence in (0, 1, 1, 3):
        send(b, name, b.batch(**claims, sequence=sequence))
    b.contents(name)


@case("Produce")
def duplicate_of_other_content(b):
    """The records are not looked at."""
    name = b.topic()
    for value in (b"one", b"two"):
        send(b, name, b.batch(value, producer_id=7000, producer_epoch=0, sequence=0))
    b.contents(name)


@case("Produce")
def duplicate_that_would_be_refused_now(b):
    """A duplicate with a mistake in it."""
    name = b.topic()
    claims = {"producer_id": 7000, "producer_epoch": 0, "sequence": 0}
    send(b, name, b.batch(**claims)), send(b, name, b.batch(back_ms=-9_000_000, **claims))
    b.contents(name)


@case("Produce")
def duplicate_after_records_were_deleted(b):
    name = b.topic()
    one, two = (b.batch(producer_id=7000, producer_epoch=0, sequence=sequence) for sequence in (0, 1))
    send(b, name, one), send(b, name, two)
    b.delete_records(name, 2)
    send(b, name, one), send(b, name, two), send(b, name, b.batch(producer_id=7000, producer_epoch=0, sequence=2))


@case("Produce")
def acks_0_out_of_order(b):
    """The connection is closed, as after any mistake that nobody hears of."""
    name = b.topic()
    send(b, name, b.batch(producer_id=7000, producer_epoch=0, sequence=0))
    late = b.batch(producer_id=7000, producer_epoch=0, sequence=5)
    b.ask_unanswered(TopicData=[data(b, name, (0, late))], Acks=0, TimeoutMs=30_000)
    b.contents(name)
