"""LeaveGroup: one member, or several of them, by their own id or by that of their instance."""

from cases import case
from groups import (STATES, completing, joined, joining, look, offsets, pair, pending, prepare, promised, rejoining,
                    shared, stable, stable_pair, wait_for)

MANY_SINCE = 3
ITS = object()


def who(member_id, instance=None, **fields):
    return {"MemberId": member_id, "GroupInstanceId": instance} | fields


def go(b, group, *members):
    """The members are ids, or what `who` makes of them."""
    rows = [one if isinstance(one, dict) else who(one) for one in members]
    return b.ask(GroupId=group, MemberId=rows[0]["MemberId"], Members=rows)


@case("LeaveGroup", each=STATES)
def state(b, make):
    member = make(b)
    go(b, member.group, member.id)
    look(b, member.group)
    go(b, member.group, member.id)


@case("LeaveGroup", each=STATES)
def unknown_member(b, make):
    go(b, make(b).group, "not-a-member")


@case("LeaveGroup", each={"empty": "", "null": None})
def group_id(b, group):
    go(b, group, "a-member")


@case("LeaveGroup", each={"empty": "", "null": None})
def member_id(b, member_id):
    member = stable(b)
    go(b, member.group, member_id)
    look(b, member.group)


@case("LeaveGroup", since=MANY_SINCE, each={"none": [], "null": None})
def members(b, rows):
    """Of an empty group id, of a group that is not, and of one that is."""
    member = stable(b)
    for group in ("", b.name("unknown"), member.group):
        b.ask(GroupId=group, Members=rows)
    look(b, member.group)


@case("LeaveGroup", since=MANY_SINCE)
def several(b):
    leader, follower = stable_pair(b)
    go(b, leader.group, follower.id, "a-member", "", leader.id)
    look(b, leader.group)


@case("LeaveGroup", since=MANY_SINCE)
def twice_in_one_request(b):
    leader, follower = stable_pair(b)
    go(b, leader.group, follower.id, follower.id, "a-member", "a-member")
    look(b, leader.group)


@case("LeaveGroup", since=MANY_SINCE)
def several_of_an_unknown_group(b):
    go(b, b.name("g"), "a-member", who("", "an-instance"), who("another-member", "an-instance"))


@case("LeaveGroup", since=MANY_SINCE, each={
    "its id": (ITS, "an-instance"), "no id": ("", "an-instance"), "another id": ("a-member", "an-instance"),
    "another instance": (ITS, "another-instance"), "unknown instance": ("", "another-instance"),
    "both unknown": ("a-member", "another-instance"), "no instance": (ITS, None), "empty instance": (ITS, ""),
    "nothing": ("", None), "null id": (None, "an-instance"),
})
def static_member(b, names):
    member = stable(b, GroupInstanceId="an-instance")
    go(b, member.group, who(member.id if names[0] is ITS else names[0], names[1]))
    look(b, member.group)


@case("LeaveGroup", since=MANY_SINCE)
def static_member_twice(b):
    """By its instance's id and then by its own."""
    member = stable(b, GroupInstanceId="an-instance")
    go(b, member.group, who("", "an-instance"), who(member.id, "an-instance"), who(member.id), who("", "an-instance"))
    look(b, member.group)


@case("LeaveGroup", since=MANY_SINCE)
def static_member_after_it_came_back(b):
    """With its old id it is fenced, if it names its instance."""
    member = stable(b, GroupInstanceId="an-instance")
    prepare(b, "JoinGroup", 9, **joining(member.group, GroupInstanceId="an-instance"))
    go(b, member.group, who(member.id, "an-instance"))
    go(b, member.group, who(member.id))
    look(b, member.group)


@case("LeaveGroup", since=MANY_SINCE)
def dynamic_member_by_an_instance(b):
    member = stable(b)
    go(b, member.group, who(member.id, "an-instance"))
    look(b, member.group)


