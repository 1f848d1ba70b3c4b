"""TxnOffsetCommit, and what becomes of offsets that are pending: OffsetFetch, OffsetDelete, DeleteGroups, OffsetCommit."""

import consumer_groups
import groups
from cases import case
from groups import STATES as GROUP_STATES
from groups import commit as commit_alone
from groups import in_order, joining, look_at_offsets, offsets, pair, rejoining, stable
from transactions import (COMMIT_OFFSETS, STATES, STRANGERS, add_group, ask, ended, initialized, look, prepare, second,
                          shared, unknown)

JOINS_SINCE, MEMBERS_SINCE, STABLE_SINCE = 5, 3, 7
ENDS = {"commit": True, "abort": False}
MAX = 2**31 - 1


def commit(b, producer, group, *topics, **fields):
    return ask(b, **producer.call(GroupId=group, Topics=list(topics) or [offsets(shared(b), (0, 7))]) | fields)


def belonging(b, producer, member, *topics, **fields):
    """As a member (KIP-447), which earlier versions cannot tell of."""
    claims = {"MemberId": member.id, "GenerationIdOrMemberEpoch": member.generation, "GroupInstanceId": member.instance}
    return commit(b, producer, member.group, *topics, **claims | fields)


def ready(b, group, producer=None):
    """A producer that may commit offsets of a group."""
    producer = producer or initialized(b)
    if b.api != "TxnOffsetCommit" or b.version < JOINS_SINCE:
        add_group(b, producer, group)
    return producer


def pending(b, *rows, group=None, producer=None):
    """A transaction with offsets in it."""
    group = group or b.name("g")
    producer = producer or initialized(b)
    topics = [offsets(shared(b), *rows or [(0, 7)])]
    prepare(b, "TxnOffsetCommit", COMMIT_OFFSETS, **producer.call(GroupId=group, Topics=topics))
    return producer


def look_at_stable(b, group):
    """What one gets who does not want what may change."""
    b.other("OffsetFetch", 7, in_order, GroupId=group, RequireStable=True, Topics=[
        {"Name": shared(b), "PartitionIndexes": [0, 1, 2]}])
    b.other("OffsetFetch", 7, in_order, GroupId=group, RequireStable=True, Topics=None)


@case("TxnOffsetCommit", each=ENDS)
def in_transaction(b, is_committed):
    """Nobody sees them before its end."""
    group = b.name("g")
    commit_alone(b, group, shared(b), (0, 3), (1, 4))
    producer = ready(b, group)
    commit(b, producer, group, offsets(shared(b), (0, 7), (2, 9, "some metadata")))
    look_at_offsets(b, group), look_at_stable(b, group)
    ended(b, producer, is_committed, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, group), look_at_stable(b, group)


@case("TxnOffsetCommit", each=ENDS)
def of_a_group_of_nothing_else(b, is_committed):
    """It is made by the transaction, and goes with it if that is aborted."""
    group = b.name("g")
    producer = ready(b, group)
    commit(b, producer, group)
    groups.look(b, group)
    b.other("ListGroups", 4, b.own_groups)
    ended(b, producer, is_committed, version=2 if b.version >= JOINS_SINCE else 1)
    groups.look_after(b, group, is_committed)


@case("TxnOffsetCommit")
def twice_in_one_transaction(b):
    group = b.name("g")
    producer = ready(b, group)
    for offset in (7, 9, 8):
        commit(b, producer, group, offsets(shared(b), (0, offset)))
    ended(b, producer, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, group)


@case("TxnOffsetCommit", each={"in order": (0, 1), "in another order": (1, 0)})
def two_transactions_at_once(b, order):
    """The offsets of the one that ends last stay."""
    group, producers = b.name("g"), [ready(b, b.name("g"), initialized(b, b.name(name))) for name in ("one", "two")]
    for at, producer in enumerate(producers):
        commit(b, producer, group, offsets(shared(b), (0, 7 + at)))
    for at in order:
        ended(b, producers[at], version=2 if b.version >= JOINS_SINCE else 1)
        look_at_offsets(b, group), look_at_stable(b, group)


