"""Groups of the consumer protocol (KIP-848), brought into any state they can be in."""

import struct
from typing import NamedTuple

import groups
from groups import prepare

HEARTBEAT, DESCRIBE = "ConsumerGroupHeartbeat", "ConsumerGroupDescribe"
VERSION = 1  # that prepares
LEAVE, LEAVE_FOR_A_WHILE = -1, -2
REBALANCE_MS = 60_000  # no case takes so long


class Consumer(NamedTuple):
    """One member, as it would name itself in its next call."""
    group: str
    id: str
    epoch: int
    instance: str | None = None

    def call(self, **fields):
        return {"GroupId": self.group, "MemberId": self.id, "MemberEpoch": self.epoch,
                "InstanceId": self.instance} | fields


def partitions(b, topic, *numbers):
    return [{"TopicId": b.topic_id(topic), "Partitions": list(numbers)}]


def joining(group, *topics, id="m1", **fields):
    """The fields of a first heartbeat."""
    return {"GroupId": group, "MemberId": id, "MemberEpoch": 0, "RebalanceTimeoutMs": REBALANCE_MS,
            "SubscribedTopicNames": list(topics), "TopicPartitions": []} | fields


def topic(b, suffix="t", partitions=3):
    """A topic of this case; regular expressions must not match those of others."""
    return b.topic(suffix, partitions=partitions)


def member(b, group=None, *topics, id="m1", **fields):
    """One that has joined. Without topics it has all of one with three partitions."""
    group = group or b.name("g")
    topics = topics or (topic(b),)
    answer = prepare(b, HEARTBEAT, VERSION, **joining(group, *topics, id=id, **fields))
    return Consumer(group, answer["MemberId"], answer["MemberEpoch"], fields.get("InstanceId"))


def beat(b, one, **fields):
    """A heartbeat that must succeed; the member with its epoch after it, and the answer."""
    answer = prepare(b, HEARTBEAT, VERSION, **one.call(**fields))
    return one._replace(epoch=answer["MemberEpoch"]), answer


def pair(b):
    """Two members: the first has yet to give up what the second is to get."""
    name = topic(b)
    first = member(b, None, name)
    return first, member(b, first.group, name, id="m2"), name


def settled_pair(b):
    """Two members that have what they should."""
    first, second, name = pair(b)
    first, _ = beat(b, first)
    first, _ = beat(b, first, TopicPartitions=partitions(b, name, 0, 1))
    second, _ = beat(b, second)
    return first, second, name


def look(b, group):
    """Notes what has become of a group."""
    b.other(DESCRIBE, VERSION, in_order, GroupIds=[group])


def in_order(answer):
    """Members and topics come in the order of a hash table."""
    groups = [one | {"Members": [member_in_order(row) for row in sorted(one["Members"], key=lambda row: row["MemberId"])]}
              for one in answer["Groups"]]
    return answer | {"Groups": groups}


def member_in_order(row):
    return row | {"SubscribedTopicNames": sorted(row["SubscribedTopicNames"])} | {name: topics_in_order(row[name]) for name in ("Assignment", "TargetAssignment")}


def topics_in_order(assignment):
    return {"TopicPartitions": sorted(assignment["TopicPartitions"], key=lambda one: one["TopicName"])}


# --- groups that move from one protocol to the other


def assignment(topic, *numbers):
    """What the leader of a classic group hands out."""
    name = struct.pack(">hih", 0, 1, len(topic)) + topic.encode()
    return name + struct.pack(f">i{len(numbers)}ii", len(numbers), *numbers, -1)


def subscribed(topic):
    return {"Protocols": groups.protocols("range", metadata=groups.subscription(topic))}


def classic(b, name):
    """One classic member that reads all three partitions of a topic."""
    one = groups.joined(b, **subscribed(name))
    prepare(b, "SyncGroup", groups.SYNC, **one.call(
        Assignments=[{"MemberId": one.id, "Assignment": assignment(name, 0, 1, 2)}]))
    return one


def moving(b):
    """A classic member, and one of the consumer protocol that has come to it."""
    name = topic(b)
    old = classic(b, name)
    return old, member(b, old.group, name), name
