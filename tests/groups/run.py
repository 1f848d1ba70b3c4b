#!/usr/bin/env python3
"""Groups of real consumers that scale, move and survive: every client in every mode that it has.

    run.py --binary PATH               against Yagura; kills the broker while members rebalance
    run.py --kafka-libs JARS           against Apache Kafka, without kills: proves the tests themselves
    run.py ... [--only CLIENT[:MODE]]  [--kills 3] [--seed N] [--jobs 2]

For each: 1 -> 8 -> 3 members while records are produced, all partitions shared evenly each time; no record read twice
after these clean hand-overs; the broker killed -9 at any moment of a rebalance, after which members share again by
themselves; in the end every record has been read, and what was committed is where it ends, with its metadata. Static
members come back without disturbing the others. Ends with "N passed, N failed".
"""

import argparse
import random
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient

import setting
from members import Members, wait_until
from setting import LOGS

PARTITIONS, TOPIC, GROUP = 12, "jobs", "workers"
KILL_SETTLE_SECONDS = 30
STATIC, CONSUMER = "static", "consumer"
MODES = {
    "java": ["eager", "cooperative", "static", "consumer", "consumer static"],
    "librdkafka": ["eager", "cooperative", "static", "consumer", "consumer static"],
    "kafka-python": ["eager", "cooperative", "static"],
    "kafkajs": ["eager"],
    "franz-go": ["eager", "cooperative", "static", "consumer"],
}
class Load:
    """Produces numbers until it is stopped, a few hundred a second."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "enable.idempotence": True,
                                  "log_level": 0, "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 100})
        self.sent, self.failures = 0, []
        self.ends = [0] * PARTITIONS
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _delivered(self, error, message):
        if error:
            self.failures.append(str(error))
        else:
            self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

    def _run(self):
        while not self.stopped.is_set():
            self.producer.produce(TOPIC, str(self.sent), partition=self.sent % PARTITIONS, on_delivery=self._delivered)
            self.sent += 1
            self.producer.poll(0.003)

    def stop(self):
        """Where each partition ends."""
        self.stopped.set()
        self.thread.join()
        assert self.producer.flush(60) == 0 and not self.failures, f"not produced: {self.failures[:3]}"
        assert sum(self.ends) == self.sent, "a record was stored twice or not at all"
        return self.ends


def scale(members, instance):
    """1 -> 8 -> 3 members in good order: nothing is read twice, because each commits before it lets go."""
    members.add(instance())
    members.share(PARTITIONS)
    for _ in range(7):
        members.add(instance())
    members.share(PARTITIONS)
    time.sleep(0.5)
    for name in members.names()[3:]:
        members.leave(name)
    members.share(PARTITIONS)
    time.sleep(0.5)
    seen = members.committed()
    assert len(seen) == len(set(seen)), f"{len(seen) - len(set(seen))} records were read twice after clean hand-overs"
    return len(seen)


def restart_static(members, instances):
    """One goes and comes back within its session: it has its part again, and nobody else was told anything."""
    *others, name = members.names()
    before = {other: members.assignments[other] for other in others}
    parts = members.assigned[name]
    members.leave(name)
    again = members.add(instances[name])
    wait_until(lambda: members.assigned[again] == parts, lambda: f"{again} has {parts} again: {members.assigned}")
    time.sleep(1)
    after = {other: members.assignments[other] for other in others}
    assert after == before, f"the others were disturbed: {before} {after}"


def kill(broker, members, instance, kills, dice):
    """At any moment after a join or a leave began: while members join, while the leader assigns, while they sync."""
    took = []
    for number in range(kills):
        if number % 2:
            members.leave(dice.choice(members.names()))
        members.add(instance())
        time.sleep(dice.choice([0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8]) + dice.random() * 0.1)
        broker.kill()
        broker.start()
        took.append(members.share(PARTITIONS, KILL_SETTLE_SECONDS))
    return max(took, default=0)


def check_committed(address, ends, has_metadata):
    """All of it has been committed, by members that left their names."""
    admin = KafkaAdminClient(bootstrap_servers=address)

    def committed():
        found = admin.list_group_offsets(GROUP)[GROUP]
        return [found[at] for at in sorted(found, key=lambda at: at.partition)]
    wait_until(lambda: [one.offset for one in committed()] == ends, lambda: f"{committed()} is {ends}", 10)
    if has_metadata:
        names = [one.metadata for one in committed()]
        assert all(name.startswith("m") for name in names), f"metadata: {names}"
    admin.close()


def check(address, broker, client, mode, options, dice):
    """One client in one mode; a sentence of what was seen."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    protocol = CONSUMER if CONSUMER in mode else "cooperative" if mode == "cooperative" else "eager"
    is_static, instances = STATIC in mode, {}
    log = LOGS / f"group-{client}-{mode}.log".replace(" ", "-")
    members = Members(client, address, GROUP, TOPIC, protocol, log)

    def instance():
        name = f"m{members.started + 1}"
        instances[name] = f"static-{name}"
        return instances[name] if is_static else None

    try:
        load = Load(address)
        before_kills = scale(members, instance)
        if is_static:
            restart_static(members, instances)
        worst = kill(broker, members, instance, options.kills, dice) if broker else 0
        ends = load.stop()
        every = {(partition, offset) for partition, end in enumerate(ends) for offset in range(end)}
        wait_until(lambda: every <= members.seen(),
                   lambda: f"{len(every - members.seen())} records are not read")
        # franz-go has no metadata in its interface.
        check_committed(address, ends, client != "franz-go")
        members.end()
        return f"{before_kills} records before any kill, none twice; {len(every)} in all; shared again within {worst:.1f} s"
    finally:
        members.kill()


def run_one(client, mode, options):
    name = f"{client} {mode}"
    started = time.monotonic()
    dice = random.Random(f"{options.seed} {name}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.kafka_libs:
                with setting.kafka(options.kafka_libs, folder) as kafka:
                    said = check(kafka.bootstrap, None, client, mode, options, dice)
            else:
                with setting.yagura(options.binary, folder) as broker:
                    said = check(broker.address, broker, client, mode, options, dice)
    except Exception:  # noqa: BLE001: whatever it is, the others go on
        print(f"FAIL {name} ({time.monotonic() - started:.0f} s)\n{traceback.format_exc()}", flush=True)
        return False
    print(f"ok: {name} ({time.monotonic() - started:.0f} s): {said}", flush=True)
    return True


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary")
    arguments.add_argument("--kafka-libs")
    arguments.add_argument("--only", action="append", default=[])
    arguments.add_argument("--kills", type=int, default=3)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = arguments.parse_args()
    print(f"seed {options.seed}")
    LOGS.mkdir(parents=True, exist_ok=True)
    wanted = [(client, mode) for client, modes in MODES.items() for mode in modes
              if not options.only or client in options.only or f"{client}:{mode}" in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        passed = sum(pool.map(lambda one: run_one(*one, options), wanted))
    print(f"{passed} passed, {len(wanted) - passed} failed")
    return passed != len(wanted)


if __name__ == "__main__":
    sys.exit(main())
