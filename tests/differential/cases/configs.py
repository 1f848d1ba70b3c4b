"""AlterConfigs and IncrementalAlterConfigs of topics, brokers and what is neither."""

from cases import case

UNKNOWN, TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 0, 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)

GOOD = {
    "one": [("retention.ms", "1000")], "two": [("retention.ms", "1000"), ("max.message.bytes", "2000")],
    "blanks": [("retention.ms", " 1000 ")], "default": [("retention.ms", "604800000")], "none": [],
    "codec": [("compression.type", "gzip"), ("compression.gzip.level", "3")],
    "time type": [("message.timestamp.type", "LogAppendTime")],
}
BAD = {
    "unknown": [("no.such", "1")], "no name": [("", "1")], "not a number": [("retention.ms", "abc")],
    "too small": [("retention.ms", "-2")], "empty value": [("retention.ms", "")],
    "bad policy": [("cleanup.policy", "shred")],
    "one good, one bad": [("max.message.bytes", "5"), ("retention.ms", "abc")],
    "one good, one unknown": [("max.message.bytes", "5"), ("no.such", "1")],
}


def pairs(rows):
    return [{"Name": name, "Value": value} for name, value in rows]


def resource(name, configs, kind=TOPIC):
    return {"ResourceType": kind, "ResourceName": name, "Configs": configs}


def overrides(b, *names):
    """What is set for the topics afterwards."""
    b.settle()
    asked = [{"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": None} for name in names]
    answer = b.prepare("DescribeConfigs", 4, Resources=asked)
    b.note("overrides", {one["ResourceName"]: {
        config["Name"]: config["Value"] for config in one["Configs"] if config["ConfigSource"] == 1
    } for one in answer["Results"]})


@case("AlterConfigs", each=GOOD | BAD | {
    "null value": [("retention.ms", None)], "null value, unknown": [("no.such", None)], "null name": [(None, "1")],
    "twice": [("retention.ms", "1"), ("retention.ms", "2")],
    "twice, first bad": [("retention.ms", "abc"), ("retention.ms", "2")],
    "null beside good": [("retention.ms", None), ("max.message.bytes", "7")],
})
def alter(b, rows):
    """It replaces all overrides that the topic had."""
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, pairs(rows))])
    overrides(b, name)


@case("AlterConfigs", each={"good": [("retention.ms", "1000")], "bad": [("retention.ms", "abc")]})
def alter_validate_only(b, rows):
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, pairs(rows))], ValidateOnly=True)
    overrides(b, name)


@case("AlterConfigs", each={"null configs": [("t", None)], "null": None, "nothing": []})
def alter_null(b, resources):
    b.ask(Resources=None if resources is None else [resource(b.topic(), None)] * len(resources))


OTHER_RESOURCES = {
    "unknown topic": (TOPIC, "unknown-topic"), "no topic": (TOPIC, ""), "illegal topic": (TOPIC, "a b"),
    "null topic": (TOPIC, None),
    "type 0": (UNKNOWN, "x"), "type 3": (3, "x"), "type -1": (-1, "x"), "type 127": (127, "x"),
    "another broker": (BROKER, "999"), "no number": (BROKER, "abc"), "group": (GROUP, "a-group"),
    "no group": (GROUP, ""),
}


@case("AlterConfigs", each=OTHER_RESOURCES)
def alter_resource(b, which):
    kind, name = which
    b.ask(Resources=[resource(name, pairs([("retention.ms", "1000")]), kind)])


@case("AlterConfigs")
def alter_several(b):
    one, two, bad = b.topic("one"), b.topic("two"), b.topic("bad")
    b.ask(Resources=[resource(two, pairs([("retention.ms", "2")])), resource(bad, pairs([("retention.ms", "x")])),
                     resource(b.name("unknown"), pairs([("retention.ms", "3")])),
                     resource(one, pairs([("retention.ms", "1")]))])
    overrides(b, one, two, bad)


@case("AlterConfigs", since=2)
def alter_same_topic_twice(b):
    """Kafka never answers: once is enough to show it."""
    name, other = b.topic(), b.topic("other")
    b.be_impatient()
    b.ask(Resources=[resource(name, pairs([("retention.ms", "1")])), resource(other, pairs([("retention.ms", "2")])),
                     resource(name, pairs([("retention.ms", "3")]))])
    overrides(b, name, other)


@case("AlterConfigs", each={"segments": ("segment.bytes", "2000000"), "no policy": ("cleanup.policy", ""),
                            "replicas in sync": ("min.insync.replicas", "2"),
                            "unclean": ("unclean.leader.election.enable", "true"),
                            "dirty": ("min.cleanable.dirty.ratio", "0.25")})
def alter_without_effect(b, row):
    """What does nothing in Yagura is kept all the same."""
    name = b.topic()
    b.ask(Resources=[resource(name, pairs([row]))])
    overrides(b, name)


@case("AlterConfigs", each={"compact": ("cleanup.policy", "compact")})
def alter_policy(b, row):
    name = b.topic()
    b.ask(Resources=[resource(name, pairs([row]))])
    overrides(b, name)


@case("AlterConfigs")
def alter_to_tiers(b):
    """Neither broker has any."""
    name = b.topic()
    b.ask(Resources=[resource(name, pairs([("remote.storage.enable", "true")]))])
    overrides(b, name)


