"""Consumer groups of a case's own, brought into any state they can be in."""

import struct
import time
from typing import NamedTuple

from broker import START_SECONDS_MAX, SetupFailed

JOIN, SYNC, LEAVE, COMMIT, DESCRIBE = 9, 3, 5, 9, 5  # the versions that prepare
ID_REQUIRED = 79
SESSION_MS = 600_000  # no case takes so long


class Member(NamedTuple):
    """One member, as it would name itself in its next call."""
    group: str
    id: str
    generation: int
    instance: str | None = None

    def call(self, **fields):
        return {"GroupId": self.group, "MemberId": self.id, "GenerationId": self.generation,
                "GroupInstanceId": self.instance} | fields


def subscription(*topics, user_data=b""):
    """What a consumer says of itself; Kafka reads it, and takes offence at anything else."""
    rows = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + rows + struct.pack(">i", len(user_data)) + user_data


def protocols(*names, metadata=subscription("a-topic")):
    return [{"Name": name, "Metadata": metadata} for name in names]


NEWS = protocols("range", metadata=subscription("another-topic"))  # after which a member is not what it was


def joining(group, member_id="", *names, **fields):
    """The fields of a JoinGroup."""
    return {"GroupId": group, "SessionTimeoutMs": SESSION_MS, "RebalanceTimeoutMs": SESSION_MS, "MemberId": member_id,
            "ProtocolType": "consumer", "Protocols": protocols(*names or ["range"])} | fields


def rejoining(member, *names, **fields):
    return joining(member.group, member.id, *names, **{"GroupInstanceId": member.instance} | fields)


def promised(b, group):
    """A member id that the group waits for."""
    answer = b.prepare("JoinGroup", JOIN, **joining(group))
    if answer["ErrorCode"] != ID_REQUIRED:
        raise SetupFailed(f"no member id of {group}: error {answer['ErrorCode']}")
    return answer["MemberId"]


def joined(b, group=None, *names, **fields):
    """The first member of a group that waits for its assignment."""
    group = group or b.name("g")
    member_id = "" if "GroupInstanceId" in fields else promised(b, group)
    answer = b.prepare("JoinGroup", JOIN, **joining(group, member_id, *names, **fields))
    return member_of(group, answer, fields.get("GroupInstanceId"))


def member_of(group, answer, instance=None):
    if answer["ErrorCode"]:
        raise SetupFailed(f"join {group}: error {answer['ErrorCode']}")
    return Member(group, answer["MemberId"], answer["GenerationId"], instance)


def synced(b, member, *others):
    """The leader hands out its assignment."""
    prepare(b, "SyncGroup", SYNC, **member.call(Assignments=handed_out(member, *others)))
    return member


def handed_out(*members):
    """Something for each."""
    return [{"MemberId": one.id, "Assignment": b"share %d" % index} for index, one in enumerate(members)]


def prepare(b, api, version, **fields):
    """A call that must succeed."""
    answer = b.prepare(api, version, **fields)
    if answer["ErrorCode"]:
        raise SetupFailed(f"{api}: error {answer['ErrorCode']}")
    return answer


def wait_for(b, group, state, members=None):
    """Until a call on another connection has had its effect."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        found, = b.prepare("DescribeGroups", DESCRIBE, Groups=[group])["Groups"]
        if found["GroupState"] == state and members in (None, len(found["Members"])):
            return
        time.sleep(0.002)
    raise SetupFailed(f"{group} does not get to {state}: {found}")


def pair(b, group=None, *names, **fields):
    """A leader and a follower that wait for their assignments; `fields` are the follower's."""
    leader = joined(b, group, *names)
    other, member_id = b.beside(), "" if "GroupInstanceId" in fields else promised(b, leader.group)
    other.begin("JoinGroup", JOIN, **joining(leader.group, member_id, *names, **fields))
    wait_for(b, leader.group, "PreparingRebalance", 2)
    leader = member_of(leader.group, b.prepare("JoinGroup", JOIN, **rejoining(leader, *names)))
    return leader, member_of(leader.group, other.finish(compared=False), fields.get("GroupInstanceId"))


