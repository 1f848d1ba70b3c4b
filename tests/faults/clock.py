#!/usr/bin/env python3
"""Time while groups live: the wall clock is set an hour forward and back, the broker is stopped in the midst of a
rebalance, or killed and started later.

Members of both protocols are bare sockets, so that the test decides when each of them is heard. The wall clock is that
of libfaketime, which leaves the monotonic clock as it is, as `date --set` does.

    clock.py --binary PATH
"""

import argparse
import glob
import os
import pathlib
import signal
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer  # noqa: E402

import wire  # noqa: E402
from broker import Broker  # noqa: E402

HOUR, SESSION, REBALANCE = 3600, 8, 3
# Longer than a session, and so longer than the rest of a rebalance.
OUTAGE = SESSION + 2
# A member is gone at the latest so long after it was last heard from.
GONE_WITHIN = SESSION + 5
TOPIC, PARTITIONS = "jobs", 4
JOIN_GROUP, HEARTBEAT, SYNC_GROUP, CONSUMER_GROUP_HEARTBEAT = 11, 12, 14, 68
NONE, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 0, 27, 79
CONFIG = """
[admin]
bind = "off"
[listeners.main]
bind = "{address}"
stack = ["framing", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
group_initial_rebalance_delay = "1s"
group_consumer_session_timeout = "{session}s"
group_consumer_heartbeat_interval = "1s"
"""


# --- the machine

