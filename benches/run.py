#!/usr/bin/env python3
"""Figures of the release binary, each beside a raw limit or a peer of the same run: min / median / max.

    benches/run.py [--runs 5] [--only produce,start,...] [--json FILE]
    benches/run.py --only scale [--scale-rows TEXT] [--scale-sizes 2] [--scale-full]

The load is librdkafka's own performance tool (from Debian's librdkafka-dev): 1 KiB values, 4 partitions, linger 5 ms,
acks=1, no idempotence. Client and broker share the machine, so the ratios tell more than the numbers.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("faults", "clients", "differential")]

from broker import Broker  # noqa: E402

import beside_attack  # noqa: E402
import group_members  # noqa: E402
import measure  # noqa: E402
import scale  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
RECORD_BYTES = 1024
PARTITIONS = 4
GROUPS_CONFIG = """
[admin]
bind = "off"
[listeners.main]
bind = "{address}"
stack = ["framing", "metrics", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
group_initial_rebalance_delay = "0ms"
"""


class Bench:
    def __init__(self, binary, runs, tools):
        self.binary = binary
        self.runs = runs
        self.rdperf = str(tools / "rdperf")
        self.raws = tools
        self.rows = []
        self.scale_rows, self.scale_sizes, self.scale_full = "", None, False

    def report(self, what, unit, values, goal="", note=""):
        values = sorted(values)
        low, middle, high = values[0], statistics.median(values), values[-1]
        self.rows.append({"what": what, "unit": unit, "min": low, "median": middle, "max": high, "goal": goal, "note": note})
        print(f"| {what} | {low:.2f} / {middle:.2f} / {high:.2f} {unit} | {goal} | {note} |", flush=True)

    def repeat(self, one):
        return [one() for _ in range(self.runs)]

    # Starting, and being idle.

    def start(self):
        for name, goal, fresh in [("memory", "<= 5", True), ("sqlite, new file", "<= 8", True), ("sqlite, existing file", "<= 7", False)]:
            times = []
            with tempfile.TemporaryDirectory() as folder:
                for number in range(self.runs * 4):
                    file = f"{folder}/{number if fresh else 0}.db"
                    store = "memory://" if name == "memory" else f"sqlite://{file}"
                    if number == 0 and not fresh:
                        measure.start_to_answer(self.binary, store)
                    times.append(measure.start_to_answer(self.binary, store) * 1000)
            self.report(f"start to first ApiVersions answer, {name}", "ms", times, goal)

    def resident(self):
        for name in ["memory", "sqlite"]:
            with tempfile.TemporaryDirectory() as folder:
                store = "memory://" if name == "memory" else f"sqlite://{folder}/y.db"
                sizes = self.repeat(lambda: measure.idle_resident(self.binary, store) / 2**20)
            self.report(f"resident when idle, {name}", "MiB", sizes, "<= 8")

    def idle(self):
        """A broker with ten parked consumers, looked at for 30 seconds."""
        broker = Broker(self.binary, "memory://").start()
        measure.create_topic(broker.address, "parked", PARTITIONS)
        with measure.parked_fetches(broker.port, "parked", 10):
            before = measure.cpu_ticks(broker.process.pid)
            time.sleep(30)
            ticks = measure.cpu_ticks(broker.process.pid) - before
        broker.stop()
        self.report("CPU of an idle broker, 10 parked fetches, 30 s", "ticks", [ticks], "0")

    def metadata(self):
        with tempfile.TemporaryDirectory() as folder:
            broker = Broker(self.binary, f"sqlite://{folder}/y.db").start()
            measure.create_topics(broker.address, 10_000)
            times = self.repeat(lambda: measure.metadata_all(broker.port) * 1000)
            broker.stop()
        self.report("Metadata of 10,000 topics", "ms", times, "< 20")

    # Consumer groups.

    def groups(self):
        with tempfile.TemporaryDirectory() as folder:
            broker = self.broker_for_groups(folder)
            times = sorted(group_members.assigned_after_last_join(broker.port, number) * 1000 for number in range(50))
            self.report("three members assigned after the last join, sqlite, p99 of 50", "ms", [times[49]], "< 500")
            measure.create_topic(broker.address, "wide", 1000)
            member = group_members.Member(broker.port, "wide")
            member.commit("wide", [(partition, 7) for partition in range(1000)])
            fetches = self.repeat(lambda: member.fetch("wide", 1000) * 1000)
            self.report("OffsetFetch of 1,000 partitions, sqlite", "ms", fetches, "< 5")
            measure.create_topic(broker.address, "load", PARTITIONS)
            rates = self.repeat(lambda: group_members.commits_per_second(broker.port, "load", 128, 3))
            self.report("OffsetCommits of one partition, sqlite, 128 connections", "per s", rates, ">= 10,000")
            members = group_members.many(broker.port, 1000)
            before, files = measure.cpu_ticks(broker.process.pid), measure.written(broker.process.pid)
            group_members.beat(members, 60)
            cpu = (measure.cpu_ticks(broker.process.pid) - before) / TICKS / 60 * 100
            written = (measure.written(broker.process.pid) - files) / 2**20
            broker.stop()
        self.report("CPU of 1,000 groups of 2 members, a heartbeat each 3 s", "% of a core", [cpu], "< 5")
        self.report("written meanwhile, in 60 s", "MiB", [written])

    def broker_for_groups(self, folder):
        broker = Broker(self.binary, "")
        config = pathlib.Path(folder, "y.toml")
        config.write_text(GROUPS_CONFIG.format(address=broker.address, folder=folder))
        broker.command = [self.binary, "run", str(config)]
        return broker.start()

    def scale(self):
        scale.run(self)

    def attack(self):
        beside_attack.run(self)

    # Moving records.

    def roundtrip(self):
        for store in ["memory://", "sqlite"]:
            with tempfile.TemporaryDirectory() as folder:
                url = store if store == "memory://" else f"sqlite://{folder}/y.db"
                broker = Broker(self.binary, url).start()
                medians = self.repeat(lambda: self.roundtrip_p50(broker.address))
                broker.stop()
            self.report(f"delivery to a parked consumer, p50, {store.partition(':')[0]}", "ms", medians, "< 2")

    def roundtrip_p50(self, address):
        command = [self.binary, "perf", "roundtrip", "roundtrip", "--bootstrap", address, "--records", "2000", "--rate", "500", "--format", "json"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(output)["latency_us"]["p50"] / 1000

    def produce_once(self, store, records):
        """Megabytes and CPU seconds of one load."""
        broker = Broker(self.binary, store).start()
        measure.create_topic(broker.address, "load", PARTITIONS)
        before = measure.cpu_ticks(broker.process.pid)
        started = time.monotonic()
        self.rdperf_run("-P", broker.address, records, "-a", "1", "-X", "linger.ms=5")
        took = time.monotonic() - started
        cpu = (measure.cpu_ticks(broker.process.pid) - before) / TICKS
        peak = measure.peak_resident(broker.process.pid)
        return broker, records * RECORD_BYTES / 1e6, took, cpu, peak

    def rdperf_run(self, mode, address, records, *extra):
        common = ["-b", address, "-t", "load", "-s", str(RECORD_BYTES), "-c", str(records), "-X", "log_level=3"]
        queue = ["-X", "queue.buffering.max.messages=500000", "-X", "queue.buffering.max.kbytes=524288"]
        command = [self.rdperf, mode, *common, *(queue if mode == "-P" else []), *extra]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if ended.returncode != 0 and not all_delivered(ended.stdout, records):
            sys.exit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")

    def raw_limit(self, name, *arguments):
        """What a bare program of benches/ prints."""
        printed = subprocess.run([self.raws / name, *arguments], check=True, capture_output=True, text=True).stdout
        return [float(number) for number in printed.split()]

    def produce(self):
        rates, costs, raws = [], [], []
        for _ in range(self.runs):
            raws += self.raw_limit("raw_memory", "1024")
            broker, megabytes, took, cpu, _ = self.produce_once("memory://", 1_000_000)
            broker.stop()
            rates.append(megabytes / took)
            costs.append(cpu / megabytes * 1000)
        self.report("produce, memory engine", "MB/s", rates)
        self.report("raw memory: one copy into new memory", "CPU-s/GB", raws)
        self.report("produce, memory engine, broker CPU", "CPU-s/GB", costs, "<= 0.35")

    def checks(self):
        """Checking all records of a batch, over a bare decompression of the same bytes in the same run."""
        runs = [self.raw_limit("check_records", "2") for _ in range(self.runs)]
        *codecs, plain = zip(*runs)
        for codec, ratios in zip(["gzip", "snappy", "lz4", "zstd"], codecs):
            self.report(f"check all records of a batch over bare decompression, {codec}", "x", ratios, "<= 1.3")
        self.report("the same over header and CRC alone, uncompressed", "x", plain)

    def sqlite(self):
        rates, ratios, costs, peaks, raws, raw_costs, best, best_costs = ([] for _ in range(8))
        for _ in range(self.runs):
            # A folder each, so that what was written before is gone and its pages can be used again.
            with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
                raw, raw_cost = self.raw_limit("raw_sqlite", "records", f"{folder}/raw.db", "1000")
            with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
                fastest, least = self.raw_limit("raw_sqlite", "batches", f"{folder}/raw.db", "1000")
            with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
                broker, megabytes, took, cpu, peak = self.produce_once(f"sqlite://{folder}/y.db", 1_000_000)
                broker.stop()
            for numbers, number in [(raws, raw), (raw_costs, raw_cost), (best, fastest), (best_costs, least)]:
                numbers.append(number)
            rates.append(megabytes / took)
            ratios.append(megabytes / took / raw)
            costs.append(cpu / megabytes * 1000)
            peaks.append(peak / 2**20)
        self.report("raw SQLite, 1 KiB rows, 4 KiB pages, 1 MiB transactions, FULL", "MB/s", raws)
        self.report("the same, CPU", "CPU-s/GB", raw_costs)
        self.report("raw SQLite, 64 KiB rows, 64 KiB pages, 1 MiB transactions, FULL", "MB/s", best)
        self.report("the same, CPU", "CPU-s/GB", best_costs)
        self.report("produce, sqlite, FULL", "MB/s", rates)
        self.report("produce, sqlite, over raw SQLite with 1 KiB rows in the same run", "x", ratios, ">= 1.0")
        self.report("produce, sqlite, broker CPU", "CPU-s/GB", costs, "<= 2.0")
        self.report("produce, sqlite, peak resident", "MiB", peaks)

    def consume(self):
        ratios, rates, costs = [], [], []
        for _ in range(self.runs):
            memory, _ = self.consume_once("memory://")
            with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
                sqlite, cost = self.consume_once(f"sqlite://{folder}/y.db")
            ratios.append(sqlite / memory)
            rates.append(sqlite)
            costs.append(cost)
        self.report("consume from the start, sqlite", "MB/s", rates)
        self.report("consume, sqlite, over the memory engine in the same run", "x", ratios, ">= 0.6")
        self.report("consume, sqlite, broker CPU", "CPU-s/GB", costs)

    def consume_once(self, store):
        broker, megabytes, _, _, _ = self.produce_once(store, 1_000_000)
        before = measure.cpu_ticks(broker.process.pid)
        started = time.monotonic()
        partitions = [argument for p in range(PARTITIONS) for argument in ("-p", str(p))]
        self.rdperf_run("-C", broker.address, 1_000_000, "-o", "beginning", *partitions)
        took = time.monotonic() - started
        cpu = (measure.cpu_ticks(broker.process.pid) - before) / TICKS
        broker.stop()
        return megabytes / took, cpu / megabytes * 1000


NEED_TOOLS = {"produce", "sqlite", "consume", "checks"}
ALL = ["start", "resident", "metadata", "roundtrip", "checks", "produce", "sqlite", "consume", "groups", "scale", "attack", "idle"]


def all_delivered(output, records):
    """The tool's exit code tells less: it fails if the last report is still counted as queued while it is handled."""
    delivered = re.findall(r"produced .*, (\d+) delivered \(offset \d+, (\d+) failed\)", output)
    return bool(delivered) and delivered[-1] == (str(records), "0")


def build_tools(tools):
    tools.mkdir(parents=True, exist_ok=True)
    if not (tools / "rdperf").exists():
        subprocess.run([ROOT / "benches/build_rdperf.sh", tools / "rdperf"], check=True)
    built = subprocess.run(
        ["cargo", "bench", "--benches", "--no-run", "--message-format=json"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    for message in messages:
        if message.get("executable") and "bench" in message["target"]["kind"]:
            shutil.copy(message["executable"], tools / message["target"]["name"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", default=str(ROOT / "target/release/yagura"))
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--only", default=",".join(ALL))
    arguments.add_argument("--json")
    arguments.add_argument("--scale-rows", default="", metavar="TEXT", help="only rows of scale with this text in their names")
    arguments.add_argument("--scale-sizes", type=int, metavar="COUNT", help="only so many sizes of each, the smallest first")
    arguments.add_argument("--scale-full", action="store_true", help="also sizes that take long, such as 100,000 groups")
    options = arguments.parse_args()
    tools = ROOT / "target/test-tools/bench"
    names = options.only.split(",")
    if NEED_TOOLS.intersection(names):
        build_tools(tools)
    bench = Bench(options.binary, options.runs, tools)
    bench.scale_rows, bench.scale_sizes, bench.scale_full = options.scale_rows, options.scale_sizes, options.scale_full
    print("| what | min / median / max | goal | note |\n|---|---|---|---|")
    for name in names:
        getattr(bench, name)()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(bench.rows, indent=2))


if __name__ == "__main__":
    main()
