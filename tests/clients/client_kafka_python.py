#!/usr/bin/env python3
"""Shows that kafka-python produces, reads back and administers topics.

For each codec: a topic with 4 partitions, made by its KafkaAdminClient; half of the records from its default,
idempotent producer, half from a plain one with acks=1; all of it read back by assign(), with CRCs checked,
and compared byte by byte. End offsets, offsets_for_times, seek, and delete_topics too.

Left out, because its producer refuses them: null header values, and records with neither key nor value.
Both are sent empty instead of null.
"""

import sys

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, __version__
from kafka.admin import NewTopic
from kafka.errors import KafkaError

import checking
import dataset

MS_MAX = checking.SECONDS_MAX * 1000
DELIVERY = {}, {"enable_idempotence": False, "acks": 1}


def create_topic(admin, topic):
    admin.create_topics([NewTopic(topic, dataset.PARTITIONS, 1, topic_configs=checking.TOPIC_CONFIG)])


def sendable(record):
    """The record, with empty bytes for the nulls that this client refuses to send."""
    changed = record._replace(headers=[(name, content or b"") for name, content in record.headers],
                              value=b"" if record.key is record.value is None else record.value)
    return changed._replace(body=dataset.encode_body(*changed[:-1]))


def produce(bootstrap, topic, codec, records, delivery):
    producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec,
                             linger_ms=50, batch_size=200_000, request_timeout_ms=MS_MAX,
                             delivery_timeout_ms=2 * MS_MAX, max_block_ms=MS_MAX, bootstrap_timeout_ms=MS_MAX, **delivery)
    futures = [producer.send(topic, r.value, r.key, r.headers, r.partition, r.timestamp) for r in records]
    producer.flush(2 * checking.SECONDS_MAX)
    for future in futures:
        future.get(checking.SECONDS_MAX)
    producer.close(checking.SECONDS_MAX)


def consume(bootstrap, topic, records):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest", check_crcs=True,
                             request_timeout_ms=MS_MAX, bootstrap_timeout_ms=MS_MAX)
    partitions = [TopicPartition(topic, p) for p in range(dataset.PARTITIONS)]
    consumer.assign(partitions)
    check = checking.Checker(topic, records)
    while check.missing:
        batch = consumer.poll(MS_MAX, max_records=10_000)
        if not batch:
            break
        for tp, messages in batch.items():
            for m in messages:
                check.see(tp.partition, m.offset, m.timestamp, m.key, m.value, m.headers)
    check.finish()
    check_offsets(consumer, partitions, check.expected)
    consumer.close()


def check_offsets(consumer, partitions, expected):
    """Begin and end, the first record at or after a timestamp, and a seek into the middle of a batch."""
    begin, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for tp, records in zip(partitions, expected):
        if (begin[tp], end[tp]) != (0, len(records)):
            raise checking.Mismatch(f"{tp}: offsets {begin[tp]} to {end[tp]}, produced {len(records)}")
        moment = records[len(records) // 2].timestamp
        first = next(offset for offset, r in enumerate(records) if r.timestamp >= moment)
        found = consumer.offsets_for_times({tp: moment})[tp].offset
        if found != first:
            raise checking.Mismatch(f"{tp}: offset {found} for time {moment}, expected {first}")
        consumer.assign([tp])
        consumer.seek(tp, first + 1)
        offset = next(consumer).offset
        if offset != first + 1:
            raise checking.Mismatch(f"{tp}: sought {first + 1}, got {offset}")


def check_delete(admin, topic):
    create_topic(admin, topic)
    checking.wait_until(lambda: topic in admin.list_topics(), f"{topic} is not listed after its creation")
    admin.delete_topics([topic])
    checking.wait_until(lambda: topic not in admin.list_topics(), f"{topic} is still listed after its deletion")


def main():
    args = checking.arguments(__doc__)
    summary = checking.Summary(f"kafka-python {__version__}")
    admin = KafkaAdminClient(bootstrap_servers=args.bootstrap, request_timeout_ms=MS_MAX, bootstrap_timeout_ms=MS_MAX)
    everything = [sendable(r) for r in dataset.read(args.dataset)]
    for codec, records in checking.parts(everything, args.codecs):
        topic = f"{args.prefix}-{codec}"
        create_topic(admin, topic)
        for half, delivery in zip(checking.halves(records), DELIVERY):
            produce(args.bootstrap, topic, codec, half, delivery)
        consume(args.bootstrap, topic, records)
        summary.add(codec, records)
    check_delete(admin, f"{args.prefix}-deleted")
    admin.close()
    print(summary)


if __name__ == "__main__":
    try:
        main()
    except (checking.Mismatch, KafkaError) as error:
        sys.exit(f"kafka-python: {type(error).__name__}: {error}")
