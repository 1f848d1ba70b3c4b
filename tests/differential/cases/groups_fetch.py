"""OffsetFetch: offsets of one group or of several, of all partitions or of some."""

from cases import case
from groups import STATES, commit, delete, empty, in_order, offsets, shared, stable

MANY_SINCE, ALL_SINCE, STABLE_SINCE, MEMBERS_SINCE = 8, 2, 7, 9


def asked(topic, *partitions):
    return {"Name": topic, "PartitionIndexes": list(partitions)}


def fetch(b, group, *topics, shown=None, claims=None, **fields):
    """Of these topics, or of all if the first is none."""
    rows = None if topics == (None,) else list(topics)
    groups = [{"GroupId": group, "Topics": rows} | (claims or {})]
    return b.ask(shown, **{"GroupId": group, "Topics": rows, "Groups": groups} | fields)


def written(b):
    """A group with offsets, of two topics, that all cases only read; and the name of the second topic."""
    def make(at):
        group, other = at.name("g"), at.topic("another")
        commit(at, group, shared(at), (0, 5), (1, 0, "some metadata"))
        prepared = [offsets(shared(at), (0, 6), CommittedLeaderEpoch=3), offsets(other, (0, 2**40, "x"))]
        at.prepare("OffsetCommit", 9, GroupId=group, Topics=prepared)
        return group, other
    return b.shared_topic("groups-written", make)


@case("OffsetFetch")
def some(b):
    group, other = written(b)
    fetch(b, group, asked(shared(b), 0))
    fetch(b, group, asked(other, 0), asked(shared(b), 2, 1, 0))


@case("OffsetFetch")
def all_of_them(b):
    """Which the first version does not know."""
    fetch(b, written(b)[0], None, shown=in_order)


@case("OffsetFetch", each={label: make for label, make in STATES.items() if label != "simple"})
def state(b, make):
    group = make(b).group
    fetch(b, group, asked(shared(b), 0))
    if b.version >= ALL_SINCE:
        fetch(b, group, None)


@case("OffsetFetch")
def stable_group(b):
    member = stable(b)
    fields = {"MemberId": member.id, "GenerationIdOrMemberEpoch": 1, "Topics": [offsets(shared(b), (2, 9))]}
    b.prepare("OffsetCommit", 9, GroupId=member.group, **fields)
    fetch(b, member.group, asked(shared(b), 2, 0))


@case("OffsetFetch", each={"empty": "", "odd": "a group/é", "null": None})
def group_id(b, group):
    fetch(b, group, asked(written(b)[1], 1))


@case("OffsetFetch")
def empty_group_id(b):
    """Even there offsets can be kept."""
    commit(b, "", shared(b), (0, 8))
    fetch(b, "", asked(shared(b), 0))
    delete(b, "")


@case("OffsetFetch", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    fetch(b, written(b)[0], asked(b.name() if name == "unknown" else name, 0, 1))


@case("OffsetFetch", each={"3": 3, "-1": -1, "max": 2**31 - 1})
def partition(b, index):
    fetch(b, written(b)[0], asked(shared(b), index))


@case("OffsetFetch")
def partition_twice(b):
    fetch(b, written(b)[0], asked(shared(b), 0, 0, 9, 9))


@case("OffsetFetch")
def topic_twice(b):
    group, other = written(b)
    fetch(b, group, asked(shared(b), 0), asked(other, 0), asked(shared(b), 1), asked(shared(b), 0))


@case("OffsetFetch")
def topics_none(b):
    fetch(b, written(b)[0])
    fetch(b, b.name("unknown"))


@case("OffsetFetch", each={"none": [], "null": None})
def partitions(b, rows):
    fetch(b, written(b)[0], {"Name": shared(b), "PartitionIndexes": rows}, asked(written(b)[1], 0))


@case("OffsetFetch", since=STABLE_SINCE)
def require_stable(b):
    group, other = written(b)
    fetch(b, group, asked(other, 0), asked(shared(b), 2), RequireStable=True)
    fetch(b, group, None, shown=in_order, RequireStable=True)
    fetch(b, b.name("unknown"), asked(other, 0), RequireStable=True)


@case("OffsetFetch", since=MANY_SINCE)
def several_groups(b):
    """Each answered on its own."""
    group, other = written(b)
    commit(b, b.name("g"), shared(b), (2, 7))
    rows = [(b.name("g"), None), (group, [asked(other, 0)]), (b.name("unknown"), [asked(other, 0)]),
            (b.name("unknown-too"), None), ("", []), (empty(b)[0], [asked(b.name("unknown"), 4)])]
    b.ask(in_order, Groups=[{"GroupId": name, "Topics": topics} for name, topics in rows])


@case("OffsetFetch", since=MANY_SINCE, each={"same": [[0], [0]], "different": [[0], [1]], "once all": [[1], None]})
def group_twice(b, wanted):
    group, _ = written(b)
    topics = [rows and [asked(shared(b), *rows)] for rows in wanted]
    b.ask(in_order, Groups=[{"GroupId": group, "Topics": rows} for rows in topics])


@case("OffsetFetch", since=MANY_SINCE, each={"none": [], "null": None, "null id": [{"GroupId": None}]})
def groups(b, rows):
    b.ask(Groups=rows)


@case("OffsetFetch", since=MEMBERS_SINCE, each={
    "member": {"MemberId": "a-member", "MemberEpoch": 1}, "only an id": {"MemberId": "a-member"},
    "only an epoch": {"MemberEpoch": 5}, "empty id": {"MemberId": ""}, "-2": {"MemberEpoch": -2},
})
def claims(b, claims):
    """Which do not matter to groups without the new protocol, nor to those that are unknown."""
    group, other = written(b)
    fetch(b, group, asked(other, 0), claims=claims)
    fetch(b, b.name("unknown"), asked(other, 0), claims=claims)
    fetch(b, stable(b).group, None, claims=claims)


@case("OffsetFetch", since=STABLE_SINCE)
def deleted_topic(b):
    """Its offsets are gone with it, also from a topic that takes its name."""
    topic = b.topic()
    commit(b, b.name("g"), topic, (0, 5))
    b.prepare("DeleteTopics", 5, TopicNames=[topic], TimeoutMs=30_000)
    b.settle()
    fetch(b, b.name("g"), asked(topic, 0))
    fetch(b, b.name("g"), None)
    b.topic()
    fetch(b, b.name("g"), asked(topic, 0))