class WallClock:
    """The wall clock of a process, which the test sets."""

    def __init__(self, folder):
        found = glob.glob("/usr/lib*/*/faketime/libfaketime.so.1")
        assert found, "libfaketime is missing; tests/setup.sh installs it"
        self.file = pathlib.Path(folder, "wall-clock")
        self.set(0)
        self.wrapper = [
            "env", f"LD_PRELOAD={found[0]}", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1", "FAKETIME_DISABLE_SHM=1",
        ]

    def set(self, ahead):
        """So many seconds ahead of the real one."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.rename(self.file)


def check_wall_clock(broker, number, ahead):
    """Without this the test would show nothing if the clock could not be set."""
    topic = f"stamped-{number}"
    with wire.Connection(broker.address) as connection:
        connection.create_topic(topic, 1, {"message.timestamp.type": "LogAppendTime"})
    stamps = []
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    producer.produce(topic, b"x", on_delivery=lambda _, message: stamps.append(message.timestamp()))
    assert producer.flush(20) == 0
    kind, stamp_ms = stamps[0]
    assert kind == TIMESTAMP_LOG_APPEND_TIME, stamps
    off = stamp_ms / 1000 - time.time() - ahead
    assert abs(off) < 60, f"the broker's wall clock is {off} s off"


# --- members

class Classic:
    """A member of the classic protocol."""

    def __init__(self, broker, group):
        self.broker, self.group, self.id, self.generation, self.leads, self.members = broker, group, "", -1, False, []
        self.connect()

    def connect(self):
        self.connection = wire.Connection(self.broker.address)

    def join(self):
        """Waits for the others."""
        error = self._join()
        if error == MEMBER_ID_REQUIRED:
            error = self._join()
        assert error == NONE, f"JoinGroup of {self.id}: {error}"
        return self

    def _join(self):
        timeouts = struct.pack(">ii", SESSION * 1000, REBALANCE * 1000)
        protocol = wire.string("range") + struct.pack(">i", 0)
        body = wire.string(self.group) + timeouts + wire.string(self.id) + wire.string("consumer")
        reply = self.connection.call(JOIN_GROUP, 4, body + wire.array([protocol]))
        _, error, self.generation = reply.take("ihi")
        reply.string()
        leader, own = reply.string(), reply.string()
        assert not self.id or not own or own == self.id, f"{self.id} was given another id: {own}"
        self.id = own or self.id
        self.leads = leader == self.id
        self.members = reply.array(lambda: (reply.string(), reply.bytes(reply.take("i")))[0])
        return error

    def sync(self):
        assigned = [wire.string(member) + struct.pack(">i", 1) + b"x" for member in self.members]
        body = wire.string(self.group) + struct.pack(">i", self.generation) + wire.string(self.id)
        reply = self.connection.call(SYNC_GROUP, 1, body + wire.array(assigned if self.leads else []))
        _, error = reply.take("ih")
        assert error == NONE, f"SyncGroup of {self.id}: {error}"

    def heartbeat(self):
        """Whether all is as it was; if not, the member must join again."""
        body = wire.string(self.group) + struct.pack(">i", self.generation) + wire.string(self.id)
        _, error = self.connection.call(HEARTBEAT, 1, body).take("ih")
        assert error in (NONE, REBALANCE_IN_PROGRESS), f"Heartbeat of {self.id}: {error}"
        return error == NONE


class Modern:
    """A member of the consumer protocol (KIP-848)."""

    def __init__(self, broker, group, name):
        self.broker, self.group, self.id, self.epoch, self.assigned, self.topic = broker, group, name, 0, [], None
        self.connect()

    def connect(self):
        self.connection = wire.Connection(self.broker.address)

    def heartbeat(self, owned=None):
        """Says what it owns, if it joins or if that is given. Whether its epoch is as it was."""
        joins, before = self.epoch == 0, self.epoch
        body = compact(self.group) + compact(self.id) + struct.pack(">i", self.epoch) + b"\0\0"
        body += struct.pack(">i", REBALANCE * 1000 if joins else -1)
        body += b"\2" + compact(TOPIC) if joins else b"\0"
        body += b"\0\0"  # no regular expression, no assignor
        if joins or owned == []:
            body += b"\1"
        elif owned is None:
            body += b"\0"
        else:
            body += b"\2" + self.topic + bytes([len(owned) + 1]) + struct.pack(f">{len(owned)}i", *owned) + b"\0"
        reply = self._call(body + b"\0")
        _, error = reply.take("ih")
        message = nullable(reply)
        assert error == NONE, f"ConsumerGroupHeartbeat of {self.id}: {error} {message}"
        nullable(reply)
        self.epoch, _ = reply.take("ii")
        if reply.take("b") == 1:
            self.assigned = []
            for _ in range(reply.take("B") - 1):
                self.topic = reply.bytes(16)
                self.assigned += [reply.take("i") for _ in range(reply.take("B") - 1)]
                reply.take("B")
        return self.epoch == before

    def _call(self, body):
        """With the headers of flexible versions."""
        connection = self.connection
        connection.correlation_id += 1
        head = struct.pack(">hhi", CONSUMER_GROUP_HEARTBEAT, 1, connection.correlation_id) + wire.string("yagura-tests")
        head += b"\0"
        connection.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        reply = wire.Reader(connection._receive(struct.unpack(">i", connection._receive(4))[0]))
        assert reply.take("i") == connection.correlation_id
        reply.take("B")
        return reply


def compact(text):
    raw = text.encode()
    assert len(raw) < 127
    return bytes([len(raw) + 1]) + raw


def nullable(reply):
    length = reply.take("B")
    return reply.bytes(length - 1).decode() if length else None


def at_once(*calls):
    """Runs calls at the same time, as the members do."""
    return wait(start(*calls))


def start(*calls):
    results = [None] * len(calls)

    def run(index):
        try:
            results[index] = (calls[index](), None)
        except Exception as error:  # the test's own thread raises it again
            results[index] = (None, error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(calls))]
    for one in threads:
        one.start()
    return threads, results


def wait(started, seconds=30):
    threads, results = started
    deadline = time.monotonic() + seconds
    for one in threads:
        one.join(max(0, deadline - time.monotonic()))
        assert not one.is_alive(), f"a call was not answered within {seconds} s"
    for _, error in results:
        if error is not None:
            raise error
    return [result for result, _ in results]


def form_classic(broker, group, count):
    """A stable group. The initial delay is long enough for all to join in one generation."""
    members = [Classic(broker, group) for _ in range(count)]
    at_once(*(member.join for member in members))
    assert len({member.generation for member in members}) == 1
    at_once(*(member.sync for member in members))
    assert all(at_once(*(member.heartbeat for member in members))), "the group does not come to rest"
    return members


def form_modern(broker, group):
    """A stable group of two."""
    one, other = Modern(broker, group, f"{group}-one"), Modern(broker, group, f"{group}-other")
    one.heartbeat()
    other.heartbeat()
    for _ in range(20):
        one.heartbeat(one.assigned)
        other.heartbeat(other.assigned)
        if one.epoch == other.epoch and len(one.assigned) == len(other.assigned) == PARTITIONS // 2:
            return one, other
        time.sleep(0.05)
    raise AssertionError(f"no balance: {one.assigned} {other.assigned}")


# --- the tests

def check_jump(broker, clock, number, ahead):
    """Nobody is evicted who is heard, nobody stays who is gone."""
    stays, goes = form_classic(broker, f"classic-{number}", 2)
    modern_stays, modern_goes = form_modern(broker, f"modern-{number}")
    members = [stays, goes, modern_stays, modern_goes]
    clock.set(ahead)
    check_wall_clock(broker, number, ahead)
    end = time.monotonic() + SESSION + 3
    while time.monotonic() < end:
        assert all(member.heartbeat() for member in members), "a member that was heard from was evicted"
        time.sleep(0.5)
    took = {}
    started = time.monotonic()
    while len(took) < 2:
        passed = time.monotonic() - started
        assert passed < GONE_WITHIN, f"who is gone is still there after {passed:.0f} s; evicted: {took}"
        for member in (stays, modern_stays):
            if member not in took and not member.heartbeat():
                took[member] = passed
        time.sleep(0.1)
    assert min(took.values()) > SESSION - 2, f"evicted too early: {took.values()}"
    clock.set(0)
    took = " and ".join(f"{one:.1f}" for one in took.values())
    print(f"ok: the clock {ahead:+d} s: who was heard from stayed, the others were gone after {took} s", flush=True)


def stop(broker, clock, ahead):
    """Whoever calls meanwhile is answered when it is over."""
    os.kill(broker.pid(), signal.SIGSTOP)
    clock.set(ahead)
    time.sleep(OUTAGE)
    os.kill(broker.pid(), signal.SIGCONT)


def kill(broker, clock, ahead):
    """As a power cut would; it starts late, and its clock may show anything by then."""
    broker.kill()
    clock.set(ahead)
    time.sleep(OUTAGE)
    broker.start()


def check_outage(broker, clock, outage, ahead):
    """Members that are back within a session after an outage keep their membership, and the rebalance ends."""
    is_killed = outage is kill
    one, other = form_classic(broker, f"classic-{outage.__name__}{ahead:+d}", 2)
    joins = Classic(broker, one.group)
    assert joins._join() == MEMBER_ID_REQUIRED
    # The rebalance begins with its join, and waits for the others.
    joining = start(joins._join)
    revokes = Modern(broker, f"modern-{outage.__name__}{ahead:+d}", "one")
    revokes.heartbeat()
    assert len(revokes.assigned) == PARTITIONS
    gets = Modern(broker, revokes.group, "other")
    gets.heartbeat()
    revokes.heartbeat()
    assert len(revokes.assigned) == PARTITIONS // 2, "it is to revoke"
    wait_for_rebalance(one)

    heard = None if is_killed else start(lambda: (time.sleep(1), other.heartbeat())[1])
    outage(broker, clock, ahead)
    if is_killed:
        for member in (one, other, joins, revokes, gets):
            member.connect()
        joining = start(joins._join)
    else:
        assert wait(heard) == [False], "a heartbeat during the stop is answered after it"
    # Longer than the rebalance timeout, shorter than a session.
    time.sleep(SESSION - 3)
    wait_for_rebalance(other)
    ids = one.id, other.id, joins.id
    at_once(one.join, other.join)
    assert wait(joining) == [NONE]
    assert (one.id, other.id, joins.id) == ids
    assert one.generation == other.generation == joins.generation, "the rebalance did not end with all"
    leader = next(member for member in (one, other, joins) if member.leads)
    assert sorted(leader.members) == sorted(ids), f"{leader.members} instead of {ids}"
    at_once(one.sync, other.sync, joins.sync)
    assert all(at_once(one.heartbeat, other.heartbeat, joins.heartbeat))

    # It does what it was told before the outage.
    revokes.heartbeat(revokes.assigned)
    for _ in range(100):
        gets.heartbeat(gets.assigned)
        if len(gets.assigned) == PARTITIONS // 2:
            break
        time.sleep(0.05)
    both = revokes.assigned, gets.assigned
    assert sorted(sum(both, [])) == list(range(PARTITIONS)), both
    what = "killed" if is_killed else "stopped"
    print(f"ok: {what} for {OUTAGE} s in a rebalance, the clock {ahead:+d} s: all kept their membership", flush=True)


def wait_for_rebalance(member):
    for _ in range(100):
        if not member.heartbeat():
            return
        time.sleep(0.02)
    raise AssertionError("the member is not told to join again")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clock = WallClock(folder)
        config = pathlib.Path(folder, "y.toml")
        broker = Broker(options.binary, "")
        config.write_text(CONFIG.format(address=broker.address, folder=folder, session=SESSION))
        broker.command = [*clock.wrapper, options.binary, "run", str(config)]
        broker.start()
        try:
            with wire.Connection(broker.address) as connection:
                connection.create_topic(TOPIC, PARTITIONS)
            for number, ahead in enumerate([HOUR, -HOUR]):
                check_jump(broker, clock, number, ahead)
            check_outage(broker, clock, stop, 0)
            for ahead in [HOUR, -HOUR, 0]:
                check_outage(broker, clock, kill, ahead)
            broker.stop()
        finally:
            broker.process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
