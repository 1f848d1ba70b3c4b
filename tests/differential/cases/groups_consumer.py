"""ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848)."""

import struct

from cases import case
from consumer_groups import (DESCRIBE, HEARTBEAT, LEAVE, LEAVE_FOR_A_WHILE, REBALANCE_MS, beat, in_order, joining,
                             look, member, moving, pair, partitions, settled_pair, subscribed, topic)
from groups import COMMIT, STATES, SYNC, commit, offsets, joining as classic_joining
from groups import prepare, rejoining, shared, stable

BY_CLIENT = 1  # from this version on, members choose their own ids


def heartbeat(b, one, **fields):
    b.ask(**one.call(**fields))


# --- joining

@case(HEARTBEAT)
def join(b):
    b.ask(**joining(b.name("g"), topic(b)))
    look(b, b.name("g"))


@case(HEARTBEAT)
def join_without_id(b):
    b.ask(lambda answer: answer | {"MemberId": bool(answer["MemberId"])}, **joining(b.name("g"), topic(b), id=""))


@case(HEARTBEAT, each={"group": {"GroupId": ""}, "instance": {"InstanceId": ""}, "rack": {"RackId": ""}})
def empty(b, fields):
    b.ask(**joining(b.name("g"), topic(b)) | fields)


@case(HEARTBEAT, each={"rebalance timeout": {"RebalanceTimeoutMs": -1}, "topics": {"SubscribedTopicNames": None},
                       "partitions": {"TopicPartitions": None}})
def join_without(b, fields):
    b.ask(**joining(b.name("g"), topic(b)) | fields)


@case(HEARTBEAT)
def join_with_partitions(b):
    b.ask(**joining(b.name("g"), topic(b), TopicPartitions=partitions(b, topic(b, "other"), 0)))


@case(HEARTBEAT)
def join_for_no_topics(b):
    b.ask(**joining(b.name("g")))
    look(b, b.name("g"))


@case(HEARTBEAT)
def join_for_an_unknown_topic(b):
    b.ask(**joining(b.name("g"), b.name("unknown")))
    look(b, b.name("g"))


@case(HEARTBEAT)
def topic_comes_later(b):
    one = member(b, None, b.name("t"))
    topic(b)
    b.ask(**one.call())
    look(b, one.group)


@case(HEARTBEAT)
def topic_grows(b):
    one = member(b)
    b.prepare("CreatePartitions", 3, Topics=[{"Name": b.name("t"), "Count": 5}], TimeoutMs=30_000)
    b.settle()
    b.ask(**one.call())


@case(HEARTBEAT)
def topic_goes(b):
    one = member(b)
    b.prepare("DeleteTopics", 5, TopicNames=[b.name("t")], TimeoutMs=30_000)
    b.settle()
    b.ask(**one.call())


@case(HEARTBEAT, each={"uniform": "uniform", "range": "range", "unknown": "sticky", "empty": ""})
def assignor(b, name):
    b.ask(**joining(b.name("g"), topic(b), ServerAssignor=name))
    look(b, b.name("g"))


@case(HEARTBEAT)
def assignors_differ(b):
    name = topic(b)
    member(b, None, name, ServerAssignor="range")
    b.ask(**joining(b.name("g"), name, id="m2", ServerAssignor="uniform"))
    b.ask(**joining(b.name("g"), name, id="m3", ServerAssignor="range"))
    b.other(DESCRIBE, 1, lambda answer: answer["Groups"][0]["AssignorName"], GroupIds=[b.name("g")])


@case(HEARTBEAT, each={"0": 0, "-2": -2, "min": -2**31, "max": 2**31 - 1})
def rebalance_timeout(b, milliseconds):
    b.ask(**joining(b.name("g"), topic(b), RebalanceTimeoutMs=milliseconds))


@case(HEARTBEAT, each={name: make for name, make in STATES.items() if name not in ("preparing", "stable")})
def classic_group(b, make):
    """Members move to the new protocol one by one; a group that is not of consumers cannot."""
    group = make(b).group
    b.ask(**joining(group, topic(b)))


@case(HEARTBEAT)
def classic_group_of_others(b):
    b.ask(**joining(stable(b, ProtocolType="connect").group, topic(b)))


# --- epochs

@case(HEARTBEAT, each={"0": 0, "-1": -1, "-2": -2, "-3": -3, "1": 1, "2": 2, "min": -2**31, "max": 2**31 - 1})
def epoch(b, number):
    one = member(b)
    b.ask(**one._replace(epoch=number).call())
    look(b, one.group)


@case(HEARTBEAT, each={"0": 0, "-1": -1, "-2": -2, "1": 1})
def epoch_of_nobody(b, number):
    one = member(b)
    b.ask(**one._replace(id="nobody", epoch=number).call())


