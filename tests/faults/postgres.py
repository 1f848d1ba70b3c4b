#!/usr/bin/env python3
"""A store in Postgres, while its server and the connections to it fail. Nothing acknowledged is lost, doubled or reordered, and
the broker goes on by itself.

- sql: records are rows that SQL can read, and come back as they were sent
- cut: the connection is cut before and after each message of a commit, also after a COMMIT whose answer is lost
- restarts: the server restarts, fast and as after a crash, under idempotent producers and a consumer
- transactions: the same under transactions of several processes, whose history a checker judges
- failover: the primary is lost, and its synchronous standby takes over
- connections: the server takes no more connections for a while
- disk: the server's disk is full for a while
- tls: certificates are checked as sslmode says
- pooler: PgBouncer, which gives each connection a session, or does not
- start: what cannot be a store is refused with the cause and the remedy, within 5 s

    postgres.py --binary PATH [--only NAME] [--restarts 3]
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients"), str(HERE.parent / "transactions"), str(HERE.parent / "groups")]

from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402

import histories  # noqa: E402
from broker import SECONDS_MAX, Broker, wait_until  # noqa: E402
from crash import Load, check, create_topic, read_all  # noqa: E402
from cutting import AFTER, BEFORE, COMMIT, Proxy  # noqa: E402
from full import IN_NAMESPACE, in_namespace, mount  # noqa: E402
from ports import free_port  # noqa: E402
from postgres_server import AS_POSTGRES, PostgresServer  # noqa: E402
from setting import LOGS  # noqa: E402

# The bound on how long consumers stand still once the server is back.
BACK_SECONDS_MAX = 10
START_SECONDS_MAX = 5
HISTORY_SECONDS = 20
# More than a commit sends.
MESSAGES_MAX = 200


def verify(binary, url):
    verified = subprocess.run([binary, "store", "verify", url], capture_output=True, text=True)
    assert verified.returncode == 0, f"`yagura store verify` found faults: {verified.stdout}{verified.stderr}"


# --- connections that are cut


def cut(options, folder):
    with PostgresServer(folder) as server:
        proxy = Proxy(server.port)
        url = server.url().replace(f":{server.port}/", f":{proxy.port}/")
        broker = Broker(options.binary, url).start()
        create_topic(broker.address, "cut")
        # Not idempotent: were a commit taken for failed that was not, its record would be there twice.
        producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": False, "log_level": 0, "linger.ms": 0,
                             "message.send.max.retries": 100, "retry.backoff.ms": 20, "message.timeout.ms": SECONDS_MAX * 1000})
        acknowledged = {}

        def send(number):
            def delivered(error, message):
                assert error is None, error
                acknowledged[(message.partition(), message.offset())] = message.value()

            producer.produce("cut", f"{number:06d}".encode(), partition=0, on_delivery=delivered)
            assert producer.flush(SECONDS_MAX) == 0

        send(0)
        sent, commits = 1, 0
        for mode in (BEFORE, AFTER):
            for number in range(1, MESSAGES_MAX):
                proxy.arm(number, mode)
                send(sent)
                sent += 1
                found = proxy.disarm()
                if found is None:
                    break
                commits += found[1] == COMMIT
            else:
                raise AssertionError("a commit of one record has no end of messages")
            print(f"    cut {mode} each of {number - 1} messages", flush=True)
        assert commits == 2, f"the connection was cut at COMMIT {commits} times, not before it and after it"
        found = {place: value for place, value in read_all(broker.address, "cut").items() if place[0] == 0}
        values = [found[place] for place in sorted(found)]
        assert values == [f"{number:06d}".encode() for number in range(sent)], f"not once each in order: {values}"
        assert acknowledged == found, "what was acknowledged is elsewhere"
        broker.stop()
        verify(options.binary, server.url())


# --- a server that restarts


class Fault:
    """A server that is stopped and comes back, with the face of a broker that is killed."""

    def __init__(self, server, dice):
        self.server, self.dice = server, dice

    def kill(self):
        self.server.stop(self.dice.choice([signal.SIGINT, signal.SIGQUIT]))

    def start(self):
        time.sleep(self.dice.random())
        self.server.start()


class Follower:
    """A consumer of a group, which commits what it has seen; it knows when it has last seen something."""

    def __init__(self, address, topic):
        self.seen, self.last, self.stopped = [], time.monotonic(), threading.Event()
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "followers", "auto.offset.reset": "earliest",
                                  "enable.auto.commit": True, "auto.commit.interval.ms": 200, "log_level": 0,
                                  "reconnect.backoff.max.ms": 100})
        self.consumer.subscribe([topic])
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.is_set():
            message = self.consumer.poll(0.1)
            if message is None or message.error():
                assert message is None or not message.error().fatal(), message.error()
                continue
            self.last = time.monotonic()
            self.seen.append((message.partition(), message.offset()))

    def goes_on(self, since):
        wait_until(lambda: self.last > since, "the consumer does not go on", BACK_SECONDS_MAX)

    def stop(self, count):
        wait_until(lambda: len(set(self.seen)) >= count, lambda: f"the consumer has seen {len(set(self.seen))} of {count}")
        self.stopped.set()
        self.thread.join()
        self.consumer.close()
        for partition in {partition for partition, _ in self.seen}:
            offsets = [offset for at, offset in self.seen if at == partition]
            assert offsets == sorted(set(offsets)), f"the consumer has seen records of partition {partition} again or out of order"


def under_load(options, server, url, disturb, times):
    """Producers and a consumer, while the server is disturbed; each time they go on."""
    broker = Broker(options.binary, url).start()
    create_topic(broker.address, "load")
    load, follower = Load(broker.address, "load", idempotent=True), Follower(broker.address, "load")
    load.run_for(1)
    for number in range(times):
        disturber = threading.Thread(target=disturb, args=(number,))
        disturber.start()
        while disturber.is_alive():
            load.run_for(0.1)
        back = time.monotonic()
        while follower.last <= back:
            load.run_for(0.05)
            assert time.monotonic() < back + BACK_SECONDS_MAX, f"the consumer does not go on\n{broker.stderr()[-3000:]}"
        print(f"    disturbed; the consumer went on after {follower.last - back:.2f} s", flush=True)
    load.run_for(0.5)
    load.finish()
    found = read_all(broker.address, "load")
    check(load, found, idempotent=True)
    follower.stop(len(found))
    broker.stop()
    print(f"    {load.sent} records, each once, in order", flush=True)


def restarts(options, folder):
    with PostgresServer(folder) as server:
        def disturb(number):
            server.stop(signal.SIGQUIT if number % 2 else signal.SIGINT)
            time.sleep(random.random())
            server.start()

        under_load(options, server, server.url(), disturb, options.restarts)
        verify(options.binary, server.url())


def transactions(options, folder):
    dice = random.Random(options.seed)
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        said = histories.check_history(broker.address, Fault(server, dice), "kills", HISTORY_SECONDS, options.restarts, dice, LOGS)
        print(f"    {said}", flush=True)
        broker.stop()
        verify(options.binary, server.url())


def failover(options, folder):
    """The standby is synchronous: what was acknowledged is there."""
    primary = PostgresServer(Path(folder, "primary"), ["synchronous_standby_names=*", "wal_level=replica"])
    with primary:
        standby = primary.standby(Path(folder, "standby"))
        with standby:
            url = f"postgres://yagura@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?sslmode=disable"

            def disturb(_):
                primary.stop(signal.SIGKILL)
                standby.promote()

            under_load(options, primary, url, disturb, 1)
            verify(options.binary, standby.url())


# --- a server that refuses


def connections(options, folder):
    with PostgresServer(folder, ["max_connections=12", "superuser_reserved_connections=1"]) as server:
        server.query("CREATE ROLE kafka LOGIN; GRANT CREATE ON DATABASE postgres TO kafka")
        url = server.url(user="kafka")
        broker = Broker(options.binary, url + "&connections=7").start()
        create_topic(broker.address, "few")
        load = Load(broker.address, "few", idempotent=True)
        load.run_for(0.5)
        others = [server.session("kafka") for _ in range(12)]
        # Those that the broker has are cut, and their places are taken by others. Whoever is refused has a place until he is.
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'yagura'"
        wait_until(lambda: server.succeeds(cut), "the server takes no superuser")
        others += [server.session("kafka") for _ in range(12)]
        load.run_for(2)
        refused = subprocess.run([options.binary, "broker", "--storage", server.url("other", "kafka"), "--listen", "127.0.0.1:0",
                                  "--admin", "off"], capture_output=True, text=True, timeout=SECONDS_MAX)
        assert "max_connections" in refused.stderr, refused.stderr
        for other in others:
            other.kill(), other.wait()
        load.run_for(0.5)
        load.finish()
        check(load, read_all(broker.address, "few"), idempotent=True)
        broker.stop()
        verify(options.binary, url)


def disk(options, folder):
    if os.getuid() != 0:
        print("    left out: only root can mount a small disk for another user", flush=True)
        return
    small = Path(folder, "small")
    small.mkdir()
    mount(small, "64M,mode=777")
    try:
        with PostgresServer(folder) as server:
            subprocess.run(["chown", "postgres", small], check=True)
            server.query(f"CREATE TABLESPACE small LOCATION '{small}'")
            server.query("ALTER ROLE yagura SET default_tablespace = small")
            fill(options, server, small)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def fill(options, server, small):
    broker = Broker(options.binary, server.url()).start()
    create_topic(broker.address, "full")
    errors, acknowledged = [], {}
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0, "message.timeout.ms": 3000, "linger.ms": 20})

    def delivered(error, message):
        if error is not None:
            errors.append(error)
        else:
            acknowledged[(message.partition(), message.offset())] = message.value()

    deadline = time.monotonic() + SECONDS_MAX
    while not errors:
        assert time.monotonic() < deadline, "the disk does not get full"
        producer.produce("full", random.randbytes(50_000), partition=0, on_delivery=delivered)
        producer.flush(10)
    assert "no room on its disk" in broker.stderr(), broker.stderr()
    subprocess.run(["mount", "-o", "remount,size=256M", small], check=True)
    before = len(acknowledged)
    wait_until(lambda: produced(producer, delivered) and len(acknowledged) > before, "nothing is taken with room again")
    wait_until(lambda: "has room again" in broker.stderr(), broker.stderr)
    found = read_all(broker.address, "full")
    for place, value in acknowledged.items():
        assert found.get(place) == value, f"acknowledged at {place} and not there"
    broker.stop()
    verify(options.binary, server.url())


def produced(producer, delivered):
    producer.produce("full", b"again", partition=0, on_delivery=delivered)
    producer.flush(10)
    return True


# Pages that a look at ten records may read, of some hundreds.
PAGES_MAX = 60


def sql(options, folder):
    """Records are rows that SQL can read, and come back as they were sent, also around a change of the layout."""
    with PostgresServer(folder) as server:
        broker = Broker(options.binary, server.url()).start()
        create_topic(broker.address, "sql")
        sent = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 20, "compression.type": codec, "log_level": 0})
            for number in range(600):
                key = [None, b"", f"k{number}".encode()][number % 3]
                value = [f"{codec} {number}".encode(), b"", None, bytes(range(256))][number % 4]
                headers = [("a", b"1"), ("a", None), ("b", "\u00e9".encode())] if number % 5 == 0 else []
                sent.append((key, value, headers))
                producer.produce("sql", value, key, partition=1, headers=headers, timestamp=1_700_000_000_000 + number)
            assert producer.flush(SECONDS_MAX) == 0
            # From the third codec on, and back.
            layout = {"gzip": "batches", "lz4": "rows"}.get(codec)
            if layout:
                command = [options.binary, "topic", "alter", "sql", "--set", f"yagura.storage.layout={layout}", "--bootstrap", broker.address]
                subprocess.run(command, check=True, capture_output=True)
        assert read_back(broker.address, len(sent)) == sent, "not what was sent"
        rows = server.query("SELECT count(*), count(key), count(value), count(headers), min(\"offset\"), max(\"offset\"), "
                            "min(\"timestamp\") FROM yagura.records WHERE topic = 'sql' AND partition = 1")
        kept = [one for at, one in enumerate(sent) if at < 1200 or at >= 2400]
        counts = [len(kept), *(sum(one[at] is not None for one in kept) for at in (0, 1)), sum(bool(one[2]) for one in kept)]
        expected = "|".join(map(str, [*counts, 0, len(sent) - 1]))
        assert rows[0].startswith(expected) and "2023-11-14" in rows[0], f"{rows} instead of {expected}"
        found = server.query("SELECT r.\"offset\", h.key, h.value FROM yagura.records r, yagura.headers_of(r.headers) h "
                             "WHERE topic = 'sql' AND partition = 1 AND \"offset\" = 5")
        assert found == ["5|a|\\x31", "5|a|", "5|b|\\xc3a9"], found
        filler = Producer({"bootstrap.servers": broker.address, "linger.ms": 20, "log_level": 0})
        for number in range(60_000):
            filler.produce("sql", str(number).encode(), partition=0)
            filler.poll(0)
        assert filler.flush(SECONDS_MAX) == 0
        server.query("ANALYZE")
        server.query("CREATE ROLE analyst LOGIN")
        assert not server.succeeds("SELECT * FROM yagura.records_from('sql', 1, 0)", "analyst"), "anybody may read"
        server.query("GRANT USAGE ON SCHEMA yagura TO analyst; GRANT SELECT ON yagura.records TO analyst; "
                     "GRANT EXECUTE ON FUNCTION yagura.records_from TO analyst")
        assert server.query("SELECT count(*) FROM yagura.records WHERE topic = 'sql' AND partition = 0", "analyst") == ["60000"]
        some = server.query("SELECT \"offset\", value FROM yagura.records_from('sql', 1, 2404, 2)", "analyst")
        assert some == ["2404|\\x7a73746420" + b"4".hex(), "2405|\\x"], some
        # The first call of a session reads the catalog, too.
        call = "SELECT * FROM yagura.records_from('sql', 0, 30000, 10)"
        plan = " ".join(server.query(f"SELECT count(*) FROM ({call}) c; EXPLAIN (ANALYZE, BUFFERS) {call}"))
        pages = sum(int(count) for count in re.findall(r"(?:hit|read)=(\d+)", plan))
        assert "rows=10 " in plan and pages < PAGES_MAX, plan
        broker.stop()
        verify(options.binary, server.url())


def read_back(address, count):
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0})
    consumer.assign([TopicPartition("sql", 1, 0)])
    found, deadline = [], time.monotonic() + SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=1):
            assert not message.error(), message.error()
            assert message.offset() == len(found), f"offset {message.offset()} after {len(found)} records"
            found.append((message.key(), message.value(), message.headers() or []))
    consumer.close()
    return found


def certificates(folder):
    """Two authorities, of which the first has signed for the server, by the name localhost alone, and for a client."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name, extension in (("server", "subjectAltName=DNS:localhost"), ("certain", "extendedKeyUsage=clientAuth")):
        Path(folder, "extension").write_text(extension)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extension",
                "-out", f"{name}.pem")


