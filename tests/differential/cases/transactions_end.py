"""EndTxn: commits and aborts, repeated, contradicting, and by others."""

from cases import case
from transactions import (OLD_PRODUCE, PRODUCE, STATES, STRANGERS, add, ask, begun, contents, ended, finished,
                          initialized, look, second, send, shared)

ENDS = {"commit": True, "abort": False}
VERSION_2_SINCE = 5


def end(b, producer, commit=True, **fields):
    return ask(b, **producer.call(Committed=commit) | fields)


def next_of(producer, answer):
    """The producer of the next transaction: from version 5 on another."""
    if answer["ErrorCode"] or "ProducerId" not in answer:
        return producer
    return producer._replace(id=answer["ProducerId"], epoch=answer["ProducerEpoch"])


def client_version(b):
    return 2 if b.version >= VERSION_2_SINCE else 1


@case("EndTxn", each=ENDS)
def end_of_one(b, commit):
    """Its marker is the last that its readers see."""
    topic = b.topic()
    producer = begun(b, topic, version=client_version(b))
    answer = end(b, producer, commit)
    b.note("same producer id", next_of(producer, answer).id == producer.id)
    look(b, producer.transaction)
    contents(b, topic)


@case("EndTxn", each=ENDS)
def end_repeated(b, commit):
    """Without end, and then the opposite."""
    producer = begun(b, shared(b), version=client_version(b))
    for _ in range(3):
        end(b, producer, commit)
        finished(b, producer.transaction)
    end(b, producer, not commit)
    look(b, producer.transaction)


@case("EndTxn", each=ENDS)
def end_at_once_contradicted(b, commit):
    producer = begun(b, shared(b), version=client_version(b))
    end(b, producer, commit)
    end(b, producer, not commit)
    end(b, producer, commit)
    look(b, producer.transaction)


@case("EndTxn", each={f"{make}, {word}": (STATES[make], commit) for make in STATES for word, commit in ENDS.items()})
def end_in_state(b, how):
    make, commit = how
    producer = make(b)
    end(b, producer, commit)
    look(b, producer.transaction)


@case("EndTxn", each={f"{stranger}, {word}": (STRANGERS[stranger], commit)
                      for stranger in STRANGERS for word, commit in ENDS.items()})
def end_as(b, how):
    stranger, commit = how
    producer = second(b)
    end(b, stranger(producer), commit)
    look(b, producer.transaction)


@case("EndTxn", each={f"{stranger}, {word}": (STRANGERS[stranger], commit)
                      for stranger in STRANGERS for word, commit in ENDS.items()})
def end_of_an_empty_one_as(b, how):
    stranger, commit = how
    initialized(b)
    producer = initialized(b)
    end(b, stranger(producer), commit)
    look(b, producer.transaction)


@case("EndTxn", each=ENDS)
def end_of_nothing_again_and_again(b, commit):
    """Each abort of a producer of version 2 brings an epoch, though nothing was open."""
    producer = initialized(b)
    for _ in range(3):
        answer = end(b, producer, commit)
        finished(b, producer.transaction)
        producer = next_of(producer, answer)
    look(b, producer.transaction)


@case("EndTxn", each=ENDS)
def end_without_records(b, commit):
    """Partitions that were added, but not written to, get a marker each."""
    producer, topic = initialized(b), b.topic(partitions=2)
    add(b, producer, topic, partitions=(0, 1))
    end(b, producer, commit)
    look(b, producer.transaction)
    contents(b, topic), contents(b, topic, 1)


@case("EndTxn", each=ENDS)
def end_of_several_partitions(b, commit):
    one, two = b.topic("one", partitions=2), b.topic("two")
    producer = initialized(b)
    version = PRODUCE if client_version(b) == 2 else OLD_PRODUCE
    if version == OLD_PRODUCE:
        add(b, producer, one, partitions=(0, 1)), add(b, producer, two)
    for topic, partition in ((one, 0), (one, 1), (two, 0)):
        send(b, producer, topic, b"a", b"b", partition=partition, version=version)
    send(b, producer, one, b"c", sequence=2, version=version)
    end(b, producer, commit)
    finished(b, producer.transaction)
    contents(b, one), contents(b, one, 1), contents(b, two)


@case("EndTxn", each={"1": 1, "2": 2})
def end_by_another_version(b, version):
    """A client may change its version between two calls."""
    producer = begun(b, shared(b), version=version)
    answer = end(b, producer)
    finished(b, producer.transaction)
    end(b, next_of(producer, answer))
    end(b, producer)
    look(b, producer.transaction)


@case("EndTxn")
def end_and_go_on(b):
    """Three transactions; then an end with the epochs of the first two."""
    topic, producers = b.topic(), [initialized(b)]
    for commit in (True, False, True):
        sequence = 0 if client_version(b) == 2 else len(producers) - 1
        if client_version(b) == 1:
            add(b, producers[-1], topic)
        version = PRODUCE if client_version(b) == 2 else OLD_PRODUCE
        send(b, producers[-1], topic, sequence=sequence, version=version)
        answer = end(b, producers[-1], commit)
        finished(b, producers[-1].transaction)
        producers.append(next_of(producers[-1], answer))
    for producer in producers:
        end(b, producer), end(b, producer, False)
    look(b, producers[0].transaction)
    contents(b, topic)


@case("EndTxn", each=ENDS)
def end_repeated_once_the_next_has_begun(b, commit):
    producer = begun(b, shared(b), version=client_version(b))
    following = next_of(producer, end(b, producer, commit))
    finished(b, producer.transaction)
    add(b, following, shared(b), partitions=(1,))
    end(b, producer, commit)
    look(b, producer.transaction)


@case("EndTxn", each=ENDS)
def end_of_a_deleted_topic(b, commit):
    """A transaction ends all the same."""
    topic = b.topic()
    producer = begun(b, topic, version=client_version(b))
    b.prepare("DeleteTopics", 5, TopicNames=[topic], TimeoutMs=30_000)
    b.settle()
    answer = end(b, producer, commit)
    finished(b, producer.transaction)
    begun(b, shared(b), next_of(producer, answer), version=2)
    look(b, producer.transaction)


@case("EndTxn")
def end_by_the_one_before(b):
    """Whose transaction was aborted by the next."""
    producer = begun(b, shared(b), version=client_version(b))
    current = initialized(b, producer.transaction)
    for commit in (True, False):
        end(b, producer, commit), end(b, producer._replace(epoch=producer.epoch + 1), commit)
    begun(b, shared(b), current)
    end(b, producer, True)
    end(b, current, True)
    look(b, producer.transaction)


@case("EndTxn", each={"empty": "", "null": None})
def end_without_transactional_id(b, transaction):
    end(b, second(b)._replace(transaction=transaction))


@case("EndTxn", since=VERSION_2_SINCE, each=ENDS)
def end_with_the_epoch_of_another_transaction(b, commit):
    """One that was not begun yet, and one that is long over."""
    first = begun(b, shared(b))
    second_one = ended(b, first, commit)
    third = ended(b, begun(b, shared(b), second_one), commit)
    for producer in (first, second_one, third, third._replace(epoch=third.epoch + 1)):
        end(b, producer, commit)
    look(b, first.transaction)
