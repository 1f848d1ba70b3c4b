"""MirrorMaker 2 from Apache Kafka to Yagura and back, exactly once, killed on the way together with Yagura.

It copies records, configs and partitions of topics, and translates the offsets of groups.
"""

import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

import topics
from place import free_port
from programs import Program, wait_until, write_properties

CALL_SECONDS_MAX = 120
PARTITIONS, RECORDS, RECORDS_PER_SECOND = 3, 6000, 200
# Where a group stands in each partition. It is translated by what MirrorMaker has copied since it was last started, which is
# in the second half of the records.
COMMITTED = RECORDS // PARTITIONS * 3 // 4
TOPICS = {"kafka": "orders", "yagura": "stock"}  # of each cluster
GROUP = "billing"
RETENTION_MS = "7200000"
START_MS = time.time_ns() // 1_000_000  # older ones retention would delete


def mirror_maker(place, addresses):
    settings = {
        "clusters": "kafka, yagura", "replication.factor": 1,
        **{f"{name}.storage.replication.factor": 1 for name in ("config", "offset", "status")},
        **{f"{name}.topic.replication.factor": 1 for name in ("checkpoints", "heartbeats", "offset-syncs")},
        "refresh.topics.interval.seconds": 1, "refresh.groups.interval.seconds": 1,
        "sync.topic.configs.interval.seconds": 1, "emit.heartbeats.interval.seconds": 1,
        "emit.checkpoints.interval.seconds": 1, "sync.group.offsets.enabled": "true",
        "sync.group.offsets.interval.seconds": 1, "offset.lag.max": 0, "offset.flush.interval.ms": 1000,
        "dedicated.mode.enable.internal.rest": "true", "listeners": f"http://127.0.0.1:{free_port()}",
        "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "reconnect.backoff.max.ms": 500,
        "producer.reconnect.backoff.max.ms": 500, "consumer.reconnect.backoff.max.ms": 500,
    }
    for cluster in TOPICS:
        flow = f"{cluster}->{other(cluster)}"
        settings |= {
            f"{cluster}.bootstrap.servers": addresses[cluster], f"{cluster}.exactly.once.source.support": "enabled",
            f"{flow}.enabled": "true", f"{flow}.topics": TOPICS[cluster], f"{flow}.groups": GROUP,
        }
    file = write_properties(place.folder / "mirror.properties", settings)
    return Program("mirror-maker", "connect", "org.apache.kafka.connect.mirror.MirrorMaker", file, memory="512m")


def other(cluster):
    return "kafka" if cluster == "yagura" else "yagura"


def load(addresses, numbers):
    """Records into the topics of both clusters."""
    def records(topic):
        for number in numbers:
            yield {"topic": topic, "key": f"key{number % 100}", "value": f"{topic}{number}",
                   "partition": number % PARTITIONS, "headers": [("number", str(number))],
                   "timestamp": START_MS + number}
    return [topics.Load(addresses[cluster], records(topic), RECORDS_PER_SECOND) for cluster, topic in TOPICS.items()]


def content(record):
    return record.key(), record.value(), record.headers(), record.timestamp()


def by_partition(found):
    parts = {}
    for one in found:
        parts.setdefault(one.partition(), []).append(content(one))
    return parts


def commit(address, topic):
    """A group that has read a part of each partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": GROUP, "enable.auto.commit": False, "log_level": 0})
    offsets = [TopicPartition(topic, number, COMMITTED) for number in range(PARTITIONS)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()


def committed(address, topic):
    parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    asked = [ConsumerGroupTopicPartitions(GROUP, parts)]
    client = topics.admin(address)  # its answers come only as long as it is there
    (found,) = client.list_consumer_group_offsets(asked, request_timeout=CALL_SECONDS_MAX).values()
    return [part.offset for part in found.result(CALL_SECONDS_MAX).topic_partitions]


def check_copy(addresses, cluster):
    """All records once, in their order, with keys, headers and timestamps; the settings of the topic."""
    topic, copy = TOPICS[cluster], f"{cluster}.{TOPICS[cluster]}"
    source = by_partition(topics.read(addresses[cluster], topic, PARTITIONS))
    target = by_partition(topics.read(addresses[other(cluster)], copy, PARTITIONS))
    for number in range(PARTITIONS):
        found, wanted = target.get(number, []), source[number]
        wrong = next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), None)
        assert found == wanted, \
            f"{copy}-{number} has {len(found)} records of {len(wanted)}; the first wrong one: {wrong}"
    def has_config():
        return topics.config(addresses[other(cluster)], copy, "retention.ms") == RETENTION_MS
    wait_until(has_config, f"{copy} has the retention of {topic}")


def check_group(addresses, cluster):
    """
    The group stands in the copy where it stands in the source or before it, never behind a record that it has not read. The
    offsets themselves differ, since an exactly-once copy has markers in it.
    """
    address, copy = addresses[other(cluster)], f"{cluster}.{TOPICS[cluster]}"
    wait_until(lambda: all(offset > 0 for offset in committed(address, copy)),
               lambda: f"{GROUP} has offsets in {copy}: {committed(address, copy)}")
    found = topics.read(address, copy, PARTITIONS)
    for number, offset in enumerate(committed(address, copy)):
        before = sum(1 for one in found if one.partition() == number and one.offset() < offset)
        assert 0 < before <= COMMITTED, f"{GROUP} has {before} records of {copy}-{number} behind it, not {COMMITTED}"


def copied(addresses, cluster):
    """How many records there are in the copy, as readers of committed records see it."""
    copy = f"{cluster}.{TOPICS[cluster]}"
    if copy not in topics.names(addresses[other(cluster)]):
        return 0
    return len(topics.read(addresses[other(cluster)], copy, PARTITIONS))


def mirror(place, options):
    """Both ways at once, with a kill of MirrorMaker and of the broker under test."""
    with place.kafka("kafka") as kafka, place.broker() as broker:
        addresses = {"kafka": kafka.address, "yagura": broker.address}
        for cluster, topic in TOPICS.items():
            topics.create(addresses[cluster], {topic: PARTITIONS}, {"retention.ms": RETENTION_MS})
        program = mirror_maker(place, addresses).start()
        loads = load(addresses, range(RECORDS // 2))
        for cluster in TOPICS:
            program.wait(lambda: copied(addresses, cluster) > RECORDS // 20, f"records of {cluster} are copied")
        program.kill()
        broker.kill()
        broker.start()
        program.start()
        loads += load(addresses, range(RECORDS // 2, RECORDS))
        for one in loads:
            one.finish()
        for cluster, topic in TOPICS.items():
            commit(addresses[cluster], topic)
        for cluster in TOPICS:
            program.wait(lambda: copied(addresses, cluster) >= RECORDS,
                         lambda: f"{RECORDS} records of {cluster} are copied: {copied(addresses, cluster)}")
            check_copy(addresses, cluster)
            check_group(addresses, cluster)
        check_internal_topics(addresses)
        program.stop()
    return f"{RECORDS} records each way, each copied once; configs, and offsets of a group; one kill of both"


def check_internal_topics(addresses):
    """Offset syncs, checkpoints, heartbeats and what its Connect keeps: all compacted."""
    names = {one for one in topics.names(addresses["yagura"]) if one.endswith(".internal") or one == "heartbeats"}
    assert len(names) >= 5, f"MirrorMaker's topics in Yagura: {names}"
    for name in names:
        policy = topics.config(addresses["yagura"], name, "cleanup.policy")
        assert policy == "compact", f"{name}: cleanup.policy={policy}"