def tls(options, folder):
    certificates(folder)
    settings = ["ssl=on", f"ssl_cert_file={folder}/server.pem", f"ssl_key_file={folder}/server.key", f"ssl_ca_file={folder}/ca.pem"]
    with PostgresServer(folder, settings, owned=["server.pem", "server.key", "ca.pem"]) as server:
        server.query("CREATE ROLE certain LOGIN")
        for line in ("local all all trust", "hostssl all yagura all trust", "hostssl all certain all cert"):
            server.allow(line)
        server.restart()
        port, ca, client = server.port, f"sslrootcert={folder}/ca.pem", f"sslcert={folder}/certain.pem&sslkey={folder}/certain.key"
        answers = {
            f"yagura@127.0.0.1:{port}/postgres?sslmode=require": None,
            f"yagura@127.0.0.1:{port}/postgres?sslmode=verify-ca&{ca}": None,
            f"certain@localhost:{port}/postgres?sslmode=verify-full&{ca}&{client}": None,
            f"certain@localhost:{port}/postgres?sslmode=verify-full&{ca}": "valid client certificate",
            f"yagura@127.0.0.1:{port}/postgres?sslmode=verify-full&{ca}": "certificate",
            f"yagura@localhost:{port}/postgres?sslmode=verify-ca&sslrootcert={folder}/other.pem": "certificate",
            f"yagura@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={folder}/missing.pem": "missing.pem",
            f"yagura@127.0.0.1:{port}/postgres?sslmode=disable": "pg_hba.conf",
        }
        for place, words in answers.items():
            url = f"postgres://{place}"
            verified = subprocess.run([options.binary, "store", "verify", url + "&schema=s"], capture_output=True, text=True)
            said = verified.stdout + verified.stderr
            # There is no store yet: whoever gets so far is connected.
            fits = (words or "there is no store") in said
            assert fits, f"{url}: {said}"


