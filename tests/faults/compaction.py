#!/usr/bin/env python3
"""Compaction that is killed, that meets damage, that has little memory; and the room that it makes.

- kill -9 at the writes of a cleaning: afterwards `store verify` finds nothing, the log has no gap, every record is as it
  was written and where it was, and the last of each key is there; the next cleaning ends with just these;
- the size of a compacted partition falls, and so does what the store's file holds; what is produced next goes there;
- a damaged page stops the cleaning of its own partition, and nothing else;
- a partition with many times more keys than `compaction_memory` holds is cleaned in several passes, in bounded memory.

    compaction.py --binary PATH [--kills 8] [--seed N] [--keys 60000]
"""

import argparse
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Consumer, Producer, TopicPartition

import damage
from broker import SECONDS_MAX, wait_until
from full import MIB, Configured
from system_calls import WRITES, SystemCalls
from transactions import STORE, kill_points, verify
from txn_wire import PRODUCE, Client, produce_body, produced, records
from txn_wire import Producer as TransactionalProducer

DIRTY_RATIO = "min.cleanable.dirty.ratio"
# Nothing is dirtier than that: it is cleaned once the test says so.
LATER = {"cleanup.policy": "compact", DIRTY_RATIO: "1.0"}
SOON, NEVER = "200ms", "1h"  # when the broker looks for what is to be cleaned
BATCHES, RECORDS, KEYS = 600, 3, 700
READ_BYTES, WAITING = "yagura_cleaner_read_bytes_total", "yagura_cleaner_waiting_partitions"
FAILURES, HELD_BYTES = "yagura_cleaner_failures_total", "yagura_store_bytes"
MEMORY_MIB = 1
# Beside `compaction_memory`: the batches that are read at a time, what a step replaces, caches of the store.
OTHER_MEMORY_MIB = 40


