#!/usr/bin/env python3
"""Several brokers on one store in Postgres: killed, stopped for longer than every timeout, with clocks that are hours apart.

Idempotent producers and a group are at work meanwhile: nothing that was acknowledged is lost, doubled or moved, and the group
goes on.

    many.py --binary PATH [--only PART] [--rounds 4]
"""

import argparse
import glob
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients")]

from confluent_kafka import Consumer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient  # noqa: E402

from broker import SECONDS_MAX, Broker, wait_until  # noqa: E402
from crash import PARTITIONS, Load, check, create_topic, read_all  # noqa: E402
from ports import free_port  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

BROKERS = 3
TOPIC, GROUP = "orders", "billing"
# Longer than the lease of a broker, and than the session of a member.
STOPPED_SECONDS, SESSION_MS = 14, 8_000
HOUR = 3600
# For so long clients wait for a broker that hangs.
HANG_SECONDS = 5


class Cluster:
    """Brokers with addresses of their own on one store."""

    def __init__(self, binary, url, count=BROKERS, environments=()):
        self.binary, self.url = binary, url
        self.admins = [f"127.0.0.1:{free_port()}" for _ in range(count)]
        self.brokers = [Broker(binary, url, admin=admin) for admin in self.admins]
        for broker, environment in zip(self.brokers, environments):
            broker.command = ["env", *environment, *broker.command] if environment else broker.command
        for broker in self.brokers:
            broker.start()
        wait_until(lambda: len(self.live()) == count, "all brokers see each other")

    @property
    def addresses(self):
        return ",".join(broker.address for broker in self.brokers)

    def nodes(self):
        said = subprocess.run([self.binary, "node", "list", self.url, "--format", "json"], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    def live(self):
        """The brokers that all brokers tell of."""
        told = []
        for broker in self.brokers:
            if broker.process.poll() is None:
                admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
                told.append(frozenset(admin.list_topics(timeout=SECONDS_MAX).brokers))
        return set.intersection(*map(set, told))

    def leaders(self):
        admin = AdminClient({"bootstrap.servers": self.addresses, "log_level": 0})
        partitions = admin.list_topics(TOPIC, timeout=SECONDS_MAX).topics[TOPIC].partitions
        return {one.leader for one in partitions.values()}

    def id_of(self, broker):
        """Of the broker as it runs now; one that has died keeps its lease for a while."""
        def found():
            own = [node for node in self.nodes() if broker.address in node["addresses"].values() and node["state"] != "gone"]
            return own[0]["id"] if len(own) == 1 else None
        wait_until(lambda: found() is not None, "it is the only one with its address")
        return found()

    def asked(self, broker, path):
        """What the admin server of a broker answers: the code and the text."""
        try:
            with urllib.request.urlopen(f"http://{self.admins[self.brokers.index(broker)]}/{path}", timeout=SECONDS_MAX) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, broker, name):
        lines = self.asked(broker, "metrics")[1].splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def stop(self):
        for broker in self.brokers:
            broker.stop()


class Group:
    """Members that read and commit all the while."""

    def __init__(self, addresses, members=2):
        self.seen, self.errors, self.rebalances = {}, [], 0
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._ends = {}
        self.members = [threading.Thread(target=self._read, args=(addresses,), daemon=True) for _ in range(members)]
        for member in self.members:
            member.start()

    def _read(self, addresses):
        consumer = Consumer({
            "bootstrap.servers": addresses, "group.id": GROUP, "auto.offset.reset": "earliest", "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 1_000, "auto.commit.interval.ms": 200, "reconnect.backoff.max.ms": 100,
            "socket.timeout.ms": HANG_SECONDS * 1000, "log_level": 0})

        def assigned(*_):
            self.rebalances += 1

        consumer.subscribe([TOPIC], on_assign=assigned)
        while not self._stopped.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            with self._lock:
                self._ends[message.partition()] = message.offset()
                self.seen[(message.partition(), message.offset())] = message.value()
        consumer.close()

    def count(self):
        with self._lock:
            return len(self.seen)

    def ends(self):
        """Up to where each partition was read."""
        with self._lock:
            return dict(self._ends)

    def goes_on(self):
        """Waits until more is read of every partition; how long that took."""
        began, before = time.monotonic(), self.ends()

        def grown():
            now = self.ends()
            return all(now.get(partition, -1) > before.get(partition, -1) for partition in range(PARTITIONS))
        wait_until(grown, lambda: f"the group goes on: {before}, {self.ends()}")
        return time.monotonic() - began

    def end(self, expected):
        """Reads to the end; each record was read where it is."""
        wait_until(lambda: self.count() >= len(expected), lambda: f"{self.count()} of {len(expected)} records were read")
        self._stopped.set()
        for member in self.members:
            member.join(SECONDS_MAX)
        assert self.seen == expected, "what was read is not what is there"


