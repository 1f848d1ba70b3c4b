"""What tools ask of a cluster that has no authorizer, no quotas, no users and no reassignments."""

from cases import case

ANY, ALLOW, TOPIC, LITERAL = 1, 3, 2, 3


@case("DescribeAcls", each={"all": {}, "a topic's": {"ResourceTypeFilter": TOPIC, "ResourceNameFilter": "t"}})
def acls(b, fields):
    b.ask(**{"ResourceTypeFilter": ANY, "ResourceNameFilter": None, "PatternTypeFilter": ANY, "PrincipalFilter": None,
             "HostFilter": None, "Operation": ANY, "PermissionType": ANY} | fields)


def component(kind, match_type, match=None):
    return {"EntityType": kind, "MatchType": match_type, "Match": match}


@case("DescribeClientQuotas", each={
    "all": [], "user": [component("user", 0, "u")], "default": [component("client-id", 1)], "any": [component("ip", 2)],
    "two": [component("user", 2), component("client-id", 2)], "empty type": [component("", 2)],
    "unknown type": [component("group", 2)], "exact without": [component("user", 0)],
    "default with": [component("user", 1, "u")], "any with": [component("user", 2, "u")],
    "unknown match": [component("user", 7)], "negative match": [component("user", -1, "u")],
    "twice": [component("user", 0, "u"), component("user", 1)], "ip and user": [component("ip", 2), component("user", 2)],
})
def quotas(b, components):
    for strict in (False, True):
        b.ask(Components=components, Strict=strict)


@case("DescribeUserScramCredentials", each={
    "all": None, "none": [], "one": ["u"], "two": ["u", "v"], "twice": ["u", "v", "u"], "empty": [""]})
def scram(b, users):
    b.ask(Users=users if users is None else [{"Name": name} for name in users])


@case("ListPartitionReassignments", each={"all": None, "none": [], "one": ["t"]})
def reassignments(b, topics):
    name = b.topic()
    b.ask(TimeoutMs=30_000,
          Topics=topics if topics is None else [{"Name": name, "PartitionIndexes": [0, 9]} for _ in topics])


@case("ElectLeaders", each={"preferred": 0, "unclean": 1})
def leaders(b, kind):
    name = b.topic(partitions=2)
    wanted = [{"Topic": name, "Partitions": [0, 1, 9]}, {"Topic": b.name("unknown"), "Partitions": [0]}]
    b.ask(ElectionType=kind, TopicPartitions=wanted, TimeoutMs=30_000)


@case("ElectLeaders")
def leaders_of_nothing(b):
    b.ask(ElectionType=0, TopicPartitions=[], TimeoutMs=30_000)
