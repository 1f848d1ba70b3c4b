#!/usr/bin/env python3
"""Three groups in a chain, each writing to the topic that the next one reads, that rebalance at the same time.

    chain.py --binary PATH [--mode eager|cooperative|consumer]

All three scale 1 -> 4 -> 2 together, three times over, while records are produced; at the end of the chain each record
has arrived once.
"""

import argparse
import tempfile
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import setting
from members import Members, wait_until
from setting import LOGS

PARTITIONS, TOPICS = 6, ["a", "b", "c", "d"]
ROUNDS = 3


class Load:
    """Numbers into the first topic, until it is stopped."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 2, "log_level": 0})
        self.sent, self.stopped = 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.is_set():
            self.producer.produce(TOPICS[0], str(self.sent), partition=self.sent % PARTITIONS)
            self.sent += 1
            self.producer.poll(0.003)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        assert self.producer.flush(30) == 0
        return self.sent


class End:
    """What has come to the last topic."""

    def __init__(self, address):
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "end", "enable.auto.commit": False})
        self.consumer.assign([TopicPartition(TOPICS[-1], number, 0) for number in range(PARTITIONS)])
        self.arrived = []

    def look(self):
        found = self.consumer.consume(1000, timeout=0.2)
        self.arrived += [int(one.value()) for one in found if not one.error()]
        return len(set(self.arrived))


def together(groups, change):
    """All groups at the same time."""
    threads = [threading.Thread(target=change, args=[one]) for one in groups]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for one in groups:
        one.share(PARTITIONS)


def grow(members):
    while len(members.names()) < 4:
        members.add()


def shrink(members):
    for name in members.names()[2:]:
        members.leave(name)


def check(address, mode):
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for one in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in TOPICS]).values():
        one.result(30)
    groups = [Members("librdkafka", address, f"from-{one}", one, mode, LOGS / f"chain-{mode}-{one}.log", following)
              for one, following in zip(TOPICS, TOPICS[1:])]
    try:
        load = Load(address)
        together(groups, lambda members: members.add())
        for _ in range(ROUNDS):
            together(groups, grow)
            time.sleep(0.3)
            together(groups, shrink)
        sent, end = load.stop(), End(address)
        wait_until(lambda: end.look() >= sent, lambda: f"{len(set(end.arrived))} of {sent} records have arrived")
        twice = len(end.arrived) - sent
        assert twice == 0, f"{twice} records have arrived twice"
        for one in groups:
            one.end()
        print(f"ok: {mode}: three chained groups, {sent} records, each arrived once", flush=True)
    finally:
        for one in groups:
            one.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--mode", action="append")
    options = arguments.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    for mode in options.mode or ["eager", "cooperative", "consumer"]:
        with tempfile.TemporaryDirectory() as folder, setting.yagura(options.binary, folder) as broker:
            check(broker.address, mode)


if __name__ == "__main__":
    main()
