#!/usr/bin/env python3
"""Messages that programs send by SQL within transactions of their own: what is committed is in the log once, in an order that
respects what each transaction had seen; what is rolled back is not there; and nobody waits for a transaction that is left open.

- killed: 50 writers at all isolation levels, the broker killed and the server restarted under them
- inbox: readers of a group in transactions, some of which are rolled back or cut, see each committed record once, in order
- rejected: what no log takes is put aside with the reason, and holds up nobody
- damaged: a partition that cannot be used keeps its messages, and holds up nobody
- rights: a role that may send, and nothing else
- polled: without notifications, by the store's URL

    outbox.py --binary PATH [--only NAME] [--seconds 8]
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients")]

import psycopg  # noqa: E402
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,  # noqa: E402
                                   NewTopic, ResourceType)  # noqa: E402
from psycopg import IsolationLevel  # noqa: E402

from broker import SECONDS_MAX, Broker, wait_until  # noqa: E402
from crash import create_topic, read_all  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

WRITERS, TOPIC = 50, "orders"
LEVELS = [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]


def connect(server, user="yagura"):
    return psycopg.connect(host="127.0.0.1", port=server.port, user=user, dbname="postgres", connect_timeout=10)


def is_empty(server):
    return server.query("SELECT count(*) FROM yagura.outbox") == ["0"]


def wait_until_moved(server, broker):
    """All messages are in the log, or rejected."""
    def state():
        left = server.query("SELECT count(*), min(id), max(id) FROM yagura.outbox")
        return f"messages are left in the outbox: {left}; the broker has said: {broker.stderr()[-2000:]}"

    wait_until(lambda: is_empty(server), state)


# --- many writers


class Writer(threading.Thread):
    """Sends messages beside rows of its own; knows which transactions were committed, not, or perhaps."""

    # The last message of each key whose transaction is known to be committed.
    committed, lock = {}, threading.Lock()

    def __init__(self, server, number, seed, stopped):
        super().__init__(daemon=True)
        self.server, self.number, self.stopped = server, number, stopped
        self.dice = random.Random(seed * WRITERS + number)
        self.connection, self.failure, self.sent = None, None, 0

    def run(self):
        try:
            while not self.stopped.is_set():
                try:
                    self.transaction()
                except psycopg.OperationalError:
                    # The server restarts, or transactions are in each other's way.
                    self.connection = None
                    time.sleep(0.05)
        except Exception as error:  # noqa: BLE001
            self.failure = error

    def transaction(self):
        if self.connection is None or self.connection.closed:
            self.connection = connect(self.server)
        dice, key = self.dice, f"key {self.dice.randrange(8)}"
        self.connection.isolation_level = dice.choice(LEVELS)
        with Writer.lock:
            seen = Writer.committed.get(key)
        numbers = [self.next() for _ in range(dice.choice([1, 1, 1, 5]))]
        with self.connection.cursor() as cursor:
            messages = [json.dumps({"number": number, "seen": seen}) for number in numbers]
            for number in numbers:
                cursor.execute("INSERT INTO business VALUES (%s)", (number,))
            if len(messages) == 1:
                cursor.execute("SELECT yagura.produce(%s, %s, key => %s)", (TOPIC, messages[0], key))
            else:
                cursor.execute("SELECT yagura.produce_many(%s, %s, keys => %s)", (TOPIC, messages, [key] * len(messages)))
            if dice.random() < 0.2:
                time.sleep(dice.random() * 0.1)
            if dice.random() < 0.2:
                self.connection.rollback()
                return
            self.connection.commit()
        with Writer.lock:
            Writer.committed[key] = numbers[-1]

    def next(self):
        self.sent += 1
        return self.number * 1_000_000 + self.sent


def killed(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, TOPIC)
        server.query("CREATE TABLE business (number bigint PRIMARY KEY)")
        stopped, dice = threading.Event(), random.Random(options.seed)
        Writer.committed.clear()
        writers = [Writer(server, number, options.seed, stopped) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            time.sleep(0.3 + dice.random())
            if dice.random() < 0.7:
                broker.kill()
                broker.start()
            else:
                server.stop(dice.choice([signal.SIGINT, signal.SIGQUIT]))
                server.start()
        left_open = connect(server)
        left_open.execute("INSERT INTO business VALUES (-1)")
        left_open.execute("SELECT yagura.produce(%s, %s, key => 'key 0')", (TOPIC, json.dumps({"number": -1, "seen": None})))
        time.sleep(1)
        stopped.set()
        for writer in writers:
            writer.join(SECONDS_MAX)
            assert writer.failure is None and not writer.is_alive(), writer.failure
        # The transaction that is left open has a lower id than many of them.
        wait_until_moved(server, broker)
        found = read_all(broker.address, TOPIC)
        assert b'"number": -1,' not in b"".join(found.values()), "a message of a transaction that is open is in the log"
        left_open.commit()
        wait_until_moved(server, broker)
        judge(server, read_all(broker.address, TOPIC), sum(writer.sent for writer in writers))
        broker.stop()


def judge(server, found, sent):
    messages = {place: json.loads(value) for place, value in found.items()}
    places = {message["number"]: place for place, message in messages.items()}
    assert len(places) == len(messages), f"{len(messages) - len(places)} messages are there twice"
    rows = {int(number) for number in server.query("SELECT number FROM business")}
    assert rows == set(places), f"rows without message: {sorted(rows - set(places))[:5]}, without row: {sorted(set(places) - rows)[:5]}"
    chained = 0
    for place, message in messages.items():
        # Both have the same key.
        seen = places.get(message["seen"])
        if seen is not None:
            chained += 1
            assert seen[0] == place[0] and seen[1] < place[1], f"{message} is at {place}, and what it had seen at {seen}"
    stored = server.query("SELECT p.partition || ' ' || p.\"offset\" FROM yagura.outbox_positions o, yagura.position(o.id) p")
    positions = sorted(tuple(map(int, line.split())) for line in stored)
    assert positions == sorted(places.values()), "yagura.position() tells of other places"
    assert chained > 100 and len(messages) < sent, f"{chained} of {len(messages)} messages, of {sent} sent, show an order"
    print(f"    {len(messages)} messages of {WRITERS} writers, each once; {chained} after one that their transaction had seen",
          flush=True)


# --- readers


class Reader(threading.Thread):
    """Keeps what it has polled, in the same transaction."""

    def __init__(self, server, number, seed, done):
        super().__init__(daemon=True)
        self.server, self.done, self.failure, self.connection = server, done, None, None
        self.dice = random.Random(seed * WRITERS + number)

    def run(self):
        try:
            while not self.done.is_set():
                if self.connection is None:
                    self.connection = connect(self.server)
                self.connection.isolation_level = self.dice.choice(LEVELS)
                try:
                    self.transaction()
                except psycopg.errors.SerializationFailure:
                    self.connection.rollback()
        except Exception as error:  # noqa: BLE001
            self.failure = error

    def transaction(self):
        poll = """INSERT INTO seen (partition, "offset", value)
            SELECT p.partition, p."offset", convert_from(p.value, 'UTF8') FROM yagura.poll('readers', %s, %s) p"""
        count = self.connection.execute(poll, (TOPIC, self.dice.randint(1, 30))).rowcount
        self.connection.execute("SELECT yagura.commit('readers', %s)", (TOPIC,))
        time.sleep(self.dice.random() * 0.01)
        fate = self.dice.random()
        if fate < 0.2:
            self.connection.rollback()
        elif fate < 0.3:
            self.connection.close()
            self.connection = None
        else:
            self.connection.commit()
        if count == 0:
            time.sleep(0.02)


def send_transactions(address, dice, seconds):
    """Those of producers that end them as the dice tell, beside one without any."""
    settings = {"bootstrap.servers": address, "log_level": 0, "linger.ms": 0}
    plain = Producer(settings)
    producers = [Producer(settings | {"transactional.id": f"sender {number}"}) for number in range(3)]
    for producer in producers:
        producer.init_transactions(SECONDS_MAX)
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for producer in producers:
            producer.begin_transaction()
        for _ in range(dice.randint(1, 20)):
            number += 1
            dice.choice([plain, *producers]).produce(TOPIC, f"{number}".encode(), partition=dice.randrange(3))
        plain.flush(SECONDS_MAX)
        for producer in producers:
            producer.flush(SECONDS_MAX)
            if dice.random() < 0.3:
                producer.abort_transaction(SECONDS_MAX)
            else:
                producer.commit_transaction(SECONDS_MAX)


def read_to_the_end(address, isolation):
    """By partition and offset; markers are no records."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0,
                         "isolation.level": isolation, "enable.partition.eof": True})
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in range(3)])
    found, ended, deadline = {}, set(), time.monotonic() + SECONDS_MAX
    while len(ended) < 3:
        assert time.monotonic() < deadline, f"the ends of {TOPIC} were not reached: {ended}"
        for message in consumer.consume(1000, timeout=1):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
            else:
                found[(message.partition(), message.offset())] = message.value()
    consumer.close()
    return found


