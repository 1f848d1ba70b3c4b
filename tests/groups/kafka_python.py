#!/usr/bin/env python3
"""Members of a group with kafka-python; README.md says how they are told what to do."""

import json
import sys
import threading

from commands import serve
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

BOOTSTRAP, GROUP, TOPIC, MODE = sys.argv[1:5]
ASSIGNORS = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
COMMIT_MS_MAX, BOOTSTRAP_MS_MAX = 15_000, 120_000
SAYS = threading.Lock()


class Member(threading.Thread, ConsumerRebalanceListener):
    def __init__(self, name, session_ms, instance):
        super().__init__(daemon=True)
        self.name, self.session_ms, self.instance, self.stopped = name, session_ms, instance, threading.Event()
        self.assigned = set()
        self.pending = {}  # by partition: the offsets of what is read and not committed
        self.lock = threading.RLock()  # the client calls from a thread of its own

    def say(self, **what):
        with SAYS:
            print(json.dumps({"member": self.name, **what}), flush=True)

    def on_partitions_assigned(self, assigned):
        """Eager or cooperative: these have been added."""
        with self.lock:
            self.assigned |= {one.partition for one in assigned}
            self.say(assigned=sorted(self.assigned))

    def on_partitions_revoked(self, revoked):
        """Called on the client's own loop, which a commit would wait for: what has been read is committed elsewhere."""
        with self.lock:
            gone = {one.partition for one in revoked}
            self.give_up(gone)
            self.assigned -= gone
            self.say(assigned=sorted(self.assigned))

    def on_partitions_lost(self, lost):
        self.say(lost=sorted(one.partition for one in lost))
        self.on_partitions_revoked(lost)

    def give_up(self, partitions):
        """What could not be committed while the partitions were here is read by the next member, too."""
        with self.lock:
            left = [[number, offset] for number in partitions for offset in self.pending.pop(number, [])]
        if left:
            self.say(uncertain=left)

    def take(self, found):
        with self.lock:
            for at, rows in found.items():
                self.pending.setdefault(at.partition, []).extend(row.offset for row in rows)
            # The partition may have gone meanwhile.
            self.give_up(self.pending.keys() - self.assigned)

    def commit(self):
        """What has been read. If that fails it is to be said again, as long as the partitions are here."""
        with self.lock:
            ends = {number: offsets[-1] + 1 for number, offsets in self.pending.items()}
        if not ends:
            return
        try:
            self.consumer.commit({TopicPartition(TOPIC, number): OffsetAndMetadata(end, self.name, -1)
                                  for number, end in ends.items()}, timeout_ms=COMMIT_MS_MAX)
        except KafkaError as error:
            print(f"{self.name} could not commit: {error!r}", file=sys.stderr, flush=True)
            return
        with self.lock:
            # Partitions may have gone while this was committed: what was read of them is said to be uncertain.
            read = [[number, offset] for number in ends for offset in self.pending.pop(number, [])]
            if read:
                self.say(read=read)

    def run(self):
        self.consumer = KafkaConsumer(
            bootstrap_servers=BOOTSTRAP, group_id=GROUP, client_id=self.name, group_instance_id=self.instance,
            enable_auto_commit=False, auto_offset_reset="earliest", session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=500, partition_assignment_strategy=[ASSIGNORS[MODE]], retry_backoff_ms=20,
            reconnect_backoff_ms=10, reconnect_backoff_max_ms=100, fetch_max_wait_ms=100,
            bootstrap_timeout_ms=BOOTSTRAP_MS_MAX)
        self.consumer.subscribe([TOPIC], listener=self)
        while not self.stopped.is_set():
            try:
                self.take(self.consumer.poll(timeout_ms=100))
            except KafkaError as error:
                print(f"{self.name} could not poll: {error!r}", file=sys.stderr, flush=True)
                continue  # it tries again
            self.commit()
        self.consumer.close()
        self.give_up(set(self.pending))
        self.say(left=True)


serve(Member)
