"""Judges histories of random transactions, in the manner of Jepsen's Kafka workload. README.md says what events there are.

What it may know of a transaction: it is committed if its commit was answered so; aborted if its abort was answered so, if
its commit was never called, or was called when another producer had already taken over its transactional id; of any other
the outcome is unknown, and it may be either, but has to be whole.
"""

import bisect
import math
from collections import defaultdict
from dataclasses import dataclass, field

COMMITTED, ABORTED, UNKNOWN = "committed", "aborted", "unknown"
FINAL = "final"  # the reader that reads everything when nobody writes any more
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Anomaly:
    """`about`: values and transactions, to find the events that matter."""
    kind: str
    sentence: str
    about: tuple = ()


@dataclass
class Transaction:
    name: str
    id: str
    began: int
    timeout_ms: int
    writes: list = field(default_factory=list)
    commit_called: float = math.inf
    abort_called: float = math.inf
    answered: str = UNKNOWN
    # When another producer of its id called InitProducerId, and when that was answered.
    fencing: float = math.inf
    fenced: float = math.inf

    def outcome(self):
        if self.answered == COMMITTED:
            return COMMITTED
        if self.answered == ABORTED or math.isinf(self.commit_called) or self.commit_called > self.fenced:
            return ABORTED
        return UNKNOWN

    def open_until(self):
        """Until then nobody can have ended it."""
        return min(self.commit_called, self.abort_called, self.fencing, self.began + self.timeout_ms * NS_PER_MS)


@dataclass
class Write:
    value: str
    partition: int
    transaction: Transaction
    called: int
    stored: float = math.inf
    offset: int | None = None


@dataclass(frozen=True)
class Read:
    reader: str
    partition: int
    offset: int
    value: str
    at: int


class History:
    """Events, in the order of their times, as what they are about."""

    def __init__(self, events):
        self.transactions, self.writes = {}, {}
        self.reads, self.observations = [], []
        self.runs = []  # (reader, partition, begin or None, reads): each from one assignment to the next
        self._current = {}
        self.is_final = False
        self._of_id = defaultdict(list)
        for event in sorted(events, key=lambda event: event["at"]):
            getattr(self, f"_{event['event']}")(event)

    def _begin(self, event):
        one = Transaction(event["txn"], event["id"], event["at"], event["timeout_ms"])
        self.transactions[one.name] = one
        self._of_id[one.id].append(one)

    def _init(self, event):
        for one in self._of_id[event["id"]]:
            one.fencing = min(one.fencing, event["at"])

    def _initialised(self, event):
        for one in self._of_id[event["id"]]:
            one.fenced = min(one.fenced, event["at"])

    def _write(self, event):
        one = Write(event["value"], event["partition"], self.transactions[event["txn"]], event["at"])
        one.transaction.writes.append(one)
        self.writes[one.value] = one

    def _stored(self, event):
        one = self.writes[event["value"]]
        one.stored, one.offset = event["at"], event["offset"]

    def _commit(self, event):
        one = self.transactions[event["txn"]]
        one.commit_called = min(one.commit_called, event["at"])

    def _abort(self, event):
        self.transactions[event["txn"]].abort_called = event["at"]

    def _end(self, event):
        self.transactions[event["txn"]].answered = event["outcome"]

    def _assign(self, event):
        for partition, begin in event["partitions"]:
            self._start(event["reader"], partition, begin)

    def _start(self, reader, partition, begin):
        run = (reader, partition, begin, [])
        self._current[reader, partition] = run
        self.runs.append(run)
        return run

    def _read(self, event):
        one = Read(event["reader"], event["partition"], event["offset"], event["value"], event["at"])
        self.reads.append(one)
        run = self._current.get((one.reader, one.partition)) or self._start(one.reader, one.partition, None)
        run[3].append(one)

    def _lso(self, event):
        self.observations.append((event["from"], event["at"], event["partition"], event["stable"]))

    def _final(self, _):
        self.is_final = True


def check(events):
    """All anomalies of a history; it is of no use without a final read."""
    history = History(events)
    if not history.is_final:
        raise ValueError("the history has no final read: read all partitions to their ends when nobody writes any more")
    return [anomaly for find in CHECKS for anomaly in find(history)]


def lost_and_torn(history):
    final = {read.value for read in history.reads if read.reader == FINAL}
    for one in history.transactions.values():
        seen = [write for write in one.writes if write.value in final]
        missing = [write for write in one.writes if write.value not in final]
        outcome = one.outcome()
        if outcome == COMMITTED:
            for write in missing:
                yield Anomaly("lost write", f"{write.value} of the committed {one.name} is not there", (write.value, one.name))
        if outcome != ABORTED and seen and missing:
            yield Anomaly("torn transaction", f"of {one.name} ({outcome}) {len(seen)} records are there and {len(missing)} "
                          f"are not, such as {missing[0].value}", (one.name,))


def duplicates(history):
    places, values = defaultdict(set), defaultdict(set)
    for read in history.reads:
        places[read.value].add((read.partition, read.offset))
        values[read.partition, read.offset].add(read.value)
    for value, found in places.items():
        if len(found) > 1:
            yield Anomaly("duplicate", f"{value} is at {sorted(found)} (partition, offset)", (value,))
    for place, found in values.items():
        if len(found) > 1:
            yield Anomaly("inconsistent read", f"at {place} (partition, offset) there is {sorted(found)}", tuple(found))


