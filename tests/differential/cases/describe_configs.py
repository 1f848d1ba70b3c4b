"""DescribeConfigs: which configs, with what values, sources, synonyms, types."""

from cases import case
from cases.configs import BROKER, GROUP, OTHER_RESOURCES, SET, TOPIC


def resource(name, keys=None, kind=TOPIC):
    return {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}


@case("DescribeConfigs")
def every_config(b):
    b.ask(Resources=[resource(b.topic())])


@case("DescribeConfigs")
def with_overrides(b):
    b.ask(Resources=[resource(b.topic(retention_ms=" 1000 ", compression_type="zstd", max_message_bytes=1048588))])


@case("DescribeConfigs")
def with_synonyms(b):
    b.ask(Resources=[resource(b.topic(retention_ms=1000, max_message_bytes=2000))], IncludeSynonyms=True)


@case("DescribeConfigs", since=3)
def with_documentation(b):
    b.ask(Resources=[resource(b.topic())], IncludeDocumentation=True)


@case("DescribeConfigs", each={"one": ["retention.ms"], "two": ["retention.ms", "cleanup.policy"],
                               "unknown": ["no.such"],
                               "one unknown": ["no.such", "retention.ms"], "empty name": [""], "none": [],
                               "twice": ["retention.ms", "retention.ms"], "null name": [None]})
def keys(b, keys):
    b.ask(Resources=[resource(b.topic(), keys)])


@case("DescribeConfigs", each=OTHER_RESOURCES)
def resource_kind(b, which):
    kind, name = which
    b.ask(Resources=[resource(name, None, kind)])


@case("DescribeConfigs")
def group_with_synonyms(b):
    """One that has set configs, with and without one of the broker behind it, and one that has none."""
    group = b.name("g")
    set_here = {"share.isolation.level": "read_committed", "consumer.session.timeout.ms": "50000"}
    configs = [{"Name": name, "ConfigOperation": SET, "Value": value} for name, value in set_here.items()]
    b.prepare("IncrementalAlterConfigs", 1, Resources=[{"ResourceType": GROUP, "ResourceName": group, "Configs": configs}])
    b.settle()
    b.ask(Resources=[resource(group, None, GROUP), resource("a-group", None, GROUP)], IncludeSynonyms=True)


@case("DescribeConfigs", each={"none": [], "null": None})
def resources(b, resources):
    b.ask(Resources=resources)


@case("DescribeConfigs")
def several(b):
    one, two = b.topic("one", retention_ms=1), b.topic("two", retention_ms=2)
    b.ask(Resources=[resource(name, ["retention.ms"]) for name in (two, b.name("unknown"), "a b", one)])


@case("DescribeConfigs")
def topic_twice(b):
    name = b.topic()
    b.ask(Resources=[resource(name, ["retention.ms"]), resource(name, ["cleanup.policy"])])


@case("DescribeConfigs", since=1, each={
    "defaults": ["num.partitions", "message.max.bytes", "log.retention.hours", "log.retention.ms", "compression.type",
                 "log.message.timestamp.type", "min.insync.replicas", "log.retention.bytes", "log.cleanup.policy"],
    "switches": ["auto.create.topics.enable", "delete.topic.enable"], "ids": ["broker.id", "node.id"],
    "groups": ["group.initial.rebalance.delay.ms", "group.min.session.timeout.ms", "group.max.session.timeout.ms",
               "group.max.size", "group.consumer.session.timeout.ms", "group.consumer.heartbeat.interval.ms",
               "group.consumer.assignors", "offsets.retention.minutes"],
    "transactions": ["transaction.max.timeout.ms", "transactional.id.expiration.ms"],
})
def broker(b, keys):
    """The values of both are the same here; what is read-only is not, as Kafka can change more while it runs."""
    def shown(answer):
        for config in answer["Results"][0]["Configs"]:
            config.pop("ReadOnly")
            if config["Name"].endswith(".id"):
                config["Value"] = config["Value"] == str(b.node)
        return answer
    b.ask(shown, Resources=[resource(str(b.node), keys, BROKER)], IncludeSynonyms=True)


@case("DescribeConfigs")
def all_brokers(b):
    """An empty name asks for what is set for all brokers while they run: nothing."""
    b.ask(Resources=[resource("", None, BROKER)])
