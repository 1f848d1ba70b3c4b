"""InitProducerId with a transactional id (KIP-98, KIP-360)."""

from cases import case
from transactions import (STATES, STRANGERS, TIMEOUT_MS, begun, contents, ended, finished, initialized, look, patient,
                          second, shared, without_clock)

MAX = 2**31 - 1
PRODUCERS_SINCE = 3


def init(b, transaction, version=None, **fields):
    return patient(b, "InitProducerId", b.version if version is None else version,
                   **{"TransactionalId": transaction, "TransactionTimeoutMs": 60_000} | fields)


def claiming(producer):
    return {"ProducerId": producer.id, "ProducerEpoch": producer.epoch}


def note_whether_same(b, producer, answer):
    """Ids themselves are not compared."""
    b.note("same producer id", answer["ProducerId"] == producer.id)


@case("InitProducerId")
def transactional(b):
    """Each has an epoch of its own."""
    for _ in range(3):
        init(b, b.name("id"))
    init(b, b.name("another"))
    look(b, b.name("id"), b.name("another"))


@case("InitProducerId", each={"min": -2**31, "1": 1, "longest": TIMEOUT_MS, "too long by 1": TIMEOUT_MS + 1, "max": MAX})
def transactional_timeout(b, milliseconds):
    init(b, b.name("id"), TransactionTimeoutMs=milliseconds)
    look(b, b.name("id"))


@case("InitProducerId", each={"0": 0, "-1": -1, "too long": MAX})
def transactional_timeout_later(b, milliseconds):
    """What is refused leaves an open transaction as it is."""
    producer = begun(b, shared(b))
    init(b, producer.transaction, TransactionTimeoutMs=milliseconds)
    look(b, producer.transaction)


@case("InitProducerId")
def transactional_timeout_changes(b):
    for milliseconds in (5_000, 7_000):
        init(b, b.name("id"), TransactionTimeoutMs=milliseconds)
    look(b, b.name("id"))


@case("InitProducerId", each={"odd": "an id/é", "blank": " ", "long": "x" * 30_000})
def transactional_id(b, suffix):
    init(b, b.name("id") + suffix)


@case("InitProducerId", each={"0": 0, "-1": -1})
def empty_id_and_bad_timeout(b, milliseconds):
    init(b, "", TransactionTimeoutMs=milliseconds)


@case("InitProducerId", each=STATES)
def transactional_state(b, make):
    producer = make(b)
    note_whether_same(b, producer, init(b, producer.transaction))
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE, each=STATES)
def transactional_state_with_producer(b, make):
    """It asks again when it has failed (KIP-360)."""
    producer = make(b)
    note_whether_same(b, producer, init(b, producer.transaction, **claiming(producer)))
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE, each=STRANGERS)
def transactional_stranger(b, stranger):
    producer = second(b)
    claims = claiming(stranger(producer))
    init(b, stranger(producer).transaction, **claims)
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE, each=STRANGERS)
def transactional_stranger_of_an_empty_one(b, stranger):
    initialized(b)
    producer = initialized(b)
    init(b, stranger(producer).transaction, **claiming(stranger(producer)))
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE, each={
    "both": (7000, 3), "epoch 0": (7000, 0), "last epoch": (7000, 32767), "id without epoch": (7000, -1),
    "epoch without id": (-1, 3), "negative": (-5, -5), "negative id": (-5, 0), "negative epoch": (7000, -5),
})
def transactional_with_id_and_epoch(b, given):
    """Of an id that nobody knows, and of one that is known."""
    for _ in range(2):
        init(b, b.name("id"), ProducerId=given[0], ProducerEpoch=given[1])


@case("InitProducerId", since=PRODUCERS_SINCE)
def transactional_asks_again(b):
    """Its answer was lost: the same epoch once more, until it is used."""
    producer = initialized(b)
    for _ in range(3):
        init(b, producer.transaction, **claiming(producer))
    current = producer._replace(epoch=producer.epoch + 1)
    begun(b, shared(b), current)
    init(b, producer.transaction, **claiming(producer))
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE)
def transactional_asks_again_with_an_open_transaction(b):
    producer = begun(b, shared(b))
    for _ in range(2):
        init(b, producer.transaction, **claiming(producer))
    look(b, producer.transaction)


@case("InitProducerId", since=PRODUCERS_SINCE, each={"committed": True, "aborted": False})
def transactional_with_the_epoch_before_the_end(b, commit):
    """An EndTxn whose answer was lost: the producer knows the epoch before."""
    producer = begun(b, shared(b))
    ended(b, producer, commit)
    init(b, producer.transaction, **claiming(producer))
    look(b, producer.transaction)


@case("InitProducerId", each={"1": 1, "2": 2})
def transactional_leaves_a_transaction_open(b, version):
    """The next one finds it aborted, and the one before is fenced everywhere."""
    topic = b.topic()
    producer = begun(b, topic, version=version)
    init(b, producer.transaction)
    finished(b, producer.transaction)
    contents(b, topic)
    for api, end in (("EndTxn", True), ("EndTxn", False)):
        for at in (0, 4, 5):
            patient(b, api, at, **producer.call(Committed=end))
    b.other("DescribeProducers", 0, without_clock, Topics=[{"Name": topic, "PartitionIndexes": [0]}])


@case("InitProducerId", since=5, until=5)
def transactional_epochs_exhausted(b):
    """Every epoch but the last is given out; after that comes a new producer id."""
    producer = initialized(b)
    fields = {"TransactionalId": producer.transaction, "TransactionTimeoutMs": 60_000}
    last = b.repeat("InitProducerId", 5, 32_764, **fields)
    b.note("epoch", last["ProducerEpoch"])
    for _ in range(4):
        note_whether_same(b, producer, init(b, producer.transaction))


@case("EndTxn", since=5, until=5)
def epochs_exhausted(b):
    """The end of the last transaction of a producer id brings the next id; repeated, the same."""
    producer = initialized(b)
    fields = {"TransactionalId": producer.transaction, "TransactionTimeoutMs": 60_000}
    last = b.repeat("InitProducerId", 5, 32_764, **fields)
    producer = producer._replace(epoch=last["ProducerEpoch"])
    for commit in (True, False, True, True):
        begun(b, shared(b), producer)
        answers = [patient(b, "EndTxn", 5, **producer.call(Committed=commit)) for _ in range(2)]
        finished(b, producer.transaction)
        patient(b, "EndTxn", 5, **producer.call(Committed=not commit))
        b.note("same again", answers[0] == answers[1])
        note_whether_same(b, producer, answers[0])
        look(b, producer.transaction)
        if answers[0]["ErrorCode"]:
            break
        producer = producer._replace(id=answers[0]["ProducerId"], epoch=answers[0]["ProducerEpoch"])
