"""Committed reads: the last stable offset, and the list of aborted transactions, by Fetch and ListOffsets."""

import records
from cases import case
from cases.fetch import LARGE, LONG_MS, topic as row_of
from transactions import add, begun, ended, finished, initialized, send

ISOLATION_SINCE, TIMES_SINCE = 4, 2
MINUTE_MS = 60_000
LEVELS = {"uncommitted": 0, "committed": 1}
END = 13


def mixed(b):
    """Three transactions and records of nobody, made once, as it is only read.

    0-1 a, 2 nobody, 3 b, 4 nobody, 5 a's commit, 6 b, 7 b's abort, 8 nobody, 9 c (open), 10 nobody, 11 d, 12 d's abort.
    """
    def make(at):
        name = at.topic()
        a, one, c, d = (initialized(at, at.name(f"id-{label}")) for label in "abcd")
        send(at, a, name, b"0", b"1", **of_minute(at, 0))
        at.produce(name, at.batch(b"2", **of_minute(at, 1)))
        send(at, one, name, b"3", **of_minute(at, 2))
        at.produce(name, at.batch(b"4", **of_minute(at, 3)))
        ended(at, a)
        send(at, one, name, b"6", sequence=1, **of_minute(at, 4))
        ended(at, one, commit=False)
        at.produce(name, at.batch(b"8", **of_minute(at, 5)))
        send(at, c, name, b"9", **of_minute(at, 6))
        at.produce(name, at.batch(b"10", **of_minute(at, 7)))
        send(at, d, name, b"11", **of_minute(at, 8))
        ended(at, d, commit=False)
        return name
    return b.shared_topic("isolation", make)


def began_ms(b):
    return b.now - 90 * MINUTE_MS


def of_minute(b, minute):
    return {"back_ms": b.now - began_ms(b) - minute * MINUTE_MS}


def fetch(b, name, offset, level=1, **fields):
    row = {"FetchOffset": offset} | fields.pop("row", {})
    return b.ask(**{"MaxWaitMs": 0, "MinBytes": 1, "MaxBytes": LARGE, "IsolationLevel": level,
                    "Topics": [row_of(b, name, row)]} | fields)


@case("Fetch", each={f"{word} from {offset}": (level, offset) for word, level in LEVELS.items()
                     for offset in range(END + 2)})
def isolated(b, how):
    """At every offset; before version 4 all readers get everything."""
    level, offset = how
    fetch(b, mixed(b), offset, level)


# Batches of one record have 69 bytes or so; markers have 78.
@case("Fetch", each={str(limit): limit for limit in (1, 80, 150, 230, 300, 400, 500)})
def isolated_piece(b, limit):
    """Aborted transactions are told of as far as the records reach."""
    for offset in (0, 3, 6):
        fetch(b, mixed(b), offset, row={"PartitionMaxBytes": limit})


@case("Fetch", each={"2": 2, "-1": -1, "127": 127})
def isolation_that_is_none(b, level):
    fetch(b, mixed(b), 0, level)


@case("Fetch", each=LEVELS)
def at_the_last_stable_offset(b, level):
    """Nothing more comes to a reader of committed records, who waits for it."""
    b.ask_timed(0.45, MaxWaitMs=500, MinBytes=1, MaxBytes=LARGE, IsolationLevel=level,
                Topics=[row_of(b, mixed(b), {"FetchOffset": 9})])


@case("Fetch", since=ISOLATION_SINCE)
def wakes_up_at_the_end_of_a_transaction(b):
    name = b.topic()
    producer = begun(b, name)
    b.begin(b.api, b.version, MaxWaitMs=LONG_MS * 6, MinBytes=1, MaxBytes=LARGE, IsolationLevel=1,
            Topics=[row_of(b, name, 0)])
    ended(b.beside(), producer)
    answer = b.finish(compared=False)
    b.note("records", bool(answer["Responses"][0]["Partitions"][0]["Records"]))


@case("Fetch")
def transactions_that_end(b):
    """The last stable offset moves to the next that is open."""
    name = b.topic()
    one, two = initialized(b, b.name("one")), initialized(b, b.name("two"))
    begun(b, name, one), begun(b, name, two)
    send(b, one, name, sequence=1)
    fetch(b, name, 0)
    ended(b, one, commit=False)
    fetch(b, name, 0)
    ended(b, two)
    fetch(b, name, 0), fetch(b, name, 1)