@case("TxnOffsetCommit", each=ENDS)
def committed_by_others_meanwhile(b, is_committed):
    """Without a transaction, after the offset in it."""
    group = b.name("g")
    producer = ready(b, group)
    commit(b, producer, group)
    commit_alone(b, group, shared(b), (0, 20))
    look_at_offsets(b, group), look_at_stable(b, group)
    ended(b, producer, is_committed, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, group)


@case("TxnOffsetCommit", each=STATES)
def without_the_group_in_it(b, make):
    """From version 5 on it joins."""
    producer = make(b)
    commit(b, producer, b.name("g"))
    look(b, producer.transaction)
    look_at_stable(b, b.name("g"))


@case("TxnOffsetCommit", each=STRANGERS)
def as_another(b, stranger):
    producer = ready(b, b.name("g"), second(b))
    commit(b, stranger(producer), b.name("g"))
    look_at_stable(b, b.name("g"))


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each=GROUP_STATES)
def group_state(b, make):
    member = make(b)
    belonging(b, ready(b, member.group), member)
    look_at_stable(b, member.group)


@case("TxnOffsetCommit", each=GROUP_STATES)
def group_state_alone(b, make):
    """A producer that says nothing of a member is taken at its word."""
    member = make(b)
    commit(b, ready(b, member.group), member.group)
    look_at_stable(b, member.group)


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each={"0": 0, "2": 2, "-1": -1, "-2": -2, "max": MAX})
def generation(b, generation):
    member = stable(b)
    producer = ready(b, member.group)
    belonging(b, producer, member, GenerationIdOrMemberEpoch=generation)
    belonging(b, producer, member, GenerationIdOrMemberEpoch=generation, MemberId="")
    belonging(b, producer, member, GenerationIdOrMemberEpoch=generation, MemberId="a-member")


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each={"0": 0, "2": 2, "-1": -1, "-2": -2})
def generation_of_no_group(b, generation):
    producer = ready(b, b.name("g"))
    for member_id in ("", "a-member"):
        commit(b, producer, b.name("g"), MemberId=member_id, GenerationIdOrMemberEpoch=generation)


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each={"its own": "an-instance", "another": "another-instance", "empty": ""})
def instance(b, instance):
    member = stable(b, GroupInstanceId="an-instance")
    producer = ready(b, member.group)
    belonging(b, producer, member, GroupInstanceId=instance)
    belonging(b, producer, member, GroupInstanceId=instance, MemberId="a-member")
    belonging(b, producer, member, GroupInstanceId=instance, GenerationIdOrMemberEpoch=7)
    belonging(b, producer, member, GroupInstanceId=instance, MemberId="", GenerationIdOrMemberEpoch=-1)


@case("TxnOffsetCommit", since=MEMBERS_SINCE)
def group_that_has_moved_on(b):
    """A member that was away while its group went on (KIP-447): what it has read is another's."""
    leader, follower = pair(b)
    producer = ready(b, leader.group)
    for member in (leader, follower):
        belonging(b, producer, member)
        belonging(b, producer, member._replace(generation=member.generation - 1))
    groups.leave(b, follower)
    belonging(b, producer, follower)
    belonging(b, producer, leader)
    current = groups.member_of(leader.group, b.prepare("JoinGroup", groups.JOIN, **rejoining(leader)))
    belonging(b, producer, leader), belonging(b, producer, current)
    groups.synced(b, current)
    belonging(b, producer, leader), belonging(b, producer, current)


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each=ENDS)
def group_that_moves_on_before_the_end(b, is_committed):
    """The end asks for no generation."""
    member = stable(b)
    producer = ready(b, member.group)
    belonging(b, producer, member)
    groups.leave(b, member)
    ended(b, producer, is_committed, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, member.group)


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each={
    "itself": {}, "epoch before": {"GenerationIdOrMemberEpoch": 1}, "epoch 0": {"GenerationIdOrMemberEpoch": 0},
    "next epoch": {"GenerationIdOrMemberEpoch": 3}, "epoch -1": {"GenerationIdOrMemberEpoch": -1},
    "another": {"MemberId": "another"}, "no id": {"MemberId": ""},
    "nobody": {"MemberId": "", "GenerationIdOrMemberEpoch": -1}, "instance": {"GroupInstanceId": "an-instance"}})