@case("AlterConfigs", each={"together": [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
                            "one alone": [("min.compaction.lag.ms", "10")]})
def alter_lags(b, rows):
    name = b.topic()
    b.ask(Resources=[resource(name, pairs(rows))])
    overrides(b, name)


def operations(rows):
    return [{"Name": name, "ConfigOperation": operation, "Value": value} for name, operation, value in rows]


SETTING = {label: [(name, SET, value) for name, value in rows] for label, rows in (GOOD | BAD).items()}


@case("IncrementalAlterConfigs", each=SETTING | {
    "set null": [("retention.ms", SET, None)], "set null, unknown": [("no.such", SET, None)],
    "null name": [(None, SET, "1")],
    "delete": [("retention.bytes", DELETE, None)], "delete with value": [("retention.bytes", DELETE, "7")],
    "delete absent": [("retention.ms", DELETE, None)], "delete unknown": [("no.such", DELETE, None)],
    "append to default": [("cleanup.policy", APPEND, "delete")],
    "append what is no list": [("retention.ms", APPEND, "1")],
    "append null": [("cleanup.policy", APPEND, None)], "append unknown": [("no.such", APPEND, "1")],
    "append bad": [("cleanup.policy", APPEND, "shred")], "append empty": [("cleanup.policy", APPEND, "")],
    "subtract absent": [("cleanup.policy", SUBTRACT, "compact")],
    "subtract what is no list": [("retention.ms", SUBTRACT, "1")],
    "subtract null": [("cleanup.policy", SUBTRACT, None)],
    "operation 4": [("retention.ms", 4, "1")], "operation -1": [("retention.ms", -1, "1")],
    "set twice": [("retention.ms", SET, "1"), ("retention.ms", SET, "2")],
    "set and delete": [("retention.ms", SET, "1"), ("retention.ms", DELETE, None)],
    "append twice": [("cleanup.policy", APPEND, "delete"), ("cleanup.policy", APPEND, "delete")],
    "one good, one operation 4": [("max.message.bytes", SET, "5"), ("retention.ms", 4, "1")],
})
def change(b, rows):
    """It leaves the other overrides of the topic as they are."""
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, operations(rows))])
    overrides(b, name)


@case("IncrementalAlterConfigs")
def change_policy(b):
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, operations([("cleanup.policy", APPEND, "compact")]))])
    overrides(b, name)


@case("IncrementalAlterConfigs", each={
    "subtract to nothing": [("cleanup.policy", SUBTRACT, "delete")],
    "set and subtract": [("cleanup.policy", SET, "compact,delete"), ("cleanup.policy", SUBTRACT, "compact")],
    "segments": [("segment.bytes", SET, "2000000")], "replicas in sync": [("min.insync.replicas", SET, "2")],
    "throttles": [("leader.replication.throttled.replicas", APPEND, "0:1")],
})
def change_without_effect(b, rows):
    """What does nothing in Yagura is kept all the same."""
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, operations(rows))])
    overrides(b, name)


@case("IncrementalAlterConfigs", each={"good": ("retention.ms", SET, "1"), "bad": ("retention.ms", SET, "abc")})
def change_validate_only(b, row):
    name = b.topic(retention_bytes=5_000_000)
    b.ask(Resources=[resource(name, operations([row]))], ValidateOnly=True)
    overrides(b, name)


@case("IncrementalAlterConfigs", each={"null configs": [("t", None)], "null": None, "nothing": []})
def change_null(b, resources):
    b.ask(Resources=None if resources is None else [resource(b.topic(), None)] * len(resources))


@case("IncrementalAlterConfigs", each=OTHER_RESOURCES)
def change_resource(b, which):
    kind, name = which
    b.ask(Resources=[resource(name, operations([("retention.ms", SET, "1000")]), kind)])


@case("IncrementalAlterConfigs", each={
    "good": ("consumer.session.timeout.ms", SET, "50000"), "blanks": ("consumer.session.timeout.ms", SET, " 50000 "),
    "below the bounds": ("consumer.session.timeout.ms", SET, "1"),
    "not a number": ("consumer.session.timeout.ms", SET, "x"),
    "append": ("consumer.session.timeout.ms", APPEND, "1"), "delete": ("consumer.session.timeout.ms", DELETE, None),
    "unknown": ("no.such", SET, "1"),
})
def change_group(b, row):
    """There is no such group yet."""
    name = b.name("g")
    b.ask(Resources=[resource(name, operations([row]), GROUP)])
    b.settle()
    asked = {"ResourceType": GROUP, "ResourceName": name, "ConfigurationKeys": ["consumer.session.timeout.ms"]}
    b.other("DescribeConfigs", 4, Resources=[asked])


@case("IncrementalAlterConfigs")
def change_several(b):
    one, two, bad = b.topic("one"), b.topic("two"), b.topic("bad")
    b.ask(Resources=[resource(name, operations([("retention.ms", SET, value)])) for name, value in (
        (two, "2"), (bad, "x"), (b.name("unknown"), "3"), (one, "1"))])
    overrides(b, one, two, bad)


@case("IncrementalAlterConfigs")
def change_same_topic_twice(b):
    name, other = b.topic(), b.topic("other")
    b.ask(Resources=[resource(topic, operations([("retention.ms", SET, value)])) for topic, value in (
        (name, "1"), (other, "2"), (name, "3"))])
    overrides(b, name, other)