def wrong_reads(history):
    for read in history.reads:
        write = history.writes.get(read.value)
        what = f"{read.reader} has read {read.value} at offset {read.offset} of partition {read.partition}"
        if write is None:
            yield Anomaly("unwritten value", f"{what}, which nobody wrote", (read.value,))
            continue
        one = write.transaction
        about = (read.value, one.name)
        if one.outcome() == ABORTED:
            yield Anomaly("aborted read", f"{what}, and {one.name} is aborted", about)
        elif read.at < one.commit_called:
            yield Anomaly("uncommitted read", f"{what} before the commit of {one.name} was called", about)
        stored = read.offset if write.offset is None else write.offset
        if (write.partition, stored) != (read.partition, read.offset):
            yield Anomaly("moved write", f"{what}; it was stored at offset {write.offset} of {write.partition}", about)


def zombies(history):
    for one in history.transactions.values():
        if one.answered == COMMITTED and one.commit_called > one.fenced:
            yield Anomaly("zombie", f"the commit of {one.name} was called and answered after its producer was fenced",
                          (one.name,))


def non_monotonic_polls(history):
    for reader, partition, _, reads in history.runs:
        for before, after in zip(reads, reads[1:]):
            if after.offset <= before.offset:
                yield Anomaly("non-monotonic poll", f"{reader} has read offset {after.offset} of partition {partition} after "
                              f"{before.offset}", (before.value, after.value))


def skipped_reads(history):
    """What is readable in the end between two records was readable when the later of them was."""
    final = defaultdict(dict)
    for read in history.reads:
        if read.reader == FINAL:
            final[read.partition][read.offset] = read.value
    offsets = {partition: sorted(values) for partition, values in final.items()}
    for reader, partition, begin, reads in history.runs:
        seen = {read.offset for read in reads}
        if not seen:
            continue
        own = offsets.get(partition, [])
        first = min(seen) if begin is None else begin
        for offset in own[bisect.bisect_left(own, first):bisect.bisect_left(own, max(seen))]:
            if offset not in seen:
                value = final[partition][offset]
                yield Anomaly("skipped read", f"{reader} has read partition {partition} from {first} to {max(seen)} without "
                              f"{value} at {offset}", (value,))


class OpenTransactions:
    """Of one partition: which transaction that begins below an offset was open last."""

    def __init__(self, transactions):
        """`transactions`: (first offset, open until, name)."""
        ordered = sorted(transactions)
        self.firsts = [first for first, *_ in ordered]
        self.longest, longest = [], (-math.inf, "")
        for _, until, name in ordered:
            longest = max(longest, (until, name))
            self.longest.append(longest)

    def open_below(self, offset, at):
        """The name of a transaction that was open at that time for sure, and has a record below the offset."""
        number = bisect.bisect_left(self.firsts, offset)
        until, name = self.longest[number - 1] if number else (-math.inf, "")
        return name if until > at else None


def open_by_partition(history):
    firsts = {}
    for write in history.writes.values():
        if write.offset is not None:
            key = (write.partition, write.transaction.name)
            firsts[key] = min(firsts.get(key, math.inf), write.offset)
    found = defaultdict(list)
    for (partition, name), first in firsts.items():
        found[partition].append((first, history.transactions[name].open_until(), name))
    return {partition: OpenTransactions(transactions) for partition, transactions in found.items()}


def lso_past_open(history):
    by_partition = open_by_partition(history)
    none = OpenTransactions([])
    for _, at, partition, stable in history.observations:
        name = by_partition.get(partition, none).open_below(stable, at)
        if name:
            yield Anomaly("LSO past an open transaction", f"the last stable offset of partition {partition} was {stable} while "
                          f"{name} was open below it", (name,))
    for read in history.reads:
        name = by_partition.get(read.partition, none).open_below(read.offset, read.at)
        if name and history.writes.get(read.value) and history.writes[read.value].transaction.name != name:
            yield Anomaly("LSO past an open transaction", f"{read.reader} has read {read.value} at offset {read.offset} of "
                          f"partition {read.partition} while {name} was open below it", (read.value, name))


def lso_went_back(history):
    """Only observations of which one was over when the other began have an order."""
    by_partition = defaultdict(list)
    for begin, end, partition, stable in history.observations:
        by_partition[partition].append((begin, end, stable))
    for partition, observed in by_partition.items():
        ended = sorted(observed, key=lambda one: one[1])
        number, highest = 0, -1
        for begin, _, stable in sorted(observed):
            while number < len(ended) and ended[number][1] < begin:
                highest = max(highest, ended[number][2])
                number += 1
            if stable < highest:
                yield Anomaly("LSO went back", f"the last stable offset of partition {partition} was {highest}, then {stable}")


def reordered_writes(history):
    """What was stored before another write was called stands before it; so do the writes of one transaction."""
    by_partition = defaultdict(list)
    for write in history.writes.values():
        if write.offset is not None:
            by_partition[write.partition].append(write)
    for partition, writes in by_partition.items():
        stored = sorted(writes, key=lambda write: write.stored)
        number, last, before = 0, None, {}
        for write in sorted(writes, key=lambda write: write.called):
            while number < len(stored) and stored[number].stored < write.called:
                if last is None or stored[number].offset > last.offset:
                    last = stored[number]
                number += 1
            own = before.get(write.transaction.name)
            earlier = next((one for one in (last, own) if one and one.offset >= write.offset), None)
            if earlier:
                yield Anomaly("reordered writes", f"{earlier.value} was written before {write.value}, and stands behind it in "
                              f"partition {partition}: {earlier.offset} and {write.offset}", (earlier.value, write.value))
            before[write.transaction.name] = write


CHECKS = [lost_and_torn, duplicates, wrong_reads, zombies, non_monotonic_polls, skipped_reads, lso_past_open, lso_went_back,
          reordered_writes]