def inbox(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, TOPIC)
        server.query("""CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, partition integer, "offset" bigint, value text,
            PRIMARY KEY (partition, "offset"))""")
        done, dice = threading.Event(), random.Random(options.seed)
        readers = [Reader(server, number, options.seed, done) for number in range(6)]
        for reader in readers:
            reader.start()
        send_transactions(broker.address, dice, options.seconds)
        committed = read_to_the_end(broker.address, "read_committed")
        wait_until(lambda: server.query("SELECT count(*) FROM seen") == [str(len(committed))] or any(r.failure for r in readers),
                   lambda: f"{server.query('SELECT count(*) FROM seen')} of {len(committed)} are seen")
        done.set()
        for reader in readers:
            reader.join(SECONDS_MAX)
            assert reader.failure is None and not reader.is_alive(), reader.failure
        rows = [line.split("|") for line in server.query('SELECT partition, "offset", value FROM seen ORDER BY id')]
        seen = {(int(partition), int(offset)): value.encode() for partition, offset, value in rows}
        assert seen == committed, "other records were seen than those that are committed"
        for partition in range(3):
            offsets = [int(offset) for at, offset, _ in rows if int(at) == partition]
            assert offsets == sorted(offsets), f"records of partition {partition} were seen out of order"
        everything = read_to_the_end(broker.address, "read_uncommitted")
        assert len(everything) > len(committed), "nothing was aborted"
        lag = server.query("""SELECT sum(lag) FROM yagura.inbox_lag WHERE "group" = 'readers' AND topic = 'orders'""")
        assert int(lag[0]) <= 3, f"what is left behind the readers: {lag}"
        others(server, broker)
        broker.stop()
        print(f"    {len(committed)} records seen once each, in order; {len(everything) - len(committed)} aborted ones were not",
              flush=True)


