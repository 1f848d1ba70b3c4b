#!/usr/bin/env python3
"""A rolling upgrade: brokers of two releases share a store in Postgres, under load, until it is finalized.

The newer release is a build with a made-up next level, which writes committed offsets and producers as no earlier one can read
them. Idempotent producers, a group and copiers with transactions are at work all the while: nothing that was acknowledged is lost,
doubled or moved, and everything goes on after each step.

    upgrade.py --binary PATH --next PATH
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients"), str(HERE.parent / "transactions")]

from confluent_kafka.admin import AdminClient  # noqa: E402

import copying  # noqa: E402
import topics  # noqa: E402
from broker import SECONDS_MAX, Broker, wait_until  # noqa: E402
from many import BROKERS, TOPIC, Cluster, Group, Producing  # noqa: E402
from crash import check, create_topic, read_all  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

CLIENT = "librdkafka"
# What is refused is refused at once.
REFUSED_SECONDS_MAX = 5
KINDS = ["offset", "producer"]  # of documents that the newer release writes otherwise


class Copying:
    """Copiers with transactions, at work until they are asked to end."""

    def __init__(self, addresses, logs):
        self.addresses = addresses
        for topic in (copying.INPUT, copying.OUTPUT):
            topics.create_topic(addresses, topic, copying.PARTITIONS)
        self.attempts = copying.Attempts()
        self.copiers = [copying.Copier(CLIENT, addresses, number, self.attempts, logs / f"copier-{number}.log") for number in (1, 2)]
        self.load, self.reader = copying.Load(addresses), topics.Reader(addresses, copying.OUTPUT, copying.PARTITIONS)
        for one in self.copiers:
            one.start()

    def goes_on(self):
        before = len(self.reader.records)
        wait_until(lambda: len(self.reader.records) > before, lambda: "\n".join(["it is copied", *(one.said() for one in self.copiers)]))

    def end(self):
        sent = self.load.stop()
        return copying.check_copies(self.reader, self.attempts, sent, self.addresses)

    def close(self):
        for one in self.copiers:
            if one.process:
                one.kill()
        self.load.close()
        self.reader.close()


class Upgrade:
    """The steps of an upgrade."""

    def __init__(self, options, server, cluster, group, copies):
        self.options, self.server, self.cluster, self.group, self.copies = options, server, cluster, group, copies
        self.worst = 0

    def goes_on(self):
        self.worst = max(self.worst, self.group.goes_on())
        self.copies.goes_on()

    def replace(self, broker, binary, by_force=False):
        """Another release in the place of a broker."""
        (broker.kill if by_force else broker.stop)()
        broker.command[0] = binary
        broker.start()
        self.goes_on()

    def written_newly(self):
        """How many documents only the newer release can read, by kind."""
        query = "SELECT count(*) FROM yagura.documents_as_text WHERE key LIKE '{}/%' AND value LIKE 'v2 %'"
        return {kind: int(self.server.query(query.format(kind))[0]) for kind in KINDS}

    def refused(self, binary, *command):
        """What a command says that fails at once."""
        began = time.monotonic()
        said = subprocess.run([binary, *command], capture_output=True, text=True, timeout=60)
        took = time.monotonic() - began
        assert said.returncode != 0, f"{command} was not refused: {said.stdout}"
        assert took < REFUSED_SECONDS_MAX, f"{command} was refused after {took:.1f} s: {said.stderr}"
        return said.stderr

    def finalize(self, binary):
        done = subprocess.run([binary, "store", "finalize", self.cluster.url], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self):
        old, new = self.options.binary, self.options.next
        first, second, third = random.sample(self.cluster.brokers, BROKERS)
        self.replace(first, new)
        self.replace(second, new, by_force=True)
        # Both releases are at work, and may be for as long as one likes.
        said = self.refused(new, "store", "finalize", self.cluster.url)
        assert "(release " in said and "upgrade them first" in said, said
        # There is a way back until the store is finalized.
        self.replace(first, old)
        self.replace(first, new)
        assert not any(self.written_newly().values()), self.written_newly()
        assert "level 1 already" in self.finalize(old)
        self.replace(third, new)
        # It listens before it has joined the others.
        wait_until(lambda: "yagura store finalize" in third.stderr(), third.stderr)
        assert not any(self.written_newly().values()), self.written_newly()
        assert "level 2 now" in self.finalize(new)
        wait_until(lambda: all(self.written_newly().values()), lambda: f"all write as the new release does: {self.written_newly()}")
        self.goes_on()
        assert "level 2 already" in self.finalize(new)
        for command in (["broker", "--storage", self.cluster.url, "--listen", "127.0.0.1:0", "--admin", "off"],
                        ["node", "list", self.cluster.url]):
            said = self.refused(old, *command)
            assert "newer release of Yagura (level 2" in said and "upgrade Yagura" in said, said
        said = self.refused(old, "store", "verify", self.cluster.url)
        assert "upgrade Yagura" in said, said
        self.replace(second, new, by_force=True)
        self.cluster.binary = new

    @staticmethod
    def use(binary, url):
        """It listens before it has the store: a call waits for that."""
        broker = Broker(binary, url).start()
        AdminClient({"bootstrap.servers": broker.address, "log_level": 0}).list_topics(timeout=SECONDS_MAX)
        broker.stop()

    def new_store(self):
        """A store that the newer release has made, or that nobody shares with it, is its own."""
        own = f"sqlite://{self.server.home}/own.db"
        self.use(self.options.binary, own)
        for url in (self.server.url("made_by_the_newer"), own):
            self.use(self.options.next, url)
            said = self.refused(self.options.binary, "broker", "--storage", url, "--listen", "127.0.0.1:0", "--admin", "off")
            assert "newer release of Yagura (level 2" in said, said


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--next", required=True, help="a build with the feature next-level")
    options = arguments.parse_args()
    options.binary, options.next = (str(Path(binary).resolve()) for binary in (options.binary, options.next))
    with tempfile.TemporaryDirectory(prefix="yagura-upgrade-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(folder) as server:
            cluster = Cluster(options.binary, server.url())
            create_topic(cluster.addresses, TOPIC)
            producing, group = Producing(cluster.addresses), Group(cluster.addresses)
            copies = Copying(cluster.addresses, Path(folder))
            try:
                upgrade = Upgrade(options, server, cluster, group, copies)
                upgrade.goes_on()
                upgrade.run()
                upgrade.new_store()
                load = producing.end()
                found = read_all(cluster.addresses, TOPIC)
                check(load, found, idempotent=True)
                group.end(found)
                copied = copies.end()
            finally:
                copies.close()
            cluster.stop()
            verified = subprocess.run([options.next, "store", "verify", server.url()], capture_output=True, text=True)
            assert verified.returncode == 0, verified.stdout + verified.stderr
    print(f"ok: an upgrade under load: {len(found)} records; the group went on within {upgrade.worst:.1f} s; {copied}")


if __name__ == "__main__":
    main()
