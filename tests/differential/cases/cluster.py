"""What describes the cluster: ApiVersions, DescribeCluster, DescribeTopicPartitions, FindCoordinator."""

from cases import case

SHARE_KEY = "group:AAAAAAAAAAAAAAAAAAAAAQ:0"
SERVED = (
    "Produce", "Fetch", "ListOffsets", "Metadata", "FindCoordinator", "ApiVersions", "CreateTopics", "DeleteTopics",
    "DeleteRecords", "InitProducerId", "OffsetForLeaderEpoch", "DescribeConfigs", "AlterConfigs", "DescribeLogDirs",
    "CreatePartitions", "IncrementalAlterConfigs", "DescribeCluster", "DescribeTopicPartitions",
    "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "OffsetCommit", "OffsetFetch", "OffsetDelete",
    "DescribeGroups", "ListGroups", "DeleteGroups",
    "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "TxnOffsetCommit", "DescribeTransactions", "ListTransactions",
    "DescribeProducers", "WriteTxnMarkers",
)


def served(b):
    """Shows the APIs that both brokers have; Kafka has more."""
    keys = {b.broker.apis[name].key for name in SERVED}
    return lambda answer: answer | {
        "ApiKeys": sorted((one for one in answer["ApiKeys"] if one["ApiKey"] in keys), key=lambda one: one["ApiKey"])}


@case("ApiVersions")
def good(b):
    b.ask(served(b), ClientSoftwareName="a-client", ClientSoftwareVersion="1.2.3")


@case("ApiVersions", since=3, each={
    "empty": ("", ""), "no version": ("name", ""), "no name": ("", "1"), "blank": ("a b", "1"),
    "blank version": ("a", "1 0"),
    "begins with a sign": ("-name", "1"), "ends with a sign": ("name.", "1"), "accent": ("né", "1"),
    "underscore": ("a_b", "1"), "one letter": ("a", "1"), "long": ("a" * 300, "1" * 300), "null": (None, None),
})
def software(b, names):
    b.ask(served(b), ClientSoftwareName=names[0], ClientSoftwareVersion=names[1])


@case("ApiVersions", since=4, each={"6": 6, "99": 99, "max": 32767, "-1": -1})
def unknown_version(b, version):
    """Answered in version 0, so that the client can ask again; the connection lives on."""
    b.other("ApiVersions", version, ClientSoftwareName="a-client", ClientSoftwareVersion="1")
    b.other("ApiVersions", 4, served(b), ClientSoftwareName="a-client", ClientSoftwareVersion="1")


@case("ApiVersions")
def twice(b):
    for _ in range(2):
        b.ask(served(b), ClientSoftwareName="a-client", ClientSoftwareVersion="1")


@case("ApiVersions", since=4)
def unknown_version_behind_an_old_header(b):
    """A client that knew version 9 would send a flexible header."""
    b.ask_key(18, 9)


@case("DescribeCluster")
def plain(b):
    b.ask()


@case("DescribeCluster")
def authorized_operations(b):
    b.ask(IncludeClusterAuthorizedOperations=True)


@case("DescribeCluster", since=1, each={"0": 0, "controllers": 2, "3": 3, "-1": -1})
def endpoint_type(b, endpoint_type):
    b.ask(EndpointType=endpoint_type)


@case("DescribeCluster", since=2)
def fenced(b):
    b.ask(IncludeFencedBrokers=True)


@case("DescribeTopicPartitions")
def one_topic(b):
    b.ask(Topics=[{"Name": b.topic(partitions=3)}])


@case("DescribeTopicPartitions")
def several_topics(b):
    """Sorted by name."""
    names = [b.topic("c", partitions=2), b.name("unknown"), b.topic("a"), "a b", b.topic("b")]
    b.ask(Topics=[{"Name": name} for name in names])


@case("DescribeTopicPartitions")
def all_topics(b):
    names = [b.topic("b"), b.topic("a", partitions=2)]
    b.ask(lambda answer: b.own_topics(answer) | {"NextCursor": None},
          Topics=[], Cursor={"TopicName": min(names), "PartitionIndex": 0})


@case("DescribeTopicPartitions")
def all_topics_from_an_unknown_one(b):
    b.topic("b")
    b.ask(lambda answer: b.own_topics(answer) | {"NextCursor": None},
          Topics=[], Cursor={"TopicName": b.name("a"), "PartitionIndex": 3})


@case("DescribeTopicPartitions", each={"empty": "", "dot": ".", "blank": "a b", "too long": "x" * 250, "null": None})
def bad_name(b, name):
    b.ask(Topics=[{"Name": name}])


@case("DescribeTopicPartitions")
def topic_twice(b):
    name = b.topic()
    b.ask(Topics=[{"Name": name}, {"Name": name}])


@case("DescribeTopicPartitions")
def null_topics(b):
    b.ask(Topics=None)


@case("DescribeTopicPartitions", each={"1": 1, "2": 2, "3": 3, "4": 4, "0": 0, "-1": -1, "max": 2**31 - 1})
def limit(b, limit):
    names = [b.topic("a", partitions=2), b.topic("b", partitions=2)]
    b.ask(Topics=[{"Name": name} for name in names], ResponsePartitionLimit=limit)


@case("DescribeTopicPartitions", each={
    "begin": ("a", 0), "second partition": ("a", 1), "past the partitions": ("a", 2), "second topic": ("b", 0),
    "last": ("b", 1), "between topics": ("aa", 1), "before all": ("", 5), "past all": ("c", 0), "negative": ("a", -1),
})
def cursor(b, at):
    names = [b.topic("a", partitions=2), b.topic("b", partitions=2)]
    b.ask(Topics=[{"Name": name} for name in names], Cursor={"TopicName": b.name(at[0]), "PartitionIndex": at[1]})


@case("DescribeTopicPartitions")
def page_by_page(b):
    names = [b.topic("a", partitions=3), b.topic("b", partitions=2), b.name("unknown")]
    cursor = None
    for _ in range(5):
        answer = b.ask(Topics=[{"Name": name} for name in names], ResponsePartitionLimit=2, Cursor=cursor)
        cursor = answer["NextCursor"] if isinstance(answer, dict) else None
        if cursor is None:
            break


def find(b, *keys, **fields):
    return b.ask(Key=keys[0], CoordinatorKeys=list(keys), **fields)


@case("FindCoordinator")
def group(b):
    find(b, "a-group", KeyType=0)


@case("FindCoordinator", each={"empty": "", "odd": "a group/é", "long": "x" * 30_000})
def group_name(b, name):
    find(b, name, KeyType=0)


@case("FindCoordinator")
def null_key(b):
    find(b, None, KeyType=0)


@case("FindCoordinator", since=1, each={"-1": -1, "2": 2, "3": 3, "127": 127})
def key_type(b, key_type):
    find(b, "a-key", KeyType=key_type)


@case("FindCoordinator", since=1, each={"good": "an-id", "empty": ""})
def transactional_id(b, key):
    find(b, key, KeyType=1)


@case("FindCoordinator", since=4, each={"several": ["a", "b", "c"], "twice": ["a", "b", "a"], "none": [], "null": None,
                                        "one empty": ["a", ""], "one null": ["a", None]})
def keys(b, keys):
    b.ask(CoordinatorKeys=keys, KeyType=0)


@case("FindCoordinator", since=6, each={"good": SHARE_KEY, "bad": "group", "bad id": "group:x:0",
                                        "bad partition": "group:AAAAAAAAAAAAAAAAAAAAAQ:x"})
def share_key(b, key):
    find(b, key, KeyType=2)
