"""Costs of consumer groups: beside many groups, and in large ones."""

import struct
import time

import measure
from group_members import COMMIT, Member, data, strings
from scale import cost, stores
from scale.rows import Figure, Row
from scale.wire import JOIN, NOTHING, SYNC, Connection, compact

CONSUMER_HEARTBEAT = (68, 1)
UNCHANGED = -1
SESSION_MS = 30 * 60_000  # nobody is to be put out while others are prepared
WINDOW = 500
ASSIGNMENT = b"\0\1" + b"a" * 60  # about as long as one of three partitions


class ConsumerMember:
    """A member of the consumer protocol (KIP-848). All share a connection."""

    def __init__(self, connection, group, number):
        self.connection, self.group, self.id, self.epoch = connection, group, f"member-{number:05d}", 0
        self.told = None  # the assignment that it has yet to say it owns, as it is on the wire

    def heartbeat(self, topics=NOTHING, regex=NOTHING):
        joins = self.epoch == 0
        body = compact(self.group) + compact(self.id) + struct.pack(">i", self.epoch) + NOTHING + NOTHING
        body += struct.pack(">i", 300_000 if joins else UNCHANGED) + topics + regex + NOTHING
        body += (b"\1" if joins else self.told or NOTHING) + b"\0"
        self.connection.socket.sendall(measure.request(*CONSUMER_HEARTBEAT, body, True))
        reply = measure.receive(self.connection.socket)[5:]
        error, at = struct.unpack(">h", reply[4:6])[0], 6
        assert error == 0, f"ConsumerGroupHeartbeat: error {error}"
        at += max(reply[at], 1)  # the message
        at += max(reply[at], 1)  # the member's id
        self.epoch = struct.unpack(">i", reply[at:at + 4])[0]
        at += 8
        self.told = reply[at + 1:-2] if reply[at] == 1 else None


def settle(members):
    """Until a whole round changes nobody's epoch or assignment."""
    while True:
        before = [one.epoch for one in members]
        for one in members:
            one.heartbeat()
        if before == [one.epoch for one in members] and not any(one.told for one in members):
            return


def join_body(group, member):
    body = measure.string(group) + struct.pack(">ii", SESSION_MS, SESSION_MS) + measure.string(member)
    return body + measure.string("consumer") + struct.pack(">i", 1) + measure.string("range") + data(b"\0\0\0\0\0\0")


def joined(reply):
    """Generation, own id, and how many members the leader has been told of."""
    error, generation = struct.unpack_from(">hi", reply, 4)
    assert error == 0, f"JoinGroup: error {error}"
    (_, _, member), at = strings(reply, 10, 3)
    return generation, member, struct.unpack_from(">i", reply, at)[0]


def sync_body(group, generation, member, members):
    body = measure.string(group) + struct.pack(">i", generation) + measure.string(member)
    return body + struct.pack(">i", len(members)) + b"".join(measure.string(one) + data(ASSIGNMENT) for one in members)


def check_error(reply, what):
    error = struct.unpack_from(">h", reply, 4)[0]
    assert error == 0, f"{what}: error {error}"


def settled_groups(port, count):
    """The only members of `count` groups, which share a connection. Many join at once, so that they share commits."""
    connection = Connection(port)
    members = [Member(port, f"group-{number:06d}", connection.socket) for number in range(count)]
    joins = (join_body(one.group, "") for one in members)
    for one, reply in zip(members, connection.pipeline(JOIN, joins, WINDOW)):
        one.generation, one.id, _ = joined(reply)
    syncs = (sync_body(one.group, one.generation, one.id, [one.id]) for one in members)
    for reply in connection.pipeline(SYNC, syncs, WINDOW):
        check_error(reply, "SyncGroup")
    return members


def commit_body(member):
    body = measure.string(member.group) + struct.pack(">i", -1) + measure.string("") + struct.pack(">qi", -1, 1)
    return body + measure.string("load") + struct.pack(">iiqh", 1, 0, 1, -1)


def groups_with_offsets(port, count):
    """Groups without members that have committed an offset."""
    connection = Connection(port)
    members = [Member(port, f"group-{number:06d}", connection.socket) for number in range(count)]
    for reply in connection.pipeline(COMMIT, map(commit_body, members), WINDOW):
        assert reply[-2:] == b"\0\0", "OffsetCommit failed"
    return members


def beside_groups(bench, groups, prepare, call):
    """CPU of a call of one of a hundred groups, beside others. All share a connection."""
    with stores.folder() as folder:
        broker = stores.broker(bench, folder, group_initial_rebalance_delay="0ms")
        measure.create_topic(broker.address, "load", 4)
        members = prepare(broker.port, groups)
        # Each new group is looked at once, to know when its members' sessions end.
        cost.settle(broker.process.pid)
        spent = cost.microseconds(broker, lambda number: call(members[number % 100], number))
        members[0].close()
        broker.stop()
    return spent


