"""Lone produces: one small batch at a time, acked by all, as an application sends that waits for each."""

import time

from scale import batches
from scale.wire import PRODUCE, Connection, check_produced, produce

SMALL_BATCH = 170  # bytes of a batch of one record of a hundred bytes
SECONDS = 5


class LoneProducer:
    def __init__(self, port, topic):
        self.connection, self.topic = Connection(port), topic
        self.body = produce(topic, [(0, batches.small(SMALL_BATCH, int(time.time() * 1000)))])

    def send(self):
        """Milliseconds to the answer."""
        started = time.perf_counter()
        reply = self.connection.ask(PRODUCE, self.body)
        took = time.perf_counter() - started
        check_produced(reply, self.topic)
        return took * 1000

    def latencies(self, seconds=SECONDS):
        end, took = time.monotonic() + seconds, []
        while time.monotonic() < end:
            took.append(self.send())
        return took

    def close(self):
        self.connection.close()
