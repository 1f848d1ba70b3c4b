"""JoinGroup by members that have an id, or have yet to get one."""

from cases import case
from groups import (ID_REQUIRED, STATES, Member, empty, joining, look, pending, promised, protocols, rejoining, stable,
                    subscription)

MAX = 2**31 - 1
ID_REQUIRED_SINCE = 4


def enter(b, group, *names, **fields):
    """Joins, with the id that the answer to a first attempt may tell it to take."""
    answer = b.ask(**joining(group, "", *names, **fields))
    if isinstance(answer, dict) and answer["ErrorCode"] == ID_REQUIRED:
        answer = b.ask(**joining(group, answer["MemberId"], *names, **fields))
    return answer


def entered(b, group, *names, **fields):
    answer = enter(b, group, *names, **fields)
    return Member(group, answer["MemberId"], answer["GenerationId"])


@case("JoinGroup")
def first(b):
    enter(b, b.name("g"))
    look(b, b.name("g"))


@case("JoinGroup")
def several_protocols(b):
    enter(b, b.name("g"), "roundrobin", "range", "sticky")
    look(b, b.name("g"))


@case("JoinGroup", each={"empty": "", "null": None})
def group_id(b, group):
    b.ask(**joining(group))
    b.ask(**joining(group, "a-member"))


@case("JoinGroup", each={"odd": "a group/é", "long": "x" * 1000})
def name(b, suffix):
    enter(b, b.name(suffix))


@case("JoinGroup", each={"null": None, "empty": "", "odd": "a client/é"})
def client_id(b, client_id):
    """It is the beginning of the member's id."""
    b.client_id = client_id
    enter(b, b.name("g"))
    look(b, b.name("g"))


@case("JoinGroup", each={"0": 0, "-1": -1, "5999": 5999, "6000": 6000, "1800000": 1_800_000, "1800001": 1_800_001,
                         "max": MAX, "min": -2**31})
def session_timeout(b, milliseconds):
    enter(b, b.name("g"), SessionTimeoutMs=milliseconds)


@case("JoinGroup")
def session_timeout_of_a_member(b):
    """Which may change, and is looked at before all but the group's id."""
    b.ask(**joining(b.name("g"), "a-member", SessionTimeoutMs=1))
    b.ask(**rejoining(stable(b), SessionTimeoutMs=1))
    b.ask(**joining("", SessionTimeoutMs=1))
    b.ask(**joining(b.name("g"), ProtocolType="", SessionTimeoutMs=1))


@case("JoinGroup", since=1, each={"0": 0, "-1": -1, "max": MAX, "min": -2**31})
def rebalance_timeout(b, milliseconds):
    enter(b, b.name("g"), RebalanceTimeoutMs=milliseconds)


@case("JoinGroup", each={
    "none": [], "null": None, "no name": protocols(""), "null name": protocols(None),
    "no metadata": protocols("range", metadata=b""), "null metadata": protocols("range", metadata=None),
    "no subscription": protocols("range", metadata=b"m"), "odd": protocols("é /\0"),
    "long": protocols("x" * 1000, metadata=subscription(user_data=bytes(5000))),
})
def protocol(b, rows):
    enter(b, b.name("g"), Protocols=rows)
    look(b, b.name("g"))


@case("JoinGroup", each={"empty": "", "null": None, "another": "connect", "odd": "a type/é"})
def protocol_type(b, kind):
    enter(b, b.name("g"), ProtocolType=kind)
    look(b, b.name("g"))


@case("JoinGroup", each={label: make for label, make in STATES.items() if label != "preparing"})
def known_to(b, make):
    """With its id, wherever the group stands."""
    b.ask(**rejoining(make(b)))


@case("JoinGroup", each=STATES)
def not_known_to(b, make):
    member = make(b)
    b.ask(**joining(member.group, "not-a-member"))
    b.ask(**joining(member.group, promised(b, b.name("other"))))


@case("JoinGroup", each={"empty": "empty", "simple": "simple", "dead": "dead"})
def again(b, state):
    """The generation goes on, unless the group is gone."""
    member = STATES[state](b)
    enter(b, member.group)
    look(b, member.group)


@case("JoinGroup", each={label: STATES[label] for label in ("pending", "completing", "stable", "empty", "simple")})
def another_type(b, make):
    member = make(b)
    if b.version >= ID_REQUIRED_SINCE or member.id == "a-member" or make is empty:
        b.ask(**joining(member.group, ProtocolType="connect"))
    b.ask(**rejoining(member, ProtocolType="connect"))
    b.ask(**rejoining(member, ProtocolType=""))


@case("JoinGroup", each={label: STATES[label] for label in ("completing", "stable", "empty")})
def other_protocols(b, make):
    """Of someone new, and of the only member, which may change its mind."""
    member = make(b)
    b.ask(**joining(member.group, "", "other"))
    b.ask(**joining(member.group, "", Protocols=[]))
    b.ask(**rejoining(member, "other"))
    look(b, member.group)


@case("JoinGroup")
def mistakes_of_the_pending(b):
    """Its id is good until it joins."""
    member = pending(b)
    b.ask(**rejoining(member, Protocols=[]))
    b.ask(**rejoining(member, ProtocolType=""))
    b.ask(**rejoining(member))
    look(b, member.group)


@case("JoinGroup", since=8, each={"null": None, "empty": "", "long": "x" * 5000})
def reason(b, reason):
    enter(b, b.name("g"), Reason=reason)
