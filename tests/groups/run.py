#!/usr/bin/env python3
"""Groups of real consumers that scale, move and survive: every client in every mode that it has.

    run.py --binary PATH               against Yagura; kills the broker while members rebalance
    run.py --kafka-libs JARS           against Apache Kafka, without kills: proves the tests themselves
    run.py ... [--only CLIENT[:MODE]]  [--kills 3] [--seed N] [--jobs 2]

For each: 1 -> 8 -> 3 members while records are produced, all partitions shared evenly each time; no record read twice
by members that have committed it (one that was late, and whose commit was refused, says so: that is no fault of the
broker); the broker killed -9 at any moment of a rebalance, after which members share again by themselves; in the end
every record has been read, and what was committed is where it ends, with its metadata. Static members come back without
disturbing the others. Ends with "N passed, N failed".
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
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

import setting
from members import SESSION_SECONDS, SETTLE_SECONDS_MAX, Members
from setting import LOGS

PARTITIONS, TOPIC, GROUP = 12, "jobs", "workers"
CALL_SECONDS_MAX, FLUSH_SECONDS_MAX, DELIVERY_MS_MAX = 120, 300, 600_000
# Of members that the broker is to evict: static ones do not leave, and what the kill of a broker cuts off may stay behind.
BRIEF_SESSION_SECONDS = 6
OBSERVE_SECONDS = 1  # in which a rebalance would come to those that heartbeat every 500 ms
RESTARTS_MAX, LOSS_SECONDS_MAX = 5, 60
RESTART_SECONDS = 3  # within which no session can be over that was kept until then
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
                                  "log_level": 0, "message.timeout.ms": DELIVERY_MS_MAX,
                                  "queue.buffering.max.messages": 1_000_000,
                                  "reconnect.backoff.max.ms": 100})
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
        assert self.producer.flush(FLUSH_SECONDS_MAX) == 0 and not self.failures, f"not produced: {self.failures[:3]}"
        assert sum(self.ends) == self.sent, "a record was stored twice or not at all"
        return self.ends


class Joins:
    """Lets members join, and knows which of them are to stay."""

    def __init__(self, members, is_static):
        self.members, self.is_static = members, is_static
        self.instances, self.lasting = {}, set()

    def join(self, session_seconds=SESSION_SECONDS, instance=None):
        if self.is_static:
            instance = instance or f"static-m{self.members.started + 1}"
        name = self.members.add(instance, session_seconds)
        self.instances[name] = instance
        if session_seconds > BRIEF_SESSION_SECONDS:
            self.lasting.add(name)
        return name

    def brief(self):
        """Those that may leave: a static one is evicted when its session is over, which is not to take long."""
        return [name for name in self.members.names() if not (self.is_static and name in self.lasting)]


def scale(members, joins):
    """1 -> 8 -> 3 members in good order: nothing is read twice, because each commits before it lets go."""
    joins.join()
    members.share(PARTITIONS)
    for number in range(1, 8):
        joins.join(SESSION_SECONDS if number < 3 or not joins.is_static else BRIEF_SESSION_SECONDS)
    members.share(PARTITIONS)
    members.progress()
    for name in members.names()[3:]:
        members.leave(name)
    members.share(PARTITIONS)
    members.progress()
    twice = members.twice()
    assert not twice, (f"{len(twice)} records were read and committed twice, such as {twice[:3]} (partition, offset)\n"
                       f"{members.said()}")
    return len(members.committed()), len(members.uncertain)


def restart_static(members, joins):
    """
    One goes and comes back within its session: it has its part again, and nobody else was told anything. It is tried again
    where this says nothing: one of them had no time, so that its session was over.
    """
    for _ in range(RESTARTS_MAX):
        if is_back_undisturbed(members, joins):
            return
        members.share(PARTITIONS)
    raise AssertionError(f"in none of {RESTARTS_MAX} restarts all sessions lasted\n{members.said()}")


def is_back_undisturbed(members, joins):
    """False if a session was over; an AssertionError if the others were disturbed though none was."""
    *others, name = members.names()
    parts, losses = members.assigned[name], sum(members.losses.values())
    before = {other: members.assignments[other] for other in others}

    def disturbed():
        return {other: members.assignments[other] for other in others} != before

    started = time.monotonic()
    members.leave(name)
    again = joins.join(instance=joins.instances[name])
    members.wait(lambda: disturbed() or members.assigned[again] == parts,
                 lambda: f"{again} has {parts} again: {members.assigned}")
    took = time.monotonic() - started
    time.sleep(OBSERVE_SECONDS)
    members.progress()
    if not disturbed() and members.assigned[again] == parts:
        return True
    if took < RESTART_SECONDS:
        # Then another one was late, and is told so.
        members.wait(lambda: sum(members.losses.values()) > losses,
                     lambda: f"the others were disturbed, and had lost nothing: {before} {members.assignments}",
                     LOSS_SECONDS_MAX)
    return False


def kill(broker, members, joins, kills, dice):
    """At any moment after a join or a leave began: while members join, while the leader assigns, while they sync."""
    took = []
    for number in range(kills):
        if number % 2:
            members.leave(dice.choice(joins.brief()))
        joins.join(BRIEF_SESSION_SECONDS)
        time.sleep(dice.choice([0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8]) + dice.random() * 0.1)
        broker.kill()
        broker.start()
        took.append(members.share(PARTITIONS))
    return max(took, default=0)


def ask(address, call):
    """What a call of an admin client gives; it is made again while the broker has no time for it."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        try:
            admin = KafkaAdminClient(bootstrap_servers=address)
            try:
                return call(admin)
            finally:
                admin.close()
        except KafkaError as error:
            assert time.monotonic() < deadline, f"not answered within {SETTLE_SECONDS_MAX} s: {error!r}"
            time.sleep(0.1)


