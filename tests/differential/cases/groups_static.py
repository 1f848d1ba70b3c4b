"""JoinGroup by static members, which keep their place by an id of their own (KIP-345)."""

from cases import case
from groups import (NEWS, Member, completing, joined, joining, leave, look, pair, protocols, rejoining, stable,
                    stable_pair, synced, wait_for)

SINCE = 5


def static(b, group=None, *names):
    """The only member of a stable group."""
    return stable(b, group, *names, GroupInstanceId="an-instance")


def static_pair(b, *names):
    """A dynamic leader and a static follower."""
    return stable_pair(b, None, *names, GroupInstanceId="an-instance")


def come_back(b, member, *names, **fields):
    """As after a restart: with the instance's id, but with none of its own."""
    return b.ask(**joining(member.group, "", *names, GroupInstanceId=member.instance, **fields))


def ask_all(b, member):
    """Whether the group still knows it."""
    b.other("Heartbeat", 4, **member.call())
    b.other("Heartbeat", 4, **member.call(GroupInstanceId=None))
    b.other("SyncGroup", 3, **member.call())
    b.ask(**rejoining(member))


@case("JoinGroup", since=SINCE, each={"plain": "an-instance", "empty": "", "blank": "a b", "dot": ".", "slash": "a/b",
                                      "accent": "é", "long": "x" * 250})
def first(b, instance):
    """Welcome at once, and known by an id that begins with the instance's."""
    answer = b.ask(**joining(b.name("g"), GroupInstanceId=instance))
    look(b, b.name("g"))
    if isinstance(answer, dict) and not answer["ErrorCode"]:
        b.other("SyncGroup", 3, **Member(b.name("g"), answer["MemberId"], 1, instance).call())


@case("JoinGroup", since=SINCE)
def unknown_group(b):
    b.ask(**joining(b.name("g"), "a-member", GroupInstanceId="an-instance"))


@case("JoinGroup", since=SINCE)
def unknown_instance(b):
    """In a group of others, with ids of all kinds."""
    member, known = completing(b), static(b, b.name("other"))
    b.ask(**rejoining(member, GroupInstanceId="another-instance"))
    b.ask(**rejoining(known, GroupInstanceId="another-instance"))
    b.ask(**joining(known.group, "a-member", GroupInstanceId="another-instance"))


@case("JoinGroup", since=SINCE, each={"made up": "a-member", "of another": "another"})
def fenced(b, member_id):
    leader, follower = static_pair(b)
    member_id = leader.id if member_id == "another" else member_id
    b.ask(**joining(follower.group, member_id, GroupInstanceId=follower.instance))
    look(b, follower.group)


@case("JoinGroup", since=SINCE)
def dynamic_with_the_id_of_a_static(b):
    """The instance's id may be left out."""
    _, follower = static_pair(b)
    b.ask(**joining(follower.group, follower.id))
    look(b, follower.group)


@case("JoinGroup", since=SINCE, each={"same": {}, "other metadata": {"Protocols": NEWS}})
def rejoins_with_its_id(b, fields):
    member = static(b)
    b.ask(**rejoining(member, **fields))
    look(b, member.group)


@case("JoinGroup", since=SINCE)
def follower_rejoins_with_its_id(b):
    _, follower = static_pair(b)
    b.ask(**rejoining(follower))
    look(b, follower.group)


@case("JoinGroup", since=SINCE, each={
    "same": {}, "other metadata": {"Protocols": NEWS}, "one more": {"Protocols": protocols("range", "other")},
    "other protocol": {"Protocols": protocols("other")}, "preferred otherwise": {"Protocols": protocols("b", "range")},
    "no protocols": {"Protocols": []}, "other type": {"ProtocolType": "connect"},
    "shorter session": {"SessionTimeoutMs": 50_000},
})
def only_member_comes_back(b, fields):
    """It stays with its generation, if the choice of protocol stays the same; its old id is fenced."""
    member = static(b)
    come_back(b, member, **fields)
    look(b, member.group)
    ask_all(b, member)


@case("JoinGroup", since=SINCE, each={"same": ["range", "other"], "the other way round": ["other", "range"],
                                      "only the second": ["other"]})
