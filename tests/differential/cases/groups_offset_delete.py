"""OffsetDelete: of topics that nobody reads any more."""

from cases import case
from groups import STATES, commit, joining, look, look_at_offsets, prepare, protocols, shared, stable, subscription


def delete(b, group, *topics, **fields):
    """Topics are (name, *partitions)."""
    rows = [{"Name": name, "Partitions": [{"PartitionIndex": index} for index in partitions]}
            for name, *partitions in topics]
    return b.ask(**{"GroupId": group, "Topics": rows} | fields)


def written(b, **fields):
    """A stable group with offsets; `fields` are those of its only member."""
    commit(b, b.name("g"), shared(b), (0, 5), (1, 6))
    return stable(b, b.name("g"), **fields)


def join(b, **fields):
    return prepare(b, "JoinGroup", 3, **joining(b.name("g"), **fields))


@case("OffsetDelete", each=STATES)
def state(b, make):
    member = make(b)
    delete(b, member.group, (shared(b), 0))
    look(b, member.group)


@case("OffsetDelete")
def some(b):
    commit(b, b.name("g"), shared(b), (0, 5), (1, 6), (2, 7))
    delete(b, b.name("g"), (shared(b), 2, 0))
    look_at_offsets(b, b.name("g"))


@case("OffsetDelete")
def last(b):
    """The group stays."""
    commit(b, b.name("g"), shared(b))
    delete(b, b.name("g"), (shared(b), 0))
    look(b, b.name("g"))
    delete(b, b.name("g"), (shared(b), 0))


@case("OffsetDelete")
def not_committed(b):
    commit(b, b.name("g"), shared(b), (0, 5))
    delete(b, b.name("g"), (shared(b), 1), (b.topic(), 0))
    look_at_offsets(b, b.name("g"))


@case("OffsetDelete", each={"empty": "", "null": None})
def group_id(b, group):
    delete(b, group, (shared(b), 0))


@case("OffsetDelete", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    commit(b, b.name("g"), shared(b))
    delete(b, b.name("g"), (b.name() if name == "unknown" else name, 0, 1), (shared(b), 0))


@case("OffsetDelete", each={"3": 3, "-1": -1})
def partition(b, index):
    commit(b, b.name("g"), shared(b))
    delete(b, b.name("g"), (shared(b), 0, index))


@case("OffsetDelete")
def partition_twice(b):
    commit(b, b.name("g"), shared(b))
    delete(b, b.name("g"), (shared(b), 0, 0))


@case("OffsetDelete")
def topic_twice(b):
    commit(b, b.name("g"), shared(b), (0, 5), (1, 6))
    delete(b, b.name("g"), (shared(b), 0), (shared(b), 1))
    look_at_offsets(b, b.name("g"))


@case("OffsetDelete", each={"none": [], "null": None})
def topics(b, rows):
    """Of a group that is, and of one that is not."""
    commit(b, b.name("g"), shared(b))
    for group in (b.name("g"), b.name("unknown")):
        b.ask(GroupId=group, Topics=rows)


@case("OffsetDelete")
def no_partitions(b):
    commit(b, b.name("g"), shared(b))
    delete(b, b.name("g"), (shared(b),), (b.name("unknown"),))


@case("OffsetDelete")
def unknown_topic_of_an_unknown_group(b):
    delete(b, b.name("g"), (b.name("unknown"), 0))


@case("OffsetDelete", each={"this": ["this"], "another": ["another"], "both": ["this", "another"], "none": []})
def subscribed(b, topics):
    """Offsets of topics that are read stay."""
    names = [shared(b) if one == "this" else b.name(one) for one in topics]
    member = written(b, Protocols=protocols("range", metadata=subscription(*names)))
    delete(b, member.group, (shared(b), 0), (b.name("unknown"), 1))
    look_at_offsets(b, member.group)


@case("OffsetDelete", each={"cut off": b"m", "nothing": b""})
def subscribed_to_who_knows_what(b, metadata):
    member = written(b, Protocols=protocols("range", metadata=metadata))
    delete(b, member.group, (shared(b), 0))
    look_at_offsets(b, member.group)


@case("OffsetDelete", each={"other": "other", "connect": "connect"})
def of_another_protocol_type(b, kind):
    """What it reads is unknown, and so nothing is deleted."""
    commit(b, b.name("g"), shared(b))
    answer = join(b, ProtocolType=kind)
    delete(b, b.name("g"), (shared(b), 0))
    prepare(b, "LeaveGroup", 0, GroupId=b.name("g"), MemberId=answer["MemberId"])
    delete(b, b.name("g"), (shared(b), 0))


@case("OffsetDelete")
def subscribed_by_a_member_that_waits(b):
    commit(b, b.name("g"), shared(b), (0, 5))
    join(b, Protocols=protocols("range", metadata=subscription(shared(b))))
    delete(b, b.name("g"), (shared(b), 0))


@case("OffsetDelete")
def subscribed_until_it_left(b):
    commit(b, b.name("g"), shared(b), (0, 5))
    answer = join(b, Protocols=protocols("range", metadata=subscription(shared(b))))
    prepare(b, "LeaveGroup", 0, GroupId=b.name("g"), MemberId=answer["MemberId"])
    delete(b, b.name("g"), (shared(b), 0))
    look_at_offsets(b, b.name("g"))