def commits(bench, groups):
    return beside_groups(bench, groups, groups_with_offsets, lambda one, number: one.commit("load", [(0, number)]))


def heartbeats(bench, groups):
    return beside_groups(bench, groups, settled_groups, lambda one, _: beat(one))


def beat(member):
    error = member.heartbeat()
    assert error == 0, f"Heartbeat: error {error}"


def consumer_heartbeats(bench, size):
    with stores.folder() as folder:
        broker = bench.broker_for_groups(folder)
        measure.create_topic(broker.address, "load", 4)
        with Connection(broker.port) as connection:
            members = [ConsumerMember(connection, "group", number) for number in range(size)]
            for one in members:
                one.heartbeat(topics=b"\2" + compact("load"))
            settle(members)
            spent = cost.microseconds(broker, lambda _: members[0].heartbeat())
        broker.stop()
    return spent


def regex_heartbeats(bench, topics):
    with stores.folder() as folder:
        broker = bench.broker_for_groups(folder)
        measure.create_topics(broker.address, topics)
        with Connection(broker.port) as connection:
            member = ConsumerMember(connection, "group", 0)
            member.heartbeat(topics=b"\1", regex=compact("topic-.*"))
            settle([member])
            spent = cost.microseconds(broker, lambda _: member.heartbeat())
        broker.stop()
    return spent


class Crowd:
    """The members of one classic group, a hundred on a connection, where their joins and syncs are parked together."""

    def __init__(self, port, size):
        self.connections = [Connection(port) for _ in range((size + 99) // 100)]
        self.ids, self.generations, self.leader = [""] * size, [-1] * size, 0

    def exchange(self, api, body):
        """Every member's request, the leader's first and alone for a while, then every answer."""
        order = [self.leader] + [number for number in range(len(self.ids)) if number != self.leader]
        for number in order:
            self.connections[number // 100].send(api, body(number))
            if number == self.leader:
                # The others begin no rebalance, and are answered at once unless the leader has begun one.
                time.sleep(0.02)
        return {number: self.connections[number // 100].answer(api) for number in order}

    def rebalance(self):
        """Returns whether all members are of one generation."""
        told = []
        for number, reply in self.exchange(JOIN, lambda number: join_body("crowd", self.ids[number])).items():
            self.generations[number], self.ids[number], members = joined(reply)
            if members:
                told.append((number, members))
        if len(told) != 1 or told[0][1] != len(self.ids) or len(set(self.generations)) != 1:
            return False
        self.leader = told[0][0]
        for reply in self.exchange(SYNC, self.sync_body).values():
            check_error(reply, "SyncGroup")
        return True

    def rebalance_often(self, rounds):
        for _ in range(rounds):
            last = self.generations[0]
            assert self.rebalance() and self.generations[0] == last + 1, "a rebalance was not one, or was two"

    def sync_body(self, number):
        assigned = self.ids if number == self.leader else []
        return sync_body("crowd", self.generations[number], self.ids[number], assigned)

    def close(self):
        for connection in self.connections:
            connection.close()


def rebalances(bench, size):
    """KiB written per member of a rebalance in which every member joins again."""
    rounds = {10: 20, 100: 10}.get(size, 3)
    with stores.folder() as folder:
        broker = stores.broker(bench, folder, group_initial_rebalance_delay="1s")
        crowd = Crowd(broker.port, size)
        assert crowd.rebalance(), "the members did not get into one generation"
        written = cost.bytes_written(broker.process.pid, lambda: crowd.rebalance_often(rounds))
        crowd.close()
        broker.stop()
    return written / rounds / size / 1024


GROUPS, FULL = [100, 1_000, 10_000], [100_000]
ROWS = [
    Row(GROUPS, commits, [Figure("OffsetCommit, sqlite, beside groups", allowed=1.2)], full=FULL),
    Row(GROUPS, heartbeats, [Figure("Heartbeat, sqlite, beside groups of one member", allowed=1.2)], full=FULL),
    Row([10, 100, 1_000], consumer_heartbeats, [Figure("ConsumerGroupHeartbeat at rest, among members", allowed=1.2)]),
    Row(GROUPS, regex_heartbeats, [Figure("the same, by regular expression, among topics", allowed=1.2)]),
    Row([10, 100, 1_000], rebalances, [Figure("a rebalance, bytes written per member, among members", "KiB", allowed=1.5)]),
]