@case("Fetch")
def aborted_by_timeout(b):
    name = b.topic()
    producer = begun(b, name, initialized(b, timeout_ms=2_000))
    finished(b, producer.transaction, "CompleteAbort")
    fetch(b, name, 0), fetch(b, name, 0, level=0)


@case("Fetch")
def aborted_again_and_again(b):
    """By one producer: each is told of, up to where one reads."""
    name, producer = b.topic(), initialized(b)
    for _ in range(4):
        send(b, producer, name, b"a", b"b")
        producer = ended(b, producer, commit=False)
    for offset in range(0, 13, 2):
        fetch(b, name, offset)
    fetch(b, name, 2, row={"PartitionMaxBytes": 100})


@case("Fetch")
def empty_transactions_aborted(b):
    """Without a record there is nothing to tell of."""
    name, producer = b.topic(), initialized(b)
    add(b, producer, name)
    ended(b, producer, commit=False, version=1)
    fetch(b, name, 0)


@case("Fetch", each={str(offset): offset for offset in (1, 2, 3, 5, 7, -1)})
def after_records_of_transactions_were_deleted(b, offset):
    """Of one aborted, one open and one behind it. Then the open one ends."""
    name = b.topic()
    aborted, is_open = initialized(b, b.name("aborted")), initialized(b, b.name("open"))
    send(b, aborted, name, b"0", b"1")
    ended(b, aborted, commit=False)
    send(b, is_open, name, b"3")
    b.produce(name, b.batch(b"4"), b.batch(b"5"))
    send(b, is_open, name, b"6", sequence=1)
    b.delete_records(name, offset)
    for at in range(0, 8):
        fetch(b, name, at)
    b.other("ListOffsets", 6, ReplicaId=-1, IsolationLevel=1,
            Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}])
    ended(b, is_open, commit=False)
    fetch(b, name, 7)


@case("Fetch", each={"gzip": records.GZIP, "zstd": records.ZSTD})
def compressed_transactions(b, codec):
    name, producer = b.topic(), initialized(b)
    send(b, producer, name, b"a", b"b", codec=codec)
    ended(b, producer, commit=False)
    fetch(b, name, 0), fetch(b, name, 1)


@case("Fetch", since=7)
def session_of_committed_reads(b):
    """The second fetch of a session tells what has changed: nothing, then everything."""
    name = b.topic()
    producer = begun(b, name)
    answer = fetch(b, name, 0, SessionId=0, SessionEpoch=0)
    b.ask(MaxWaitMs=0, MinBytes=1, MaxBytes=LARGE, IsolationLevel=1, SessionId=answer["SessionId"], SessionEpoch=1, Topics=[])
    ended(b, producer, commit=False)
    b.ask(MaxWaitMs=0, MinBytes=1, MaxBytes=LARGE, IsolationLevel=1, SessionId=answer["SessionId"], SessionEpoch=2, Topics=[])


# --- ListOffsets


def offsets(b, name, *timestamps, level=1):
    for timestamp in timestamps:
        b.ask(ReplicaId=-1, IsolationLevel=level,
              Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": timestamp}]}])


@case("ListOffsets", since=TIMES_SINCE, each={f"{word}, {what}": (level, timestamp) for word, level in LEVELS.items()
                                              for what, timestamp in (("latest", -1), ("earliest", -2), ("max", -3),
                                                                      ("earliest local", -4), ("tiered", -5))})
def isolated_special(b, how):
    level, timestamp = how
    offsets(b, mixed(b), timestamp, level=level)


@case("ListOffsets", since=TIMES_SINCE, each={f"{word}, minute {minute}": (level, minute) for word, level in LEVELS.items()
                                              for minute in (0, 1, 3, 4, 5, 6, 7, 8, 9)})
def isolated_timestamp(b, how):
    """What is not stable yet is not found."""
    level, minute = how
    offsets(b, mixed(b), began_ms(b) + minute * MINUTE_MS, level=level)


@case("ListOffsets", since=TIMES_SINCE, each={"2": 2, "-1": -1})
def odd_level(b, level):
    offsets(b, mixed(b), -1, -2, level=level)


@case("ListOffsets", since=TIMES_SINCE)
def isolated_of_open_transactions(b):
    name = b.topic()
    one, two = initialized(b, b.name("one")), initialized(b, b.name("two"))
    begun(b, name, one), begun(b, name, two)
    offsets(b, name, -1)
    for producer, commit in ((two, True), (one, False)):
        ended(b, producer, commit)
        offsets(b, name, -1, -2)
