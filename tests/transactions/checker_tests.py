#!/usr/bin/env python3
"""The checker finds each anomaly where it is, and none where it is not: checker_tests.py."""

import random
import unittest

from checker import COMMITTED, FINAL, NS_PER_MS, UNKNOWN, check

TIMEOUT_MS = 60_000


class Story:
    """Events, one after another; what may be is a partition's log that is kept along."""

    def __init__(self):
        self.events, self.at, self.logs = [], 0, {0: [], 1: []}

    def tell(self, event, **fields):
        self.at += 10
        self.events.append({"event": event, "at": self.at, **fields})

    def begin(self, txn, id=None):
        self.tell("begin", txn=txn, id=id or txn, timeout_ms=TIMEOUT_MS)

    def write(self, txn, *values, partition=0, is_stored=True):
        for value in values:
            self.tell("write", txn=txn, value=value, partition=partition)
            self.logs[partition].append(value)
            if is_stored:
                self.stored(value, partition, len(self.logs[partition]) - 1)

    def stored(self, value, partition, offset):
        self.tell("stored", value=value, partition=partition, offset=offset)

    def commit(self, txn, outcome=COMMITTED):
        self.tell("commit", txn=txn)
        if outcome:
            self.tell("end", txn=txn, outcome=outcome)
        for log in self.logs.values():
            log.append("marker")

    def abort(self, txn):
        self.tell("abort", txn=txn)
        self.tell("end", txn=txn, outcome="aborted")
        for log in self.logs.values():
            log.append("marker")

    def init(self, id):
        self.tell("init", id=id)
        self.tell("initialised", id=id)

    def assign(self, reader="r", begin=0):
        self.tell("assign", reader=reader, partitions=[[0, begin], [1, begin]])

    def read(self, *values, reader="r", partition=0):
        for value in values:
            self.tell("read", reader=reader, partition=partition, offset=self.logs[partition].index(value), value=value)

    def lso(self, stable, partition=0):
        begin = self.at + 1
        self.tell("lso", partition=partition, stable=stable, **{"from": begin})

    def final(self, *values, one=()):
        """Values of partition 0, and of partition 1."""
        self.tell("assign", reader=FINAL, partitions=[[0, 0], [1, 0]])
        self.read(*values, reader=FINAL)
        self.read(*one, reader=FINAL, partition=1)
        self.tell("final")

    def kinds(self):
        return {anomaly.kind for anomaly in check(self.events)}


def committed(*values):
    """A committed transaction of its own for each value, in partition 0."""
    story = Story()
    for value in values:
        story.begin(f"t-{value}")
        story.write(f"t-{value}", value)
        story.commit(f"t-{value}")
    return story


class GoodHistories(unittest.TestCase):
    def good(self, story):
        self.assertEqual(check(story.events), [])

    def test_commits_and_aborts(self):
        story = Story()
        story.assign()
        story.begin("a")
        story.begin("b")
        story.write("a", "a1", "a2")
        story.write("b", "b1")
        story.write("a", "a3", partition=1)
        story.lso(0)
        story.abort("b")
        story.lso(0)
        story.commit("a")
        story.lso(4)
        story.read("a1", "a2")
        story.read("a3", partition=1)
        story.final("a1", "a2", one=["a3"])
        self.good(story)

    def test_an_unknown_outcome_may_be_either(self):
        for outcome in (UNKNOWN, None):
            story = Story()
            for txn in "ab":
                story.begin(txn)
                story.write(txn, f"{txn}1", f"{txn}2", is_stored=txn == "a")
                story.commit(txn, outcome)
            story.final("b1", "b2")
            self.good(story)

    def test_a_commit_that_was_called_before_the_fence_may_have_happened(self):
        for visible in (["a1"], []):
            story = Story()
            story.begin("a", "id")
            story.write("a", "a1")
            story.tell("init", id="id")
            story.commit("a", UNKNOWN)
            story.tell("initialised", id="id")
            story.final(*visible)
            self.good(story)

    def test_a_transaction_that_was_left_is_over_when_another_producer_asks_or_its_time_is_up(self):
        story = committed("x")
        story.begin("a", "id")
        story.write("a", "a1")
        story.init("id")
        story.begin("b")
        story.write("b", "b1")
        story.commit("b")
        story.lso(5)
        story.begin("c")
        story.write("c", "c1")
        story.at += TIMEOUT_MS * NS_PER_MS
        story.lso(7)
        story.final("x", "b1")
        self.good(story)

    def test_a_reader_may_begin_anywhere_and_again(self):
        story = committed("a", "b", "c")
        story.assign(begin=None)
        story.read("b", "c")
        story.assign(begin=2)
        story.read("b", "c")
        story.final("a", "b", "c")
        self.good(story)

    def test_without_a_final_read_nothing_is_said(self):
        with self.assertRaises(ValueError):
            check(committed("a").events)


