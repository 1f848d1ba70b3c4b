"""CPU per call at sizes a factor of ten apart: what a cost grows with decides how much a broker can hold."""

import os
import struct
import tempfile

import measure
from group_members import Member

CONSUMER_HEARTBEAT = (68, 1)
CALLS = 3_000
NOTHING = b"\0"  # a compact array or string that is null
UNCHANGED = -1


def cpu_seconds(pid):
    """CPU time of all threads, to the nanosecond."""
    spent = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
            spent += int(stat.read().split()[0])
    return spent / 1e9


def microseconds(broker, calls, call):
    """CPU of the broker per call."""
    for number in range(calls // 10):
        call(number)
    before = cpu_seconds(broker.process.pid)
    for number in range(calls):
        call(number)
    return (cpu_seconds(broker.process.pid) - before) / calls * 1e6


def compact(text):
    return bytes([len(text) + 1]) + text.encode()


class ConsumerMember:
    """A member of the consumer protocol (KIP-848). All share a connection."""

    def __init__(self, member, group, number):
        self.member, self.group, self.id, self.epoch = member, group, f"member-{number:05d}", 0
        self.told = None  # the assignment that it has yet to say it owns, as it is on the wire

    def heartbeat(self, topics=NOTHING, regex=NOTHING):
        joins = self.epoch == 0
        body = compact(self.group) + compact(self.id) + struct.pack(">i", self.epoch) + NOTHING + NOTHING
        body += struct.pack(">i", 300_000 if joins else UNCHANGED) + topics + regex + NOTHING
        body += (b"\1" if joins else self.told or NOTHING) + b"\0"
        self.member.connection.sendall(measure.request(*CONSUMER_HEARTBEAT, body, True))
        reply = measure.receive(self.member.connection)[5:]
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


def beside_groups(bench, groups, prepare, call):
    """CPU of a call of one of a hundred groups, beside others. All share a connection."""
    with tempfile.TemporaryDirectory() as folder:
        broker = bench.broker_for_groups(folder)
        measure.create_topic(broker.address, "load", 4)
        connection = Member(broker.port, "unused").connection
        members = [Member(broker.port, f"group-{number:05d}", connection) for number in range(groups)]
        for one in members:
            prepare(one)
        spent = microseconds(broker, CALLS, lambda number: call(members[number % 100], number))
        broker.stop()
    return spent


def commits(bench, groups):
    return beside_groups(bench, groups, lambda one: one.commit("load", [(0, 1)]),
                         lambda one, number: one.commit("load", [(0, number)]))


def heartbeats(bench, groups):
    return beside_groups(bench, groups, Member.settle, lambda one, _: one.heartbeat())


def consumer_heartbeats(bench, size):
    with tempfile.TemporaryDirectory() as folder:
        broker = bench.broker_for_groups(folder)
        measure.create_topic(broker.address, "load", 4)
        connection = Member(broker.port, "unused")
        members = [ConsumerMember(connection, "group", number) for number in range(size)]
        for one in members:
            one.heartbeat(topics=b"\2" + compact("load"))
        settle(members)
        spent = microseconds(broker, CALLS, lambda _: members[0].heartbeat())
        broker.stop()
    return spent


def regex_heartbeats(bench, topics):
    with tempfile.TemporaryDirectory() as folder:
        broker = bench.broker_for_groups(folder)
        measure.create_topics(broker.address, topics)
        member = ConsumerMember(Member(broker.port, "unused"), "group", 0)
        member.heartbeat(topics=b"\1", regex=compact("topic-.*"))
        settle([member])
        spent = microseconds(broker, CALLS, lambda _: member.heartbeat())
        broker.stop()
    return spent


# What, the sizes, the cost, and how much more the largest may cost than the smallest.
ROWS = [
    ("OffsetCommit, sqlite, beside groups", [100, 1_000, 10_000], commits, 1.2),
    ("Heartbeat, sqlite, beside groups of one member", [100, 1_000, 10_000], heartbeats, 1.2),
    ("ConsumerGroupHeartbeat at rest, among members", [10, 100, 1_000], consumer_heartbeats, 1.2),
    ("the same, by regular expression, among topics", [100, 1_000, 10_000], regex_heartbeats, 1.2),
]


def run(bench):
    """For each cost a row per size, and one of the largest size over the smallest."""
    for what, sizes, cost, allowed in ROWS:
        runs = bench.repeat(lambda: [cost(bench, size) for size in sizes])
        for index, size in enumerate(sizes):
            bench.report(f"{what}: {size:,}", "us of CPU", [costs[index] for costs in runs])
        bench.report(f"{what}: {sizes[-1]:,} over {sizes[0]:,}", "x", [costs[-1] / costs[0] for costs in runs], f"<= {allowed}")