class Store:
    """A broker that soon cleans what it is told to."""

    def __init__(self, binary, folder, interval=SOON, settings="", config=None):
        """Its config is in the folder `config`, if the store's own comes and goes."""
        self.file = f"{folder}/{STORE}"
        # Its reserve would be copied with each store.
        settings = f'retention_interval = "{interval}"\ndisk_reserve = 0\n{settings}'
        self.broker = Configured(binary, f"sqlite://{self.file}", config or folder, settings)

    def start(self):
        self.broker.start()
        return Client(self.broker.address)

    def records(self, topic):
        """Those that there are, while it is cleaned; `None` if a reply has met batches that were replaced meanwhile: its connection
        ends with it, and clients ask anew."""
        try:
            with Client(self.broker.address) as client:
                return client.records(topic, 0)
        except ConnectionError:
            return None

    def metric(self, name):
        """Of a metric with labels, the sum."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.broker.get("/metrics")[1], re.M)
        assert found, f"/metrics has no {name}"
        return sum(map(float, found))

    def wait_until_cleaned(self):
        """Until something was cleaned, and nothing is to be."""
        def has_ended():
            return self.metric(READ_BYTES) > 0 and self.metric(WAITING) == 0

        wait_until(has_ended, "the cleaning has not ended")


# --- kills

def values(random_numbers, number):
    """The records of a batch. Some keys are deleted."""
    for _ in range(RECORDS):
        key = f"key-{random_numbers.randrange(KEYS):04d}".encode()
        value = None if random_numbers.random() < 0.05 else f"{number} ".encode() * random_numbers.randrange(1, 20)
        yield key, value, ()


def fill(client, numbers, random_numbers):
    """One batch after the other, so that those of which little is left are many."""
    batches = [records.batch(int(time.time() * 1000), list(values(random_numbers, number))) for number in numbers]
    for reply in client.send_all(PRODUCE, 8, [produce_body("compacted", [(0, batch)]) for batch in batches]):
        produced(reply, "compacted")


def transact(client, random_numbers, commit):
    """A transaction of one batch; returns its offsets."""
    producer = TransactionalProducer(client, f"ends-with-{commit}")
    producer.add_partitions("compacted", [0])
    [base_offset] = producer.produce("compacted", [0], list(values(random_numbers, "transaction")))
    producer.end(commit, 2)
    return set(range(base_offset, base_offset + RECORDS))


class Prepared:
    """A store with a log to clean: one half of it is in tables, the other in the journal, as a kill has left it."""

    def __init__(self, binary, root, seed):
        self.binary, self.folder, self.tried = binary, f"{root}/prepared", f"{root}/tried"
        pathlib.Path(self.folder).mkdir()
        random_numbers = random.Random(seed)
        store = Store(binary, self.folder, NEVER)
        with store.start() as client:
            client.create_topic("compacted", 1, LATER)
            fill(client, range(BATCHES // 2), random_numbers)
            aborted = transact(client, random_numbers, False)
        store.broker.stop()
        with store.start() as client:
            transact(client, random_numbers, True)
            fill(client, range(BATCHES // 2, BATCHES), random_numbers)
            self.written = client.records("compacted", 0)
        store.broker.kill()
        committed = {offset: record for offset, record in self.written.items() if offset not in aborted}
        last = {key: offset for offset, (key, _) in sorted(committed.items())}
        self.last = {offset: committed[offset] for offset in last.values()}
        assert len(self.last) < len(self.written) / 2
        # One for cleaning and one for looking, so that a look finds what the kill has left.
        configs = [pathlib.Path(root, name) for name in ["cleaning", "looking"]]
        for config in [*configs, pathlib.Path(self.tried)]:
            config.mkdir()
        self.cleaning = Store(binary, self.tried, SOON, config=configs[0])
        self.looking = Store(binary, self.tried, NEVER, config=configs[1])

    def copy(self):
        shutil.rmtree(self.tried)
        shutil.copytree(self.folder, self.tried)

    def clean(self, kill_at=None, ratio="0.0"):
        """Has the log cleaned under strace; returns the calls that were made, and whether the broker was killed.

        It is looked at once when the ratio becomes another one; what a kill has cut off would wait for some minutes.
        """
        broker, is_dead = self.cleaning.broker, lambda: self.cleaning.broker.process.poll() is not None
        with self.cleaning.start() as client:
            client.records("compacted", 0)  # the listener is there before the store is
            with SystemCalls(broker, self.tried, WRITES, kill_at) as calls:
                try:
                    client.alter_config("compacted", DIRTY_RATIO, ratio)
                    wait_until(lambda: is_dead() or self.cleaning.records("compacted") == self.last, "the log is not clean")
                except ConnectionError:
                    assert kill_at, "the broker has closed the connection"
                    wait_until(is_dead, "the broker was to be killed")
        return calls.counts(), is_dead()

    def check(self):
        """What a kill has left is whole. Returns how many records."""
        verify(self.binary, self.cleaning.file)
        with self.looking.start() as client:
            found = client.records("compacted", 0)  # also: no gap, and CRCs
        self.looking.broker.kill()
        amiss = {offset: record for offset, record in found.items() if self.written.get(offset) != record}
        assert not amiss, f"records that nobody has written there: {amiss}"
        lost = {offset: record for offset, record in self.last.items() if offset not in found}
        assert not lost, f"the last of these keys are lost: {lost}"
        return len(found)


def check_kills(prepared, kills, random_numbers):
    """kill -9 at some writes of a cleaning; returns what to print."""
    prepared.copy()
    counts, _ = prepared.clean()
    prepared.cleaning.broker.stop()
    assert prepared.check() == len(prepared.last)
    points = kill_points(counts)
    chosen = sorted(random_numbers.sample(points, min(kills, len(points))))
    killed, left = 0, []
    for point in chosen:
        prepared.copy()
        _, was_killed = prepared.clean(point)
        prepared.cleaning.broker.kill()
        killed += was_killed
        left.append(prepared.check())
        prepared.clean(ratio="0.001")
        prepared.cleaning.broker.stop()
        assert prepared.check() == len(prepared.last)
    assert killed > 0, f"none of the kills at {chosen} has met the cleaning"
    between = sum(len(prepared.last) < count < len(prepared.written) for count in left)
    return f"{killed} kills at {len(points)} writes of a cleaning, {between} of them between its steps"


# --- room

def produce_keyed(address, topic, keys, value_bytes, rounds, **settings):
    """Every key once in a round, with the round in its value."""
    settings = {"bootstrap.servers": address, "linger.ms": 20, "log_level": 0} | settings
    producer = Producer(settings | {"queue.buffering.max.messages": 1_000_000})
    for round_number in range(rounds):
        for key in range(keys):
            producer.produce(topic, value(key, round_number, value_bytes), f"{key:07d}")
            if key % 1000 == 0:
                producer.poll(0)
    assert producer.flush(SECONDS_MAX) == 0


def value(key, round_number, value_bytes):
    return f"{key} {round_number} ".encode().ljust(value_bytes, b".")


def check_room(binary, folder):
    """Cleaned twice: the second time the log is as long as the first time, and the file is not longer."""
    store = Store(binary, folder)
    client = store.start()
    client.create_topic("compacted", 1, LATER)
    rounds, longest, held = [], [], []
    for _ in range(2):
        client.alter_config("compacted", DIRTY_RATIO, "1.0")
        produce_keyed(store.broker.address, "compacted", 100, 10_000, 20)
        rounds.append(client.log_bytes("compacted"))
        held.append(store.metric(HELD_BYTES))
        longest.append(pathlib.Path(store.file).stat().st_size)
        client.alter_config("compacted", DIRTY_RATIO, "0.0")
        wait_until(lambda: client.log_bytes("compacted") < rounds[-1] / 10, "the log is as long as before")
        wait_until(lambda: store.metric(HELD_BYTES) < held[-1] - rounds[-1] / 2, "the store holds as much as before")
    client.socket.close()
    store.broker.stop()
    verify(binary, store.file)
    assert min(rounds) > 15 * MIB, rounds
    assert longest[1] < longest[0] + rounds[1] / 2, f"the file grows, though it has room: {longest}"


# --- damage

def check_damage(binary, folder):
    store = Store(binary, folder)
    with store.start() as client:
        for topic in ["torn", "other"]:
            client.create_topic(topic, 1, LATER)
            produce_numbered(store.broker.address, topic)
    store.broker.stop()
    lost = damage.damage(store.file, "torn")
    with store.start() as client:
        for topic in ["torn", "other"]:
            client.alter_config(topic, DIRTY_RATIO, "0.0")
        wait_until(lambda: store.metric(FAILURES) > 0, "the cleaning of what is damaged has not failed")
        assert store.metric("yagura_store_damaged") == 1
        wait_until(lambda: len(store.records("other") or ()) == 50, "the other topic was not cleaned")
        produce_numbered(store.broker.address, "other")
        wait_until(lambda: len(store.records("other") or ()) == 50, "the other topic was not cleaned again")
        [first, *_] = from_the_start(store, "torn")
        assert first.records == [(0, b"0", b"torn 0 " * 200)], first
        produce_numbered(store.broker.address, "torn")
        assert client.fetch("torn", 0, max(lost) + 1).batches, "what is behind the damage cannot be read"
    store.broker.stop()
    verified = subprocess.run([binary, "store", "verify", store.file], capture_output=True, text=True)
    assert verified.returncode == 1 and "torn-0" in verified.stdout and "other-0" not in verified.stdout, verified


def from_the_start(store, topic):
    """A reply that meets the damage ends with its connection; from then on replies end before it."""
    with Client(store.broker.address) as client:
        try:
            return client.fetch(topic, 0, 0).batches
        except ConnectionError:
            pass
    with Client(store.broker.address) as client:
        return client.fetch(topic, 0, 0).batches


def produce_numbered(address, topic):
    """A batch for each record, each key six times."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "batch.num.messages": 1, "log_level": 0})
    for number in range(damage.BATCHES):
        producer.produce(topic, f"{topic} {number} ".encode() * 200, str(number % 50))
    assert producer.flush(SECONDS_MAX) == 0


