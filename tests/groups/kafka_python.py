#!/usr/bin/env python3
"""Members of a group with kafka-python; README.md says how they are told what to do."""

import json
import sys
import threading

from commands import serve
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

BOOTSTRAP, GROUP, TOPIC, MODE = sys.argv[1:5]
ASSIGNORS = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
SAYS = threading.Lock()


class Member(threading.Thread, ConsumerRebalanceListener):
    def __init__(self, name, instance):
        super().__init__(daemon=True)
        self.name, self.instance, self.stopped = name, instance, threading.Event()
        self.assigned = set()

    def say(self, **what):
        with SAYS:
            print(json.dumps({"member": self.name, **what}), flush=True)

    def on_partitions_assigned(self, assigned):
        """Eager or cooperative: these have been added."""
        self.assigned |= {one.partition for one in assigned}
        self.say(assigned=sorted(self.assigned))

    def on_partitions_revoked(self, revoked):
        """Called on the client's own loop, which a commit would wait for: what has been read is committed elsewhere."""
        self.assigned -= {one.partition for one in revoked}
        self.say(assigned=sorted(self.assigned))

    def commit(self, found):
        """Whether it is certain; if the broker is gone or the generation over, it comes again."""
        try:
            self.consumer.commit({at: OffsetAndMetadata(rows[-1].offset + 1, self.name, -1) for at, rows in found.items()},
                                 timeout_ms=5000)
            return True
        except KafkaError:
            return False

    def run(self):
        self.consumer = KafkaConsumer(
            bootstrap_servers=BOOTSTRAP, group_id=GROUP, client_id=self.name, group_instance_id=self.instance,
            enable_auto_commit=False, auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=500,
            partition_assignment_strategy=[ASSIGNORS[MODE]], retry_backoff_ms=20, reconnect_backoff_ms=10,
            reconnect_backoff_max_ms=100, fetch_max_wait_ms=100)
        self.consumer.subscribe([TOPIC], listener=self)
        while not self.stopped.is_set():
            try:
                found = self.consumer.poll(timeout_ms=100)
            except KafkaError:
                continue  # it says so, and tries again
            read = [[row.partition, row.offset] for rows in found.values() for row in rows]
            if read:
                # Partitions may go while this is read, so it counts only once it is committed.
                self.say(**{"read" if self.commit(found) else "uncertain": read})
        self.consumer.close()
        self.say(left=True)


serve(Member)