def set_consumer_session(address, seconds):
    """Of the group, in the consumer protocol. Members learn nothing of it; it holds from their next heartbeat on."""
    change = ConfigResource(ConfigResourceType.GROUP, GROUP, {"consumer.session.timeout.ms": str(seconds * 1000)})
    answer = ask(address, lambda admin: admin.alter_configs([change], raise_on_unknown=False))
    assert answer == {"group": {GROUP: "OK"}}, answer


def check_committed(address, members, ends, has_metadata):
    """All of it has been committed, by members that left their names."""
    def committed():
        found = ask(address, lambda admin: admin.list_group_offsets(GROUP)[GROUP])
        return [found[at] for at in sorted(found, key=lambda at: at.partition)]
    members.wait(lambda: [one.offset for one in committed()] == ends, lambda: f"committed: {committed()}, of {ends}")
    if has_metadata:
        names = [one.metadata for one in committed()]
        assert all(name.startswith("m") for name in names), f"metadata: {names}"


def check(address, broker, client, mode, options, dice):
    """One client in one mode; a sentence of what was seen."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    topic = admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)], request_timeout=CALL_SECONDS_MAX)[TOPIC]
    topic.result(CALL_SECONDS_MAX)
    protocol = CONSUMER if CONSUMER in mode else "cooperative" if mode == "cooperative" else "eager"
    log = LOGS / f"group-{client}-{mode}.log".replace(" ", "-")
    members = Members(client, address, GROUP, TOPIC, protocol, log)
    joins = Joins(members, STATIC in mode)
    try:
        load = Load(address)
        certain, uncertain = scale(members, joins)
        if joins.is_static:
            if protocol == CONSUMER:
                set_consumer_session(address, SESSION_SECONDS)
            restart_static(members, joins)
            if protocol == CONSUMER:
                set_consumer_session(address, BRIEF_SESSION_SECONDS)
        worst = kill(broker, members, joins, options.kills, dice) if broker else 0
        ends = load.stop()
        every = {(partition, offset) for partition, end in enumerate(ends) for offset in range(end)}
        members.wait(lambda: every <= members.seen(), lambda: f"{len(every - members.seen())} records are not read")
        # franz-go has no metadata in its interface.
        check_committed(address, members, ends, client != "franz-go")
        members.end()
        return (f"{certain} records before any kill, none twice, and {uncertain} that may be; {len(every)} in all; "
                f"shared again within {worst:.1f} s")
    finally:
        members.kill()


def session_seconds(mode):
    """What the broker has for the consumer protocol: static members that do not come back are to be evicted."""
    return BRIEF_SESSION_SECONDS if mode == f"{CONSUMER} {STATIC}" else SESSION_SECONDS


def run_one(client, mode, options):
    name = f"{client} {mode}"
    started = time.monotonic()
    dice = random.Random(f"{options.seed} {name}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.kafka_libs:
                with setting.kafka(options.kafka_libs, folder, session_seconds(mode)) as kafka:
                    said = check(kafka.bootstrap, None, client, mode, options, dice)
            else:
                with setting.yagura(options.binary, folder, session_seconds=session_seconds(mode)) as broker:
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
