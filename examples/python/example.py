"""Produces three records with keys, and consumes them in a group."""

import os

from confluent_kafka import Consumer, KafkaException, Producer

BOOTSTRAP = os.environ.get("BOOTSTRAP", "localhost:9092")
TOPIC = "greetings-python"
RECORDS = [
    ("alice", "hello from python"),
    ("bob", "hello from python"),
    ("alice", "goodbye from python"),
]


def delivered(error, record):
    if error:
        raise KafkaException(error)


def produce():
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    for key, value in RECORDS:
        producer.produce(TOPIC, key=key, value=value, on_delivery=delivered)
    producer.flush()  # waits until all are stored, and calls delivered() for each


def consume(wanted):
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": "readers-python",
        "auto.offset.reset": "earliest",  # where a group begins that has committed nothing
        "enable.auto.commit": False,
    })
    consumer.subscribe([TOPIC])
    seen = 0
    while seen < wanted:
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        print(f"{record.key().decode()}: {record.value().decode()}")
        seen += 1
    consumer.commit(asynchronous=False)  # after the work, so that a crash repeats records and loses none
    consumer.close()


produce()
consume(len(RECORDS))