class Anomalies(unittest.TestCase):
    def bad(self, story, *kinds):
        self.assertEqual(story.kinds(), set(kinds))

    def test_lost_write(self):
        story = committed("a", "b")
        story.final("b")
        self.bad(story, "lost write")

    def test_duplicate(self):
        story = committed("a", "b")
        story.logs[0].append("again")
        story.final("a", "b")
        story.tell("read", reader=FINAL, partition=0, offset=4, value="b")
        for event in story.events:  # Nobody was told where it is, so nothing has moved.
            if event["event"] == "stored":
                event["event"], event["id"] = "init", "nobody"
        self.bad(story, "duplicate")

    def test_moved_write(self):
        story = Story()
        story.begin("a")
        story.write("a", "a1", is_stored=False)
        story.stored("a1", 0, 3)
        story.commit("a")
        story.final("a1")
        self.bad(story, "moved write")
        story = committed("a")  # at offset 0
        story.tell("read", reader=FINAL, partition=0, offset=1, value="a")
        story.tell("final")
        self.bad(story, "moved write")

    def test_inconsistent_read(self):
        story = committed("a", "b")
        story.tell("read", reader="r", partition=0, offset=0, value="b")
        story.final("a", "b")
        self.assertIn("inconsistent read", story.kinds())

    def test_aborted_read(self):
        story = Story()
        story.begin("a")
        story.write("a", "a1")
        story.abort("a")
        story.read("a1")
        story.final()
        self.bad(story, "aborted read")

    def test_read_of_what_was_never_to_be_committed(self):
        story = Story()
        story.begin("a", "id")
        story.write("a", "a1")
        story.init("id")
        story.final("a1")
        self.bad(story, "aborted read")

    def test_uncommitted_read(self):
        story = Story()
        story.begin("a")
        story.write("a", "a1")
        story.read("a1")
        story.commit("a")
        story.final("a1")
        self.bad(story, "uncommitted read")

    def test_a_zombie_commits(self):
        story = Story()
        story.begin("a", "id")
        story.write("a", "a1")
        story.init("id")
        story.commit("a")
        story.final("a1")
        self.bad(story, "zombie")
        story = Story()
        story.begin("a", "id")
        story.write("a", "a1")
        story.init("id")
        story.commit("a", UNKNOWN)
        story.final("a1")
        self.bad(story, "aborted read")

    def test_torn_transaction(self):
        for outcome, more in [(UNKNOWN, []), (None, []), (COMMITTED, ["lost write"])]:
            story = Story()
            story.begin("a")
            story.write("a", "a1")
            story.write("a", "a2", partition=1)
            story.commit("a", outcome)
            story.final("a1")
            self.bad(story, "torn transaction", *more)

    def test_non_monotonic_poll(self):
        for values in [("a", "b", "a"), ("a", "a", "b")]:
            story = committed("a", "b")
            story.assign()
            story.read(*values)
            story.final("a", "b")
            self.bad(story, "non-monotonic poll")

    def test_skipped_read(self):
        story = committed("a", "b", "c")
        story.assign(begin=None)
        story.read("a", "c")
        story.final("a", "b", "c")
        self.bad(story, "skipped read")
        story = committed("a", "b")
        story.assign(begin=0)
        story.read("b")
        story.final("a", "b")
        self.bad(story, "skipped read")

    def test_last_stable_offset_past_an_open_transaction(self):
        story = committed("x")
        story.begin("a")
        story.write("a", "a1")  # at offset 2
        story.lso(2)
        story.lso(3)
        story.commit("a")
        story.final("x", "a1")
        self.bad(story, "LSO past an open transaction")

    def test_read_past_an_open_transaction(self):
        story = Story()
        story.begin("a")
        story.write("a", "a1")
        story.begin("b")
        story.write("b", "b1")
        story.commit("b")
        story.read("b1")
        story.commit("a")
        story.final("a1", "b1")
        # When it was open the reader was told nothing of it.
        self.assertIn("LSO past an open transaction", story.kinds())

    def test_a_longer_transaction_hides_no_other(self):
        story = Story()
        for txn in "ab":
            story.begin(txn)
            story.write(txn, f"{txn}1")
        story.commit("a")
        story.lso(2)
        story.abort("b")
        story.final("a1")
        self.bad(story, "LSO past an open transaction")

    def test_last_stable_offset_goes_back(self):
        story = committed("a")
        story.lso(2)
        story.lso(1)
        story.final("a")
        self.bad(story, "LSO went back")

    def test_reordered_writes(self):
        story = Story()
        story.begin("a")
        story.tell("write", txn="a", value="a1", partition=0)
        story.tell("write", txn="a", value="a2", partition=0)
        story.stored("a1", 0, 1)
        story.stored("a2", 0, 0)
        story.commit("a")
        story.logs[0] = ["a2", "a1"]
        story.final("a2", "a1")
        self.bad(story, "reordered writes")
        story = Story()
        for txn, offset in [("a", 1), ("b", 0)]:
            story.begin(txn)
            story.tell("write", txn=txn, value=f"{txn}1", partition=0)
            story.stored(f"{txn}1", 0, offset)
            story.commit(txn)
        story.logs[0] = ["b1", "a1"]
        story.final("b1", "a1")
        self.bad(story, "reordered writes")

    def test_unwritten_value(self):
        story = committed("a")
        story.logs[0] += ["ghost"]
        story.final("a", "ghost")
        self.bad(story, "unwritten value")


