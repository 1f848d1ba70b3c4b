"""SyncGroup: the leader hands out assignments, and everybody takes their own."""

from cases import case
from groups import (STATES, completing, handed_out, joined, joining, leave, look, pair, pending, prepare, promised,
                    rejoining, stable, stable_pair, wait_for)

MAX = 2**31 - 1
KNOWN = {"ProtocolType": "consumer", "ProtocolName": "range"}
STATIC_SINCE = 3


def sync(b, member, *members, **fields):
    """Hands out something to all of the members."""
    return b.ask(**member.call(**KNOWN | {"Assignments": handed_out(*members)} | fields))


@case("SyncGroup")
def only_member(b):
    """Once it has its assignment, it can ask for it as often as it likes."""
    member = completing(b)
    sync(b, member, member)
    look(b, member.group)
    sync(b, member)
    sync(b, member, Assignments=[{"MemberId": member.id, "Assignment": b"something else"}])


@case("SyncGroup", each=STATES)
def state(b, make):
    member = make(b)
    sync(b, member, member)
    look(b, member.group)


@case("SyncGroup", each={"one before": -1, "one later": 1, "-1": -2, "max": MAX - 1})
def generation(b, more):
    """Of a group in its first."""
    member = completing(b)
    sync(b, member, member, GenerationId=1 + more)
    member = stable(b, b.name("other"))
    sync(b, member, GenerationId=1 + more)


@case("SyncGroup", each={"unknown": "a-member", "empty": "", "null": None})
def member_id(b, member_id):
    member = completing(b)
    sync(b, member, member, MemberId=member_id)


@case("SyncGroup")
def member_that_is_promised(b):
    """To a group that others have joined, and with no generation."""
    member = completing(b)
    member_id = promised(b, member.group)
    sync(b, member, MemberId=member_id)
    sync(b, member, MemberId=member_id, GenerationId=-1)


@case("SyncGroup", each={"empty": "", "null": None})
def group_id(b, group):
    sync(b, completing(b), GroupId=group)


@case("SyncGroup", since=5, each={
    "no type": {"ProtocolType": None}, "no name": {"ProtocolName": None}, "empty type": {"ProtocolType": ""},
    "empty name": {"ProtocolName": ""}, "another type": {"ProtocolType": "connect"},
    "another name": {"ProtocolName": "other"},
})
def protocol(b, fields):
    """Wherever the group stands."""
    for member in (joined(b, b.name("joined")), stable(b, b.name("stable")), pending(b)):
        sync(b, member, member, **fields)


@case("SyncGroup", each={"none": [], "null": None, "of others": [{"MemberId": "a-member", "Assignment": b"x"}],
                         "of no one": [{"MemberId": "", "Assignment": b"x"}],
                         "null member": [{"MemberId": None, "Assignment": b"x"}]})
def assignments(b, rows):
    member = completing(b)
    sync(b, member, Assignments=rows)
    look(b, member.group)


@case("SyncGroup", each={"empty": [b""], "null": [None], "twice": [b"a", b"b"], "large": [b"x" * 100_000]})
def assignment(b, values):
    member = completing(b)
    rows = [{"MemberId": member.id, "Assignment": value} for value in values]
    shorten = (lambda answer: answer | {"Assignment": len(answer["Assignment"])}) if len(values[0] or b"") > 9 else None
    b.ask(shorten, **member.call(**KNOWN, Assignments=rows))


@case("SyncGroup")
def assignment_of_the_leader_is_missing(b):
    leader, follower = pair(b)
    sync(b, leader, Assignments=[{"MemberId": follower.id, "Assignment": b"x"},
                                 {"MemberId": "a-member", "Assignment": b"y"}])
    sync(b, follower)
    look(b, leader.group)


@case("SyncGroup")
def assignment_of_the_follower_is_missing(b):
    leader, follower = pair(b)
    sync(b, leader, leader)
    sync(b, follower)
    look(b, leader.group)


@case("SyncGroup")
def follower_waits(b):
    """For what the leader hands out; its own is not looked at."""
    leader, follower = pair(b)
    other = b.beside()
    other.begin("SyncGroup", b.version, **follower.call(**KNOWN, Assignments=handed_out(follower, leader)))
    b.other("Heartbeat", 4, **leader.call())
    sync(b, leader, leader, follower)
    other.finish()
    sync(b, follower)
    b.other("Heartbeat", 4, **follower.call())


@case("SyncGroup")
def follower_waits_in_vain(b):
    """Somebody joins."""
    leader, follower = pair(b)
    other, third = b.beside(), b.beside()
    other.begin("SyncGroup", b.version, **follower.call(**KNOWN))
    b.other("Heartbeat", 4, **leader.call())
    third.begin("JoinGroup", 3, **joining(leader.group))
    other.finish()
    sync(b, leader, leader, follower)
    wait_for(b, leader.group, "PreparingRebalance", 3)
    look(b, leader.group)


@case("SyncGroup")
def follower_waits_and_the_leader_leaves(b):
    leader, follower = pair(b)
    other = b.beside()
    other.begin("SyncGroup", b.version, **follower.call(**KNOWN))
    b.other("Heartbeat", 4, **leader.call())
    leave(b, leader)
    other.finish()
    look(b, leader.group)
    b.other("JoinGroup", 9, **rejoining(follower))


@case("SyncGroup")
def leader_joins_anew_while_the_follower_waits(b):
    """With the same protocols, it only gets the same answer again."""
    leader, follower = pair(b)
    other = b.beside()
    other.begin("SyncGroup", b.version, **follower.call(**KNOWN))
    b.other("JoinGroup", 9, **rejoining(leader))
    sync(b, leader, leader, follower)
    other.finish()


@case("SyncGroup")
def of_the_generation_before(b):
    leader, follower = stable_pair(b)
    other = b.beside()
    other.begin("JoinGroup", 9, **rejoining(leader))
    wait_for(b, leader.group, "PreparingRebalance")
    sync(b, follower)
    prepare(b, "JoinGroup", 9, **rejoining(follower))
    other.finish()
    sync(b, follower)
    sync(b, leader, leader, follower)


@case("SyncGroup", since=STATIC_SINCE, each={"its own": "an-instance", "another": "another-instance", "none": None})
def instance_id(b, instance):
    member = joined(b, GroupInstanceId="an-instance")
    sync(b, member, member, GroupInstanceId=instance)
    sync(b, member, member, GroupInstanceId=instance, MemberId="a-member")
    sync(b, member, member, GroupInstanceId=instance, MemberId="")
    sync(b, member, member, GroupInstanceId=instance, GenerationId=7)


@case("SyncGroup", since=STATIC_SINCE)
def instance_id_of_a_dynamic_member(b):
    member = completing(b)
    sync(b, member, member, GroupInstanceId="an-instance")
    sync(b, member, member, GroupInstanceId="")
