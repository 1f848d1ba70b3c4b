#!/usr/bin/env python3
"""Figures of a store in Postgres, each beside a raw limit of the same run: min / median / max.

    benches/postgres.py [--binary PATH] [--runs 5] [--records 500000] [--layout rows]

A private cluster with fsync, and a checkpoint before each figure. The load is librdkafka's own performance tool, as in benches/run.py:
1 KiB values, 4 partitions, linger 5 ms, acks=1, no idempotence. The raw limits are COPY of the same rows into the
same tables, of blobs of 64 KiB, in transactions of 4 MiB, and COPY of a SELECT to nowhere.
"""

import argparse
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("faults", "clients")]

from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from broker import Broker  # noqa: E402
from postgres_server import PostgresServer, programs  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
SETTINGS = ["shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=1h"]
VALUE_BYTES, BLOB_BYTES, COMMIT_BYTES, PARTITIONS = 1024, 64 << 10, 4 << 20, 4
MB = 1e6
HEAD, TAIL = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack(">h", -1)


def column(value):
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def number(value):
    return column(struct.pack(">q", value))


def record_row(at):
    value = os.urandom(8) * (VALUE_BYTES // 8)
    return struct.pack(">h", 7) + number(at % PARTITIONS) + number(at // PARTITIONS) + number(1_700_000_000_000 + at) + column(None) * 2 \
        + column(value) + column(None)


def blob_row(at):
    return struct.pack(">h", 2) + number(at) + column(os.urandom(64) * (BLOB_BYTES // 64))


class Bench:
    def __init__(self, options, server, folder):
        self.options, self.server, self.folder, self.number = options, server, folder, 0
        self.bytes = options.records * VALUE_BYTES

    def psql(self, schema, *commands):
        command = [f"{programs()}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.server.port), "-U", "yagura",
                   "-d", "postgres", "-c", f"SET search_path = {schema}"]
        for one in commands:
            command += ["-c", one]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def raw_copy(self, schema, table, columns, row, row_bytes):
        """COPY in transactions of 4 MiB on one connection, each file of one of them."""
        each = COMMIT_BYTES // row_bytes
        count = self.bytes // COMMIT_BYTES
        files = []
        for at in range(count):
            file = pathlib.Path(self.folder, f"copy-{at}")
            file.write_bytes(HEAD + b"".join(row(at * each + one) for one in range(each)) + TAIL)
            files.append(file)
        commands = [f"\\copy {table} ({columns}) FROM '{file}' (FORMAT BINARY)" for file in files]
        started = time.monotonic()
        self.psql(schema, *commands)
        took = time.monotonic() - started
        for file in files:
            file.unlink()
        return count * each * row_bytes / MB / took

    def raw_select(self, schema, what, bytes_read):
        started = time.monotonic()
        self.psql(schema, f"\\copy ({what}) TO '/dev/null' (FORMAT BINARY)")
        return bytes_read / MB / (time.monotonic() - started)

    def rdperf(self, mode, broker, *extra):
        """Seconds that librdkafka's performance tool takes."""
        command = [self.options.rdperf, mode, "-b", broker.address, "-t", "bench", "-s", str(VALUE_BYTES), "-c",
                   str(self.options.records), "-X", "log_level=3", *extra]
        started = time.monotonic()
        subprocess.run(command, capture_output=True, timeout=600)
        return time.monotonic() - started

    def produce(self, broker):
        queue = ["-X", "queue.buffering.max.messages=500000", "-X", "queue.buffering.max.kbytes=524288"]
        return self.rdperf("-P", broker, "-a", "1", "-X", "linger.ms=5", *queue)

    def consume(self, broker):
        partitions = [argument for partition in range(PARTITIONS) for argument in ("-p", str(partition))]
        return self.rdperf("-C", broker, "-o", "beginning", *partitions)

    def end_offsets(self, schema):
        sql = f"SELECT sum((value::jsonb->>'end')::bigint) FROM {schema}.documents WHERE key >= 'partition/'::bytea AND key < 'partition0'::bytea"
        return int(self.server.query(sql)[0])

    def one(self, layout):
        """The raw limits and Yagura's figures of one layout, in stores of their own."""
        self.number += 1
        raw, own = f"raw_{self.number}", f"own_{self.number}"
        for schema in (raw, own):
            broker = Broker(self.options.binary, self.server.url(schema) + f"&layout={layout}").start()
            # It listens before its tables are there.
            create_topic(broker.address, "warm")
            broker.stop()
        self.server.query("CHECKPOINT")
        if layout == "rows":
            columns = "log, record_offset, timestamp_ms, appended_ms, key, value, headers"
            copied = self.raw_copy(raw, "record_rows", columns, record_row, VALUE_BYTES)
            selected = self.raw_select(raw, "SELECT * FROM record_rows ORDER BY log, record_offset", self.bytes)
        else:
            self.server.query(f"CREATE TABLE {raw}.blobs (id bigint PRIMARY KEY, bytes bytea); "
                              f"ALTER TABLE {raw}.blobs ALTER bytes SET STORAGE EXTERNAL")
            copied = self.raw_copy(raw, "blobs", "id, bytes", blob_row, BLOB_BYTES)
            selected = self.raw_select(raw, "SELECT * FROM blobs ORDER BY id", self.bytes)
        self.server.query(f"DROP SCHEMA {raw} CASCADE; CHECKPOINT")
        broker = Broker(self.options.binary, self.server.url(own) + f"&layout={layout}").start()
        create_topic(broker.address, "bench")
        before = cpu_seconds(broker.process.pid)
        produced = self.produce(broker)
        between = cpu_seconds(broker.process.pid)
        assert self.end_offsets(own) == self.options.records, "not all records were produced"
        consumed = self.consume(broker)
        after = cpu_seconds(broker.process.pid)
        resident = peak_mib(broker.process.pid)
        broker.stop()
        self.server.query(f"DROP SCHEMA {own} CASCADE")
        produce, consume = self.bytes / MB / produced, self.bytes / MB / consumed
        return {"copy": copied, "select": selected, "produce": produce, "consume": consume,
                "produce over COPY": produce / copied, "consume over SELECT": consume / selected,
                "produce, CPU-s/GB": (between - before) / (self.bytes / 1e9),
                "consume, CPU-s/GB": (after - between) / (self.bytes / 1e9), "peak resident, MiB": resident}


def create_topic(address, name):
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(60)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid):
    line = next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default=str(ROOT / "target/release/yagura"))
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--records", type=int, default=500_000)
    arguments.add_argument("--rdperf", default=str(ROOT / "target/test-tools/bench/rdperf"))
    arguments.add_argument("--layout", choices=["rows", "batches"])
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="yagura-bench-") as folder, PostgresServer(folder, SETTINGS) as server:
        bench = Bench(options, server, folder)
        for layout in ("rows", "batches") if options.layout is None else (options.layout,):
            runs = [bench.one(layout) for _ in range(options.runs)]
            for what in runs[0]:
                values = sorted(run[what] for run in runs)
                print(f"| {layout}: {what} | {values[0]:.2f} / {statistics.median(values):.2f} / {values[-1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
