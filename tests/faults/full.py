#!/usr/bin/env python3
"""A full disk: producers get KAFKA_STORAGE_ERROR, nothing that was acknowledged is lost, and it works again by itself
once there is room.

The disk is made full by the limit on the size of files (RLIMIT_FSIZE), which is raised later on the running process.

    full.py --binary PATH
"""

import argparse
import sys
import tempfile

from confluent_kafka import KafkaError, Producer

from broker import Broker
from crash import PARTITIONS, create_topic, read_all

LIMIT = 12 << 20


class Filler:
    def __init__(self, address):
        self.acknowledged = {}
        self.errors = []
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "acks": "all",
                "enable.idempotence": False,
                "retries": 0,
                "linger.ms": 1,
                "message.timeout.ms": 30_000,
                "log_level": 0,
            }
        )

    def send(self, number):
        def delivered(error, message):
            if error is None:
                self.acknowledged[(message.partition(), message.offset())] = message.value()
            else:
                self.errors.append(error.code())

        value = f"{number:09d}".encode() + b"x" * 50_000
        self.producer.produce("full", value, partition=number % PARTITIONS, on_delivery=delivered)
        self.producer.flush(30)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(options.binary, f"sqlite://{folder}/y.db", file_bytes_max=LIMIT).start()
        create_topic(broker.address, "full")
        filler = Filler(broker.address)
        number = 0
        while len(filler.errors) < 5:
            assert number < 2_000, "the limit was never reached"
            filler.send(number)
            number += 1
        assert set(filler.errors) == {KafkaError.KAFKA_STORAGE_ERROR}, filler.errors
        before = len(filler.acknowledged)
        found = read_all(broker.address, "full")
        assert all(found.get(place) == value for place, value in filler.acknowledged.items()), "lost while full"
        assert "free space" in broker.stderr(), f"the operator was not told: {broker.stderr()}"

        broker.set_file_limit(1 << 40)
        filler.errors.clear()
        for number in range(number, number + 50):
            filler.send(number)
        assert filler.errors == [], f"no recovery: {filler.errors}"
        found = read_all(broker.address, "full")
        assert all(found.get(place) == value for place, value in filler.acknowledged.items()), "lost afterwards"
        broker.stop()
    print(f"ok: {before} records before the store was full, {len(filler.acknowledged)} after there was room, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