def member_by_the_consumer_protocol(b, claims):
    """Of a group in epoch 2 (KIP-848)."""
    first, _, name = consumer_groups.settled_pair(b)
    producer = ready(b, first.group)
    answer = commit(b, producer, first.group, offsets(name, (0, 7), (2, 8)), **{
        "MemberId": first.id, "GenerationIdOrMemberEpoch": first.epoch} | claims)
    refused = any(row["ErrorCode"] for topic in answer["Topics"] for row in topic["Partitions"])
    # Where the group has not joined, there is nothing to commit.
    ended(b, producer, not refused, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, first.group)


@case("TxnOffsetCommit", each={"empty": "", "null": None, "odd": "a group/é"})
def group_id(b, group):
    commit(b, initialized(b), group)


@case("TxnOffsetCommit", each={"unknown": "unknown", "empty": "", "illegal": "a b", "null": None})
def topic(b, name):
    rows = [offsets(b.name() if name == "unknown" else name, (0, 5), (1, 6)), offsets(shared(b), (0, 5))]
    commit(b, ready(b, b.name("g")), b.name("g"), *rows)
    look_at_stable(b, b.name("g"))


@case("TxnOffsetCommit", each={"3": 3, "-1": -1, "max": MAX})
def partition(b, index):
    commit(b, ready(b, b.name("g")), b.name("g"), offsets(shared(b), (index, 5), (0, 5)))


@case("TxnOffsetCommit")
def partition_and_topic_twice(b):
    producer = ready(b, b.name("g"))
    rows = [offsets(shared(b), (0, 5), (0, 6)), offsets(b.name("unknown"), (0, 5)), offsets(shared(b), (1, 7), (0, 8))]
    commit(b, producer, b.name("g"), *rows)
    ended(b, producer, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, b.name("g"))


@case("TxnOffsetCommit", each={"none": [], "null": None})
def topics(b, rows):
    for producer in (ready(b, b.name("g")), unknown(b)._replace(transaction=b.name("unknown"))):
        ask(b, **producer.call(GroupId=b.name("g"), Topics=rows))


@case("TxnOffsetCommit", each={"none": [], "null": None})
def partitions(b, rows):
    producer = ready(b, b.name("g"))
    for name in (shared(b), b.name("unknown")):
        commit(b, producer, b.name("g"), {"Name": name, "Partitions": rows})


@case("TxnOffsetCommit", each={"0": 0, "-1": -1, "min": -2**63, "max": 2**63 - 1})
def offset(b, offset):
    producer = ready(b, b.name("g"))
    commit(b, producer, b.name("g"), offsets(shared(b), (0, offset)))
    ended(b, producer, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, b.name("g"))


@case("TxnOffsetCommit", each={"null": None, "4096": "x" * 4096, "4097": "x" * 4097, "2049 pairs": "😀" * 2049})
def metadata(b, text):
    commit(b, ready(b, b.name("g")), b.name("g"), offsets(shared(b), (0, 5, text), (1, 6)))


@case("TxnOffsetCommit", since=2, each={"0": 0, "5": 5, "-2": -2})
def leader_epoch(b, epoch):
    producer = ready(b, b.name("g"))
    commit(b, producer, b.name("g"), offsets(shared(b), (0, 5), CommittedLeaderEpoch=epoch))
    ended(b, producer, version=2 if b.version >= JOINS_SINCE else 1)
    look_at_offsets(b, b.name("g"))


# --- which of two mistakes is told


@case("TxnOffsetCommit", each=STRANGERS)
def unknown_topic_as_another(b, stranger):
    producer = ready(b, b.name("g"), second(b))
    rows = [offsets(b.name("unknown"), (0, 5)), offsets(shared(b), (9, 5), (0, 5))]
    commit(b, stranger(producer), b.name("g"), *rows)


@case("TxnOffsetCommit", since=MEMBERS_SINCE, each=STRANGERS)
def wrong_member_as_another(b, stranger):
    member = stable(b)
    producer = ready(b, member.group, second(b))
    belonging(b, stranger(producer), member._replace(generation=7))


