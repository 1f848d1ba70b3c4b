"""CreateTopics: names, counts, assignments, configs."""

from cases import case

OK = {"NumPartitions": 1, "ReplicationFactor": 1}
BY_HAND = {"NumPartitions": -1, "ReplicationFactor": -1}


def topic(name, **fields):
    return {"Name": name} | OK | fields


def assignments(*rows):
    return [{"PartitionIndex": index, "BrokerIds": nodes} for index, nodes in rows]


def configs(*pairs):
    return [{"Name": name, "Value": value} for name, value in pairs]


@case("CreateTopics")
def good(b):
    name = b.name()
    b.ask(Topics=[topic(name, NumPartitions=3)])
    b.look(name)


@case("CreateTopics")
def good_and_bad(b):
    good, bad = b.name("good"), b.name("bad")
    b.ask(Topics=[topic(bad, NumPartitions=0), topic(good), topic("a b")])
    b.look(good, bad)


@case("CreateTopics", each={"good": {}, "bad": {"NumPartitions": 0}, "with configs": {
    "Configs": configs(("retention.ms", "1000"))}})
def validate_only(b, fields):
    name = b.name()
    b.ask(Topics=[topic(name, **fields)], validateOnly=True)
    b.look(name)


@case("CreateTopics", each={"none": [], "null": None})
def topics(b, topics):
    b.ask(Topics=topics)


@case("CreateTopics", each={
    "empty": "", "null": None, "dot": ".", "two dots": "..", "three dots": "...", "blank": "a b", "slash": "a/b",
    "colon": "a:b", "accent": "é", "newline": "a\n", "nul": "a\0", "too long": "x" * 250, "upper case": "ABC",
    "as if internal": "__internal", "metadata": "__cluster_metadata",
})
def name(b, name):
    """Validated only, because the legal ones would meet themselves at the next version."""
    b.ask(Topics=[topic(name)], validateOnly=True)


@case("CreateTopics")
def longest_name(b):
    name = b.name("x" * (249 - len(b.name(""))))
    b.ask(Topics=[topic(name)])
    b.look(name)


@case("CreateTopics", each={"same": {}, "other partitions": {"NumPartitions": 2},
                            "bad partitions": {"NumPartitions": 0},
                            "bad config": {"Configs": configs(("no.such", "1"))}})
def exists(b, fields):
    b.ask(Topics=[topic(b.topic(), **fields)])


@case("CreateTopics")
def exists_validate_only(b):
    b.ask(Topics=[topic(b.topic())], validateOnly=True)


@case("CreateTopics")
def twice_in_one_request(b):
    name, other = b.name("twice"), b.name("once")
    b.ask(Topics=[topic(name), topic(other), topic(name, NumPartitions=2)])
    b.look(name, other)


@case("CreateTopics")
def three_times_in_one_request(b):
    b.ask(Topics=[topic(b.name())] * 3)


@case("CreateTopics", each={"underscore after dot": ("a.b", "a_b"), "dot after underscore": ("a_b", "a.b"),
                            "both": ("a._b", "a_.b")})
def collision(b, suffixes):
    first, second = b.topic(suffixes[0]), b.name(suffixes[1])
    b.ask(Topics=[topic(second)])
    b.look(first, second)


@case("CreateTopics")
def collision_in_one_request(b):
    names = b.name("a.b"), b.name("a_b")
    b.ask(Topics=[topic(one) for one in names])
    b.look(*names)


@case("CreateTopics", each={"0": 0, "-1": -1, "-2": -2, "min": -2**31, "10001": 10_001, "max": 2**31 - 1})
def partitions(b, count):
    name = b.name()
    b.ask(Topics=[topic(name, NumPartitions=count)])
    b.look(name)


@case("CreateTopics", each={"0": 0, "-1": -1, "-2": -2, "2": 2, "max": 32767})
def replication_factor(b, count):
    name = b.name()
    b.ask(Topics=[topic(name, ReplicationFactor=count)])
    b.look(name)


@case("CreateTopics")
def both_counts_bad(b):
    b.ask(Topics=[topic(b.name(), NumPartitions=0, ReplicationFactor=0)])


@case("CreateTopics")
def both_counts_default(b):
    name = b.name()
    b.ask(Topics=[topic(name, **BY_HAND)])
    b.look(name)


