#!/usr/bin/env python3
"""A transaction is whole or not there, whenever the broker is killed.

- kill -9 at every write and sync of an EndTxn over the partitions of two topics and the offsets of two groups, and before
  its answer: afterwards markers, offsets, state and last stable offset say the same, an acknowledged end holds, and a
  client that asks again gets the same answer;
- the same at the writes of the stop that follows, which folds it into tables;
- one fdatasync per EndTxn, over 1, 10 and 100 partitions;
- a transaction that its producer has abandoned is aborted after its timeout, once, though the broker was killed and
  started again meanwhile.

The kills are those of strace, at the beginning of a system call of the broker.

    transactions.py --binary PATH [--every 4] [--all]
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time

from broker import SECONDS_MAX, wait_until
from full import Configured
from system_calls import SENDS, SYNCS, WRITES, SystemCalls
from txn_wire import ABORT, COMMIT, COMMITTED, Client, Producer, refused

STORE = "y.db"
SETTINGS = "disk_reserve = 0"  # which would be copied with each store
TOPICS = {"left": [0, 1, 2], "right": [0, 1]}
GROUPS = ["first", "second"]
BEFORE, AFTER = 5, 9  # offsets that the groups have committed, and will if the transaction is
ID = "transfers"
VALUES = [b"debit", b"credit"]
# Whether it is committed, and the version of EndTxn.
ENDS = {
    "commit, version 2": (True, 5),
    "abort, version 1": (False, 2),
    "commit, version 1": (True, 2),
    "abort, version 2": (False, 5),
}
SHORT = 2
PRODUCER_FENCED, INVALID_PRODUCER_EPOCH = 90, 47
ABANDONED_MS, ABANDONED_OFFSET = 3_000, 7
# After a start it takes 10 s until timeouts are looked for, and then that is done each second.
LOOKED_AGAIN_SECONDS = 15


class Tried:
    """A broker whose store is put in its place while it does not run."""

    def __init__(self, binary, root):
        self.binary, self.folder = binary, f"{root}/tried"
        self.broker = Configured(binary, f"sqlite://{self.folder}/{STORE}", root, SETTINGS)

    def empty(self):
        if self.broker.process:
            self.broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.mkdir(self.folder)

    def start(self):
        self.broker.start()
        return Client(self.broker.address)

    def restart(self):
        """After a kill."""
        self.broker.kill()
        return self.start()

    def verify(self):
        verify(self.binary, f"{self.folder}/{STORE}")


def verify(binary, store):
    verified = subprocess.run([binary, "store", "verify", store], capture_output=True, text=True)
    assert verified.returncode == 0, f"`yagura store verify` found faults: {verified.stdout}{verified.stderr}"


def transact(producer, offset):
    """A transaction that writes to all partitions and commits an offset of each group for each of them."""
    for topic, partitions in TOPICS.items():
        producer.add_partitions(topic, partitions)
        producer.produce(topic, partitions, VALUES)
        for group in GROUPS:
            producer.commit_offsets(group, topic, dict.fromkeys(partitions, offset))


class Prepared:
    """A store with a committed transaction and one that is open behind it, as a kill has left it."""

    def __init__(self, tried):
        self.tried, self.folder = tried, f"{tried.folder}.prepared"
        tried.empty()
        with tried.start() as client:
            for topic, partitions in TOPICS.items():
                client.create_topic(topic, len(partitions))
            producer = Producer(client, ID)
            transact(producer, BEFORE)
            producer.end(True, 2)
            transact(producer, AFTER)
        self.first_open = len(VALUES) + 1  # behind the marker
        tried.broker.kill()
        self.producer = producer
        os.rename(tried.folder, self.folder)

    def attempt(self):
        shutil.rmtree(self.tried.folder, ignore_errors=True)
        shutil.copytree(self.folder, self.tried.folder)
        return Attempt(self)


class Attempt:
    """One end of the open transaction, on a copy of the store."""

    def __init__(self, prepared):
        self.prepared, self.tried, self.broker = prepared, prepared.tried, prepared.tried.broker
        self.producer, self.answer = copy.copy(prepared.producer), None
        self.start()

    def start(self):
        self.client = self.tried.start()
        self.producer.client = self.client
        # The listener is there before the store is.
        self.client.transaction_state(ID)

    def restart(self):
        self.client.socket.close()
        self.broker.kill()
        self.start()

    def end(self, commit, version, kill_at=None):
        """Ends it under strace; returns the calls that were made, and whether the broker was killed."""
        with SystemCalls(self.broker, self.tried.folder, WRITES + SENDS, kill_at) as calls:
            try:
                self.answer = self.producer.end(commit, version)
            except ConnectionError:
                assert kill_at, "the broker has closed the connection"
        return calls.counts(), self.answer is None

    def has_ended(self, commit):
        """What the store says after a restart, all of which must be the same."""
        said = {f"the state is {self.client.transaction_state(ID)}": self.client.transaction_state(ID) != "Ongoing"}
        for topic, partitions in TOPICS.items():
            for partition in partitions:
                fetched = self.client.fetch(topic, partition, 0, COMMITTED)
                said[f"{topic}-{partition} has {fetched.last_stable} of {fetched.high_watermark} stable"] = (
                    fetched.last_stable == fetched.high_watermark
                )
                said[f"{topic}-{partition} has {fetched.aborted} aborted"] = self.is_marked(topic, partition, commit)
            for group in GROUPS:
                pending = self.client.pending_offsets(group, topic, partitions)
                said |= {f"{group}'s offsets of {topic} are pending: {one}": not one for one in pending}
                offsets = self.client.committed_offsets(group, topic, partitions)
                assert set(offsets) <= ({BEFORE, AFTER} if commit else {BEFORE}), f"{group}: {offsets}"
                if commit:
                    said |= {f"{group} is at {offset} of {topic}": offset == AFTER for offset in offsets}
        assert len(set(said.values())) == 1, f"the transaction is torn: {said}"
        return said.popitem()[1]

    def is_marked(self, topic, partition, commit):
        """Whether the log has the marker of the transaction, and nothing but what belongs there."""
        log = self.client.read_log(topic, partition)
        marked = [COMMIT, COMMIT if commit else ABORT]
        markers = [batch.marker for batch in log if batch.marker is not None]
        assert markers in [marked, marked[:1]], f"{topic}-{partition} has the markers {markers}"
        data = [value for batch in log if batch.marker is None for _, _, value in batch.records]
        assert data == VALUES * 2, f"{topic}-{partition}: {data}"
        return markers == marked

    def check_whole(self, commit, version):
        """Once more to the end, which changes nothing if it has ended, and then another transaction."""
        again = self.producer.end(commit, version)
        assert self.answer in [None, again], f"an end that was answered with {self.answer} is then answered with {again}"
        assert self.has_ended(commit), "it was ended once more, and is open"
        for topic, partitions in TOPICS.items():
            for partition in partitions:
                aborted = self.client.fetch(topic, partition, 0, COMMITTED).aborted
                expected = [] if commit else [(self.producer.id, self.prepared.first_open)]
                assert aborted == expected, f"{topic}-{partition}: {aborted} aborted, and not {expected}"
            for group in GROUPS:
                offsets = self.client.committed_offsets(group, topic, partitions)
                assert set(offsets) == {AFTER if commit else BEFORE}, f"{group}: {offsets}"
        self.client.socket.close()
        self.broker.stop()
        self.tried.verify()
        self.start()
        fresh = Producer(self.client, ID)
        transact(fresh, AFTER + 1)
        fresh.end(True, 5)
        self.client.socket.close()
        self.broker.kill()


def kill_points(counts):
    """A kill at each of the calls. Answers leave by one call, of one thread or another."""
    writes = [(name, number + 1) for name in WRITES for number in range(counts[name])]
    sends = [(name, 1) for name in SENDS if counts[name]]
    return [*writes, *sends]


def check_ends(prepared, commit, version):
    """kill -9 at each write of EndTxn."""
    attempt = prepared.attempt()
    counts, _ = attempt.end(commit, version)
    attempt.restart()
    assert attempt.has_ended(commit), "an acknowledged end does not hold"
    attempt.check_whole(commit, version)
    points = kill_points(counts)
    assert any(name in SYNCS for name, _ in points) and len(points) > 3, f"an end without writes: {counts}"
    killed, there = 0, 0
    for point in points:
        attempt = prepared.attempt()
        _, was_killed = attempt.end(commit, version, point)
        attempt.restart()
        has_ended = attempt.has_ended(commit)
        assert has_ended or was_killed, f"{point}: an acknowledged end does not hold"
        killed, there = killed + was_killed, there + has_ended
        attempt.check_whole(commit, version)
    assert killed > 3, f"{killed} of {len(points)} kills have met the end"
    assert 0 < there < len(points), f"{there} of {len(points)} times the transaction has ended: not all was tried"
    return f"{killed} kills in EndTxn, after which it had ended {there} times of {len(points)}"


def stop_under_strace(attempt, kill_at=None):
    """The calls of a clean stop, which is given time to end."""
    with SystemCalls(attempt.broker, attempt.tried.folder, WRITES, kill_at) as calls:
        attempt.broker.process.terminate()
        attempt.broker.process.wait(SECONDS_MAX)
    return calls.counts()


def check_folds(prepared, commit, version, every):
    """kill -9 at some writes of the stop that follows EndTxn. A stop may have a write less than another, so that one is missed."""
    points, killed = None, 0
    while points is None or points:
        attempt = prepared.attempt()
        attempt.answer = attempt.producer.end(commit, version)
        attempt.client.socket.close()
        if points is None:
            points = kill_points(stop_under_strace(attempt))[::every]
            tried = len(points)
        else:
            stop_under_strace(attempt, points.pop())
            killed += attempt.broker.process.returncode != 0
        attempt.start()
        assert attempt.has_ended(commit), "an acknowledged end does not hold"
        attempt.check_whole(commit, version)
    assert killed >= tried - 2, f"{killed} of {tried} kills have met the stop"
    return f"{killed} in the stop after it"


def check_syncs(tried):
    """fdatasyncs of the store while an EndTxn is answered."""
    found = {}
    for partitions in [1, 10, 100]:
        tried.empty()
        with tried.start() as client:
            client.create_topic("wide", partitions)
            producer = Producer(client, ID)
            found[partitions] = []
            for _ in range(3):
                producer.add_partitions("wide", range(partitions))
                producer.produce("wide", range(partitions), VALUES)
                with SystemCalls(tried.broker, tried.folder, SYNCS) as calls:
                    answer = producer.end(True, 5)
                    found[partitions].append(calls.syncs(STORE))
                producer.go_on_as(answer)
            ends = [client.fetch("wide", partition, 0, COMMITTED).last_stable for partition in range(partitions)]
            assert ends == [3 * (len(VALUES) + 1)] * partitions, ends
    assert all(counts == [1, 1, 1] for counts in found.values()), f"fdatasyncs per EndTxn, by partitions: {found}"


def check_abandoned(tried, again_seconds):
    """Its broker is killed at once, while the timeout is looked for, and when the transaction was aborted."""
    tried.empty()
    with tried.start() as client:
        for topic, partitions in TOPICS.items():
            client.create_topic(topic, len(partitions))
        abandoned = Producer(client, ID, ABANDONED_MS)
        transact(abandoned, ABANDONED_OFFSET)
    tried.restart().socket.close()
    time.sleep(1)
    with tried.restart() as client:
        wait_until(lambda: is_stable(client), "the transaction was not aborted")
        check_aborted(client, abandoned)
    with tried.restart() as client:
        time.sleep(again_seconds)
        check_aborted(client, abandoned)
        transact(Producer(client, ID), AFTER)
    tried.broker.stop()
    tried.verify()


def is_stable(client):
    places = [(topic, partition) for topic, partitions in TOPICS.items() for partition in partitions]
    fetched = [client.fetch(*place, 0, COMMITTED) for place in places]
    return all(one.last_stable == one.high_watermark for one in fetched)


def check_aborted(client, abandoned):
    """Once, everywhere, and for its producer, too."""
    assert is_stable(client), "a transaction is open again"
    for topic, partitions in TOPICS.items():
        for partition in partitions:
            log = client.read_log(topic, partition)
            assert [batch.marker for batch in log] == [None, ABORT], f"{topic}-{partition}: {log}"
            aborted = client.fetch(topic, partition, 0, COMMITTED).aborted
            assert aborted == [(abandoned.id, 0)], f"{topic}-{partition}: {aborted}"
        for group in GROUPS:
            assert set(client.committed_offsets(group, topic, partitions)) == {-1}
    with refused(PRODUCER_FENCED, INVALID_PRODUCER_EPOCH):
        abandoned.with_client(client).end(True, 2)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--every", type=int, default=4, help="of the writes of a stop, only each of so many")
    arguments.add_argument("--all", action="store_true", help="every write of a stop, and all ways to end a transaction")
    options = arguments.parse_args()
    ends = list(ENDS.items())[: None if options.all else SHORT]
    with tempfile.TemporaryDirectory() as root:
        tried = Tried(options.binary, root)
        prepared = Prepared(tried)
        for name, (commit, version) in ends:
            in_end = check_ends(prepared, commit, version)
            in_stop = check_folds(prepared, commit, version, 1 if options.all else options.every)
            print(f"ok: {name}: {in_end}; {in_stop}: never torn")
        check_syncs(tried)
        print("ok: one fdatasync per EndTxn, over 1, 10 and 100 partitions")
        check_abandoned(tried, LOOKED_AGAIN_SECONDS if options.all else 0)
        print("ok: an abandoned transaction was aborted once, though its broker was killed three times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
