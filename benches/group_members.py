"""Consumer groups over raw sockets, so that no client library is part of what is measured."""

import contextlib
import socket
import struct
import threading
import time

import measure

JOIN, SYNC, HEARTBEAT, COMMIT, FETCH = (11, 2), (14, 1), (12, 1), (8, 2), (9, 2)
SESSION_MS = 30_000


def data(content):
    return struct.pack(">i", len(content)) + content


class Member:
    """A member of a group, on a connection of its own if it is not given one."""

    def __init__(self, port, group, connection=None):
        self.connection = connection or socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.group, self.id, self.generation = group, "", -1

    def ask(self, api, body):
        self.connection.sendall(measure.request(*api, body, False))
        return measure.receive(self.connection)[4:]

    def join(self):
        """Returns whether it leads, and the ids of the members if it does."""
        body = measure.string(self.group) + struct.pack(">ii", SESSION_MS, SESSION_MS) + measure.string(self.id)
        body += measure.string("consumer") + struct.pack(">i", 1) + measure.string("range") + data(b"\0\0\0\0\0\0")
        reply = self.ask(JOIN, body)
        error, self.generation = struct.unpack(">hi", reply[4:10])
        assert error == 0, f"JoinGroup: error {error}"
        at = 10
        (_, leader, self.id), at = strings(reply, at, 3)
        count, at = struct.unpack(">i", reply[at:at + 4])[0], at + 4
        members = []
        for _ in range(count):
            (one,), at = strings(reply, at, 1)
            at += 4 + struct.unpack(">i", reply[at:at + 4])[0]
            members.append(one)
        return leader == self.id, members

    def sync(self, members):
        body = measure.string(self.group) + struct.pack(">i", self.generation) + measure.string(self.id)
        body += struct.pack(">i", len(members)) + b"".join(measure.string(one) + data(b"part") for one in members)
        return struct.unpack(">h", self.ask(SYNC, body)[4:6])[0]

    def settle(self):
        """Joins and syncs until it has its part."""
        while True:
            is_leader, members = self.join()
            if self.sync(members if is_leader else []) == 0:
                return

    def heartbeat(self):
        body = measure.string(self.group) + struct.pack(">i", self.generation) + measure.string(self.id)
        return struct.unpack(">h", self.ask(HEARTBEAT, body)[4:6])[0]

    def live(self):
        """Settles, and lives until it is closed: joins again whenever it is asked to."""
        with contextlib.suppress(OSError, ConnectionError):
            self.settle()
            while True:
                time.sleep(0.02)
                if self.heartbeat() != 0:
                    self.settle()

    def commit(self, topic, offsets):
        body = measure.string(self.group) + struct.pack(">i", self.generation) + measure.string(self.id)
        body += struct.pack(">qi", -1, 1) + measure.string(topic) + struct.pack(">i", len(offsets))
        body += b"".join(struct.pack(">iqh", partition, offset, -1) for partition, offset in offsets)
        self.ask(COMMIT, body)

    def fetch(self, topic, partitions):
        body = measure.string(self.group) + struct.pack(">i", 1) + measure.string(topic)
        body += struct.pack(">i", partitions) + b"".join(struct.pack(">i", one) for one in range(partitions))
        started = time.perf_counter()
        self.ask(FETCH, body)
        return time.perf_counter() - started

    def close(self):
        self.connection.close()


def strings(reply, at, count):
    found = []
    for _ in range(count):
        length = max(struct.unpack(">h", reply[at:at + 2])[0], 0)
        found.append(reply[at + 2:at + 2 + length].decode())
        at += 2 + length
    return found, at


def assigned_after_last_join(port, number):
    """Seconds from the join of the third member to the assignment of all three."""
    members = [Member(port, f"bench-{number}") for _ in range(3)]
    threads = [threading.Thread(target=one.live, daemon=True) for one in members[:2]]
    for thread in threads:
        thread.start()
    while not all(one.generation > 0 for one in members[:2]):
        time.sleep(0.01)
    time.sleep(0.1)
    started = time.perf_counter()
    members[2].settle()
    took = time.perf_counter() - started
    for one in members:
        one.connection.shutdown(socket.SHUT_RDWR)
        one.close()
    return took


def many(port, groups):
    """Settled members of many groups, two in each."""
    members = []
    for number in range(groups):
        first, second = (Member(port, f"many-{number}") for _ in range(2))
        first.settle()
        joining = threading.Thread(target=second.settle)
        joining.start()
        while joining.is_alive():
            if first.heartbeat() != 0:
                first.settle()
        members += [first, second]
    return members


def beat(members, seconds, every=3.0):
    """Each member's heartbeat once in `every` seconds, spread evenly."""
    pause, end, number = every / len(members), time.monotonic() + seconds, 0
    due = time.monotonic()
    while time.monotonic() < end:
        assert members[number % len(members)].heartbeat() == 0
        number, due = number + 1, due + pause
        time.sleep(max(0, due - time.monotonic()))


def commits_per_second(port, topic, connections, seconds):
    """OffsetCommits of one partition each, one after the other on each connection."""
    counts = [0] * connections
    end = time.monotonic() + seconds

    def run(index):
        member = Member(port, f"commit-{index}")
        while time.monotonic() < end:
            member.commit(topic, [(index % 4, counts[index])])
            counts[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(connections)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)
