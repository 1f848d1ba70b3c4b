"""Fetch sessions (KIP-227): full, incremental, forgotten, and out of step."""

from cases import case
from cases.fetch import ask, filled, topic


def forgotten(b, name, *indexes):
    return {"Topic": name, "TopicId": b.broker.topic_ids[name], "Partitions": list(indexes)}


def session(b, *topics):
    """Begins a session and returns its id."""
    answer = ask(b, *topics, SessionId=0, SessionEpoch=0)
    return answer["SessionId"] if isinstance(answer, dict) else 0


def go_on(b, session_id, epoch, *topics, **fields):
    return ask(b, *topics, SessionId=session_id, SessionEpoch=epoch, **fields)


@case("Fetch", since=7)
def session_goes_on(b):
    """Only what is new comes again."""
    name = b.topic(partitions=2)
    b.produce(name, b.batch(b"a"))
    session_id = session(b, topic(b, name, 0, 0))
    go_on(b, session_id, 1)
    go_on(b, session_id, 2, topic(b, name, 1))
    b.produce(name, b.batch(b"b"))
    b.produce(name, b.batch(b"c"), partition=1)
    go_on(b, session_id, 3)
    go_on(b, session_id, 4, topic(b, name, 2, 1))
    go_on(b, session_id, 5)


@case("Fetch", since=7)
def session_of_nothing(b):
    session_id = session(b)
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def session_grows_and_shrinks(b):
    name, other = b.topic(partitions=2), b.topic("other")
    b.produce(name, b.batch(b"a"))
    b.produce(other, b.batch(b"b"))
    session_id = session(b, topic(b, name, 0))
    go_on(b, session_id, 1, topic(b, other, 0))
    go_on(b, session_id, 2, ForgottenTopicsData=[forgotten(b, name, 0)])
    go_on(b, session_id, 3, ForgottenTopicsData=[forgotten(b, name, 0, 1, 7)])
    go_on(b, session_id, 4, topic(b, name, 0), ForgottenTopicsData=[forgotten(b, other, 0)])
    go_on(b, session_id, 5, ForgottenTopicsData=[forgotten(b, name, 0)])
    go_on(b, session_id, 6)


@case("Fetch", since=7)
def forgotten_and_asked_for(b):
    name = filled(b)
    session_id = session(b, topic(b, name, 10, 0))
    go_on(b, session_id, 1, topic(b, name, 0), ForgottenTopicsData=[forgotten(b, name, 0)])


@case("Fetch", since=7)
def forgotten_without_a_session(b):
    name = filled(b)
    ask(b, topic(b, name, 9), ForgottenTopicsData=[forgotten(b, name, 0)])
    ask(b, topic(b, name, 9), ForgottenTopicsData=[forgotten(b, name, 0)], SessionEpoch=0)


@case("Fetch", since=7, each={"same": 0, "too far": 2, "min": -2**31, "-2": -2, "max": 2**31 - 1})
def session_epoch(b, epoch):
    """After a full fetch, epoch 1 is expected; 0 begins another session."""
    session_id = session(b, topic(b, filled(b), 9))
    go_on(b, session_id, epoch)
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def same_epoch_twice(b):
    session_id = session(b, topic(b, filled(b), 9))
    for epoch in (1, 1, 2):
        go_on(b, session_id, epoch)


@case("Fetch", since=7, each={"epoch 1": (1, 1), "epoch 0": (1, 0), "epoch -1": (1, -1), "negative": (-7, 1),
                              "zero, epoch 1": (0, 1),
                              "zero, epoch 5": (0, 5), "zero, epoch -2": (0, -2)})
def unknown_session(b, session):
    go_on(b, *session, topic(b, filled(b), 9))


@case("Fetch", since=7)
def session_closed(b):
    session_id = session(b, topic(b, filled(b), 9))
    go_on(b, session_id, -1)
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def session_closed_with_a_fetch(b):
    name = filled(b)
    session_id = session(b, topic(b, name, 9))
    go_on(b, session_id, -1, topic(b, name, 10, 0))
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def session_on_another_connection(b):
    session_id = session(b, topic(b, filled(b), 9))
    b.hang_up()
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def session_with_errors(b):
    """What fails comes every time."""
    name = filled(b)
    session_id = session(b, topic(b, name, 99, 0, 0), topic(b, b.name("unknown"), 0))
    go_on(b, session_id, 1)
    go_on(b, session_id, 2, topic(b, name, 10))
    go_on(b, session_id, 3)


@case("Fetch", since=7)
def session_of_a_topic_created_later(b):
    """From version 13 on it is asked for by id, so that there is nothing to come."""
    name = b.name()
    session_id = session(b, topic(b, name, 0))
    b.topic()
    b.produce(name, b.batch())
    go_on(b, session_id, 1)


@case("Fetch", since=7)
def session_of_a_deleted_topic(b):
    name = b.topic()
    b.produce(name, b.batch())
    session_id = session(b, topic(b, name, 0))
    b.prepare("DeleteTopics", 5, TopicNames=[name], TimeoutMs=30_000)
    b.settle()
    go_on(b, session_id, 1)
    go_on(b, session_id, 2)


@case("Fetch", since=7)
def log_start_moves(b):
    name = b.topic()
    b.produce(name, b.batch(b"a", b"b"))
    session_id = session(b, topic(b, name, 2))
    b.delete_records(name, 1)
    go_on(b, session_id, 1)
    go_on(b, session_id, 2)


@case("Fetch", since=7)
def session_of_a_full_first_answer(b):
    """Partitions that found no room come with no records at first, and again later."""
    name = filled(b)
    session_id = session(b, topic(b, name, 0, {"FetchOffset": 0}))
    go_on(b, session_id, 1, MaxBytes=1)
    go_on(b, session_id, 2, MaxBytes=1)


@case("Fetch", since=7)
def incremental_waits(b):
    session_id = session(b, topic(b, filled(b), 10))
    b.ask_timed(0.45, SessionId=session_id, SessionEpoch=1, MaxWaitMs=500, MinBytes=1, MaxBytes=1 << 20, Topics=[])