@case(HEARTBEAT, each={"0": 0, "-1": -1, "-2": -2, "1": 1})
def epoch_of_no_group(b, number):
    b.ask(GroupId=b.name("g"), MemberId="m1", MemberEpoch=number)


@case(HEARTBEAT, each={"-1": -1, "1": 1})
def no_id(b, number):
    one = member(b)
    b.ask(**one._replace(id="", epoch=number).call())


@case(HEARTBEAT)
def join_again(b):
    """As a member that has lost its memory does."""
    one = member(b)
    b.ask(**joining(one.group, b.name("t")))
    look(b, one.group)


@case(HEARTBEAT, each={"owned": True, "not told": False})
def previous_epoch(b, tells):
    """The answer with the new epoch was lost on its way."""
    first, second, name = settled_pair(b)
    beat(b, second, SubscribedTopicNames=[name, b.name("unknown")])
    moved, _ = beat(b, first)
    b.note("epochs", [first.epoch, moved.epoch])
    heartbeat(b, first, TopicPartitions=partitions(b, name, 0, 1) if tells else None)


# --- sharing

@case(HEARTBEAT)
def hand_over(b):
    """The first gives one up; until it says so the second does not get it."""
    first, second, name = pair(b)
    look(b, first.group)
    heartbeat(b, second)
    heartbeat(b, first)
    look(b, first.group)
    heartbeat(b, second)
    heartbeat(b, first, TopicPartitions=partitions(b, name, 0, 1, 2))
    heartbeat(b, first, TopicPartitions=partitions(b, name, 0, 1))
    look(b, first.group)
    heartbeat(b, second)
    heartbeat(b, second)
    look(b, first.group)


@case(HEARTBEAT)
def hand_over_and_more_come(b):
    first, second, name = pair(b)
    third = member(b, first.group, name, id="m3")
    heartbeat(b, first)
    heartbeat(b, first, TopicPartitions=partitions(b, name, 0))
    heartbeat(b, second)
    heartbeat(b, third)
    look(b, first.group)


@case(HEARTBEAT)
def all_that_a_member_says(b):
    """A heartbeat that says all gets its whole assignment again."""
    one = member(b)
    everything = {"RebalanceTimeoutMs": REBALANCE_MS, "SubscribedTopicNames": [b.name("t")],
                  "TopicPartitions": partitions(b, b.name("t"), 0, 1, 2)}
    heartbeat(b, one)
    heartbeat(b, one, **everything)
    heartbeat(b, one, **everything | {"TopicPartitions": None})
    heartbeat(b, one, **everything | {"RebalanceTimeoutMs": -1})


@case(HEARTBEAT)
def subscription_changes(b):
    one = member(b)
    other = topic(b, "other", partitions=2)
    heartbeat(b, one, SubscribedTopicNames=[other])
    look(b, one.group)
    one = one._replace(epoch=1)
    heartbeat(b, one, TopicPartitions=[])
    look(b, one.group)


@case(HEARTBEAT)
def different_subscriptions(b):
    names = [topic(b, "a", partitions=2), topic(b, "b", partitions=4)]
    first = member(b, None, *names)
    b.ask(**joining(first.group, names[1], id="m2"))
    look(b, first.group)


@case(HEARTBEAT)
def two_topics_by_range(b):
    names = [topic(b, "a", partitions=3), topic(b, "b", partitions=3)]
    first = member(b, None, *names, ServerAssignor="range")
    b.ask(**joining(first.group, *names, id="m2", ServerAssignor="range"))
    look(b, first.group)


@case(HEARTBEAT)
def rack(b):
    b.ask(**joining(b.name("g"), topic(b), RackId="a-rack"))
    look(b, b.name("g"))


# --- regular expressions (the answer to the first heartbeat may precede what they match)

@case(HEARTBEAT, since=BY_CLIENT, each={"broken": "(", "star": "*", "look ahead": "a(?=b)"})
def broken_expression(b, text):
    b.ask(**joining(b.name("g"), SubscribedTopicNames=None, SubscribedTopicRegex=text))


@case(HEARTBEAT, since=BY_CLIENT)
def no_expression(b):
    b.ask(**joining(b.name("g"), SubscribedTopicNames=None, SubscribedTopicRegex=""))


@case(HEARTBEAT, since=BY_CLIENT)
def expression_and_names(b):
    b.ask(lambda answer: answer["ErrorCode"], **joining(b.name("g"), topic(b), SubscribedTopicRegex="nothing"))


# --- leaving

@case(HEARTBEAT)
def leave(b):
    one = member(b)
    heartbeat(b, one._replace(epoch=LEAVE))
    look(b, one.group)
    heartbeat(b, one)


