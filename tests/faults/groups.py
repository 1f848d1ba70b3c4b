#!/usr/bin/env python3
"""Consumer groups while everything fails: the broker is killed in every phase of a rebalance, members are killed too.

Members are processes of their own (librdkafka). After each blow those that live must share all partitions again, each
partition read by one, with nobody's help and within a session; at the end every record has been read, and a member that
left in good order has left nothing to be read twice.

    groups.py --binary PATH [--kills 12] [--seed N]
"""

import argparse
import json
import pathlib
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker import SECONDS_MAX, Broker, wait_until

PARTITIONS, LOG_LINES = 12, 60
# A member that is killed is missed after the short one. The long one is for what holds only while nobody is missed: a
# member that gets no processor cannot keep the short one.
SHORT_SESSION_MS, LONG_SESSION_MS = 6000, SECONDS_MAX * 1000
DELIVERY_SECONDS_MAX = 600
TOPIC, GROUP = "jobs", "workers"
CONFIG = """
[admin]
bind = "off"
[listeners.main]
bind = "{address}"
stack = ["framing", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
group_initial_rebalance_delay = "100ms"
"""


# --- one member, a process of its own

def member(address, instance, session_ms):
    """Reads, commits after each batch and when partitions go, and says all of it in JSON lines."""
    config = {
        "bootstrap.servers": address, "group.id": GROUP, "session.timeout.ms": session_ms, "heartbeat.interval.ms": 500,
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 7, "debug": "cgrp,metadata",
        "retry.backoff.ms": 20,
        "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "fetch.wait.max.ms": 100,
        "partition.assignment.strategy": "range", **({"group.instance.id": instance} if instance else {}),
    }
    consumer = Consumer(config)

    def say(**fields):
        print(json.dumps(fields), flush=True)

    def assigned(_, partitions):
        say(assigned=sorted(one.partition for one in partitions))

    def revoked(_, partitions):
        commit(consumer)
        say(assigned=[])

    consumer.subscribe([TOPIC], on_assign=assigned, on_revoke=revoked, on_lost=lambda *_: say(assigned=[]))
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    say(started=True)
    while not stop.is_set():
        messages = [one for one in consumer.consume(500, timeout=0.1) if not one.error()]
        if messages:
            say(read=[int(one.value()) for one in messages])
            commit(consumer)
    consumer.close()
    say(closed=True)


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
    except Exception:  # the broker is gone or the generation is over: what was read comes again
        pass


class Member:
    """A member process, as the test sees it."""

    all = []
    logs = None  # a folder

    def __init__(self, address, session_ms, instance=""):
        self.log = Member.logs / f"member-{len(Member.all)}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--member", address, "--instance", instance, "--session-ms", str(session_ms)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.session_ms, self.assigned, self.read, self.assignments = session_ms, [], [], 0
        self.closed = False
        Member.all.append(self)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if "assigned" in said:
                self.assigned = said["assigned"]
                self.assignments += bool(said["assigned"])
            self.read += said.get("read", [])
            self.closed |= "closed" in said

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(SECONDS_MAX) == 0, what_went_wrong([self])
        wait_until(lambda: self.closed, "it has closed")
        self.assigned = []

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.assigned = []


# --- the test

def share(members):
    """Waits until the members share all partitions, each read by one, as evenly as can be."""
    def is_shared():
        parts = [len(one.assigned) for one in members]
        every = sorted(partition for one in members for partition in one.assigned)
        return every == list(range(PARTITIONS)) and max(parts) - min(parts) <= 1
    started = time.monotonic()
    wait_until(is_shared, lambda: what_went_wrong(members))
    return time.monotonic() - started


def what_went_wrong(members):
    """Who has nothing, and what the client says of it."""
    logs = [one.log.read_text(errors="replace").splitlines()[-LOG_LINES:] for one in members if not one.assigned]
    shared = f"all partitions are shared: {[one.assigned for one in members]}"
    return "\n".join([shared, *(line for log in logs for line in ["--- a member without partitions", *log])])