@case("LeaveGroup", until=MANY_SINCE - 1)
def static_member_of_an_old_client(b):
    member = stable(b, GroupInstanceId="an-instance")
    go(b, member.group, member.id)
    look(b, member.group)


@case("LeaveGroup", since=5, each={"null": None, "empty": "", "long": "x" * 5000})
def reason(b, reason):
    member = stable(b)
    go(b, member.group, who(member.id, Reason=reason))


@case("LeaveGroup")
def leader(b):
    """The others are to join again, and one of them leads."""
    leader, follower = stable_pair(b)
    go(b, leader.group, leader.id)
    look(b, leader.group)
    b.other("Heartbeat", 4, **follower.call())
    b.other("JoinGroup", 9, **rejoining(follower))


@case("LeaveGroup")
def follower(b):
    leader, follower = stable_pair(b)
    go(b, leader.group, follower.id)
    look(b, leader.group)
    b.other("JoinGroup", 9, **rejoining(leader))


@case("LeaveGroup")
def last_one(b):
    """After the other; who joins then finds the next generation."""
    leader, follower = stable_pair(b)
    go(b, leader.group, leader.id), go(b, leader.group, follower.id)
    look(b, leader.group)
    b.note("next generation", joined(b, leader.group).generation)


@case("LeaveGroup")
def before_the_assignment(b):
    leader, follower = pair(b)
    go(b, leader.group, follower.id)
    look(b, leader.group)
    b.other("SyncGroup", 3, **leader.call())


@case("LeaveGroup")
def while_it_waits_to_join(b):
    """Its own join is answered as that of a stranger, and the rebalance ends without it."""
    member = stable(b)
    other, member_id = b.beside(), promised(b, member.group)
    other.begin("JoinGroup", 9, **joining(member.group, member_id))
    wait_for(b, member.group, "PreparingRebalance", 2)
    go(b, member.group, member_id)
    other.finish()
    b.other("JoinGroup", 9, **rejoining(member))


@case("LeaveGroup")
def while_it_waits_for_its_assignment(b):
    """Which is never answered."""
    leader, follower = pair(b)
    other = b.beside()
    other.begin("SyncGroup", 3, **follower.call())
    b.other("Heartbeat", 4, **leader.call())
    go(b, leader.group, follower.id)
    look(b, leader.group)


@case("LeaveGroup")
def whom_the_others_wait_for(b):
    leader, follower = stable_pair(b)
    other = b.beside()
    other.begin("JoinGroup", 9, **rejoining(leader))
    wait_for(b, leader.group, "PreparingRebalance")
    go(b, leader.group, follower.id)
    other.finish()


@case("LeaveGroup")
def promised_member_that_others_wait_for(b):
    leader = stable(b)
    member_id, other = promised(b, leader.group), b.beside()
    other.begin("JoinGroup", 9, **rejoining(leader))
    wait_for(b, leader.group, "PreparingRebalance")
    go(b, leader.group, member_id)
    other.finish()


@case("LeaveGroup", each={"completing": completing, "stable": stable})
def promised_member_of_a_group_of_others(b, make):
    """Who are to join again."""
    member = make(b)
    member_id = promised(b, member.group)
    go(b, member.group, member_id), go(b, member.group, member_id)
    b.other("Heartbeat", 4, **member.call())
    b.other("JoinGroup", 9, **joining(member.group, member_id))


@case("LeaveGroup")
def promised_member_joins_after_all(b):
    member = pending(b)
    go(b, member.group, member.id)
    b.other("JoinGroup", 9, **rejoining(member))


@case("LeaveGroup")
def calls_of_one_that_left(b):
    leader, follower = stable_pair(b)
    go(b, leader.group, follower.id)
    b.other("Heartbeat", 4, **follower.call())
    b.other("SyncGroup", 3, **follower.call())
    b.other("JoinGroup", 9, **rejoining(follower))
    b.other("OffsetCommit", 9, GroupId=leader.group, MemberId=follower.id, GenerationIdOrMemberEpoch=2,
            Topics=[offsets(shared(b), (0, 5))])
