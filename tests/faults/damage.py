#!/usr/bin/env python3
"""A damaged page stops what needs it, and nothing else; what can be read is salvaged.

A page in the middle of one topic is overwritten while the broker is down. Then another topic is written and read, and a
group reads it; the damage is named once in the log and counted on /metrics; `store salvage` copies all else, and a broker
on the copy gives it to the command line.

    damage.py --binary PATH
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request

from confluent_kafka import Consumer, Producer

from broker import SECONDS_MAX, Broker, free_port

BATCHES = 300
INTERIOR_OF_TABLE = 5


def fill(address, topic, count=BATCHES):
    """A batch for each record, of a size that several share a page."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "batch.num.messages": 1, "log_level": 0})
    for number in range(count):
        producer.produce(topic, f"{topic} {number} ".encode() * 200)
    assert producer.flush(SECONDS_MAX) == 0


def varint(content, at):
    """SQLite's: seven bits a byte, the highest first; the value and where it ends."""
    value = 0
    for index in range(9):
        byte = content[at + index]
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    raise AssertionError("no varint")


def rowids(content, page_at):
    """The row ids of a leaf of a table."""
    cells = int.from_bytes(content[page_at + 3 : page_at + 5], "big")
    for cell in range(cells):
        pointer = page_at + 8 + 2 * cell
        at = page_at + int.from_bytes(content[pointer : pointer + 2], "big")
        _, at = varint(content, at)
        yield varint(content, at)[0]


def leaves(content, page_bytes, root):
    """Where the leaves of a table begin. What else looks like one may be a page that is not in use any more."""
    left = [root]
    while left:
        at = (left.pop() - 1) * page_bytes
        if content[at] != INTERIOR_OF_TABLE:
            yield at
            continue
        cells = int.from_bytes(content[at + 3 : at + 5], "big")
        pointers = [at + 12 + 2 * cell for cell in range(cells)]
        children = [at + int.from_bytes(content[pointer : pointer + 2], "big") for pointer in pointers]
        left += [int.from_bytes(content[child : child + 4], "big") for child in [*children, at + 8]]


def damage(path, topic):
    """Overwrites a page that has only batches from the middle of a topic; returns their offsets."""
    with sqlite3.connect(path) as file:
        page_bytes = file.execute("PRAGMA page_size").fetchone()[0]
        document = file.execute("SELECT value FROM documents WHERE key = ?", (f"topic/{topic}",)).fetchone()[0]
        identity = document.split('"id":"')[1].split('"')[0]
        row = file.execute("SELECT number FROM logs WHERE key = ?", (f"partition/{identity}/0",)).fetchone()
        root = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'batches'").fetchone()[0]
    first = row[0] << 43
    with open(path, "r+b") as file:
        content = file.read()
        for at in leaves(content, page_bytes, root):
            ids = list(rowids(content, at))
            if ids and first < min(ids) and max(ids) < first + BATCHES - 1:
                file.seek(at)
                file.write(b"\xff" + os.urandom(page_bytes - 1))
                return [identifier - first for identifier in ids]
    raise AssertionError("there is no such page")


def read_by_group(address, topic, count):
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SECONDS_MAX * 1000,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    values = []
    while len(values) < count:
        message = consumer.poll(SECONDS_MAX)
        assert message is not None and message.error() is None, message and message.error()
        values.append(message.value())
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


def command(binary, *arguments):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=2 * SECONDS_MAX)


def readable(binary, address):
    """How many records of the damaged topic can be read. The command gives up soon, since it can never read all."""
    for timeout in ["3s", "15s", "75s"]:
        read = command(binary, "consume", "torn", "--bootstrap", address, "--timeout", timeout)
        # On a busy machine it may have given up before anything came.
        if read.stdout:
            break
    return len(read.stdout.splitlines())


def check_others(binary, path, admin):
    """The broker on the damaged file."""
    broker = Broker(binary, f"sqlite://{path}", admin=f"127.0.0.1:{admin}").start()
    fill(broker.address, "other", 50)
    assert len(read_by_group(broker.address, "other", BATCHES + 50)) == BATCHES + 50
    for _ in range(3):
        assert 0 < readable(binary, broker.address) < BATCHES, "what is before the damage can be read, and it cannot"
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=SECONDS_MAX) as page:
        metrics = page.read().decode()
    damaged = [line for line in metrics.splitlines() if line.startswith("yagura_store_damaged{") and 'what="partition"' in line]
    assert len(damaged) == 1 and damaged[0].endswith(" 1"), damaged
    broker.stop()
    named = [line for line in broker.stderr().splitlines() if "is damaged" in line]
    assert len(named) == 1, named


def check_salvaged(binary, path, saved, lost):
    verified = command(binary, "store", "verify", f"sqlite://{path}")
    assert verified.returncode == 1 and "torn-0" in verified.stdout, verified
    salvaged = command(binary, "store", "salvage", path, saved)
    assert salvaged.returncode == 1, salvaged
    assert f"torn-0: offsets {min(lost)} to {max(lost)}" in salvaged.stdout, salvaged.stdout
    assert command(binary, "store", "salvage", path, saved).returncode == 1, "nothing is overwritten"
    verified = command(binary, "store", "verify", saved)
    assert verified.returncode == 0, verified.stdout
    broker = Broker(binary, f"sqlite://{saved}").start()
    read = command(binary, "consume", "torn", "--bootstrap", broker.address)
    assert read.returncode == 0, read.stderr
    expected = [f"torn {number} " * 200 for number in range(BATCHES) if number not in lost]
    assert read.stdout.splitlines() == expected, len(read.stdout.splitlines())
    described = command(binary, "group", "describe", "readers", "--bootstrap", broker.address)
    assert described.returncode == 0 and str(BATCHES + 50) in described.stdout, described
    broker.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    binary = arguments.parse_args().binary
    with tempfile.TemporaryDirectory() as folder:
        path, saved = f"{folder}/y.db", f"{folder}/saved.db"
        broker = Broker(binary, f"sqlite://{path}").start()
        fill(broker.address, "torn")
        fill(broker.address, "other")
        broker.stop()
        lost = damage(path, "torn")
        check_others(binary, path, free_port())
        held = Broker(binary, f"sqlite://{path}").start()
        refused = command(binary, "store", "salvage", path, saved)
        assert refused.returncode == 1 and "held by another process" in refused.stderr, refused
        held.stop()
        check_salvaged(binary, path, saved, lost)
    print(f"ok: {len(lost)} records on a damaged page were lost, and nothing else")
    return 0


if __name__ == "__main__":
    sys.exit(main())
