"""What tools ask of a cluster that has no authorizer, no quotas, no users and no reassignments."""

import records
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


# --- the quorum, features, producers

METADATA = "__cluster_metadata"


def without_progress(answer):
    """How far a log has come is not to be compared; that there is a number is."""
    for topic in answer["Topics"]:
        for row in topic["Partitions"]:
            row["LeaderEpoch"] = row["HighWatermark"] = row["LeaderEpoch"] >= 0
            for voter in row["CurrentVoters"] + row["Observers"]:
                voter["LogEndOffset"] = voter["LogEndOffset"] >= -1
                voter["LastFetchTimestamp"] = voter["LastCaughtUpTimestamp"] = "a time"
                voter.pop("ReplicaDirectoryId", None)
    return answer | {"Nodes": len(answer["Nodes"])} if "Nodes" in answer else answer


@case("DescribeQuorum", each={"the metadata": (METADATA, [0]), "another partition": (METADATA, [1]), "none": (METADATA, []),
                              "twice": (METADATA, [0, 0]), "another topic": ("no-such-topic", [0]), "empty": ("", [0])})
def quorum(b, topic):
    name, partitions = topic
    rows = [{"PartitionIndex": index} for index in partitions]
    b.ask(without_progress, Topics=[{"TopicName": name, "Partitions": rows}])


@case("DescribeQuorum", each={"none": [], "two": [METADATA, "another"]})
def quorum_of(b, names):
    b.ask(without_progress, Topics=[{"TopicName": name, "Partitions": [{"PartitionIndex": 0}]} for name in names])


def feature(name, level, kind=1, version=1):
    return {"Feature": name, "MaxVersionLevel": level} | (
        {"AllowDowngrade": kind > 1} if version == 0 else {"UpgradeType": kind})


@case("UpdateFeatures", each={"as it is": ("group.version", 1), "higher": ("group.version", 9), "negative": ("group.version", -1),
                              "unknown": ("no.such.feature", 1), "unknown 0": ("no.such.feature", 0), "empty": ("", 1)})
def update_feature(b, wanted):
    b.ask(timeoutMs=30_000, FeatureUpdates=[feature(*wanted, version=b.version)])


@case("UpdateFeatures")
def update_none(b):
    b.ask(timeoutMs=30_000, FeatureUpdates=[])


@case("UpdateFeatures", since=1, each={"0": 0, "2": 2, "3": 3, "4": 4, "-1": -1})
def update_type(b, kind):
    b.ask(timeoutMs=30_000, FeatureUpdates=[feature("group.version", 1, kind)], ValidateOnly=True)


@case("DescribeProducers")
def producers(b):
    name = b.topic(partitions=2)
    b.produce(name, records.batch(b.now, [b"a", b"b", b"c"]))
    b.ask(Topics=[{"Name": name, "PartitionIndexes": [0, 1]}])


@case("DescribeProducers", each={"partition": 7, "negative": -1})
def producers_of_no_partition(b, index):
    b.ask(Topics=[{"Name": b.topic(), "PartitionIndexes": [index]}])


@case("DescribeProducers", each={"unknown": "no-such-topic", "empty": "", "odd": "a/b"})
def producers_of_no_topic(b, name):
    b.ask(Topics=[{"Name": name, "PartitionIndexes": [0]}])


@case("DescribeProducers", each={"topics": [], "partitions": [{"Name": "no-such-topic", "PartitionIndexes": []}]})
def producers_of_nothing(b, topics):
    b.ask(Topics=topics)


def recent(answer):
    """When the last batch came is not to be compared."""
    for topic in answer["Topics"]:
        for row in topic["Partitions"]:
            for one in row["ActiveProducers"]:
                one["LastTimestamp"], one["ProducerId"] = one["LastTimestamp"] > 0, one["ProducerId"] >= 0
    return answer


@case("DescribeProducers")
def an_idempotent_producer(b):
    name = b.topic()
    answer = b.prepare("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=60_000, ProducerId=-1, ProducerEpoch=-1)
    for sequence in (0, 3):
        b.produce(name, records.batch(b.now, [b"a", b"b", b"c"], producer_id=answer["ProducerId"],
                                      producer_epoch=answer["ProducerEpoch"], sequence=sequence))
    b.ask(recent, Topics=[{"Name": name, "PartitionIndexes": [0]}])