class Producing(threading.Thread):
    """A load that goes on beside everything else."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.load, self.stopped = Load(addresses, TOPIC, idempotent=True, hang_seconds=HANG_SECONDS), threading.Event()
        self.start()

    def run(self):
        while not self.stopped.is_set():
            self.load.run_for(0.2)
            time.sleep(0.05)

    def end(self):
        self.stopped.set()
        self.join(SECONDS_MAX)
        self.load.finish()
        return self.load


def under_load(options, disturb, environments=()):
    """Disturbs a cluster under load; then all is there once. Returns what the disturbance says."""
    with tempfile.TemporaryDirectory(prefix="yagura-many-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(folder) as server:
            cluster = Cluster(options.binary, server.url(), environments=environments)
            create_topic(cluster.addresses, TOPIC)
            producing, group = Producing(cluster.addresses), Group(cluster.addresses)
            group.goes_on()
            said = disturb(cluster, group, server)
            load = producing.end()
            found = read_all(cluster.addresses, TOPIC)
            check(load, found, idempotent=True)
            group.end(found)
            cluster.stop()
            verified = subprocess.run([options.binary, "store", "verify", server.url()], capture_output=True, text=True)
            assert verified.returncode == 0, verified.stdout + verified.stderr
    return f"{len(found)} records, {said}"


def killed(options):
    def disturb(cluster, group, _):
        worst = 0
        for _ in range(options.rounds):
            broker = random.choice(cluster.brokers)
            broker.kill()
            worst = max(worst, group.goes_on())
            time.sleep(random.random() * 3)
            broker.start()
            worst = max(worst, group.goes_on())
        return f"the group went on within {worst:.1f} s"
    return under_load(options, disturb)


def stopped(options):
    """The others take over; it comes back with what it has known before."""
    def disturb(cluster, group, _):
        worst = 0
        for broker in random.sample(cluster.brokers, 2):
            own = cluster.id_of(broker)
            os.kill(broker.pid(), signal.SIGSTOP)
            began = time.monotonic()
            others = [other for other in cluster.brokers if other is not broker]
            admin = AdminClient({"bootstrap.servers": others[0].address, "log_level": 0})
            wait_until(lambda: own not in admin.list_topics(timeout=SECONDS_MAX).brokers, "it is not listed any more")
            worst = max(worst, group.goes_on())
            time.sleep(max(0, STOPPED_SECONDS - (time.monotonic() - began)))
            os.kill(broker.pid(), signal.SIGCONT)
            wait_until(lambda: len(cluster.live()) == BROKERS, "it is back")
            before = group.rebalances
            # A session later nobody was evicted by what it had remembered.
            time.sleep(SESSION_MS / 1000 + 1)
            assert group.rebalances == before, f"{group.rebalances - before} rebalances after it was back"
            worst = max(worst, group.goes_on())
        return f"the group went on within {worst:.1f} s"
    return under_load(options, disturb)


def clocks(options):
    """Brokers whose clocks are an hour ahead and an hour behind go by the server's."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert libraries, "libfaketime is not installed; on Debian: apt-get install libfaketime"
    set_by = [[f"LD_PRELOAD={libraries[0]}", f"FAKETIME={hours:+d}h", "DONT_FAKE_MONOTONIC=1"] for hours in (1, -1)]

    def disturb(cluster, group, server):
        before = group.rebalances
        time.sleep(SESSION_MS / 1000 + 2)
        assert group.rebalances == before, "members were evicted"
        group.goes_on()
        query = "SELECT max(abs(extract(epoch FROM now()) * 1000 - (value::jsonb->>'lease_ms')::bigint)) FROM yagura.documents_as_text WHERE key LIKE 'node/%'"
        assert float(server.query(query)[0]) < HOUR * 1000 / 2, "a broker goes by its own clock"
        return "nobody was evicted"
    return under_load(options, disturb, [*set_by, []])


