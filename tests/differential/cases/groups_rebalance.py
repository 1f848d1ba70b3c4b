"""JoinGroup by those who are members already, and by two or three at the same time."""

from cases import case
from cases.groups_join import ID_REQUIRED_SINCE, entered
from groups import (NEWS, Member, completing, joining, leave, look, pair, promised, protocols, rejoining, stable,
                    stable_pair, synced, wait_for)


def knock(b, group, *names, **fields):
    """Begins to join on another connection, as one who already has an id."""
    other, member_id = b.beside(), promised(b, group)
    other.begin("JoinGroup", b.version, **joining(group, member_id, *names, **fields))
    return other


@case("JoinGroup", since=ID_REQUIRED_SINCE)
def two_are_promised(b):
    """Nobody waits for the second to join at first, but later on they do."""
    ids = [b.ask(**joining(b.name("g")))["MemberId"] for _ in range(2)]
    b.ask(**joining(b.name("g"), ids[0]))
    look(b, b.name("g"))
    other = b.beside()
    other.begin("JoinGroup", b.version, **joining(b.name("g"), ids[0], Protocols=NEWS))
    wait_for(b, b.name("g"), "PreparingRebalance")
    look(b, b.name("g"))
    b.ask(**joining(b.name("g"), ids[1]))
    other.finish()
    look(b, b.name("g"))


@case("JoinGroup", each={
    "same": {}, "other metadata": {"Protocols": NEWS},
    "other protocol": {"Protocols": protocols("other")}, "one more": {"Protocols": protocols("range", "other")},
    "no protocols": {"Protocols": []}, "shorter session": {"SessionTimeoutMs": 50_000},
})
def leader_rejoins(b, fields):
    """While it is to hand out assignments."""
    member = completing(b)
    b.ask(**rejoining(member, **fields))
    look(b, member.group)


@case("JoinGroup", each={
    "same": {}, "other metadata": {"Protocols": NEWS},
    "one more": {"Protocols": protocols("range", "other")}, "no protocols": {"Protocols": []},
    "shorter session": {"SessionTimeoutMs": 50_000},
})
def leader_rejoins_a_stable_group(b, fields):
    """Always for a new generation."""
    member = stable(b)
    b.ask(**rejoining(member, **fields))
    look(b, member.group)


@case("JoinGroup", each={"same": {}, "other protocol": {"Protocols": protocols("other")},
                         "other type": {"ProtocolType": "connect"}, "shorter session": {"SessionTimeoutMs": 50_000},
                         "other rebalance timeout": {"RebalanceTimeoutMs": 50_000}})
def follower_rejoins(b, fields):
    """Nothing happens if it comes as it was."""
    _, follower = stable_pair(b)
    b.ask(**rejoining(follower, **fields))
    look(b, follower.group)


@case("JoinGroup", each={"follower": 1, "leader": 0})
def rejoins_before_the_assignment(b, which):
    member = pair(b)[which]
    b.ask(**rejoining(member))
    look(b, member.group)


@case("JoinGroup")
def whole_rebalance(b):
    """Of a group that grows, and of its follower that comes with news."""
    leader = entered(b, b.name("g"))
    synced(b, leader)
    other = knock(b, leader.group)
    wait_for(b, leader.group, "PreparingRebalance", 2)
    look(b, leader.group)
    b.other("Heartbeat", 4, **leader.call())
    answer = b.ask(**rejoining(leader))
    answers = answer, other.finish()
    leader, follower = (Member(leader.group, one["MemberId"], one["GenerationId"]) for one in answers)
    synced(b, leader, follower)
    b.other("SyncGroup", 3, **follower.call())
    look(b, leader.group)
    other.begin("JoinGroup", b.version, **rejoining(follower, Protocols=NEWS))
    wait_for(b, leader.group, "PreparingRebalance")
    b.other("Heartbeat", 4, **leader.call())
    b.other("Heartbeat", 4, **follower.call())
    b.ask(**rejoining(leader))
    other.finish()


@case("JoinGroup")
def leader_makes_its_follower_join_again(b):
    leader, follower = stable_pair(b)
    other = b.beside()
    other.begin("JoinGroup", b.version, **rejoining(leader))
    wait_for(b, leader.group, "PreparingRebalance")
    b.other("Heartbeat", 4, **follower.call())
    b.ask(**rejoining(follower))
    other.finish()


@case("JoinGroup")
def newcomer_while_assignments_are_awaited(b):
    leader = completing(b)
    other = knock(b, leader.group)
    wait_for(b, leader.group, "PreparingRebalance", 2)
    b.other("SyncGroup", 3, **leader.call())
    b.ask(**rejoining(leader))
    other.finish()


@case("JoinGroup")
def leader_leaves_while_another_waits(b):
    leader = stable(b)
    other = knock(b, leader.group)
    wait_for(b, leader.group, "PreparingRebalance", 2)
    leave(b, leader)
    other.finish()
    look(b, leader.group)


@case("JoinGroup")
def joins_twice_at_once(b):
    """The first attempt is never answered."""
    leader, follower = stable_pair(b)
    first, second = b.beside(), b.beside()
    changed = {"Protocols": NEWS}
    first.begin("JoinGroup", b.version, **rejoining(follower, **changed))
    wait_for(b, leader.group, "PreparingRebalance")
    second.begin("JoinGroup", b.version, **rejoining(follower, **changed))
    b.ask(**rejoining(leader))
    second.finish()


@case("JoinGroup", each={
    "only one in common": (["range", "other"], ["sticky", "other"]), "both": (["range", "other"],) * 2,
    "the second's": (["range", "other"], ["other"]), "none": (["range"], ["sticky"]),
})
def choice_of_protocol(b, names):
    leader = stable(b, None, *names[0])
    other = knock(b, leader.group, *names[1])
    if not set(names[0]) & set(names[1]):
        other.finish()
        return
    wait_for(b, leader.group, "PreparingRebalance", 2)
    b.ask(**rejoining(leader, *names[0]))
    other.finish()


@case("JoinGroup")
def most_votes(b):
    """Three members, of which two would rather have the second protocol."""
    leader, follower = stable_pair(b, None, "range", "other")
    third = knock(b, leader.group, "other", "range")
    wait_for(b, leader.group, "PreparingRebalance", 3)
    second = b.beside()
    second.begin("JoinGroup", b.version, **rejoining(follower, "other", "range"))
    b.ask(**rejoining(leader, "range", "other"))
    second.finish(), third.finish()
    look(b, leader.group)
