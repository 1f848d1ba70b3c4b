#!/usr/bin/env python3
"""`yagura store copy`: a store goes from SQLite to Postgres and back, and its clients go on where they were.

Before the copy there are topics (one compacted, one with compressed batches), a group in the midst of its topic, an idempotent
producer, transactions that are committed, aborted, and still open. On the copy the group reads the rest, the open transaction is
still in nobody's way and can be ended by its producer's successor, and all records are where they were.

    store_copy.py --binary PATH
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients")]

from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from broker import SECONDS_MAX, Broker  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

PLAIN, PACKED, COMPACTED = "plain", "packed", "compacted"
PARTITIONS, RECORDS, READ = 3, 3_000, 1_000
GROUP, TRANSACTIONAL_ID = "readers", "writer"


def produce(address, topic, first, count, **settings):
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 2, "log_level": 0, **settings})
    for number in range(first, first + count):
        producer.produce(topic, key=str(number % 50), value=f"{topic} {number}" * 5, partition=number % PARTITIONS,
                         headers={"n": str(number)})
        producer.poll(0)
    assert producer.flush(SECONDS_MAX) == 0


def transactional(address):
    producer = Producer({"bootstrap.servers": address, "transactional.id": TRANSACTIONAL_ID, "transaction.timeout.ms": 900_000,
                         "log_level": 0})
    producer.init_transactions(SECONDS_MAX)
    return producer


def fill(address):
    admin = AdminClient({"bootstrap.servers": address})
    topics = [NewTopic(PLAIN, PARTITIONS, 1), NewTopic(PACKED, PARTITIONS, 1, config={"retention.ms": "-1"}),
              NewTopic(COMPACTED, PARTITIONS, 1, config={"cleanup.policy": "compact"})]
    for created in admin.create_topics(topics).values():
        created.result(SECONDS_MAX)
    produce(address, PLAIN, 0, RECORDS)
    produce(address, PACKED, 0, RECORDS, **{"compression.type": "lz4"})
    produce(address, COMPACTED, 0, RECORDS)
    admin.delete_records([TopicPartition(PLAIN, 1, 100)])
    producer = transactional(address)
    for word in ("committed", "aborted"):
        producer.begin_transaction()
        producer.produce(PLAIN, value=word, partition=0)
        producer.flush(SECONDS_MAX)
        (producer.commit_transaction if word == "committed" else producer.abort_transaction)(SECONDS_MAX)
    producer.begin_transaction()
    producer.produce(PLAIN, value="open", partition=0)
    assert producer.flush(SECONDS_MAX) == 0
    return producer


def consumer_of(address, group=GROUP):
    return Consumer({"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "isolation.level": "read_committed", "session.timeout.ms": 6_000, "log_level": 0})


def read_some(address, count):
    """A member of the group reads and commits; returns what it has read."""
    consumer, seen = consumer_of(address), []
    consumer.subscribe([PACKED])
    while len(seen) < count:
        message = consumer.poll(SECONDS_MAX)
        assert message is not None and not message.error(), message and message.error()
        seen.append((message.partition(), message.offset(), message.value()))
    consumer.commit(asynchronous=False)
    consumer.close()
    return seen


def read_all(address):
    """All that readers of committed records see: offset, key, value, headers and timestamp of each."""
    consumer, all_seen = consumer_of(address, "nobody"), {}
    for topic in (PLAIN, PACKED, COMPACTED):
        for partition in range(PARTITIONS):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS_MAX)
            seen = all_seen[topic, partition] = [("offsets", low, high)]
            committed = consumer.offsets_for_times([TopicPartition(topic, partition, 1)], SECONDS_MAX)[0].offset
            seen.append(("first by time", committed))
            consumer.assign([TopicPartition(topic, partition, low)])
            position = low
            while position < high:
                message = consumer.poll(1)
                if message is None:
                    # Nothing comes up to the end: an open transaction, or markers.
                    now = consumer.position([TopicPartition(topic, partition)])[0].offset
                    if now in (position, -1001) or now >= high:
                        break
                    position = now
                    continue
                assert not message.error(), message.error()
                position = message.offset() + 1
                seen.append((message.offset(), message.key(), message.value(), message.headers(), message.timestamp()))
    consumer.close()
    return all_seen


def configs(address):
    described = subprocess.run([options.binary, "topic", "describe", PACKED, COMPACTED, "--format", "json", "--bootstrap", address],
                               capture_output=True, text=True)
    assert described.returncode == 0, described.stderr
    return described.stdout


def copy(source, target):
    copied = subprocess.run([options.binary, "store", "copy", source, target], capture_output=True, text=True)
    assert copied.returncode == 0 and copied.stdout.startswith("copied "), (copied.stdout, copied.stderr)
    verified = subprocess.run([options.binary, "store", "verify", target], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    return copied.stdout.strip()


def refused(words, *arguments):
    said = subprocess.run([options.binary, "store", "copy", *arguments], capture_output=True, text=True)
    assert said.returncode == 1 and words in said.stderr, (said.returncode, said.stdout, said.stderr)


def marked(server, url, target):
    """Nobody has a store that a copy reads, nor one that it was cut off from filling."""
    sql = "INSERT INTO yagura.documents VALUES ('copy', '{\"id\":\"00000000-0000-0000-0000-000000000001\"%s}')"
    start = ["broker", "--storage", url, "--listen", "127.0.0.1:0", "--admin", "off"]

    def fails(words, *command):
        said = subprocess.run([options.binary, *command], capture_output=True, text=True)
        assert said.returncode == 1 and words in said.stdout + said.stderr, (command, said.returncode, said.stdout, said.stderr)

    for until, words in ((f',\"until_ms\":{int(time.time() * 1000) + 60_000}', "`yagura store copy` reads the store"),
                         ("", "a copy that was not finished")):
        server.query(sql % until)
        fails(words, *start)
        fails(words, "store", "copy", url, target)
        server.query("DELETE FROM yagura.documents WHERE key = 'copy'")
    server.query(sql % "")
    fails("a copy that was not finished", "store", "verify", url)
    server.query("DELETE FROM yagura.documents WHERE key = 'copy'")


def goes_on(address, already, expected):
    """The copy has everything, and its clients go on."""
    assert read_all(address) == expected, "records differ"
    count = RECORDS - len(already) if len(already) == READ else READ
    more = read_some(address, count)
    seen = already + more
    assert len({(partition, offset) for partition, offset, _ in seen}) == len(seen), "something was read twice"
    return seen


def main():
    with tempfile.TemporaryDirectory(prefix="yagura-copy-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        first, last = f"sqlite://{folder}/first.db", f"sqlite://{folder}/last.db"
        with PostgresServer(str(folder)) as server:
            url = server.url()
            broker = Broker(options.binary, first).start()
            producer = fill(broker.address)
            seen = read_some(broker.address, READ)
            expected = read_all(broker.address)
            refused("is held by another process", first, url)
            broker.stop()
            del producer
            refused("does not exist", f"sqlite://{folder}/nothing.db", url)
            refused("keeps nothing", "memory://", url)
            refused("keeps nothing", first, "memory://")
            print("ok: to Postgres:", copy(first, url), flush=True)
            refused("not empty", first, url)
            broker = Broker(options.binary, url).start()
            # It listens before it has the store.
            AdminClient({"bootstrap.servers": broker.address, "log_level": 0}).list_topics(timeout=SECONDS_MAX)
            refused("stop them", url, last)
            seen = goes_on(broker.address, seen, expected)
            assert len(seen) == RECORDS
            # The successor ends what its predecessor has left open, and the log goes on.
            successor = transactional(broker.address)
            successor.begin_transaction()
            successor.produce(PLAIN, value="after the copy", partition=0)
            successor.commit_transaction(SECONDS_MAX)
            expected = read_all(broker.address)
            assert expected[PLAIN, 0][-1][2] == b"after the copy", expected[PLAIN, 0][-3:]
            broker.stop()
            marked(server, url, last)
            print("ok: and back:", copy(url, last), flush=True)
            broker = Broker(options.binary, last).start()
            found = read_all(broker.address)
            assert found == expected, [(key, len(found[key]), len(expected[key])) for key in expected if found[key] != expected[key]]
            produce(broker.address, PLAIN, RECORDS, 100)
            broker.stop()
    print("ok: a store was copied to another engine and back")


arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--binary", required=True)
options = arguments.parse_args()
options.binary = str(Path(options.binary).resolve())
main()
