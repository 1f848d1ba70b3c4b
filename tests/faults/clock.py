#!/usr/bin/env python3
"""Time while groups live: the wall clock is set an hour forward and back, the broker is stopped in the midst of a
rebalance, or killed and started later.

Members of both protocols are bare sockets, so that the test decides when each of them is heard. The wall clock is that
of libfaketime, which leaves the monotonic clock as it is, as `date --set` does.

What members must do within a session, a machine that is busy with other work may keep the test from doing. It looks at
its own clock for that: after a failure in which it was late itself, all begins again with a session twice as long.

    clock.py --binary PATH
"""

import argparse
import contextlib
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
from broker import SECONDS_MAX, Broker  # noqa: E402

HOUR = 3600
SESSIONS = [8, 16, 32, 64]  # seconds; each if the one before was too short for this machine
# A member is noticed to be gone at the latest so long after its session. An hour that the clock was set back by is longer.
GONE_WITHIN = SECONDS_MAX
CALL_SECONDS_MAX = 600  # a join waits for the others, through an outage too
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
group_initial_rebalance_delay = "{delay}s"
group_consumer_session_timeout = "{session}s"
group_consumer_heartbeat_interval = "1s"
"""


# --- the machine

class Times:
    """How long everything takes, in seconds, and what of it the test did not keep itself."""

    def __init__(self, session):
        self.session, self.rebalance, self.delay = session, session * 3 // 8, session // 8
        # Longer than a session, and so longer than the rest of a rebalance.
        self.outage = session + 2
        # After an outage: longer than a rebalance, shorter than a session.
        self.away = session - self.rebalance
        self.late = []

    @contextlib.contextmanager
    def within(self, seconds, what, since=None):
        """What the test has to do in so many seconds, or else a failure may be its own."""
        since = time.monotonic() if since is None else since
        try:
            yield
        finally:
            took = time.monotonic() - since
            if took >= seconds:
                self.late.append(f"{what} took {took:.1f} of {seconds} s")


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
    with wire.Connection(broker.address, CALL_SECONDS_MAX) as connection:
        connection.create_topic(topic, 1, {"message.timestamp.type": "LogAppendTime"})
    stamps = []
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    before = time.time()
    producer.produce(topic, b"x", on_delivery=lambda _, message: stamps.append(message.timestamp()))
    assert producer.flush(2 * SECONDS_MAX) == 0
    kind, stamp_ms = stamps[0]
    assert kind == TIMESTAMP_LOG_APPEND_TIME, stamps
    real = stamp_ms / 1000 - ahead
    assert before - 60 < real < time.time() + 60, f"the broker's wall clock shows {real}, at {before}"


# --- members

class Member:
    """What members of both protocols have."""

    def __init__(self, broker, times, group):
        self.broker, self.times, self.group, self.heard_from = broker, times, group, None
        self.connect()

    def connect(self):
        self.connection = wire.Connection(self.broker.address, CALL_SECONDS_MAX)

    def call(self):
        """A call that keeps up the session, if it is answered in time after the one before was sent."""
        before, self.heard_from = self.heard_from, time.monotonic()
        if before is None:
            return contextlib.nullcontext()
        return self.times.within(self.times.session, f"a call of {self.group}", before)


class Classic(Member):
    """A member of the classic protocol."""

    def __init__(self, broker, times, group):
        super().__init__(broker, times, group)
        self.id, self.generation, self.leads, self.members = "", -1, False, []

    def join(self):
        """Waits for the others."""
        error = self._join()
        if error == MEMBER_ID_REQUIRED:
            error = self._join()
        assert error == NONE, f"JoinGroup of {self.id}: {error}"
        return self

    def _join(self):
        timeouts = struct.pack(">ii", self.times.session * 1000, self.times.rebalance * 1000)
        protocol = wire.string("range") + struct.pack(">i", 0)
        body = wire.string(self.group) + timeouts + wire.string(self.id) + wire.string("consumer")
        reply = self.connection.call(JOIN_GROUP, 4, body + wire.array([protocol]))
        # A member that waits in a join is not missed.
        self.heard_from = time.monotonic()
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
        with self.call():
            reply = self.connection.call(SYNC_GROUP, 1, body + wire.array(assigned if self.leads else []))
        _, error = reply.take("ih")
        assert error == NONE, f"SyncGroup of {self.id}: {error}"

    def heartbeat(self):
        """Whether all is as it was; if not, the member must join again."""
        body = wire.string(self.group) + struct.pack(">i", self.generation) + wire.string(self.id)
        with self.call():
            _, error = self.connection.call(HEARTBEAT, 1, body).take("ih")
        assert error in (NONE, REBALANCE_IN_PROGRESS), f"Heartbeat of {self.id}: {error}"
        return error == NONE


class Modern(Member):
    """A member of the consumer protocol (KIP-848)."""

    def __init__(self, broker, times, group, name):
        super().__init__(broker, times, group)
        self.id, self.epoch, self.assigned, self.topic = name, 0, [], None

    def heartbeat(self, owned=None):
        """Says what it owns, if it joins or if that is given. Whether its epoch is as it was."""
        joins, before = self.epoch == 0, self.epoch
        body = compact(self.group) + compact(self.id) + struct.pack(">i", self.epoch) + b"\0\0"
        body += struct.pack(">i", self.times.rebalance * 1000 if joins else -1)
        body += b"\2" + compact(TOPIC) if joins else b"\0"
        body += b"\0\0"  # no regular expression, no assignor
        if joins or owned == []:
            body += b"\1"
        elif owned is None:
            body += b"\0"
        else:
            body += b"\2" + self.topic + bytes([len(owned) + 1]) + struct.pack(f">{len(owned)}i", *owned) + b"\0"
        with self.call():
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


def wait(started, seconds=CALL_SECONDS_MAX):
    threads, results = started
    deadline = time.monotonic() + seconds
    for one in threads:
        one.join(max(0, deadline - time.monotonic()))
        assert not one.is_alive(), f"a call was not answered within {seconds} s"
    for _, error in results:
        if error is not None:
            raise error
    return [result for result, _ in results]


def form_classic(broker, times, group, count):
    """A stable group. The initial delay is long enough for all to join in one generation, or else is to be longer."""
    members = [Classic(broker, times, group) for _ in range(count)]
    at_once(*(member.join for member in members))
    generations = {member.generation for member in members}
    if len(generations) > 1:
        times.late.append(f"the members of {group} joined one after the other")
    assert len(generations) == 1, f"generations {generations}"
    at_once(*(member.sync for member in members))
    assert all(at_once(*(member.heartbeat for member in members))), "the group does not come to rest"
    return members


def form_modern(broker, times, group):
    """A stable group of two."""
    one, other = Modern(broker, times, group, f"{group}-one"), Modern(broker, times, group, f"{group}-other")
    one.heartbeat()
    other.heartbeat()
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        one.heartbeat(one.assigned)
        other.heartbeat(other.assigned)
        if one.epoch == other.epoch and len(one.assigned) == len(other.assigned) == PARTITIONS // 2:
            return one, other
        time.sleep(0.05)
    raise AssertionError(f"no balance: {one.assigned} {other.assigned}")


# --- the tests

def check_jump(broker, times, clock, number, ahead):
    """Nobody is evicted who is heard, nobody stays who is gone."""
    stays, goes = form_classic(broker, times, f"classic-{number}", 2)
    modern_stays, modern_goes = form_modern(broker, times, f"modern-{number}")
    members = [stays, goes, modern_stays, modern_goes]
    clock.set(ahead)
    check_wall_clock(broker, number, ahead)
    end = time.monotonic() + times.session + 3
    while time.monotonic() < end:
        assert all(member.heartbeat() for member in members), "a member that was heard from was evicted"
        time.sleep(0.5)
    took = {}
    deadline = time.monotonic() + times.session + GONE_WITHIN
    while len(took) < 2:
        assert time.monotonic() < deadline, f"who is gone is still there; evicted: {took}"
        for member, gone in ((stays, goes), (modern_stays, modern_goes)):
            if member not in took and not member.heartbeat():
                # From before its last heartbeat was sent, to after it was noticed: the session lies within.
                took[member] = time.monotonic() - gone.heard_from
        time.sleep(0.1)
    assert min(took.values()) > times.session - 1, f"evicted too early: {took.values()}"
    clock.set(0)
    took = " and ".join(f"{one:.1f}" for one in took.values())
    print(f"ok: the clock {ahead:+d} s: who was heard from stayed, the others were gone after {took} s", flush=True)


def stop(broker, times, clock, ahead):
    """Whoever calls meanwhile is answered when it is over. Returns when it began, and when it was over."""
    os.kill(broker.pid(), signal.SIGSTOP)
    began = time.monotonic()
    clock.set(ahead)
    time.sleep(times.outage)
    over = time.monotonic()
    os.kill(broker.pid(), signal.SIGCONT)
    return began, over


def kill(broker, times, clock, ahead):
    """As a power cut would; it starts late, and its clock may show anything by then."""
    broker.kill()
    began = time.monotonic()
    clock.set(ahead)
    time.sleep(times.outage)
    over = time.monotonic()
    broker.start()
    return began, over


def check_outage(broker, times, clock, outage, ahead):
    """Members that are back within a session after an outage keep their membership, and the rebalance ends."""
    is_killed = outage is kill
    one, other = form_classic(broker, times, f"classic-{outage.__name__}{ahead:+d}", 2)
    joins = Classic(broker, times, one.group)
    assert joins._join() == MEMBER_ID_REQUIRED
    # The rebalance begins with its join, and waits for the others.
    rebalancing_since = time.monotonic()
    joining = start(joins._join)
    revokes = Modern(broker, times, f"modern-{outage.__name__}{ahead:+d}", "one")
    gets = Modern(broker, times, revokes.group, "other")
    with times.within(times.rebalance, "a rebalance before the outage"):
        revokes.heartbeat()
        assert len(revokes.assigned) == PARTITIONS
        gets.heartbeat()
        revokes.heartbeat()
        assert len(revokes.assigned) == PARTITIONS // 2, "it is to revoke"
        wait_for_rebalance(one)

    def heartbeat_in_the_outage():
        time.sleep(1)
        other.heard_from = None  # this one may be answered late
        return other.heartbeat()

    heard = None if is_killed else start(heartbeat_in_the_outage)
    began, over = outage(broker, times, clock, ahead)
    if began - rebalancing_since >= times.rebalance:
        times.late.append(f"the outage began {began - rebalancing_since:.1f} s after the rebalance")
    for member in (one, other, joins, revokes, gets):
        # From here on each has a session's time.
        member.heard_from = over
        if is_killed:
            member.connect()
    if is_killed:
        joining = start(joins._join)
    else:
        assert wait(heard) == [False], "a heartbeat during the stop is answered after it"
    time.sleep(times.away)
    ids = one.id, other.id, joins.id
    with times.within(times.session, "the members' return", since=over):
        wait_for_rebalance(other)
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
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        gets.heartbeat(gets.assigned)
        if len(gets.assigned) == PARTITIONS // 2:
            break
        time.sleep(0.05)
    both = revokes.assigned, gets.assigned
    assert sorted(sum(both, [])) == list(range(PARTITIONS)), both
    what = "killed" if is_killed else "stopped"
    print(f"ok: {what} for {times.outage} s in a rebalance, the clock {ahead:+d} s: all kept their membership", flush=True)


def wait_for_rebalance(member):
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if not member.heartbeat():
            return
        time.sleep(0.02)
    raise AssertionError("the member is not told to join again")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    options = arguments.parse_args()
    for session in SESSIONS:
        times = Times(session)
        try:
            with tempfile.TemporaryDirectory() as folder:
                run(options.binary, times, folder)
            return 0
        except Exception as failure:
            if not times.late or session == SESSIONS[-1]:
                raise
            print(f"again with a longer session than {session} s: {times.late[-1]}, and then: {failure}", flush=True)
    return 1


def run(binary, times, folder):
    clock = WallClock(folder)
    config = pathlib.Path(folder, "y.toml")
    broker = Broker(binary, "")
    config.write_text(CONFIG.format(address=broker.address, folder=folder, session=times.session, delay=times.delay))
    broker.command = [*clock.wrapper, binary, "run", str(config)]
    broker.start()
    try:
        with wire.Connection(broker.address, CALL_SECONDS_MAX) as connection:
            connection.create_topic(TOPIC, PARTITIONS)
        for number, ahead in enumerate([HOUR, -HOUR]):
            check_jump(broker, times, clock, number, ahead)
        check_outage(broker, times, clock, stop, 0)
        for ahead in [HOUR, -HOUR, 0]:
            check_outage(broker, times, clock, kill, ahead)
        broker.stop()
    finally:
        broker.kill()


if __name__ == "__main__":
    sys.exit(main())