class Model:
    """A broker of one partition and its clients, with random steps, and with a flaw if one is named."""

    def __init__(self, seed, flaw=None):
        self.dice, self.flaw, self.events, self.at = random.Random(seed), flaw, [], 0
        self.log, self.open, self.aborted = [], {}, set()  # (value, txn), or None for a marker; first offset by txn
        self.count, self.next = 0, 0

    def tell(self, event, **fields):
        self.at += 1
        self.events.append({"event": event, "at": self.at, **fields})

    def stable(self):
        return len(self.log) if self.flaw == "no LSO" else min(self.open.values(), default=len(self.log))

    def write(self):
        if len(self.open) < 3:
            self.count += 1
            self.open[f"t{self.count}"] = len(self.log)
            self.tell("begin", txn=f"t{self.count}", id=f"t{self.count}", timeout_ms=TIMEOUT_MS)
        txn = self.dice.choice(sorted(self.open))
        if not any(one and one[1] == txn for one in self.log[self.open[txn]:]):
            self.open[txn] = len(self.log)
        value = f"v{len(self.log)}"
        self.tell("write", txn=txn, value=value, partition=0)
        self.log.append((value, txn))
        self.tell("stored", value=value, partition=0, offset=len(self.log) - 1)

    def end(self):
        if not self.open:
            return
        txn = self.dice.choice(sorted(self.open))
        is_aborted = self.dice.random() < 0.3
        outcome = "aborted" if is_aborted else self.dice.choice([COMMITTED, UNKNOWN])
        self.tell("abort" if is_aborted else "commit", txn=txn)
        if is_aborted or outcome == UNKNOWN and self.dice.random() < 0.5:
            self.aborted.add(txn)
        del self.open[txn]
        self.log.append(None)
        self.tell("end", txn=txn, outcome=outcome)

    def visible(self, offset):
        one = self.log[offset]
        if one is None or self.flaw == "loses" and offset % 50 == 7:
            return False
        return one[1] not in self.aborted or self.flaw == "shows aborted"

    def poll(self, reader="r"):
        while self.next < self.stable():
            if self.visible(self.next):
                self.tell("read", reader=reader, partition=0, offset=self.next, value=self.log[self.next][0])
            self.next += 1

    def observe(self):
        self.tell("lso", partition=0, stable=self.stable(), **{"from": self.at + 1})

    def run(self, steps=3000):
        self.tell("assign", reader="r", partitions=[[0, 0]])
        for _ in range(steps):
            self.dice.choice([self.write, self.write, self.write, self.end, self.poll, self.observe])()
        while self.open:
            self.end()
        self.next = 0
        self.tell("assign", reader=FINAL, partitions=[[0, 0]])
        self.poll(FINAL)
        self.tell("final")
        return {anomaly.kind for anomaly in check(self.events)}


class Models(unittest.TestCase):
    def test_a_good_broker_has_no_anomalies(self):
        for seed in range(10):
            self.assertEqual(Model(seed).run(), set(), f"seed {seed}")

    def test_a_flaw_is_found(self):
        for flaw, kinds in [("no LSO", {"LSO past an open transaction", "uncommitted read"}),
                            ("loses", {"lost write", "torn transaction"}), ("shows aborted", {"aborted read"})]:
            found = Model(1, flaw).run()
            self.assertLessEqual(kinds, found, flaw)


if __name__ == "__main__":
    unittest.main()
