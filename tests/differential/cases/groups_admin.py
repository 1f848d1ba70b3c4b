"""DescribeGroups, ListGroups, DeleteGroups."""

from cases import case
from groups import (STATES, commit, completing, delete, empty, look, look_at_offsets, preparing, shared, stable,
                    stable_pair)

STATES_SINCE, TYPES_SINCE = 4, 5


@case("DescribeGroups", each=STATES)
def state(b, make):
    b.ask(Groups=[make(b).group])


@case("DescribeGroups")
def two_members(b):
    b.ask(Groups=[stable_pair(b)[0].group])


@case("DescribeGroups")
def several(b):
    groups = [b.name("unknown"), stable(b).group, b.name("unknown-too")]
    commit(b, b.name("simple"), shared(b))
    b.ask(Groups=[*groups, b.name("simple")])


@case("DescribeGroups", each={"known": True, "unknown": False})
def twice(b, known):
    group = stable(b).group if known else b.name("g")
    b.ask(Groups=[group, group])


@case("DescribeGroups", each={"none": [], "null": None, "empty id": [""], "null id": [None], "odd id": ["a group/é/x"],
                              "empty id and others": ["no-such-group", "", "no-such-group-either"]})
def groups(b, groups):
    b.ask(Groups=groups)


@case("DescribeGroups")
def empty_id_with_offsets(b):
    """Offsets can be kept there too."""
    commit(b, "", shared(b))
    b.ask(Groups=[""])
    delete(b, "")


@case("DescribeGroups", since=3)
def authorized_operations(b):
    commit(b, b.name("simple"), shared(b))
    groups = [stable(b, b.name("stable")).group, empty(b, b.name("empty")).group, b.name("simple")]
    b.ask(Groups=[*groups, b.name("unknown")], IncludeAuthorizedOperations=True)


@case("DescribeGroups")
def static_member(b):
    b.ask(Groups=[stable(b, GroupInstanceId="an-instance").group])


@case("DescribeGroups", each={"connect": "connect", "odd": "é"})
def protocol_type(b, kind):
    b.ask(Groups=[stable(b, ProtocolType=kind).group])


@case("DescribeGroups")
def several_protocols(b):
    """The metadata are those of the chosen one."""
    b.ask(Groups=[stable(b, None, "range", "other").group])


@case("DescribeGroups", each={"null": None, "empty": "", "odd": "é"})
def client_id(b, client_id):
    b.client_id = client_id
    b.ask(Groups=[stable(b).group])


def list_groups(b, **filters):
    return b.ask(b.own_groups, **filters)


def everyone(b):
    """Leaves a group in each state."""
    for suffix, make in (("preparing", preparing), ("stable", stable), ("completing", completing), ("empty", empty)):
        make(b, b.name(suffix))
    commit(b, b.name("simple"), shared(b))


@case("ListGroups", each=STATES)
def listed_state(b, make):
    make(b)
    list_groups(b)


@case("ListGroups", each={"connect": "connect", "odd": "é"})
def listed_protocol_type(b, kind):
    stable(b, ProtocolType=kind)
    list_groups(b)


@case("ListGroups")
def listed_after_its_members(b):
    stable_pair(b)
    commit(b, b.name("simple"), shared(b))
    list_groups(b)


FILTERS = {
    "Stable": ["Stable"], "lower case": ["stable"], "upper case": ["STABLE"], "Empty": ["Empty"],
    "PreparingRebalance": ["PreparingRebalance"], "CompletingRebalance": ["CompletingRebalance"],
    "two words in lower case": ["preparingrebalance"], "two words apart": ["Preparing Rebalance"],
    "two words in upper case": ["PREPARING_REBALANCE"], "Dead": ["Dead"], "of consumers": ["Assigning", "Reconciling"],
    "several": ["Stable", "Empty"], "twice": ["Empty", "Empty"], "unknown": ["NoSuchState"], "no name": [""],
    "one unknown": ["NoSuchState", "Stable"], "blank": [" Stable"], "none": [], "null": None,
    "state that is null": [None],
}


@case("ListGroups", since=STATES_SINCE, each=FILTERS)
def states_filter(b, states):
    everyone(b)
    list_groups(b, StatesFilter=states)


@case("ListGroups", since=TYPES_SINCE, each={
    "classic": ["classic"], "capital": ["Classic"], "upper case": ["CLASSIC"], "blank": [" classic"],
    "consumer": ["consumer"], "share": ["share"], "streams": ["streams"], "unknown": ["no-such-type"],
    "called unknown": ["Unknown"], "no name": [""],
    "several": ["classic", "consumer"], "one unknown": ["classic", "no-such-type"], "none": [], "null": None,
    "type that is null": [None],
})
def types_filter(b, types):
    stable(b)
    commit(b, b.name("simple"), shared(b))
    list_groups(b, TypesFilter=types)


@case("ListGroups", since=TYPES_SINCE, each={"both fit": (["Stable"], ["classic"]),
                                             "only states": (["Stable"], ["share"]),
                                             "only types": (["Dead"], ["classic"])})
def both_filters(b, filters):
    stable(b)
    list_groups(b, StatesFilter=filters[0], TypesFilter=filters[1])


@case("DeleteGroups", each=STATES)
def deleted_state(b, make):
    member = make(b)
    b.ask(GroupsNames=[member.group])
    look(b, member.group)


@case("DeleteGroups")
def offsets_go_with_it(b):
    commit(b, b.name("g"), shared(b), (0, 5), (1, 6))
    b.ask(GroupsNames=[b.name("g")])
    look_at_offsets(b, b.name("g"))
    b.ask(GroupsNames=[b.name("g")])
    commit(b, b.name("g"), shared(b), (2, 7))
    look_at_offsets(b, b.name("g"))


@case("DeleteGroups")
def good_and_bad(b):
    commit(b, b.name("simple"), shared(b))
    b.ask(GroupsNames=[b.name("unknown"), stable(b).group, b.name("simple")])
    look(b, b.name("simple"))


@case("DeleteGroups", each={"known": True, "unknown": False})
def deleted_twice_at_once(b, known):
    group = empty(b).group if known else b.name("g")
    b.ask(GroupsNames=[group, group])
    look(b, group)


@case("DeleteGroups", each={"none": [], "null": None, "empty id": [""], "null id": [None],
                            "empty id and another": ["", "no-such-group"]})
def group_names(b, groups):
    b.ask(GroupsNames=groups)


@case("DeleteGroups")
def deleted_empty_id_with_offsets(b):
    commit(b, "", shared(b))
    b.ask(GroupsNames=[""])
    look_at_offsets(b, "")
