#!/usr/bin/env python3
"""Shows that confluent-kafka (the librdkafka of its wheel) produces, reads back and administers topics.

For each codec: a topic with 4 partitions, made by its AdminClient; half of the records from an idempotent
producer, half from a plain one with acks=1; all of it read back by assign(), with CRCs checked, and
compared byte by byte. Watermarks, offsets_for_times, describe_configs and delete_topics too.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, version, libversion
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import checking
import dataset

REQUESTS = {"socket.timeout.ms": checking.SECONDS_MAX * 1000}
DELIVERY = {"enable.idempotence": True}, {"enable.idempotence": False, "acks": 1}


def create_topic(admin, topic):
    new = NewTopic(topic, num_partitions=dataset.PARTITIONS, replication_factor=1, config=checking.TOPIC_CONFIG)
    admin.create_topics([new], request_timeout=checking.SECONDS_MAX)[topic].result(checking.SECONDS_MAX)
    checking.wait_until(lambda: topic in admin.list_topics(timeout=checking.SECONDS_MAX).topics, f"{topic} is not listed")
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    described = admin.describe_configs([resource], request_timeout=checking.SECONDS_MAX)
    configs = described[resource].result(checking.SECONDS_MAX)
    if configs["retention.ms"].value != "-1" or configs["cleanup.policy"].value != "delete":
        raise checking.Mismatch(f"{topic}: configs read back as {configs}")


def produce(bootstrap, topic, codec, records, delivery):
    failures = []
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 50,
                         "queue.buffering.max.kbytes": 256 * 1024, "request.timeout.ms": checking.SECONDS_MAX * 1000,
                         **REQUESTS, **delivery})
    for r in records:
        while True:
            try:
                producer.produce(topic, r.value, r.key, r.partition, timestamp=r.timestamp, headers=r.headers,
                                 on_delivery=lambda error, _: error and failures.append(error))
                break
            except BufferError:  # its queue is full: wait for deliveries
                producer.poll(0.1)
    left = producer.flush(2 * checking.SECONDS_MAX)
    if left or failures:
        raise checking.Mismatch(f"{topic}: {left} records not delivered, failures: {failures[:3]}")


def consume(bootstrap, topic, records):
    # A group id is mandatory here, but with assign() and no commits no group comes to be.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{topic}-unused", "check.crcs": True,
                         "enable.auto.commit": False, "enable.partition.eof": False, **REQUESTS})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(dataset.PARTITIONS)])
    check = checking.Checker(topic, records)
    deadline = time.monotonic() + checking.SECONDS_MAX
    while check.missing and time.monotonic() < deadline:
        # It waits that long unless there are so many.
        batch = consumer.consume(min(check.missing, 10_000), timeout=1)
        if batch:
            deadline = time.monotonic() + checking.SECONDS_MAX
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
        ends = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=checking.SECONDS_MAX)
        if ends != (0, len(records)):
            raise checking.Mismatch(f"{topic}-{partition}: watermarks {ends}, produced {len(records)}")
        moment = records[len(records) // 2].timestamp
        first = next(offset for offset, r in enumerate(records) if r.timestamp >= moment)
        place = TopicPartition(topic, partition, moment)
        found = consumer.offsets_for_times([place], timeout=checking.SECONDS_MAX)[0].offset
        if found != first:
            raise checking.Mismatch(f"{topic}-{partition}: offset {found} for time {moment}, expected {first}")


def check_delete(admin, topic):
    create_topic(admin, topic)
    deleted = admin.delete_topics([topic], request_timeout=checking.SECONDS_MAX)[topic]
    deleted.result(checking.SECONDS_MAX)
    checking.wait_until(lambda: topic not in admin.list_topics(timeout=checking.SECONDS_MAX).topics,
                        f"{topic} is still listed after its deletion")


def main():
    args = checking.arguments(__doc__)
    summary = checking.Summary(f"confluent-kafka {version()}, librdkafka {libversion()[0]}")
    admin = AdminClient({"bootstrap.servers": args.bootstrap, **REQUESTS})
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