class Load:
    """Produces numbers until it is stopped."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "enable.idempotence": True, "log_level": 0,
                                  "message.timeout.ms": DELIVERY_SECONDS_MAX * 1000,
                                  "reconnect.backoff.max.ms": 100})
        self.sent, self.failures = 0, queue.Queue()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.is_set():
            try:
                self.producer.produce(TOPIC, str(self.sent), partition=self.sent % PARTITIONS,
                                      on_delivery=lambda error, _: error and self.failures.put(str(error)))
                self.sent += 1
            except BufferError:  # there has been no broker for long
                pass
            self.producer.poll(0.002)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        left = self.producer.flush(DELIVERY_SECONDS_MAX)
        assert left == 0 and self.failures.empty(), f"records could not be produced: {left}, {list(self.failures.queue)[:5]}"
        return set(range(self.sent))


def check_scaling(address, load):
    """1 -> 8 -> 3 members in good order: nothing is read twice, because each commits what it has read before it goes."""
    members = [Member(address, LONG_SESSION_MS)]
    share(members)
    members += [Member(address, LONG_SESSION_MS) for _ in range(7)]
    share(members)
    gone = members[3:]
    for one in gone:
        one.leave()
    members = members[:3]
    share(members)
    every = [number for one in members + gone for number in one.read]
    assert len(every) == len(set(every)), f"{len(every) - len(set(every))} records were read twice after a clean hand-over"
    print(f"ok: 1 -> 8 -> 3 members, {load.sent} records so far, none read twice", flush=True)
    return members, gone


def check_broker_kills(broker, members, gone, kills):
    """kill -9 at any moment after a join began: in the wait for members, for the leader, for the sync, or later."""
    took = []
    for number in range(kills):
        if len(members) < 6 and number % 2 == 0:
            members.append(Member(broker.address, SHORT_SESSION_MS))
        else:
            # One with the short session: were its leaving lost, the others would wait for it that long.
            leaves = random.choice([one for one in members if one.session_ms == SHORT_SESSION_MS])
            members.remove(leaves)
            leaves.leave()
            gone.append(leaves)
            members.append(Member(broker.address, SHORT_SESSION_MS))
        time.sleep(random.choice([0, 0.05, 0.1, 0.2, 0.3, 0.5]) + random.random() * 0.1)
        broker.kill()
        broker.start()
        took.append(share(members))
    print(f"ok: {kills} brokers killed during a rebalance; members shared again within "
          f"{min(took):.1f} / {sorted(took)[len(took) // 2]:.1f} / {max(took):.1f} s (min / median / max)", flush=True)


def check_member_kill(members, dead):
    one = members.pop()
    one.kill()
    dead.append(one)
    share(members)
    print("ok: a killed member is evicted and its partitions are read by others", flush=True)


def check_static(address):
    """A static member that is restarted within its session disturbs nobody (KIP-345)."""
    members = [Member(address, LONG_SESSION_MS, f"static-{number}") for number in range(3)]
    share(members)
    before = [one.assignments for one in members[:2]]
    parts = members[2].assigned
    members[2].kill()
    again = Member(address, LONG_SESSION_MS, "static-2")
    wait_until(lambda: again.assigned == parts, "the static member gets its own partitions back")
    # For two of their heartbeats: a rebalance would be said in the answers.
    time.sleep(1)
    assert [one.assignments for one in members[:2]] == before, "the others must not have been disturbed"
    print("ok: a restarted static member gets its part back without a rebalance", flush=True)
    return [*members[:2], again], members[2]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary")
    arguments.add_argument("--kills", type=int, default=12)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments.add_argument("--member")
    arguments.add_argument("--instance")
    arguments.add_argument("--session-ms", type=int)
    options = arguments.parse_args()
    if options.member:
        member(options.member, options.instance, options.session_ms)
        return
    print(f"seed {options.seed}")
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        run(options, folder)


def run(options, folder):
    Member.logs = pathlib.Path(folder)
    config = pathlib.Path(folder, "y.toml")
    broker = Broker(options.binary, "")
    config.write_text(CONFIG.format(address=broker.address, folder=folder))
    broker.command = [options.binary, "run", str(config)]
    broker.start()
    try:
        check_all(broker, options.kills)
        broker.stop()
    finally:
        broker.process.kill()
        for one in Member.all:
            one.process.kill()


def check_all(broker, kills):
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(SECONDS_MAX)
    load = Load(broker.address)
    members, gone = check_scaling(broker.address, load)
    check_broker_kills(broker, members, gone, kills)
    check_member_kill(members, gone)
    for one in members:
        one.leave()
    statics, _ = check_static(broker.address)
    sent = load.stop()
    seen = lambda: {number for one in Member.all for number in one.read}  # noqa: E731
    wait_until(lambda: sent <= seen(), lambda: f"{len(sent - seen())} records were not read")
    for one in statics:
        one.leave()
    print(f"ok: {len(sent)} records, every one read")


if __name__ == "__main__":
    main()