@case(HEARTBEAT)
def leave_one_of_two(b):
    first, second, _ = settled_pair(b)
    heartbeat(b, first._replace(epoch=LEAVE))
    look(b, first.group)
    heartbeat(b, second)
    look(b, first.group)


# --- static members

@case(HEARTBEAT)
def static_join(b):
    b.ask(**joining(b.name("g"), topic(b), InstanceId="i1"))
    look(b, b.name("g"))


@case(HEARTBEAT, each={"another": "m2", "itself": "m1"})
def static_taken(b, id):
    one = member(b, InstanceId="i1")
    b.ask(**joining(one.group, b.name("t"), id=id, InstanceId="i1"))


@case(HEARTBEAT)
def static_comes_back(b):
    one = member(b, InstanceId="i1")
    heartbeat(b, one._replace(epoch=LEAVE_FOR_A_WHILE))
    look(b, one.group)
    b.ask(**joining(one.group, b.name("t"), id="m2", InstanceId="i1"))
    look(b, one.group)
    heartbeat(b, one)


@case(HEARTBEAT)
def static_leaves(b):
    one = member(b, InstanceId="i1")
    heartbeat(b, one._replace(epoch=LEAVE))
    look(b, one.group)


@case(HEARTBEAT, each={"0": 0, "1": 1, "-1": -1, "-2": -2})
def static_unknown(b, number):
    one = member(b)
    b.ask(**one._replace(epoch=number, instance="i1").call())


@case(HEARTBEAT, each={"1": 1, "-1": -1, "-2": -2})
def static_fenced(b, number):
    one = member(b, InstanceId="i1")
    b.ask(**one._replace(id="m2", epoch=number).call())


@case(HEARTBEAT)
def static_not_told(b):
    """A static member that names itself only by its id."""
    one = member(b, InstanceId="i1")
    b.ask(**one._replace(instance=None).call())
    b.ask(**one._replace(instance=None, epoch=LEAVE).call())


# --- moving from one protocol to the other

@case(HEARTBEAT)
def move_to_consumer(b):
    """The classic member goes on, and hears that it is to join again; it gives one up, and the other gets it."""
    old, new, name = moving(b)
    look(b, old.group)
    b.other("Heartbeat", 4, **old.call())
    old = rejoined(b, old, name, 0, 1, 2)
    b.other("Heartbeat", 4, **old.call())
    old = rejoined(b, old, name, 0, 1)
    b.other("Heartbeat", 4, **old.call())
    heartbeat(b, new)
    look(b, old.group)


def rejoined(b, old, name, *owned):
    """As a classic member that says what it holds."""
    held = subscription_with(name, *owned)
    fields = rejoining(old, Protocols=[{"Name": "range", "Metadata": held}])
    answer = b.other("JoinGroup", 9, **fields)
    old = old._replace(generation=answer["GenerationId"])
    b.other("SyncGroup", 5, **old.call(ProtocolType="consumer", ProtocolName="range", Assignments=[]))
    return old


def subscription_with(name, *owned):
    text = struct.pack(">h", len(name)) + name.encode()
    return (struct.pack(">hi", 1, 1) + text + struct.pack(">i", -1)
            + struct.pack(">i", 1) + text + struct.pack(f">i{len(owned)}i", len(owned), *owned))


@case(HEARTBEAT)
def move_back_to_classic(b):
    old, new, _ = moving(b)
    heartbeat(b, new._replace(epoch=LEAVE))
    b.other("DescribeGroups", 5, Groups=[old.group])
    b.other("Heartbeat", 4, **old.call())
    look(b, old.group)


@case(HEARTBEAT)
def the_classic_member_leaves(b):
    old, new, name = moving(b)
    b.other("LeaveGroup", 4, GroupId=old.group, Members=[{"MemberId": old.id}, {"MemberId": new.id},
                                                         {"MemberId": "nobody"}])
    look(b, old.group)
    heartbeat(b, new)


@case(HEARTBEAT)
def the_classic_member_moves(b):
    """It comes with the id that it had."""
    old, _, name = moving(b)
    b.ask(**joining(old.group, name, id=old.id))


@case(HEARTBEAT)
def classic_calls_in_a_consumer_group(b):
    """Generations are epochs there; members of the other protocol are nobody to these calls."""
    old, new, name = moving(b)
    for one in (old, old._replace(generation=old.generation + 1), old._replace(id="nobody"),
                old._replace(id=new.id, generation=new.epoch)):
        b.other("Heartbeat", 4, **one.call())
        b.other("SyncGroup", SYNC, **one.call(Assignments=[]))
        b.other("OffsetCommit", COMMIT, GroupId=one.group, MemberId=one.id, GenerationIdOrMemberEpoch=one.generation,
                Topics=[offsets(name, (0, 5))])
    b.other("SyncGroup", 5, **old.call(ProtocolType="connect", ProtocolName="range", Assignments=[]))
    b.other("SyncGroup", 5, **old.call(ProtocolType="consumer", ProtocolName="other", Assignments=[]))


