"""Transactional producers of a case's own, and transactional ids in any state they can be in.

Kafka ends a transaction in the background: until its markers are written it answers CONCURRENT_TRANSACTIONS, and every
client asks again. So do `awaited` and `patient`; `finished` waits for the end itself.
"""

import time
from typing import NamedTuple

import records
from broker import START_SECONDS_MAX, SetupFailed

INIT, ADD, ADD_OFFSETS, PRODUCE, OLD_PRODUCE, COMMIT_OFFSETS, END, OLD_END = 5, 3, 4, 12, 10, 5, 5, 4
CONCURRENT_TRANSACTIONS = 51
TIMEOUT_MS = 900_000  # the longest that Kafka allows; no case takes so long
PAUSE_SECONDS = 0.005


class Producer(NamedTuple):
    """One producer, as it would name itself in its next call."""
    transaction: str
    id: int
    epoch: int

    def call(self, **fields):
        return {"TransactionalId": self.transaction, "ProducerId": self.id, "ProducerEpoch": self.epoch} | fields

    def batch(self, b, *values, sequence=0, **claims):
        """A batch in its transaction."""
        return b.batch(*values, **{"producer_id": self.id, "producer_epoch": self.epoch, "sequence": sequence,
                                   "attributes": records.TRANSACTIONAL} | claims)


def codes(answer):
    """All error codes in an answer."""
    if isinstance(answer, list):
        for one in answer:
            yield from codes(one)
    elif isinstance(answer, dict):
        for key, value in answer.items():
            if key.endswith("ErrorCode"):
                yield value
            yield from codes(value)


def awaited(b, api, version, **fields):
    """The answer to a call, or what came instead; repeated while Kafka still ends the transaction before."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while CONCURRENT_TRANSACTIONS in codes(answer := b.attempt(api, version, **fields)):
        if time.monotonic() > deadline:
            raise SetupFailed(f"{api}: CONCURRENT_TRANSACTIONS for {START_SECONDS_MAX} s")
        time.sleep(PAUSE_SECONDS)
    return answer


def patient(b, api, version, shown=None, **fields):
    """As `b.other`, but for CONCURRENT_TRANSACTIONS."""
    answer = awaited(b, api, version, **fields)
    b.note(f"{api} v{version}", answer if isinstance(answer, str) or not shown else shown(answer))
    return answer


def ask(b, shown=None, **fields):
    """As `b.ask`, but for CONCURRENT_TRANSACTIONS."""
    return patient(b, b.api, b.version, shown, **fields)


def prepare(b, api, version, **fields):
    """A call that must succeed."""
    answer = awaited(b, api, version, **fields)
    if isinstance(answer, str) or any(codes(answer)):
        raise SetupFailed(f"{api}: {answer}")
    return answer


def rows_to_add(*topics, partitions=(0,)):
    return [{"Name": topic, "Partitions": list(partitions)} for topic in topics]


def old_call(producer, **fields):
    """Of AddPartitionsToTxn, as clients send it."""
    return {"V3AndBelowTransactionalId": producer.transaction, "V3AndBelowProducerId": producer.id,
            "V3AndBelowProducerEpoch": producer.epoch} | fields


def add(b, producer, *topics, partitions=(0,)):
    """Adds partitions to a transaction, as clients of transaction version 1 do."""
    prepare(b, "AddPartitionsToTxn", ADD, **old_call(producer, V3AndBelowTopics=rows_to_add(*topics, partitions=partitions)))


def add_group(b, producer, group):
    prepare(b, "AddOffsetsToTxn", ADD_OFFSETS, **producer.call(GroupId=group))


def send(b, producer, topic, *values, sequence=0, partition=0, version=PRODUCE, **claims):
    """Appends a batch in a transaction; from version 12 on, the partition joins it."""
    one = producer.batch(b, *values, sequence=sequence, **claims)
    data = [{"Name": topic, "PartitionData": [{"Index": partition, "Records": one}]}]
    prepare(b, "Produce", version, TransactionalId=producer.transaction, Acks=-1, TimeoutMs=30_000, TopicData=data)


def initialized(b, transaction=None, timeout_ms=TIMEOUT_MS):
    """A producer that has not begun a transaction yet."""
    transaction = transaction or b.name("id")
    answer = prepare(b, "InitProducerId", INIT, TransactionalId=transaction, TransactionTimeoutMs=timeout_ms)
    return Producer(transaction, answer["ProducerId"], answer["ProducerEpoch"])


def begun(b, topic, producer=None, version=2):
    """A producer with one record in an open transaction, as clients of a transaction version begin it."""
    producer = producer or initialized(b)
    if version == 1:
        add(b, producer, topic)
    send(b, producer, topic, version=PRODUCE if version == 2 else OLD_PRODUCE)
    return producer


def ended(b, producer, commit=True, version=2):
    """The producer of the next transaction, once this one has ended."""
    answer = prepare(b, "EndTxn", END if version == 2 else OLD_END, **producer.call(Committed=commit))
    finished(b, producer.transaction)
    if version == 1:
        return producer
    return producer._replace(id=answer["ProducerId"], epoch=answer["ProducerEpoch"])


def described(b, transaction):
    return b.prepare("DescribeTransactions", 0, TransactionalIds=[transaction])["TransactionStates"][0]


def finished(b, transaction, *states):
    """Waits until a transaction has ended everywhere, or its id is in one of these states."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        state = described(b, transaction)["TransactionState"]
        if state in states if states else not state.startswith("Prepare"):
            return
        time.sleep(PAUSE_SECONDS)
    raise SetupFailed(f"{transaction} stays in state {state}")


