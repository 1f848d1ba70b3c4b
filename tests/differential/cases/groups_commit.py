"""OffsetCommit: by members of groups, and by those who only keep their offsets there."""

from cases import case
from groups import (STATES, commit, delete, look, look_at_offsets, offsets, pair, pending, prepare, promised, shared,
                    stable, unknown)

MAX = 2**31 - 1
INSTANCES_SINCE = 7


def alone(b, group, *topics, **fields):
    """As one who is in no group."""
    return b.ask(GroupId=group, Topics=list(topics), **fields)


def belonging(b, member, **fields):
    """As a member."""
    called = member.call()
    called["GenerationIdOrMemberEpoch"] = called.pop("GenerationId")
    return b.ask(**called | {"Topics": [offsets(shared(b), (0, 7))]} | fields)


@case("OffsetCommit")
def new_group(b):
    """A commit makes it, and the next one goes on."""
    alone(b, b.name("g"), offsets(shared(b), (0, 5), (2, 6, "some metadata")))
    look(b, b.name("g"))
    alone(b, b.name("g"), offsets(shared(b), (0, 4), (1, 0, "other metadata")))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit", each={"null": None, "odd": "a group/é"})
def group_id(b, group):
    alone(b, group, offsets(shared(b), (0, 5)))


@case("OffsetCommit")
def empty_group_id(b):
    """Is for those who are in no group."""
    alone(b, "", offsets(shared(b), (0, 5)))
    alone(b, "", offsets(shared(b), (0, 5)), MemberId="a-member", GenerationIdOrMemberEpoch=1)
    delete(b, "")


@case("OffsetCommit", each=STATES)
def state(b, make):
    member = make(b)
    belonging(b, member)
    look_at_offsets(b, member.group)


@case("OffsetCommit", each=STATES)
def state_alone(b, make):
    """Nobody may interfere with the members of a group."""
    member = make(b)
    alone(b, member.group, offsets(shared(b), (0, 7)))
    look_at_offsets(b, member.group)


@case("OffsetCommit", each={"0": 0, "2": 2, "-1": -1, "-2": -2, "max": MAX})
def generation(b, generation):
    """Of groups in their first, with the id of a member and with none."""
    for member in (stable(b, b.name("stable")), unknown(b)):
        belonging(b, member, GenerationIdOrMemberEpoch=generation)
        belonging(b, member, GenerationIdOrMemberEpoch=generation, MemberId="")


@case("OffsetCommit", each={"unknown": "a-member", "empty": "", "null": None})
def member_id(b, member_id):
    belonging(b, stable(b), MemberId=member_id)


@case("OffsetCommit", each={"unknown": "unknown", "simple": "simple", "empty": "empty", "pending": "pending"})
def claims_in_an_empty_group(b, state):
    """Either a member's id or a generation, where there are none."""
    member = STATES[state](b)
    belonging(b, member, GenerationIdOrMemberEpoch=-1)
    belonging(b, member, MemberId="")
    belonging(b, member, MemberId="", GenerationIdOrMemberEpoch=0)


@case("OffsetCommit")
def promised_member(b):
    """In a group of others, and in a group of its own."""
    member, lonely = stable(b, b.name("others")), pending(b)
    for generation in (-1, 1):
        belonging(b, member, MemberId=promised(b, member.group), GenerationIdOrMemberEpoch=generation)
        belonging(b, lonely, GenerationIdOrMemberEpoch=generation)


@case("OffsetCommit")
def while_assignments_are_awaited(b):
    leader, follower = pair(b)
    belonging(b, leader), belonging(b, follower), belonging(b, leader, GenerationIdOrMemberEpoch=1)
    look_at_offsets(b, leader.group)


@case("OffsetCommit", since=INSTANCES_SINCE, each={"its own": "an-instance", "another": "another-instance",
                                                   "empty": "", "none": None})
def instance_id(b, instance):
    member = stable(b, GroupInstanceId="an-instance")
    belonging(b, member, GroupInstanceId=instance)
    belonging(b, member, GroupInstanceId=instance, MemberId="a-member")
    belonging(b, member, GroupInstanceId=instance, GenerationIdOrMemberEpoch=7)
    belonging(b, member, GroupInstanceId=instance, MemberId="", GenerationIdOrMemberEpoch=-1)