def comes_back_with_other_protocols(b, names):
    member = static(b, None, "range", "other")
    come_back(b, member, *names)
    look(b, member.group)


@case("JoinGroup", since=SINCE, each={"same": {}, "other metadata": {"Protocols": NEWS}})
def follower_comes_back(b, fields):
    leader, follower = static_pair(b)
    answer = come_back(b, follower, **fields)
    look(b, follower.group)
    b.other("Heartbeat", 4, **leader.call())
    ask_all(b, follower)
    again = Member(follower.group, answer["MemberId"], follower.generation, follower.instance)
    b.other("SyncGroup", 3, **again.call())
    b.other("Heartbeat", 4, **again.call())


@case("JoinGroup", since=SINCE)
def leader_comes_back(b):
    """Where others are; from version 9 on it is told to hand out nothing."""
    leader = joined(b, GroupInstanceId="an-instance")
    other = b.beside()
    other.begin("JoinGroup", 5, **joining(leader.group, GroupInstanceId="another-instance"))
    wait_for(b, leader.group, "PreparingRebalance", 2)
    b.ask(**rejoining(leader))
    answer = other.finish()
    leader = leader._replace(generation=2)
    synced(b, leader, Member(leader.group, answer["MemberId"], 2))
    answer = come_back(b, leader)
    look(b, leader.group)
    again = leader._replace(id=answer["MemberId"])
    b.other("SyncGroup", 3, **again.call())
    b.ask(**rejoining(again, SessionTimeoutMs=1))
    come_back(b, leader)


@case("JoinGroup", since=SINCE)
def comes_back_twice(b):
    member = static(b)
    come_back(b, member), come_back(b, member)
    look(b, member.group)


@case("JoinGroup", since=SINCE, each={"same": {}, "other metadata": {"Protocols": NEWS}})
def comes_back_before_its_assignment(b, fields):
    member = joined(b, GroupInstanceId="an-instance")
    come_back(b, member, **fields)
    look(b, member.group)
    ask_all(b, member)


@case("JoinGroup", since=SINCE)
def follower_comes_back_before_its_assignment(b):
    """The rebalance begins anew."""
    leader, follower = pair(b, GroupInstanceId="an-instance")
    other = b.beside()
    other.begin("JoinGroup", b.version, **joining(follower.group, GroupInstanceId=follower.instance))
    wait_for(b, follower.group, "PreparingRebalance")
    b.other("SyncGroup", 3, **leader.call())
    b.ask(**rejoining(leader))
    other.finish()


@case("JoinGroup", since=SINCE)
def comes_back_while_it_waits(b):
    """What waits under the old id is fenced."""
    leader = stable(b)
    first, second = b.beside(), b.beside()
    fields = joining(leader.group, GroupInstanceId="an-instance")
    first.begin("JoinGroup", b.version, **fields)
    wait_for(b, leader.group, "PreparingRebalance", 2)
    second.begin("JoinGroup", b.version, **fields)
    first.finish()
    b.ask(**rejoining(leader))
    second.finish()
    look(b, leader.group)


@case("JoinGroup", since=SINCE)
def comes_back_while_it_waits_for_its_assignment(b):
    leader, follower = pair(b, GroupInstanceId="an-instance")
    first, second = b.beside(), b.beside()
    first.begin("SyncGroup", 3, **follower.call())
    b.other("Heartbeat", 4, **follower.call())
    b.prepare("DescribeGroups", 5, Groups=[leader.group])
    second.begin("JoinGroup", b.version, **joining(leader.group, GroupInstanceId=follower.instance))
    first.finish()
    b.ask(**rejoining(leader))
    second.finish()


@case("JoinGroup", since=SINCE)
def comes_back_after_it_left(b):
    member = static(b)
    leave(b, member)
    look(b, member.group)
    b.ask(**rejoining(member))
    come_back(b, member)


@case("JoinGroup", since=SINCE)
def two_instances(b):
    member = static(b)
    other = b.beside()
    other.begin("JoinGroup", b.version, **joining(member.group, GroupInstanceId="another-instance"))
    wait_for(b, member.group, "PreparingRebalance", 2)
    b.other("Heartbeat", 4, **member.call())
    b.ask(**rejoining(member))
    other.finish()
    look(b, member.group)