def pooler(options, folder):
    with PostgresServer(folder) as server:
        with Pooler(folder, server, "session") as port:
            url = server.url().replace(f":{server.port}/", f":{port}/")
            broker = Broker(options.binary, url).start()
            create_topic(broker.address, "pooled")
            load = Load(broker.address, "pooled", idempotent=True)
            load.run_for(0.5)
            load.finish()
            check(load, read_all(broker.address, "pooled"), idempotent=True)
            broker.stop()
        for mode in ("transaction", "statement"):
            with Pooler(folder, server, mode) as port:
                use_at_once(port, 3)
                url = server.url(f"by_{mode}").replace(f":{server.port}/", f":{port}/")
                refused = subprocess.run([options.binary, "broker", "--storage", url, "--listen", "127.0.0.1:0", "--admin", "off"],
                                         capture_output=True, text=True, timeout=SECONDS_MAX)
                assert refused.returncode == 1 and "pool_mode = session" in refused.stderr, refused.stderr


def use_at_once(port, count):
    """Has the pooler open as many connections to the server, between which the next clients' statements alternate."""
    place = ["-h", "127.0.0.1", "-p", str(port), "-U", "yagura", "postgres"]
    for one in [subprocess.Popen(["psql", "-qAtc", "SELECT pg_sleep(1)", *place], stdout=subprocess.DEVNULL) for _ in range(count)]:
        assert one.wait() == 0


