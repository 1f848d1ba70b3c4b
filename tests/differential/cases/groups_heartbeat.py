"""Heartbeat: what a member hears of its group."""

from cases import case
from groups import STATES, joined, leave, pair, pending, preparing, promised, stable, stable_pair

STATIC_SINCE = 3
MAX = 2**31 - 1


def heartbeat(b, member, **fields):
    return b.ask(**member.call(**fields))


@case("Heartbeat", each=STATES)
def state(b, make):
    heartbeat(b, make(b))


@case("Heartbeat", each=STATES)
def unknown_member(b, make):
    heartbeat(b, make(b), MemberId="not-a-member")


@case("Heartbeat", each={"0": 0, "2": 2, "-1": -1, "max": MAX})
def generation(b, generation):
    """Of a group in its first."""
    for member in (joined(b, b.name("joined")), preparing(b), stable(b, b.name("stable"))):
        heartbeat(b, member, GenerationId=generation)


@case("Heartbeat", each={"empty": "", "null": None})
def member_id(b, member_id):
    heartbeat(b, stable(b), MemberId=member_id)


@case("Heartbeat", each={"empty": "", "null": None})
def group_id(b, group):
    heartbeat(b, stable(b), GroupId=group)


@case("Heartbeat")
def promised_member(b):
    """Of any generation, in a group of others or of none."""
    member, lonely = stable(b, b.name("others")), pending(b)
    for generation in (-1, 0, 1):
        heartbeat(b, member, MemberId=promised(b, member.group), GenerationId=generation)
        heartbeat(b, lonely, GenerationId=generation)


@case("Heartbeat")
def after_a_rebalance(b):
    """Of the generation that has ended, and of the one that has begun."""
    leader, follower = pair(b)
    heartbeat(b, leader), heartbeat(b, follower)
    heartbeat(b, leader, GenerationId=1)


@case("Heartbeat")
def follower_left(b):
    leader, follower = stable_pair(b)
    leave(b, follower)
    heartbeat(b, leader), heartbeat(b, follower)


@case("Heartbeat", since=STATIC_SINCE, each={"its own": "an-instance", "another": "another-instance", "empty": "",
                                             "none": None})
def instance_id(b, instance):
    member = stable(b, GroupInstanceId="an-instance")
    heartbeat(b, member, GroupInstanceId=instance)
    heartbeat(b, member, GroupInstanceId=instance, MemberId="a-member")
    heartbeat(b, member, GroupInstanceId=instance, MemberId="")
    heartbeat(b, member, GroupInstanceId=instance, GenerationId=7)


@case("Heartbeat", since=STATIC_SINCE)
def instance_id_of_a_dynamic_member(b):
    heartbeat(b, stable(b), GroupInstanceId="an-instance")