@case("TxnOffsetCommit", since=MEMBERS_SINCE)
def wrong_member_without_the_group_in_it(b):
    member = stable(b)
    for wrong in (member._replace(generation=7), member._replace(id="a-member")):
        belonging(b, initialized(b), wrong)


@case("TxnOffsetCommit", each=STRANGERS)
def empty_group_id_as_another(b, stranger):
    commit(b, stranger(second(b)), "")


@case("TxnOffsetCommit")
def long_metadata_without_the_group_in_it(b):
    commit(b, initialized(b), b.name("g"), offsets(shared(b), (0, 5, "x" * 4097), (1, 6)))


# --- what others make of pending offsets


@case("OffsetFetch", since=STABLE_SINCE, each=ENDS)
def pending_offsets(b, is_committed):
    """Of one partition that had an offset before, of one that had none, and beside one that nobody changes."""
    group = b.name("g")
    commit_alone(b, group, shared(b), (0, 3), (1, 4))
    producer = pending(b, (0, 7), (2, 9))
    for _ in range(2):
        for is_stable in (False, True):
            for partitions in ([0], [1], [0, 1, 2], None):
                rows = partitions and [{"Name": shared(b), "PartitionIndexes": partitions}]
                b.ask(in_order, GroupId=group, Topics=rows, RequireStable=is_stable,
                      Groups=[{"GroupId": group, "Topics": rows}])
        ended(b, producer, is_committed)


@case("OffsetDelete", each=ENDS)
def of_pending_offsets(b, is_committed):
    group = b.name("g")
    commit_alone(b, group, shared(b), (0, 3), (1, 4))
    producer = pending(b, (0, 7), (2, 9))
    b.ask(GroupId=group, Topics=[{"Name": shared(b), "Partitions": [{"PartitionIndex": at} for at in range(3)]}])
    look_at_offsets(b, group), look_at_stable(b, group)
    ended(b, producer, is_committed)
    look_at_offsets(b, group), look_at_stable(b, group)


@case("DeleteGroups", each=ENDS)
def with_pending_offsets(b, is_committed):
    group = b.name("g")
    commit_alone(b, group, shared(b), (0, 3), (1, 4))
    producer = pending(b, (0, 7), (2, 9))
    b.ask(GroupsNames=[group])
    groups.look(b, group)
    look_at_stable(b, group)
    ended(b, producer, is_committed)
    groups.look_after(b, group, is_committed)
    look_at_offsets(b, group)


@case("DeleteGroups", each=ENDS)
def with_nothing_but_pending_offsets(b, is_committed):
    producer = pending(b)
    b.ask(GroupsNames=[b.name("g")])
    groups.look(b, b.name("g"))
    ended(b, producer, is_committed)
    groups.look_after(b, b.name("g"), is_committed)


@case("OffsetCommit")
def beside_pending_offsets(b):
    """Others may commit; the transaction's come over them."""
    producer = pending(b)
    b.ask(GroupId=b.name("g"), Topics=[offsets(shared(b), (0, 30), (1, 31))])
    look_at_offsets(b, b.name("g"))
    ended(b, producer)
    look_at_offsets(b, b.name("g"))


@case("JoinGroup", each=ENDS)
def group_with_pending_offsets(b, is_committed):
    """Members come while a transaction is under way."""
    producer = pending(b)
    b.prepare("JoinGroup", 3, **joining(b.name("g")))
    groups.look(b, b.name("g"))
    ended(b, producer, is_committed)
    look_at_offsets(b, b.name("g"))


@case("DeleteTopics", since=1)
def with_offsets_in_a_transaction(b):
    """Its offsets are gone, pending ones as well."""
    topic = b.topic()
    producer = initialized(b)
    prepare(b, "TxnOffsetCommit", COMMIT_OFFSETS, **producer.call(
        GroupId=b.name("g"), Topics=[offsets(topic, (0, 7)), offsets(shared(b), (0, 8))]))
    b.ask(Topics=[{"Name": topic}], TopicNames=[topic], TimeoutMs=30_000)
    b.settle()
    ended(b, producer)
    look_at_offsets(b, b.name("g"))
