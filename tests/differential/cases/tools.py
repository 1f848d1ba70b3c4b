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


@case("AlterPartitionReassignments", each={
    "cancel": None, "where it is": "node", "elsewhere": [77], "nowhere": [], "twice": "twice", "two": "two"})
def reassign(b, replicas):
    replicas = {"node": [b.node], "twice": [b.node, b.node], "two": [b.node, 77]}.get(replicas, replicas) \
        if isinstance(replicas, str) else replicas
    rows = [{"PartitionIndex": index, "Replicas": replicas} for index in (0, 9)]
    b.ask(TimeoutMs=30_000, Topics=[{"Name": name, "Partitions": rows} for name in (b.topic(), b.name("unknown"))])


@case("UnregisterBroker", each={"unknown": 4711, "negative": -1})
def unregister(b, node):
    b.ask(BrokerId=node)


def own_resources(b):
    """What every case has made is listed; brokers have ids of their own."""
    def shown(answer):
        rows = answer["ConfigResources"]
        own = [one for one in rows if one["ResourceName"].startswith(b.prefix)]
        brokers = [one.get("ResourceType") for one in rows if one["ResourceName"] == str(b.node)]
        return answer | {"ConfigResources": own, "Brokers": sorted(map(str, brokers))}
    return shown


@case("ListConfigResources", each={
    "all": [], "topics": [2], "brokers": [4], "loggers": [8], "client metrics": [16], "groups": [32], "two": [2, 4],
    "unknown": [99], "negative": [-1], "one unknown": [2, 99], "twice": [2, 2]})
def resources(b, types):
    b.topic()
    b.ask(own_resources(b), ResourceTypes=types)
