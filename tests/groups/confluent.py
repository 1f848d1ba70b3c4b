#!/usr/bin/env python3
"""Members of a group with librdkafka; README.md says how they are told what to do.

One more argument is a topic to which they write all that they read."""

import json
import sys
import threading

from commands import serve
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

BOOTSTRAP, GROUP, TOPIC, MODE = sys.argv[1:5]
NEXT_TOPIC = sys.argv[5] if len(sys.argv) > 5 else None
MODES = {
    "eager": {"partition.assignment.strategy": "range", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000,
                    "heartbeat.interval.ms": 500},
    "consumer": {"group.protocol": "consumer"},
}
BETWEEN_GENERATIONS = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH}
SAYS = threading.Lock()


class Member(threading.Thread):
    def __init__(self, name, instance):
        super().__init__(daemon=True)
        self.name, self.stopped = name, threading.Event()
        self.consumer = Consumer({
            "bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "client.id": name, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "log_level": 0, "retry.backoff.ms": 20, "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100, "fetch.wait.max.ms": 100,
            **({"group.instance.id": instance} if instance else {}), **MODES[MODE]})
        self.assigned, self.is_between_generations = set(), False
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 1, "log_level": 0}) if NEXT_TOPIC else None
        self.consumer.subscribe([TOPIC], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)

    def say(self, **what):
        with SAYS:
            print(json.dumps({"member": self.name, **what}), flush=True)

    def on_assign(self, _, partitions):
        self.assigned |= {one.partition for one in partitions}
        self.say(assigned=sorted(self.assigned))

    def on_revoke(self, consumer, partitions):
        self.commit()
        self.on_lost(consumer, partitions)

    def on_lost(self, _, partitions):
        self.assigned -= {one.partition for one in partitions}
        self.say(assigned=sorted(self.assigned))

    def commit(self):
        """
        What has been read. If the broker is gone or the generation over, it comes again; while the group rebalances (a
        cooperative member reads on, and one of the consumer protocol may have an older epoch than the broker has given
        it), it is to be said again when that is done.
        """
        errors = []
        try:
            own = self.consumer.position([TopicPartition(TOPIC, number) for number in self.assigned])
            own = [TopicPartition(TOPIC, one.partition, one.offset, metadata=self.name) for one in own if one.offset >= 0]
            if own:
                errors = [one.error for one in self.consumer.commit(offsets=own, asynchronous=False) if one.error]
        except KafkaException as error:
            errors = [error.args[0]]
        self.is_between_generations = any(one.code() in BETWEEN_GENERATIONS for one in errors)

    def forward(self, read):
        if self.producer:
            for one in read:
                self.producer.produce(NEXT_TOPIC, one.value(), partition=one.partition())
            assert self.producer.flush(30) == 0, "what was read could not be written on"

    def run(self):
        while not self.stopped.is_set() or self.is_between_generations:
            read = [one for one in self.consumer.consume(500, timeout=0.1) if not one.error()]
            if read:
                self.forward(read)
                self.say(read=[[one.partition(), one.offset()] for one in read])
            if read or self.is_between_generations:
                self.commit()
        self.consumer.close()
        self.say(left=True)


serve(Member)
