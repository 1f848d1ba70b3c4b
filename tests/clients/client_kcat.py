#!/usr/bin/env python3
"""Shows that kcat (Debian's, with the old librdkafka 2.0) produces to and consumes from the broker.

For each codec and partition two runs of `kcat -P`: an idempotent one, whose empty keys and values
stay empty, and a plain one with acks=1 and -Z, whose empty ones become null; each with its own
headers (the same key twice, a null and an empty value, unicode). Then one `kcat -C -o beginning -e` per
topic, every byte and offset checked; `-o -N`, `-L` and `-Q` too.

kcat cannot create a topic with several partitions, or set timestamps: topics are made by wire.py, and
timestamps must lie within the test's run. Records that hold kcat's delimiters are left out.
"""

import json
import subprocess
import sys
import time

import checking
import dataset
import wire

TIMEOUTS = ["-X", f"socket.timeout.ms={checking.SECONDS_MAX * 1000}"]
RECORD_END, KEY_END = b"\x1e", b"\x1f"
RUN_SECONDS_MAX = 600
DELIMITERS = ["-D", r"\x1e", "-K", r"\x1f"]
# kcat's options, the headers they make, and how kcat prints those.
RUNS = [
    (["-X", "enable.idempotence=true", "-H", "run=first", "-H", "hop=edge", "-H", "hop=core", "-H", "consent"],
     b"run=first,hop=edge,hop=core,consent=NULL"),
    (["-Z", "-X", "acks=1", "-H", "run=second", "-H", "note=", "-H", "emoji=🏯"],
     "run=second,note=,emoji=🏯".encode()),
]


def kcat(bootstrap, *args, stdin=None):
    done = subprocess.run(["kcat", "-b", bootstrap, *TIMEOUTS, *args], input=stdin, capture_output=True,
                          timeout=RUN_SECONDS_MAX)
    if done.returncode:
        raise checking.Mismatch(f"kcat {' '.join(args)}: exit {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def as_sent(record, nulls):
    """What kcat can say of a record: with -Z nothing is empty, without it no value is null."""
    key, value = record.key, record.value
    if nulls:
        return key or None, value or None
    # Without a key delimiter there is no key; but an empty line would be no record at all.
    return (b"" if key is None and not value else key), value or b""


def line(key, value, nulls):
    if key is None and not nulls:
        return value + RECORD_END
    return (key or b"") + KEY_END + (value or b"") + RECORD_END


def produce(bootstrap, topic, codec, partition, records):
    """Returns what must be read back: [(key, value, printed headers)]."""
    expected = []
    for half, (options, printed) in zip(checking.halves(records), RUNS):
        nulls = "-Z" in options
        pairs = [as_sent(r, nulls) for r in half]
        compression = [] if codec == "none" else ["-z", codec]
        kcat(bootstrap, "-P", "-t", topic, "-p", str(partition), *compression, *DELIMITERS, "-X", "linger.ms=50",
             "-X", f"request.timeout.ms={checking.SECONDS_MAX * 1000}",
             *options, stdin=b"".join(line(key, value, nulls) for key, value in pairs))
        expected += [(key, value, printed) for key, value in pairs]
    return expected


def consume(bootstrap, topic):
    """Yields (partition, offset, timestamp, key, value, printed headers) of all records."""
    out = kcat(bootstrap, "-C", "-q", "-t", topic, "-o", "beginning", "-e", "-X", "check.crcs=true",
               "-f", "%p %o %T %K %S %k%s%h\n")
    at = 0
    while at < len(out):
        *numbers, _ = out[at:at + 100].split(b" ", 5)
        at += sum(len(n) + 1 for n in numbers)
        partition, offset, timestamp, key_length, value_length = map(int, numbers)
        key, at = take(out, at, key_length)
        value, at = take(out, at, value_length)
        end = out.index(b"\n", at)
        yield partition, offset, timestamp, key, value, out[at:end]
        at = end + 1


def take(data, at, length):
    return (None, at) if length < 0 else (data[at:at + length], at + length)


def check_topic(topic, read, expected, started_ms):
    """`expected` is a list per partition."""
    seen = [0] * len(expected)
    now_ms = time.time() * 1000 + 1
    for partition, offset, timestamp, *content in read:
        where = f"{topic}-{partition} at offset {offset}"
        if offset != seen[partition] or offset >= len(expected[partition]):
            raise checking.Mismatch(f"{where}: expected offset {seen[partition]} of {len(expected[partition])}")
        if tuple(content) != expected[partition][offset]:
            raise checking.Mismatch(f"{where}: {checking.short(content)}, "
                                    f"was produced as {checking.short(expected[partition][offset])}")
        if not started_ms <= timestamp <= now_ms:
            raise checking.Mismatch(f"{where}: timestamp {timestamp} is not from this run")
        seen[partition] += 1
    if seen != [len(part) for part in expected]:
        raise checking.Mismatch(f"{topic}: read {seen} records of its partitions, not {list(map(len, expected))}")


def check_queries(bootstrap, topic, expected, started_ms):
    """The last records by a relative offset, the metadata, and an offset by timestamp."""
    last = kcat(bootstrap, "-C", "-q", "-t", topic, "-p", "0", "-o", "-3", "-e", "-f", "%o ").split()
    end = len(expected[0])
    if [int(o) for o in last] != [end - 3, end - 2, end - 1]:
        raise checking.Mismatch(f"{topic}-0: -o -3 read offsets {last}, the end is {end}")
    listed = json.loads(kcat(bootstrap, "-L", "-J", "-t", topic))["topics"][0]
    if len(listed["partitions"]) != dataset.PARTITIONS:
        raise checking.Mismatch(f"{topic}: kcat -L lists {listed}")
    found = kcat(bootstrap, "-Q", "-t", f"{topic}:1:{started_ms}").decode().split()
    if found[-1] != "0":
        raise checking.Mismatch(f"{topic}-1: kcat -Q says {found} for the time before the first record")


def main():
    args = checking.arguments(__doc__)
    version = kcat(args.bootstrap, "-V").decode().split("Version ")[1].split()[0]
    summary = checking.Summary(f"kcat {version}")
    sendable = [r for r in dataset.read(args.dataset)
                if not any(mark in (r.value or b"") for mark in (RECORD_END, KEY_END))]
    with wire.Connection(args.bootstrap) as connection:
        for codec, records in checking.parts(sendable, args.codecs):
            topic = f"{args.prefix}-{codec}"
            connection.create_topic(topic, dataset.PARTITIONS, checking.TOPIC_CONFIG)
            started_ms = int(time.time() * 1000)
            expected = [produce(args.bootstrap, topic, codec, p, [r for r in records if r.partition == p])
                        for p in range(dataset.PARTITIONS)]
            check_topic(topic, consume(args.bootstrap, topic), expected, started_ms)
            check_queries(args.bootstrap, topic, expected, started_ms)
            summary.add(codec, records)
    print(summary)


if __name__ == "__main__":
    try:
        main()
    except (checking.Mismatch, wire.BrokerError) as error:
        sys.exit(f"kcat: {error}")
