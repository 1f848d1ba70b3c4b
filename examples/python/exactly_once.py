"""Copies greetings in capital letters, each exactly once however often it is killed and started again.

What was read and what was made of it are committed in one transaction, so that a crash leaves both or neither.
"""

import os

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

BOOTSTRAP = os.environ.get("BOOTSTRAP", "localhost:9092")
SOURCE, TARGET = "greetings-python", "shouts-python"
CALL_SECONDS = 30

producer = Producer({
    "bootstrap.servers": BOOTSTRAP,
    "transactional.id": "shouter-python",  # who starts with it aborts what the one before has left open
})
consumer = Consumer({
    "bootstrap.servers": BOOTSTRAP,
    "group.id": "shouters-python",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,  # the transaction commits the offsets
    "isolation.level": "read_committed",  # records of aborted transactions are left out
    "enable.partition.eof": True,  # so that this example ends
})


def read():
    """Records, and whether that was all there is."""
    records, is_end = consumer.consume(100, timeout=1.0), False
    for record in records:
        if record.error() and record.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(record.error())
        is_end |= record.error() is not None
    return [record for record in records if record.error() is None], is_end


def copy(records):
    producer.begin_transaction()
    for record in records:
        producer.produce(TARGET, key=record.key(), value=record.value().upper())
    last = {record.partition(): record.offset() for record in records}
    offsets = [TopicPartition(SOURCE, partition, offset + 1) for partition, offset in last.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), CALL_SECONDS)
    producer.commit_transaction(CALL_SECONDS)
    for record in records:
        print(f"{record.key().decode()}: {record.value().decode().upper()}")


producer.init_transactions(CALL_SECONDS)
consumer.subscribe([SOURCE])
is_end = False
while not is_end:
    records, is_end = read()
    if records:
        copy(records)
consumer.close()