def nodes(options):
    """What operators see, and a broker that is taken out of service."""
    def disturb(cluster, group, _):
        listed = cluster.nodes()
        assert [node["id"] for node in listed] == [1, 2, 3] and all(node["state"] == "live" for node in listed), listed
        broker = random.choice(cluster.brokers)
        own = cluster.id_of(broker)
        run = [options.binary, "node", "drain", cluster.url, str(own)]
        assert subprocess.run(run, capture_output=True).returncode == 0
        wait_until(lambda: own not in cluster.leaders(), "it leads nothing any more")
        # Its clients go, those who know it as the coordinator of their group, too.
        wait_until(lambda: cluster.metric(broker, "yagura_connections_open") == 0, "its connections end")
        assert cluster.metric(broker, "yagura_broker_id") == own
        code, said = cluster.asked(broker, "readyz")
        assert code == 503 and "drained" in said, (code, said)
        group.goes_on()
        assert subprocess.run([*run, "--undo"], capture_output=True).returncode == 0
        wait_until(lambda: next(node for node in cluster.nodes() if node["id"] == own)["state"] == "live", "it is live again")
        wait_until(lambda: cluster.asked(broker, "readyz")[0] == 200, "it is ready again")
        wrong = subprocess.run([options.binary, "node", "drain", cluster.url, "99"], capture_output=True, text=True)
        assert wrong.returncode == 1 and "no broker with the id 99" in wrong.stderr, wrong.stderr
        # One that is stopped in good order is gone at once.
        broker.stop()
        assert own not in [node["id"] for node in cluster.nodes()]
        broker.start()
        wait_until(lambda: len(cluster.live()) == BROKERS, "it is back")
        table = subprocess.run([options.binary, "node", "list", cluster.url], capture_output=True, text=True).stdout
        assert len(table.splitlines()) == 1 + BROKERS and broker.address in table, table
        group.goes_on()
        # A broker that leads everything, or nothing, hears or reads nothing.
        for name in ("yagura_store_news_seconds_count", 'yagura_postgres_read_seconds_count{purpose="batches"}',
                     'yagura_postgres_connections{pool="reads",state="limit"}', "yagura_store_level"):
            assert sum(cluster.metric(other, name) for other in cluster.brokers) > 0, name
        assert all(cluster.metric(other, "yagura_outbox_waiting") == 0 for other in cluster.brokers)
        return "drained and undrained one"
    return under_load(options, disturb)


def rest(options):
    """A broker that is alone leaves the store alone while nobody calls it, and is there at once when somebody does."""
    with tempfile.TemporaryDirectory(prefix="yagura-rest-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(folder) as server:
            cluster = Cluster(options.binary, server.url(), count=1)
            alone = cluster.brokers[0]
            create_topic(alone.address, TOPIC)
            wait_until(lambda: cluster.metric(alone, "yagura_broker_lease_age_seconds") > 10, "it rests")
            query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            # The server tells of transactions late, those of the looks at metrics too; and each query of it is one.
            time.sleep(12)
            before = int(server.query(query)[0])
            time.sleep(15)
            used = int(server.query(query)[0]) - before
            assert used <= 10, f"{used} transactions in 15 s"
            # Another joins.
            cluster.admins.append(f"127.0.0.1:{free_port()}")
            cluster.brokers.append(Broker(options.binary, server.url(), admin=cluster.admins[-1]).start())
            wait_until(lambda: len(cluster.live()) == 2, "they see each other")
            assert cluster.metric(alone, "yagura_broker_lease_age_seconds") < 10
            cluster.brokers[1].kill()
            wait_until(lambda: len(cluster.live()) == 1, "it is gone")
            load = Load(alone.address, TOPIC, idempotent=True)
            load.run_for(0.5)
            load.finish()
            check(load, read_all(alone.address, TOPIC), idempotent=True)
            alone.stop()
    return f"{used} transactions in 15 s"


ALL = {one.__name__: one for one in (killed, stopped, clocks, nodes, rest)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--only", choices=ALL)
    arguments.add_argument("--rounds", type=int, default=4)
    options = arguments.parse_args()
    options.binary = str(Path(options.binary).resolve())
    for name, one in ALL.items():
        if options.only in (None, name):
            began = time.monotonic()
            print(f"ok: {name} ({one(options)}; {time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
