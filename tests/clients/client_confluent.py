#!/usr/bin/env python3
"""Shows that confluent-kafka (the librdkafka of its wheel) produces, reads back and administers topics.

For each codec: a topic with 4 partitions, made by its AdminClient; half of the records from an idempotent
producer, half from a plain one with acks=1; all of it read back by assign(), with CRCs checked, and
compared byte by byte. Watermarks, offsets_for_times, describe_configs and delete_topics too.
"""

import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, version, libversion
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import checking
import dataset

DELIVERY = {"enable.idempotence": True}, {"enable.idempotence": False, "acks": 1}


def create_topic(admin, topic):
    new = NewTopic(topic, num_partitions=dataset.PARTITIONS, replication_factor=1, config=checking.TOPIC_CONFIG)
    admin.create_topics([new])[topic].result(30)
    checking.wait_until(lambda: topic in admin.list_topics(timeout=30).topics, f"{topic} is not listed")
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    configs = admin.describe_configs([resource])[resource].result(30)
    if configs["retention.ms"].value != "-1" or configs["cleanup.policy"].value != "delete":
        raise checking.Mismatch(f"{topic}: configs read back as {configs}")


def produce(bootstrap, topic, codec, records, delivery):
    failures = []
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 50,
                         "queue.buffering.max.kbytes": 256 * 1024, **delivery})
    for r in records:
        while True:
            try:
                producer.produce(topic, r.value, r.key, r.partition, timestamp=r.timestamp, headers=r.headers,
                                 on_delivery=lambda error, _: error and failures.append(error))
                break
            except BufferError:  # its queue is full: wait for deliveries
                producer.poll(0.1)
    left = producer.flush(60)
    if left or failures:
        raise checking.Mismatch(f"{topic}: {left} records not delivered, failures: {failures[:3]}")


def consume(bootstrap, topic, records):
    # A group id is mandatory here, but with assign() and no commits no group comes to be.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{topic}-unused", "check.crcs": True,
                         "enable.auto.commit": False, "enable.partition.eof": False})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(dataset.PARTITIONS)])
    check = checking.Checker(topic, records)
    while check.missing:
        batch = consumer.consume(10_000, timeout=10)
        if not batch:
            break
        for m in batch:
            if m.error():
                raise KafkaException(m.error())
            check.see(m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or [])
    check.finish()
    consumer.unassign()  # or each question below waits behind a long poll on the same connection
    check_offsets(consumer, topic, check.expected)
    consumer.close()


def check_offsets(consumer, topic, expected):
    """Low and high watermark, and the first record at or after a timestamp."""
    for partition, records in enumerate(expected):
        ends = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        if ends != (0, len(records)):
            raise checking.Mismatch(f"{topic}-{partition}: watermarks {ends}, produced {len(records)}")
        moment = records[len(records) // 2].timestamp
        first = next(offset for offset, r in enumerate(records) if r.timestamp >= moment)
        found = consumer.offsets_for_times([TopicPartition(topic, partition, moment)], timeout=30)[0].offset
        if found != first:
            raise checking.Mismatch(f"{topic}-{partition}: offset {found} for time {moment}, expected {first}")


def check_delete(admin, topic):
    create_topic(admin, topic)
    admin.delete_topics([topic])[topic].result(30)
    checking.wait_until(lambda: topic not in admin.list_topics(timeout=30).topics,
                        f"{topic} is still listed after its deletion")


def main():
    args = checking.arguments(__doc__)
    summary = checking.Summary(f"confluent-kafka {version()}, librdkafka {libversion()[0]}")
    admin = AdminClient({"bootstrap.servers": args.bootstrap})
    for codec, records in checking.parts(dataset.read(args.dataset), args.codecs):
        topic = f"{args.prefix}-{codec}"
        create_topic(admin, topic)
        for half, delivery in zip(checking.halves(records), DELIVERY):
            produce(args.bootstrap, topic, codec, half, delivery)
        consume(args.bootstrap, topic, records)
        summary.add(codec, records)
    check_delete(admin, f"{args.prefix}-deleted")
    print(summary)


if __name__ == "__main__":
    try:
        main()
    except (checking.Mismatch, KafkaException) as error:
        sys.exit(f"confluent-kafka: {error}")