@case("CreateTopics", each={
    "good": [(0, "me"), (1, "me")], "other order": [(1, "me"), (0, "me")], "gap": [(0, "me"), (2, "me")],
    "from 1": [(1, "me")], "negative": [(-1, "me")], "unknown broker": [(0, 999)], "negative broker": [(0, -1)],
    "no broker": [(0, None)], "null brokers": [(0, "null")], "broker twice": [(0, "twice")],
    "two brokers": [(0, "me and 999")], "uneven": [(0, "me"), (1, "me and 999")],
    "partition twice": [(0, "me"), (0, "me")],
})
def assignment(b, rows):
    nodes = {"me": [b.node], None: [], "null": None, "twice": [b.node, b.node], "me and 999": [b.node, 999]}
    name = b.name()
    placed = assignments(*((index, nodes[who] if who in nodes else [who]) for index, who in rows))
    b.ask(Topics=[{"Name": name, **BY_HAND, "Assignments": placed}])
    b.look(name)


@case("CreateTopics", each={"partitions": {"NumPartitions": 1, "ReplicationFactor": -1},
                            "replicas": {"NumPartitions": -1, "ReplicationFactor": 1},
                            "both": OK})
def assignment_and_count(b, counts):
    name = b.name()
    b.ask(Topics=[{"Name": name, **counts, "Assignments": assignments((0, [b.node]))}])
    b.look(name)


@case("CreateTopics")
def null_assignments(b):
    b.ask(Topics=[topic(b.name(), Assignments=None)])


@case("CreateTopics", each={
    "good": [("retention.ms", "1000"), ("max.message.bytes", "2000")],
    "default value": [("retention.ms", "604800000")],
    "blanks": [("retention.ms", " 1000 ")], "unknown": [("no.such.config", "1")],
    "broker's": [("log.retention.ms", "1")],
    "no name": [("", "1")], "not a number": [("retention.ms", "abc")], "too small": [("retention.ms", "-2")],
    "too large": [("retention.ms", "9223372036854775808")], "null value": [("retention.ms", None)],
    "empty value": [("retention.ms", "")], "empty list": [("cleanup.policy", "")],
    "null value, unknown name": [("no.such.config", None)], "null name": [(None, "1")],
    "twice": [("retention.ms", "1000"), ("retention.ms", "2000")],
    "twice, once bad": [("retention.ms", "abc"), ("retention.ms", "2000")],
    "two bad": [("retention.ms", "abc"), ("no.such.config", "2000")],
    "bad policy": [("cleanup.policy", "shred")], "bad codec": [("compression.type", "rar")],
    "codec": [("compression.type", "zstd"), ("compression.zstd.level", "5")],
    "codec none": [("compression.type", "none")], "upper case": [("retention.MS", "1")],
    "time type": [("message.timestamp.type", "LogAppendTime")],
    "bad time type": [("message.timestamp.type", "logappendtime")],
    "dropped in 4.0": [("message.format.version", "3.0")],
    "dropped in 4.0 too": [("message.timestamp.difference.max.ms", "1")],
    "replicas 0": [("min.insync.replicas", "0")], "bool": [("preallocate", "perhaps")],
})
def config(b, pairs):
    name = b.name()
    b.ask(Topics=[topic(name, Configs=configs(*pairs))])
    b.look(name)


@case("CreateTopics", each={
    "compact": [("cleanup.policy", "compact")], "compact and delete": [("cleanup.policy", "compact,delete")],
})
def config_policy(b, pairs):
    name = b.name()
    b.ask(Topics=[topic(name, Configs=configs(*pairs))])
    b.look(name)


@case("CreateTopics", each={
    "segments": [("segment.bytes", "2000000")], "two replicas in sync": [("min.insync.replicas", "2")],
    "preallocate": [("preallocate", "true")], "flush": [("flush.messages", "1")],
    "lags": [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
    "several": [("segment.ms", "1000"), ("index.interval.bytes", "1"), ("file.delete.delay.ms", "1000")],
})
def config_without_effect(b, pairs):
    """What does nothing in Yagura is kept all the same."""
    name = b.name()
    b.ask(Topics=[topic(name, Configs=configs(*pairs))])
    b.look(name)


@case("CreateTopics")
def null_configs(b):
    b.ask(Topics=[topic(b.name(), Configs=None)])


@case("CreateTopics", each={"0": 0, "negative": -1})
def timeout(b, milliseconds):
    name = b.name()
    b.ask(Topics=[topic(name)], timeoutMs=milliseconds)
    b.look(name)