# --- memory

def peak_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)[1]) / 1024


def check_memory(binary, folder, keys):
    """Returns how often the log was read, and how much memory that took."""
    store = Store(binary, folder, settings=f'compaction_memory = "{MEMORY_MIB}MiB"')
    with store.start() as client:
        client.create_topic("compacted", 1, LATER)
        produce_keyed(store.broker.address, "compacted", keys, 600, 2)
        length = client.log_bytes("compacted")
    store.broker.stop()
    with store.start() as client:
        client.log_bytes("compacted")
        pid = store.broker.process.pid
        before = peak_mib(pid)
        client.alter_config("compacted", DIRTY_RATIO, "0.0")
        store.wait_until_cleaned()
        grown, read = peak_mib(pid) - before, store.metric(READ_BYTES)
        check_values(store.broker.address, keys)
    store.broker.stop()
    verify(binary, store.file)
    assert read > 1.5 * length, f"{read} bytes were read of a log of {length}, as if there were one pass"
    assert length / MIB > OTHER_MEMORY_MIB, f"a log of {length} bytes shows nothing"
    allowed = MEMORY_MIB + OTHER_MEMORY_MIB
    assert grown < allowed, f"cleaning a log of {length / MIB:.0f} MiB took {grown:.0f} MiB of memory, over {allowed}"
    log = f"a log of {length / MIB:.0f} MiB with {keys} keys"
    return f"{log}, {MEMORY_MIB} MiB for them, {read / MIB:.0f} MiB read, {grown:.0f} MiB more resident"


def check_values(address, keys):
    """Every key stands in the log once, with its last value."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0})
    consumer.assign([TopicPartition("compacted", 0, 0)])
    found, deadline = [], time.monotonic() + 2 * SECONDS_MAX
    while len(found) < keys:
        assert time.monotonic() < deadline, f"{keys - len(found)} keys are missing"
        for message in consumer.consume(10_000, timeout=1):
            assert not message.error(), message.error()
            found.append((message.key(), message.value()))
    consumer.close()
    assert sorted(found) == [(f"{key:07d}".encode(), value(key, 1, 600)) for key in range(keys)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kills", type=int, default=8)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments.add_argument("--keys", type=int, default=60_000, help="of the partition for which there is little memory")
    options = arguments.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as root:
        prepared = Prepared(options.binary, root, options.seed)
        done = check_kills(prepared, options.kills, random.Random(options.seed))
        print(f"ok: {done}: what was cleaned is whole, and the last of each key is there")
    checks = {check_room: "the room of what was cleaned is free", check_damage: "damage stops the cleaning of its partition only"}
    for check, done in checks.items():
        with tempfile.TemporaryDirectory() as folder:
            check(options.binary, folder)
            print(f"ok: {done}")
    with tempfile.TemporaryDirectory() as folder:
        print(f"ok: several passes: {check_memory(options.binary, folder, options.keys)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
