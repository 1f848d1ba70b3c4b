"""What the Python client programs share: their arguments, the data cut by codec, and the check.

Every client program is called in the same way and makes one topic per codec:

    PROGRAM --bootstrap HOST:PORT --dataset FILE --codecs none,gzip,... --prefix NAME

`NAME-none`, `NAME-gzip`, ... each hold an equal, contiguous part of the data set; the first half of a
part is produced idempotently, the second half by a plain producer.
"""

import argparse
import time

import dataset

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# The data set's timestamps lie in the past: without this a broker may delete the records at once.
TOPIC_CONFIG = {"retention.ms": "-1"}
# How long a call, the next records or a change may take. Nothing waits longer than there is something to wait for; it is
# for a machine that has no time for the test. A request that its client gives up would be sent again: a plain producer
# would then write records twice, and a topic would be there already.
SECONDS_MAX = 120


class Mismatch(Exception):
    """What came back is not what was sent."""


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--dataset", required=True, metavar="FILE")
    parser.add_argument("--codecs", default=CODECS, type=lambda text: text.split(","))
    parser.add_argument("--prefix", required=True, help="topics are called PREFIX-CODEC")
    return parser.parse_args()


def parts(records, codecs):
    """[(codec, its part of the records)], in equal and contiguous parts."""
    cuts = [len(records) * i // len(codecs) for i in range(len(codecs) + 1)]
    return [(codec, records[cuts[i]:cuts[i + 1]]) for i, codec in enumerate(codecs)]


def halves(records):
    return records[:len(records) // 2], records[len(records) // 2:]


class Checker:
    """Compares records read from a topic with those produced to it, partition by partition, in order."""

    def __init__(self, topic, records):
        self.topic = topic
        self.expected = [[r for r in records if r.partition == p] for p in range(dataset.PARTITIONS)]
        self.seen = [0] * dataset.PARTITIONS
        self.missing = len(records)

    def see(self, partition, offset, timestamp, key, value, headers):
        """Called for every record read; raises Mismatch if it is not the next one."""
        where = f"{self.topic}-{partition} at offset {offset}"
        if offset != self.seen[partition]:
            raise Mismatch(f"{where}: expected offset {self.seen[partition]}; offsets must be dense from 0")
        if offset >= len(self.expected[partition]):
            raise Mismatch(f"{where}: more records than the {len(self.expected[partition])} produced")
        wanted = self.expected[partition][offset]
        if dataset.encode_body(timestamp, partition, key, value, headers) != wanted.body:
            got = dataset.Record(timestamp, partition, key, value, headers)
            raise Mismatch(f"{where}: {difference(wanted, got)}")
        self.seen[partition] += 1
        self.missing -= 1

    def finish(self):
        if self.missing:
            wanted = [len(part) for part in self.expected]
            raise Mismatch(f"{self.topic}: read {self.seen} records of its partitions, produced {wanted}")


def difference(wanted, got):
    """Names the first field that differs, with both contents cut to a readable length."""
    for field, a, b in zip(wanted._fields, wanted, got):
        if a != b:
            return f"{field} is {short(b)}, was produced as {short(a)}"
    return "the same fields, but other bytes"


def short(content):
    text = repr(content)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def wait_until(holds, otherwise):
    """Kafka answers a change of topics a moment before all of it shows the change."""
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            raise Mismatch(f"not within {SECONDS_MAX} s: {otherwise}")
        time.sleep(0.05)


class Summary:
    """Adds up what was done and says it in one line."""

    def __init__(self, client):
        self.client, self.records, self.bytes, self.codecs, self.start = client, 0, 0, [], time.monotonic()

    def add(self, codec, records):
        self.codecs.append(codec)
        self.records += len(records)
        self.bytes += sum(len(r.body) for r in records)

    def __str__(self):
        return (f"{self.client}: {self.records} records, {self.bytes / 1e6:.1f} MB, {', '.join(self.codecs)}: "
                f"every byte and offset as produced ({time.monotonic() - self.start:.1f} s)")
