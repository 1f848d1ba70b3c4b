#!/usr/bin/env python3
"""Topics, records and groups with librdkafka; README.md says how it is told what to do."""

import json
import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP, PARTITIONS = sys.argv[1], int(sys.argv[2])
SECONDS_MAX = 120  # for a machine that has no time for the test
UNACKED_SECONDS = 0.5  # before the connection is closed: the driver waits until the broker has read it all
BASE = {"bootstrap.servers": BOOTSTRAP, "log_level": 0, "socket.timeout.ms": SECONDS_MAX * 1000}


def create(topic):
    admin = AdminClient(BASE)  # it must live until there is a result
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)], request_timeout=SECONDS_MAX)[topic].result(SECONDS_MAX)
    return {}


def send(config, first, count, topics):
    first, count, failures = int(first), int(count), []
    producer = Producer(BASE | config | {"linger.ms": 20, "message.timeout.ms": SECONDS_MAX * 1000,
                                         "request.timeout.ms": SECONDS_MAX * 1000})

    def delivered(error, _):
        if error:
            failures.append(str(error))

    for n in range(first, first + count):
        for topic in topics:
            producer.produce(topic, f"record {n} of {topic}", str(n), n % PARTITIONS, delivered)
    left = producer.flush(SECONDS_MAX + 1)
    assert not left and not failures, f"not delivered to {topics}: {left} left, {failures[:1]}"
    if config.get("acks") == 0:
        time.sleep(UNACKED_SECONDS)
    return {}


def produce(first, count, *topics):
    return send({"enable.idempotence": True}, first, count, topics)


def fire(first, count, *topics):
    return send({"acks": 0}, first, count, topics)


def consume(group, count, *topics):
    return read({}, group, count, topics)


def consume_next(group, count, *topics):
    return read({"group.protocol": "consumer"}, group, count, topics)


def read(config, group, count, topics):
    consumer = Consumer(BASE | config | {"group.id": group, "auto.offset.reset": "earliest",
                                         "enable.auto.commit": False, "fetch.wait.max.ms": 100})
    consumer.subscribe(list(topics))
    read, end = [], time.monotonic() + SECONDS_MAX
    while len(read) < int(count) and time.monotonic() < end:
        found = [one for one in consumer.consume(500, timeout=0.1) if not one.error()]
        read += [[one.partition(), one.offset(), one.key().decode(), one.value().decode()] for one in found]
    if read:
        consumer.commit(asynchronous=False)
    consumer.close()
    return {"read": read}


WORDS = {"create": create, "produce": produce, "fire": fire, "consume": consume, "consume-next": consume_next}


def main():
    for line in sys.stdin:
        word, *words = line.split()
        try:
            answer = WORDS[word](*words)
        except Exception as error:  # noqa: BLE001: whatever it is, the driver is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
