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
ASSIGNORS = {"eager": "range", "cooperative": "cooperative-sticky"}
BETWEEN_GENERATIONS = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH}
FLUSH_SECONDS_MAX = 240  # less than max.poll.interval.ms
SAYS = threading.Lock()


def protocol(session_ms):
    if MODE == "consumer":
        return {"group.protocol": "consumer"}
    return {"partition.assignment.strategy": ASSIGNORS[MODE], "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": 500}


class Member(threading.Thread):
    def __init__(self, name, session_ms, instance):
        super().__init__(daemon=True)
        self.name, self.stopped = name, threading.Event()
        self.consumer = Consumer({
            "bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "client.id": name, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "log_level": 0, "retry.backoff.ms": 20, "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100, "fetch.wait.max.ms": 100,
            **({"group.instance.id": instance} if instance else {}), **protocol(session_ms)})
        self.assigned, self.is_between_generations = set(), False
        self.pending = {}  # by partition: the offsets of what is read and not committed
        # A retry must not write a record twice.
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 1, "log_level": 0,
                                  "enable.idempotence": True}) if NEXT_TOPIC else None
        self.consumer.subscribe([TOPIC], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)

    def say(self, **what):
        with SAYS:
            print(json.dumps({"member": self.name, **what}), flush=True)

    def on_assign(self, _, partitions):
        self.assigned |= {one.partition for one in partitions}
        self.say(assigned=sorted(self.assigned))

    def on_revoke(self, _, partitions):
        self.commit()
        self.let_go({one.partition for one in partitions})

    def on_lost(self, _, partitions):
        gone = {one.partition for one in partitions}
        self.say(lost=sorted(gone))
        self.let_go(gone)

    def let_go(self, partitions):
        self.give_up(partitions)
        self.assigned -= partitions
        self.say(assigned=sorted(self.assigned))

    def give_up(self, partitions):
        """What could not be committed while the partitions were here is read by the next member, too."""
        left = [[number, offset] for number in partitions for offset in self.pending.pop(number, [])]
        if left:
            self.say(uncertain=left)

    def commit(self):
        """
        What has been read. If the broker is gone or the generation over, it comes again; while the group rebalances (a
        cooperative member reads on, and one of the consumer protocol may have an older epoch than the broker has given
        it), it is to be said again when that is done.
        """
        errors, done = [], []
        ends = {number: offsets[-1] + 1 for number, offsets in self.pending.items()}
        try:
            own = [TopicPartition(TOPIC, number, end, metadata=self.name) for number, end in ends.items()]
            if own:
                answer = self.consumer.commit(offsets=own, asynchronous=False)
                errors = [one.error for one in answer if one.error]
                done = [one.partition for one in answer if not one.error]
        except KafkaException as error:
            errors = [error.args[0]]
        read = [[number, offset] for number in done for offset in self.pending.pop(number)]
        if read:
            self.say(read=read)
        for one in errors:
            print(f"{self.name} could not commit: {one}", file=sys.stderr, flush=True)
        self.is_between_generations = any(one.code() in BETWEEN_GENERATIONS for one in errors)

    def forward(self, read):
        if self.producer:
            for one in read:
                self.producer.produce(NEXT_TOPIC, one.value(), partition=one.partition())
            assert self.producer.flush(FLUSH_SECONDS_MAX) == 0, "what was read could not be written on"

    def run(self):
        while not self.stopped.is_set() or (self.is_between_generations and self.pending):
            read = [one for one in self.consumer.consume(500, timeout=0.1) if not one.error()]
            self.forward(read)
            for one in read:
                self.pending.setdefault(one.partition(), []).append(one.offset())
            # The partition may have gone in the same call.
            self.give_up(self.pending.keys() - self.assigned)
            if self.pending:
                self.commit()
        self.consumer.close()
        self.give_up(set(self.pending))
        self.say(left=True)


serve(Member)
