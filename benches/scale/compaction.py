"""How fast a log is compacted, in how much memory, and what that costs those who produce meanwhile."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import time
import urllib.request

from confluent_kafka import Producer

import measure
from broker import SECONDS_MAX, free_port, wait_until
from scale import cost, stores
from scale.produce import LoneProducer
from scale.rows import Figure, Row
from scale.wire import ALTER_CONFIGS, Connection, alter_config, check_altered

MIB = 1 << 20
VALUE_BYTES = 1024
SECTIONS = 1_000  # different values: half of each is random, half is text
INTERVAL = "200ms"  # how often the broker looks for what is to be cleaned
TURN_SECONDS = 1
CLEANING_SECONDS_MAX = 1800
DIRTY_RATIO = "min.cleanable.dirty.ratio"


class Log:
    """A store with a log in which each key stands twice, and which is not cleaned yet. It is made once, and copied."""

    def __init__(self, bench, mib, codec):
        self.bench, self.mib, self.codec = bench, mib, codec
        self.records = mib * MIB // VALUE_BYTES
        self.folder = bench.kept.folder(f"dirty-{codec}-{mib}", self.make)

    def make(self, folder):
        broker = stores.broker(self.bench, folder)
        measure.create(broker.address, ["log", "beside"], 1)
        with Connection(broker.port) as connection:
            set_config(connection, "cleanup.policy", "compact")
            set_config(connection, DIRTY_RATIO, "1.0")
        self.fill(broker.address)
        broker.stop()

    def fill(self, address):
        settings = {"compression.type": self.codec, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        producer = Producer({"bootstrap.servers": address, "log_level": 0, "queue.buffering.max.kbytes": 1 << 18} | settings)
        text = b"a record that stands in a log; " * VALUE_BYTES
        values = [os.urandom(VALUE_BYTES // 2) + text[:VALUE_BYTES // 2] for _ in range(SECTIONS)]
        for number in range(self.records):
            key = f"{number % (self.records // 2):09d}"
            while not produced(producer, key, values[number % SECTIONS]):
                producer.poll(0.1)
        assert producer.flush(CLEANING_SECONDS_MAX) == 0

    @contextlib.contextmanager
    def copied(self):
        """A broker on a copy of the store, and the address of its admin server."""
        with stores.folder() as folder:
            for file in self.folder.glob("y.db*"):
                shutil.copy(file, folder)
            admin = f"127.0.0.1:{free_port()}"
            broker = stores.broker(self.bench, folder, admin, retention_interval=INTERVAL)
            with Connection(broker.port) as connection:
                set_config(connection, DIRTY_RATIO, "1.0")  # the listener is there before the store is
            cost.settle(broker.process.pid)
            yield broker, admin
            broker.stop()


def produced(producer, key, value):
    """Whether the client has room for it."""
    try:
        producer.produce("log", value, key)
        return True
    except BufferError:
        return False


def set_config(connection, name, value):
    check_altered(connection.ask(ALTER_CONFIGS, alter_config("log", name, value)))


def begin(broker):
    with Connection(broker.port) as connection:
        set_config(connection, DIRTY_RATIO, "0.0")


class Cleaner:
    """What /metrics says of it."""

    def __init__(self, admin):
        self.address = f"http://{admin}/metrics"

    def metric(self, name):
        with urllib.request.urlopen(self.address, timeout=SECONDS_MAX) as page:
            return float(re.search(rf"^{name} (\S+)$", page.read().decode(), re.M)[1])

    def is_busy(self):
        return self.metric("yagura_cleaner_waiting_partitions") > 0

    def has_begun(self):
        return self.is_busy() or self.has_ended()

    def has_ended(self):
        """A round counts what it has read when it ends, or one of its passes does."""
        return self.metric("yagura_cleaner_read_bytes_total") > 0 and not self.is_busy()


def forget_peak(pid):
    """From here on the peak of resident memory is counted anew."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def speed(log):
    """MB of records per second of CPU, and MiB resident at the most."""
    with log.copied() as (broker, admin):
        pid, cleaner = broker.process.pid, Cleaner(admin)
        forget_peak(pid)
        before = cost.cpu_seconds(pid)
        begin(broker)
        wait_until(cleaner.has_ended, "the log was not cleaned", CLEANING_SECONDS_MAX)
        spent, peak = cost.cpu_seconds(pid) - before, measure.peak_resident(pid)
        removed = cleaner.metric("yagura_cleaner_removed_records_total")
    assert removed >= log.records // 2, f"{removed} records of {log.records} were removed"
    return log.records * VALUE_BYTES / 1e6 / spent, peak / MIB


def speeds(bench, mib):
    return (*speed(Log(bench, mib, "none")), *speed(Log(bench, mib, "lz4")))


def beside(bench, mib):
    """p99 of lone produces while a log is cleaned, over that in a copy of the same store that is not. The two take turns, and
    the one that cleans is stopped while it is not its turn."""
    log = Log(bench, mib, "none")
    with log.copied() as (still, _), log.copied() as (busy, admin):
        cleaner, pid = Cleaner(admin), busy.process.pid
        alone, producer = LoneProducer(still.port, "beside"), LoneProducer(busy.port, "beside")
        took, during = alone.latencies(TURN_SECONDS), []
        producer.latencies(TURN_SECONDS)
        begin(busy)
        wait_until(cleaner.has_begun, "the cleaning has not begun")
        end = time.monotonic() + CLEANING_SECONDS_MAX
        while not during or not cleaner.has_ended():
            assert time.monotonic() < end, "the cleaning does not end"
            during += producer.latencies(TURN_SECONDS)
            os.kill(pid, signal.SIGSTOP)
            try:
                took += alone.latencies(TURN_SECONDS)
            finally:
                os.kill(pid, signal.SIGCONT)
        alone.close()
        producer.close()
    return cost.p99(during) / cost.p99(took)


ROWS = [
    Row([64, 1_024], speeds, [
        Figure("compaction, uncompressed, per core, in MiB of records", "MB/s", goal=">= 150"),
        Figure("compaction, uncompressed, peak resident, in MiB of records", "MiB"),
        Figure("compaction, lz4, per core, in MiB of records", "MB/s", goal=">= 150"),
        Figure("compaction, lz4, peak resident, in MiB of records", "MiB"),
    ], disk=8 * MIB),
    Row([64, 1_024], beside, [
        Figure("produce p99 beside compaction over without, in MiB of records", "x", goal="<= 1.5"),
    ], disk=8 * MIB),
]