@case(HEARTBEAT)
def classic_members_join_a_consumer_group(b):
    one = member(b)

    def try_to_join(version, id="", **fields):
        """The ids have nothing in them but chance."""
        call = classic_joining(one.group, id) | subscribed(b.name("t")) | fields
        return b.other("JoinGroup", version, lambda answer: answer | {"MemberId": bool(answer["MemberId"])}, **call)

    try_to_join(9, try_to_join(9)["MemberId"])
    try_to_join(9, ProtocolType="connect")
    try_to_join(9, Protocols=[])
    try_to_join(9, SessionTimeoutMs=1)
    try_to_join(3)


def groups_joining(group, id, name):
    return classic_joining(group, id) | subscribed(name)


@case(HEARTBEAT)
def an_empty_consumer_group_takes_classic_members(b):
    one = member(b)
    beat(b, one._replace(epoch=LEAVE))
    answer = b.other("JoinGroup", 9, **groups_joining(one.group, "", b.name("t")))
    b.other("JoinGroup", 9, **groups_joining(one.group, answer["MemberId"], b.name("t")))
    b.other("DescribeGroups", 5, Groups=[one.group])


# --- what else touches such a group

@case("OffsetCommit", since=2, each={"now": 0, "past": -1, "future": 1, "none": None})
def by_consumer(b, difference):
    one = member(b)
    epoch = -1 if difference is None else one.epoch + difference
    topics = [{"Name": b.name("t"), "TopicId": b.topic_id(b.name("t")),
               "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 5}]}]
    if b.version < 10:
        topics[0].pop("TopicId")
    else:
        topics[0].pop("Name")
    b.ask(GroupId=one.group, MemberId="" if difference is None else one.id, GenerationIdOrMemberEpoch=epoch,
          Topics=topics)


@case("OffsetFetch", since=9, until=9, each={"now": 0, "past": -1, "future": 1, "none": None})
def by_consumer(b, difference):  # noqa: F811
    one = member(b)
    who = {} if difference is None else {"MemberId": one.id, "MemberEpoch": one.epoch + difference}
    b.ask(Groups=[{"GroupId": one.group, "Topics": None} | who])


@case("OffsetFetch", since=9, until=9)
def by_a_stranger(b):
    one = member(b)
    b.ask(Groups=[{"GroupId": one.group, "Topics": None, "MemberId": "nobody", "MemberEpoch": one.epoch}])


@case("OffsetDelete", each={"its own": "t", "another": "u"})
def of_consumers(b, suffix):
    one = member(b)
    name = b.name("t") if suffix == "t" else topic(b, "u")
    b.ask(GroupId=one.group, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0}]}])


@case("DeleteGroups")
def of_consumers(b):  # noqa: F811
    one = member(b)
    b.ask(GroupsNames=[one.group])
    prepare(b, HEARTBEAT, 1, **one._replace(epoch=LEAVE).call())
    b.ask(GroupsNames=[one.group])


@case("DescribeGroups")
def of_consumers(b):  # noqa: F811
    b.ask(Groups=[member(b).group])


@case("ListGroups", each={"all": {}, "consumer": {"TypesFilter": ["consumer"]}, "classic": {"TypesFilter": ["classic"]},
                          "stable": {"StatesFilter": ["stable"]}, "assigning": {"StatesFilter": ["Assigning"]},
                          "reconciling": {"StatesFilter": ["Reconciling"]}})
def of_consumers(b, filters):  # noqa: F811
    if "StatesFilter" in filters and b.version < 4 or "TypesFilter" in filters and b.version < 5:
        filters = {}
    member(b)
    b.ask(b.own_groups, **filters)


@case("ConsumerGroupDescribe", each=STATES)
def of_classic(b, make):
    b.ask(GroupIds=[make(b).group])


@case("ConsumerGroupDescribe")
def empty_group(b):
    one = member(b)
    beat(b, one._replace(epoch=LEAVE))
    b.ask(GroupIds=[one.group])


@case("ConsumerGroupDescribe", each={"none": [], "unknown": ["no-such-group"], "empty": [""]})
def no_group(b, groups):
    b.ask(GroupIds=groups)


@case("ConsumerGroupDescribe")
def several(b):
    first, _, _ = settled_pair(b)
    commit(b, b.name("simple"), shared(b))
    b.ask(in_order, GroupIds=[first.group, b.name("simple"), first.group, b.name("unknown")], IncludeAuthorizedOperations=True)


@case("ConsumerGroupDescribe")
def some_have_gone(b):
    first, _, _ = settled_pair(b)
    beat(b, first._replace(epoch=LEAVE))
    b.ask(GroupIds=[first.group])
