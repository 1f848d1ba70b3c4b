#!/usr/bin/env python3
"""kill -9 under a producing load, again and again: every acknowledged record is at its offset afterwards.

With idempotence each value stands in the log exactly once; without it a retry may repeat a record, but what was
acknowledged is still where the acknowledgement said.

    crash.py --binary PATH [--kills 20]
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import SECONDS_MAX, Broker
from store import store

PARTITIONS = 3
# A record may wait through every start of a broker that gets little time.
DELIVERY_SECONDS_MAX = 600


def create_topic(address, topic):
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(SECONDS_MAX)


class Load:
    """A producer that remembers what was acknowledged where."""

    def __init__(self, address, topic, idempotent, hang_seconds=60):
        self.topic = topic
        self.acknowledged = {}
        self.sent = 0
        self.failed = 0
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": idempotent,
                "acks": "all",
                "linger.ms": 2,
                # For so long it waits for a broker that hangs.
                "socket.timeout.ms": hang_seconds * 1000,
                "message.timeout.ms": DELIVERY_SECONDS_MAX * 1000,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "log_level": 0,
            }
        )

    def delivered(self, error, message):
        if error is not None:
            self.failed += 1
            return
        self.acknowledged[(message.partition(), message.offset())] = message.value()

    def run_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                value = f"{self.sent:09d}".encode() + b"." * random.randrange(400)
                try:
                    self.producer.produce(self.topic, value, partition=self.sent % PARTITIONS, on_delivery=self.delivered)
                    self.sent += 1
                except BufferError:
                    break
            self.producer.poll(0.001)

    def finish(self):
        left = self.producer.flush(DELIVERY_SECONDS_MAX)
        assert left == 0, f"{left} records were never answered"
        assert self.failed == 0, f"{self.failed} records failed for good"


def read_all(address, topic):
    """Every record of the topic, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=SECONDS_MAX) for p in range(PARTITIONS)}
    consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
    left = sum(high - low for low, high in ends.values())
    found = {}
    deadline = time.monotonic() + 2 * SECONDS_MAX
    while left > 0 and time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=1):
            assert not message.error(), message.error()
            found[(message.partition(), message.offset())] = message.value()
            left -= 1
    consumer.close()
    assert left == 0, f"{left} records could not be read"
    return found


def check(load, found, idempotent):
    for place, value in load.acknowledged.items():
        assert found.get(place) == value, f"acknowledged at {place}: {value!r}, found {found.get(place)!r}"
    values = list(found.values())
    distinct = set(values)
    assert len(distinct) == load.sent, f"{load.sent} sent, {len(distinct)} distinct values found"
    if idempotent:
        assert len(values) == len(distinct), f"{len(values) - len(distinct)} records stand in the log twice"
    return len(values) - len(distinct)


def run(binary, kills, idempotent, folder):
    topic = "idempotent" if idempotent else "plain"
    url = store(f"{folder}/{topic}.db")
    broker = Broker(binary, url).start()
    create_topic(broker.address, topic)
    load = Load(broker.address, topic, idempotent)
    for _ in range(kills):
        load.run_for(random.uniform(0.1, 0.6))
        broker.kill()
        broker.start()
    load.run_for(0.5)
    load.finish()
    repeated = check(load, read_all(broker.address, topic), idempotent)
    broker.stop()
    verify = subprocess.run([binary, "store", "verify", url], capture_output=True, text=True)
    assert verify.returncode == 0, f"`yagura store verify` found faults: {verify.stdout}{verify.stderr}"
    print(f"ok: {topic}: {kills} kills, {load.sent} records sent, {repeated} repeated by retries, none lost")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = arguments.parse_args()
    print(f"seed {options.seed}")
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        run(options.binary, options.kills, True, folder)
        run(options.binary, options.kills, False, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