@case("OffsetCommit", since=INSTANCES_SINCE, each={"unknown": "unknown", "empty": "empty", "stable": "stable"})
def instance_alone(b, state):
    alone(b, STATES[state](b).group, offsets(shared(b), (0, 7)), GroupInstanceId="an-instance")


@case("OffsetCommit", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    alone(b, b.name("g"), offsets(b.name("t") if name == "unknown" else name, (0, 5)))
    look(b, b.name("g"))


@case("OffsetCommit", each={"unknown": "unknown", "illegal": "a b"})
def topic_name_by_a_stranger(b, name):
    """Who would be refused in any case, but for the topic."""
    rows = [offsets(b.name() if name == "unknown" else name, (0, 5)), offsets(shared(b), (9, 5), (0, 5))]
    for member in (unknown(b), stable(b, b.name("others"))._replace(generation=7)):
        belonging(b, member, Topics=rows)


@case("OffsetCommit", each={"3": 3, "-1": -1, "max": MAX})
def partition(b, index):
    alone(b, b.name("g"), offsets(shared(b), (index, 5)))
    look(b, b.name("g"))


@case("OffsetCommit")
def good_and_bad(b):
    alone(b, b.name("g"), offsets(b.name("unknown"), (0, 5), (1, 5)), offsets(shared(b), (9, 5), (1, 5), (0, 6)),
          offsets("a b", (0, 1)))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit")
def partition_twice(b):
    alone(b, b.name("g"), offsets(shared(b), (0, 5), (0, 6, "second")))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit")
def topic_twice(b):
    topic = shared(b)
    alone(b, b.name("g"), offsets(topic, (0, 5)), offsets(b.name("unknown"), (0, 5)), offsets(topic, (1, 6), (0, 7)),
          offsets(b.name("unknown"), (1, 5)))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit", each={"none": [], "null": None})
def topics(b, rows):
    """Even a stranger may commit nothing."""
    b.ask(GroupId=b.name("g"), Topics=rows)
    belonging(b, stable(b, b.name("others"))._replace(id="a-member"), Topics=rows)
    look(b, b.name("g"))


@case("OffsetCommit", each={"none": [], "null": None})
def partitions(b, rows):
    alone(b, b.name("g"), {"Name": shared(b), "Partitions": rows})
    alone(b, b.name("g"), {"Name": b.name("unknown"), "Partitions": rows})
    look(b, b.name("g"))


@case("OffsetCommit", each={"0": 0, "-1": -1, "-2": -2, "min": -2**63, "max": 2**63 - 1})
def offset(b, offset):
    """Past the end or before the beginning, nobody looks."""
    alone(b, b.name("g"), offsets(shared(b), (0, offset)))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit", each={"null": None, "empty": "", "4096": "x" * 4096, "4097": "x" * 4097,
                            "4096 accents": "é" * 4096, "4097 accents": "é" * 4097, "2048 pairs": "😀" * 2048,
                            "2049 pairs": "😀" * 2049})
def metadata(b, text):
    """Counted as UTF-16 does."""
    def shorten(answer):
        return {"Metadata": [len(row["Metadata"]) for one in answer["Topics"] for row in one["Partitions"]]}
    alone(b, b.name("g"), offsets(shared(b), (0, 5, text), (1, 6)))
    b.other("OffsetFetch", 7, shorten, GroupId=b.name("g"), Topics=None)


@case("OffsetCommit", since=6, each={"0": 0, "5": 5, "-1": -1, "-2": -2, "max": MAX})
def leader_epoch(b, epoch):
    """Is kept as it came."""
    alone(b, b.name("g"), offsets(shared(b), (0, 5), CommittedLeaderEpoch=epoch))
    look_at_offsets(b, b.name("g"))


@case("OffsetCommit", until=4, each={"0": 0, "1000": 1000, "-1": -1, "-2": -2, "max": 2**63 - 1})
def retention(b, milliseconds):
    alone(b, b.name("g"), offsets(shared(b), (0, 5)), RetentionTimeMs=milliseconds)


@case("OffsetCommit")
def offsets_of_the_group_before(b):
    """They stay where they are when members come, and when they go."""
    commit(b, b.name("g"), shared(b), (0, 3), (1, 4))
    member = stable(b)
    belonging(b, member)
    look_at_offsets(b, member.group)
    prepare(b, "LeaveGroup", 0, GroupId=member.group, MemberId=member.id)
    alone(b, member.group, offsets(shared(b), (1, 9)))
    look_at_offsets(b, member.group)