def set_layout(admin, layout):
    """Of the topic of this name, which has a config of the store's own."""
    entry = ConfigEntry("yagura.storage.layout", layout, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "batches", incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(SECONDS_MAX)


def meet(server):
    """A reader that is the first of its group, and takes its time, keeps nobody from other partitions, nor from an answer."""
    poll = f"SELECT count(*) FROM yagura.poll('meeting', '{TOPIC}', 5)"
    with connect(server) as first, connect(server) as second:
        assert first.execute(poll).fetchone() == (5,)
        second.execute("SET statement_timeout = '60s'")
        assert second.execute(poll).fetchone()[0] <= 5
        first.commit()
        second.commit()


def others(server, broker):
    """A start at the end, an offset that is set, and what SQL cannot read."""
    assert server.query(f"SELECT count(*) FROM yagura.poll('late', '{TOPIC}', 10, start => 'latest')") == ["0"]
    first = f"""SELECT "offset" FROM yagura.poll('again', '{TOPIC}', 1000000) WHERE partition = 1 ORDER BY 1 LIMIT 1"""
    offset = int(server.query(first)[0])
    server.query(f"SELECT yagura.commit('again', '{TOPIC}', 1, {offset + 1})")
    assert int(server.query(first)[0]) > offset, "it did not go on where it was told to"
    # Twice in a transaction it goes on; and nothing was committed.
    twice = f"SELECT p.partition, p.\"offset\" FROM yagura.poll('twice', '{TOPIC}', 3) p"
    found = server.query(f"BEGIN; {twice}; {twice}; ROLLBACK")
    assert len(found) == len(set(found)), found
    for bad in (f"yagura.poll('g', '{TOPIC}', 0)", "yagura.poll('g', 'absent')", f"yagura.commit('g', '{TOPIC}', 9, 1)",
                f"yagura.commit('g', '{TOPIC}', 0)", f"yagura.poll('g', '{TOPIC}', start => 'now')"):
        assert not server.succeeds(f"SELECT {bad}"), f"{bad} is taken"
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
    config = {"yagura.storage.layout": "batches"}
    admin.create_topics([NewTopic("batches", 1, 1, config=config)])["batches"].result(SECONDS_MAX)
    assert server.query("SELECT count(*) FROM yagura.poll('g', 'batches')") == ["0"]
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    producer.produce("batches", b"x")
    assert producer.flush(SECONDS_MAX) == 0
    def fault(sql):
        with connect(server) as connection:
            try:
                connection.execute(sql)
            except psycopg.Error as error:
                return f"{error.diag.message_primary} {error.diag.message_hint}"
        raise AssertionError(f"{sql} is taken")

    said = fault("SELECT yagura.poll('g', 'batches')")
    assert "from offset 0 up to 0 are kept as batches" in said and "commit('g', 'batches', 0, 1)" in said, said
    # What is before and behind them is read.
    set_layout(admin, "rows")
    for value in (b"y", b"z"):
        producer.produce("batches", value)
    assert producer.flush(SECONDS_MAX) == 0
    assert "up to 0" in fault("SELECT yagura.poll('g', 'batches')")
    server.query("SELECT yagura.commit('g', 'batches', 0, 1)")
    set_layout(admin, "batches")
    producer.produce("batches", b"w")
    assert producer.flush(SECONDS_MAX) == 0
    read = "SELECT convert_from(p.value, 'UTF8') FROM yagura.poll('g', 'batches') p"
    done = server.query(f"BEGIN; {read}; SELECT yagura.commit('g', 'batches'); COMMIT")
    assert done == ["y", "z", "1"], done
    assert "from offset 3" in fault("SELECT yagura.poll('g', 'batches')")
    # A partition that is added to an old group's topic has nothing that may be left out.
    server.query(f"BEGIN; SELECT count(*) FROM yagura.poll('late', '{TOPIC}', start => 'latest'); SELECT yagura.commit('late', '{TOPIC}'); COMMIT")
    admin.create_partitions([NewPartitions(TOPIC, 4)])[TOPIC].result(SECONDS_MAX)
    producer.produce(TOPIC, b"to the new one", partition=3)
    assert producer.flush(SECONDS_MAX) == 0
    assert server.query(f"SELECT p.partition FROM yagura.poll('late', '{TOPIC}', start => 'latest') p") == ["3"]
    meet(server)
    admin.delete_topics(["batches"])["batches"].result(SECONDS_MAX)


# --- one part each


def rejected(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, TOPIC)
        with connect(server) as connection:
            ids = []
            for value, rest in [("a", {}), ("x" * 2_000_000, {}), ("b", {"partition": 99}), ("c", {}),
                                ("d", {"timestamp": "2200-01-01"}), ("e", {"headers": '{"k": "v"}'})]:
                names = "".join(f', "{name}" => %({name})s' for name in rest)
                sql = f"SELECT yagura.produce('{TOPIC}', %(value)s, key => 'k'{names})"
                ids.append(connection.execute(sql, {"value": value, **rest}).fetchone()[0])
            for bad in ("yagura.produce('no topic', 'x')", "yagura.produce('t', 'x', headers => '[7]')",
                        "yagura.produce('t', 'x', partition => -1)", "yagura.produce_many('t', ARRAY['x'], keys => ARRAY['a', 'b'])",
                        "yagura.produce('t', repeat('x', 17000000))", "yagura.produce('t', 'x', \"timestamp\" => 'infinity')",
                        "yagura.produce('t', 'x', \"timestamp\" => '1969-12-31')", "yagura.produce_many('t', ARRAY['x'], keys => '{}')"):
                try:
                    with connection.transaction():
                        connection.execute(f"SELECT {bad}")
                except psycopg.Error as error:
                    assert error.diag.message_hint, f"{bad} is refused without a remedy"
                else:
                    raise AssertionError(f"{bad} is taken")
        wait_until_moved(server, broker)
        found = [value for _, value in sorted(read_all(broker.address, TOPIC).items())]
        assert found == [b"a", b"c", b"e"], found
        stored = server.query("SELECT id, error FROM yagura.outbox_rejected ORDER BY id")
        expected = [f"{ids[1]}|MESSAGE_TOO_LARGE", f"{ids[2]}|UNKNOWN_TOPIC_OR_PARTITION", f"{ids[4]}|INVALID_TIMESTAMP"]
        assert stored == expected, stored
        headers = server.query("SELECT h.key, convert_from(h.value, 'UTF8') FROM yagura.records r, yagura.headers_of(r.headers) h")
        assert headers == ["k|v"], headers
        assert "outbox_rejected" in broker.stderr(), broker.stderr()
        # What was rejected can be sent again, whether it fits by then or not.
        server.query("UPDATE yagura.outbox_rejected SET partition = 0 WHERE id = 3")
        assert server.query("SELECT yagura.send_again(array_agg(id)) FROM yagura.outbox_rejected") == ["3"]
        wait_until_moved(server, broker)
        assert server.query("SELECT partition FROM yagura.position(3)") == ["0"]
        assert server.query("SELECT id, error FROM yagura.outbox_rejected ORDER BY id") == [stored[0], stored[2]]
        # Messages that came while no broker was there are moved by the next one.
        create_topic(broker.address, "later")
        broker.stop()
        server.query("SELECT yagura.produce('later', n::text, key => 'k') FROM generate_series(1, 5000) n")
        server.query("SELECT yagura.produce('made', 'x')")
        broker.start()
        wait_until_moved(server, broker)
        later = read_all(broker.address, "later")
        assert [value for _, value in sorted(later.items())] == [str(n).encode() for n in range(1, 5001)], len(later)
        made = server.query("SELECT count(*) FROM yagura.records WHERE topic = 'made'")
        assert made == ["1"], "a topic is made for whoever sends to it, as for a producer"
        broker.stop()
        print("    3 of 6 messages rejected, 8 refused at once; 5,000 that were waiting moved in order", flush=True)


def damaged(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, TOPIC), create_topic(broker.address, "hurt")
        of_hurt = "key = (SELECT convert_to('partition/' || id || '/0', 'UTF8') FROM yagura.topics WHERE name = 'hurt')"
        whole = server.query(f"SELECT value FROM yagura.documents WHERE {of_hurt}")[0]
        server.query(f"UPDATE yagura.documents SET value = 'damaged' WHERE {of_hurt}")
        for number in range(5):
            server.query(f"SELECT yagura.produce('hurt', '{number}', partition => 0), yagura.produce('{TOPIC}', '{number}', key => 'k')")
        wait_until(lambda: server.query("SELECT DISTINCT topic FROM yagura.outbox") == ["hurt"], broker.stderr)
        assert server.query("SELECT count(*) FROM yagura.outbox") == ["5"]
        assert broker.stderr().count("messages stay in the outbox") == 1, broker.stderr()
        server.query(f"UPDATE yagura.documents SET value = '{whole}' WHERE {of_hurt}")
        wait_until_moved(server, broker)
        for topic in ("hurt", TOPIC):
            found = [value for _, value in sorted(read_all(broker.address, topic).items())]
            assert found == [str(number).encode() for number in range(5)], found
        broker.stop()
        print("    messages of a damaged partition waited for its repair, and others did not", flush=True)


def rights(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, TOPIC)
        server.query("CREATE ROLE app LOGIN; GRANT TEMPORARY ON DATABASE postgres TO app")
        assert not server.succeeds(f"SELECT yagura.produce('{TOPIC}', 'x')", "app")
        server.query("""GRANT USAGE ON SCHEMA yagura TO app;
            GRANT EXECUTE ON FUNCTION yagura.produce(text, bytea, bytea, jsonb, integer, timestamptz), yagura."position" TO app""")
        # A table of the same name that stands before it must not be taken for it.
        trap = "CREATE TEMPORARY TABLE outbox (number bigint)"
        server.query(f"{trap}; SELECT yagura.produce('{TOPIC}', 'x', key => 'k')", "app")
        for sql in ("SELECT * FROM yagura.outbox", "DELETE FROM yagura.outbox", "SELECT * FROM yagura.records",
                    "SELECT yagura.settle_outbox('{1}', '{t}', '{0}', '{0}')", "SELECT yagura.records_from('orders', 0, 0)",
                    f"SELECT yagura.produce_many('{TOPIC}', ARRAY['x'])", "SELECT nextval('yagura.outbox_ids')",
                    f"SELECT yagura.poll('g', '{TOPIC}')", f"SELECT yagura.commit('g', '{TOPIC}', 0, 1)", "SELECT * FROM yagura.inbox_lag"):
            assert not server.succeeds(sql, "app"), f"{sql} is allowed"
        wait_until_moved(server, broker)
        assert list(read_all(broker.address, TOPIC).values()) == [b"x"]
        place = server.query("SELECT p.topic FROM yagura.position(1) p", "app")
        assert place == [TOPIC], place
        server.query("""GRANT EXECUTE ON FUNCTION yagura.poll, yagura.commit TO app; GRANT SELECT ON yagura.inbox_lag TO app""")
        read = f"SELECT convert_from(p.value, 'UTF8') FROM yagura.poll('g', '{TOPIC}') p"
        assert server.query(f"BEGIN; {read}; SELECT yagura.commit('g', '{TOPIC}'); COMMIT", "app")[0] == "x"
        assert server.query("SELECT sum(lag) FROM yagura.inbox_lag", "app") == ["0"]
        broker.stop()
        print("    a role that may send sends, and may do nothing else", flush=True)


def polled(options, folder):
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url() + "&outbox_poll=100ms").start()
        create_topic(broker.address, TOPIC)
        server.query("ALTER DATABASE postgres SET yagura.outbox_notify = off")
        for number in range(20):
            server.query(f"SELECT yagura.produce('{TOPIC}', '{number}', key => 'k')")
        wait_until_moved(server, broker)
        found = [value for _, value in sorted(read_all(broker.address, TOPIC).items())]
        assert found == [str(number).encode() for number in range(20)], found
        broker.stop()
        print("    20 messages were found without being told of", flush=True)


ALL = {one.__name__: one for one in (killed, inbox, rejected, damaged, rights, polled)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", choices=ALL)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    for name, run in ALL.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="yagura-outbox-") as folder:
                Path(folder).chmod(0o755)
                print(f"{name}:", flush=True)
                run(options, Path(folder, "server"))
    print("ok")


if __name__ == "__main__":
    main()