class Pooler:
    """PgBouncer before a server, on a free port. Of its connections, it lends the one that was lent longest ago."""

    def __init__(self, folder, server, mode):
        self.port, home = free_port(), Path(folder, f"pooler-{mode}")
        home.mkdir()
        (home / "users").write_text('"yagura" ""\n')
        (home / "ini").write_text(f"""[databases]
postgres = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {home}/users
pool_mode = {mode}
server_round_robin = 1
""")
        self.command = [*AS_POSTGRES, "/usr/sbin/pgbouncer", "-q", str(home / "ini")]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: is_open(self.port), "PgBouncer does not listen")
        return self.port

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def is_open(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def start(options, folder):
    with PostgresServer(folder) as server:
        server.query("CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on")
        server.query("CREATE ROLE lowly LOGIN; CREATE SCHEMA taken; CREATE TABLE taken.orders (id int)")
        server.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        good = Broker(options.binary, server.url("newer")).start()
        good.stop()
        server.query("UPDATE newer.meta SET value = '99' WHERE name = 'version'")
        wrong = {
            f"postgres://yagura@127.0.0.1:{server.port}/nothing": "create the database",
            "postgres://yagura@127.0.0.1:9/postgres": "127.0.0.1:9 cannot be used",
            "postgres://yagura@192.0.2.1/postgres?connect_timeout=2": "192.0.2.1:5432 cannot be used",
            server.url("mine", "nobody"): "check user and password",
            server.url("mine", "lowly"): "grant the role CREATE",
            server.url("taken"): "tables of another program",
            server.url("newer"): "upgrade Yagura",
            server.url().replace("/postgres?", "/latin?"): "ENCODING 'UTF8'",
            server.url() + "&speed=9": "there is no parameter \"speed\"",
            server.url() + "&sslmode=verify-full": "sslrootcert is missing",
            server.url().replace("disable", "require"): "TLS",
            server.url("mine", "reader"): "is a standby or read-only",
        }
        for url, words in wrong.items():
            begun = time.monotonic()
            refused = subprocess.run([options.binary, "broker", "--storage", url, "--listen", "127.0.0.1:0", "--admin", "off"],
                                     capture_output=True, text=True, timeout=SECONDS_MAX)
            took, said = time.monotonic() - begun, refused.stderr.strip()
            assert refused.returncode == 1 and words in said, f"{url}: {refused.returncode}: {said}"
            assert len(said.splitlines()) == 1, f"not one sentence: {said}"
            assert took < START_SECONDS_MAX, f"{url}: only after {took:.1f} s"


ALL = {one.__name__: one for one in (sql, cut, restarts, transactions, failover, connections, disk, tls, pooler, start)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--only", choices=ALL)
    arguments.add_argument("--restarts", type=int, default=3)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = arguments.parse_args()
    options.binary = str(Path(options.binary).resolve())
    if os.getuid() == 0 and IN_NAMESPACE not in os.environ:
        in_namespace()
    print(f"seed {options.seed}", flush=True)
    for name, one in ALL.items():
        if options.only in (None, name):
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="yagura-postgres-") as folder:
                Path(folder).chmod(0o755)
                one(options, folder)
            print(f"ok: {name} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
