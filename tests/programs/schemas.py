"""A schema registry's topic: compacted, one partition, read to its end at the start and after each write."""

import random
import subprocess

import topics
from programs import Program, wait_until

TOPIC = "_schemas"
KEYS, WRITES = 30, 600
# Cleaned as soon and as often as it can be.
CONFIG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "100",
          "segment.ms": "1000", "max.compaction.lag.ms": "1000"}


class Registry(Program):
    """One process of it; `kept` is what its writes have led to."""

    def __init__(self, name, address):
        super().__init__(name, "newest", "SchemasTopic", address, TOPIC, level="WARN", stdin=subprocess.PIPE)
        self.answers = 0

    def start(self):
        super().start()
        self.answers = 0
        self.wait(lambda: self.states(), "it has read the topic")
        return self

    def states(self):
        """What it has said that it has, at the start and at the end."""
        found, state = [], {}
        for line in self.said().splitlines():
            if line == "--":
                found.append(state)
                state = {}
            elif line.startswith("subject") and "=" in line:
                key, _, value = line.partition("=")
                state[key] = value
        return found

    def write(self, kept, key, value):
        """It is here again when it was read back."""
        self.process.stdin.write(f"{key}={value or ''}\n")
        self.process.stdin.flush()
        self.answers += 1
        self.wait(lambda: self.said().count("ok subject") == self.answers, f"{key} is written")
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value

    def finish(self):
        self.process.stdin.close()
        self.end()
        return self.states()[-1]


def check(found, kept, when):
    odd = {key: (found.get(key), kept.get(key)) for key in found.keys() | kept.keys() if found.get(key) != kept.get(key)}
    assert not odd, f"{when}: of {len(kept)} keys {len(odd)} differ (read, and written): {dict(list(odd.items())[:3])}"


def fill(address, kept, chance):
    """Many writes to few keys, and some removals."""
    records = []
    for number in range(WRITES):
        key = f"subject{chance.randrange(KEYS)}"
        value = None if chance.random() < 0.1 else f"schema {number}"
        records.append({"topic": TOPIC, "key": key, "value": value})
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    topics.produce(address, records)


def schemas(place, options):
    """Written, killed, compacted, read again."""
    chance, kept = random.Random(options.seed), {}
    with place.broker() as broker:
        address = broker.address
        topics.create(address, {TOPIC: 1}, CONFIG)
        registry = Registry("registry", address).start()
        assert registry.states()[0] == {}, "it starts empty"
        for number in range(20):
            registry.write(kept, f"subject{number % 7}", f"schema {number}")
        registry.write(kept, "subject3", None)
        check(registry.finish(), kept, "after writes")
        fill(address, kept, chance)
        registry.start()
        check(registry.states()[0], kept, "at the start")
        broker.kill()
        broker.start()
        registry.write(kept, "subject1", "after the broker's end")
        check(registry.finish(), kept, "after a kill of the broker")
        def records():
            # One more, since Kafka cleans nothing of the newest segment, and only a write ends it.
            topics.produce(address, [{"topic": TOPIC, "key": "tick", "value": "tick"}])
            return len(topics.read(address, TOPIC, 1))
        wait_until(lambda: records() <= KEYS * 2, lambda: f"the topic is compacted; it has {records()} records")
        check(registry.start().finish(), kept, "after compaction")
        left = records()
    return f"{WRITES + 22} writes to {KEYS} keys; {left} records are left after compaction, all keys right"