def look(b, *transactions):
    """Notes what has become of transactional ids."""
    for transaction in transactions:
        finished(b, transaction)
    b.other("DescribeTransactions", 0, TransactionalIds=list(transactions))


def without_clock(answer):
    """What DescribeProducers answers, but for when the last batch came."""
    for topic in answer["Topics"]:
        for row in topic["Partitions"]:
            for one in row["ActiveProducers"]:
                one["LastTimestamp"] = one["LastTimestamp"] > 0
    return answer


def contents(b, topic, partition=0):
    """Notes all that a reader of committed records gets of a partition."""
    row = {"Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}
    b.other("Fetch", 12, Topics=[{"Topic": topic, "Partitions": [row]}], MaxBytes=1 << 20, IsolationLevel=1)


def shared(b):
    """A topic of three partitions that all cases share, whose contents nobody looks at."""
    return b.shared_topic("transactions", lambda at: at.topic(partitions=3))


# --- each state: the producer that is in it


def unknown(b):
    return Producer(b.name("id"), 4_000_000, 0)


def empty(b):
    return initialized(b)


def ongoing(b):
    return begun(b, shared(b))


def ongoing_version_1(b):
    return begun(b, shared(b), version=1)


def committed(b):
    return ended(b, ongoing(b))


def aborted(b):
    return ended(b, ongoing(b), commit=False)


def committed_version_1(b):
    return ended(b, ongoing_version_1(b), version=1)


def aborted_version_1(b):
    return ended(b, ongoing_version_1(b), commit=False, version=1)


def fenced(b):
    """Another has come with its id."""
    producer = initialized(b)
    initialized(b, producer.transaction)
    return producer


def fenced_while_open(b):
    producer = ongoing(b)
    initialized(b, producer.transaction)
    return producer


def timed_out(b):
    """It was too slow, and its transaction was aborted."""
    for timeout_ms in (100, 2_000, 30_000):
        producer = initialized(b, timeout_ms=timeout_ms)
        try:
            begun(b, shared(b), producer)
            break
        except SetupFailed:
            pass  # too slow even for one record
    finished(b, producer.transaction, "CompleteAbort")
    return producer


STATES = {"unknown": unknown, "empty": empty, "ongoing": ongoing, "ongoing 1": ongoing_version_1, "committed": committed,
          "aborted": aborted, "committed 1": committed_version_1, "aborted 1": aborted_version_1, "fenced": fenced,
          "fenced while open": fenced_while_open, "timed out": timed_out}

# Who else may call with a transactional id: (its producer id, epochs before or after, the id itself).
STRANGERS = {
    "old epoch": lambda one: one._replace(epoch=one.epoch - 1), "next epoch": lambda one: one._replace(epoch=one.epoch + 1),
    "negative epoch": lambda one: one._replace(epoch=-1), "last epoch": lambda one: one._replace(epoch=32767),
    "another producer id": lambda one: one._replace(id=one.id + 4_000_000), "no producer id": lambda one: one._replace(id=-1),
    "unknown transactional id": lambda one: one._replace(transaction=one.transaction + "-unknown"),
    "empty transactional id": lambda one: one._replace(transaction=""),
    "null transactional id": lambda one: one._replace(transaction=None),
}


def second(b):
    """A producer in its second epoch, so that there is one before, with an open transaction."""
    initialized(b)
    return begun(b, shared(b), initialized(b))