def stable_pair(b, group=None, *names, **fields):
    leader, follower = pair(b, group, *names, **fields)
    synced(b, leader, follower)
    prepare(b, "SyncGroup", SYNC, **follower.call())
    return leader, follower


# --- each state: a member that is in it, or is not


def unknown(b):
    return Member(b.name("g"), "a-member", 1)


def pending(b):
    """A group of nobody but a member id that was given out."""
    group = b.name("g")
    return Member(group, promised(b, group), -1)


def preparing(b, group=None):
    """A member that has not heard yet that another wants to join."""
    member = stable(b, group)
    b.beside().begin("JoinGroup", 3, **joining(member.group))
    wait_for(b, member.group, "PreparingRebalance")
    return member


def completing(b, group=None):
    return joined(b, group)


def stable(b, group=None, *names, **fields):
    return synced(b, joined(b, group, *names, **fields))


def empty(b, group=None):
    """A member that has left. Without an offset, either broker may delete the group at any time."""
    member = stable(b, group)
    commit(b, member.group, shared(b), member=member)
    leave(b, member)
    return member


def simple(b):
    """A group of nothing but committed offsets, for which nobody ever joined."""
    group = b.name("g")
    commit(b, group, shared(b))
    return Member(group, "a-member", 1)


def dead(b):
    member = empty(b)
    delete(b, member.group)
    return member


STATES = {"unknown": unknown, "pending": pending, "preparing": preparing, "completing": completing,
          "stable": stable, "empty": empty, "simple": simple, "dead": dead}


def delete(b, group):
    return b.prepare("DeleteGroups", 2, GroupsNames=[group])


def leave(b, member):
    rows = [{"MemberId": member.id, "GroupInstanceId": member.instance}]
    return prepare(b, "LeaveGroup", LEAVE, GroupId=member.group, Members=rows)


def shared(b):
    """A topic of three partitions that all cases share."""
    return b.shared_topic("groups", lambda at: at.topic(partitions=3))


def offsets(topic, *rows, **fields):
    """A topic of OffsetCommit; each row is (partition, offset), and metadata if there are any."""
    return {"Name": topic, "Partitions": [
        {"PartitionIndex": row[0], "CommittedOffset": row[1], "CommittedMetadata": (*row, "")[2]} | fields
        for row in rows]}


def commit(b, group, topic, *rows, member=None):
    """As one who is in no group, or as a member."""
    of_member = {"MemberId": member.id, "GenerationIdOrMemberEpoch": member.generation} if member else {}
    wanted = offsets(topic, *rows or [(0, 5)])
    answer = b.prepare("OffsetCommit", COMMIT, GroupId=group, Topics=[wanted], **of_member)
    errors = {one["ErrorCode"] for one in answer["Topics"][0]["Partitions"]}
    if errors != {0}:
        raise SetupFailed(f"commit to {group}: {errors}")


def look(b, group):
    """Notes what has become of a group."""
    b.other("DescribeGroups", DESCRIBE, Groups=[group])


def look_after(b, group, is_committed):
    """The same after the end of a transaction. A group that has nothing then may be deleted at any time by either broker."""
    if is_committed:
        look(b, group)
    else:
        b.other("DescribeGroups", DESCRIBE, as_if_deleted, Groups=[group])


def as_if_deleted(answer):
    return answer | {"Groups": [one | {"GroupState": "Dead"} if one["GroupState"] == "Empty" else one for one in answer["Groups"]]}


def look_at_offsets(b, group):
    """Notes all that is committed."""
    b.other("OffsetFetch", 7, in_order, GroupId=group, Topics=None)


def in_order(answer):
    """All offsets of a group come in the order of a hash table."""
    if "Groups" in answer:
        return answer | {"Groups": [in_order(one) for one in answer["Groups"]]}
    topics = [one | {"Partitions": sorted(one["Partitions"], key=lambda row: row["PartitionIndex"])}
              for one in answer["Topics"]]
    return answer | {"Topics": sorted(topics, key=lambda one: one["Name"])}
