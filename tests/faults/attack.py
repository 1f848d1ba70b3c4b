#!/usr/bin/env python3
"""Clients that attack the memory of a broker all at once: it holds no more than it was told to, and honest clients are
served.

Beside 100 clients that ask for 50 MiB and stop reading, 3 uploads of 99 MiB that stall, 60 connections with unread
Metadata, an OffsetFetch of 24 MB, joins without an id and long regular expressions, resident memory stays within
`request_memory` + `reply_memory` + `cache_memory` + 24 KiB a connection + 16 MiB, and every honest request is answered
correctly within ANSWER_SECONDS_MAX. When the attackers are gone, the memory of requests and replies is free again, the
broker stops well, and nothing in its store is damaged. The times of honest clients are shown beside those without attackers.

    attack.py --binary PATH [--seconds 8] [--json FILE] [--parts "fetches,uploads"]

With `--parts` only some of the attackers come, to find out which of them does what is seen.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path += [str(ROOT / "benches"), str(ROOT / "tests/differential")]

from records import batch  # noqa: E402

import attackers  # noqa: E402
import honest  # noqa: E402
import measure  # noqa: E402
from broker import SECONDS_MAX, Broker, free_port  # noqa: E402
from honest import MIB  # noqa: E402

CONFIG = """
[node]
request_memory = "{request}MiB"
reply_memory = "{reply}MiB"
[admin]
bind = "127.0.0.1:{admin}"
[listeners.main]
bind = "{address}"
stack = ["limits", "framing", "metrics", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
cache_memory = "{cache}MiB"
"""
REQUEST_MIB, REPLY_MIB, CACHE_MIB, OTHER_MIB = 128, 32, 8, 16
CONNECTION_BYTES = 24 << 10
LONG_TOPIC, LONG_BATCHES, TOPICS = "long", 60, 10_000
LAST_VALUE = b"the last record"
FREE_AGAIN_SECONDS = SECONDS_MAX
GAUGE = re.compile(r"^yagura_(request|reply)_memory_used_bytes(?:\{[^}]*\})? (\S+)$", re.M)


class Resident:
    """Looks at the memory of a broker twice a second while it is entered, and at what is allowed at that moment."""

    def __init__(self, broker):
        self.broker, self.samples, self.over = broker, [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _watch(self):
        pid = self.broker.process.pid
        while True:
            # What may come and go between two looks is allowed: this thread may wait long between them.
            try:
                before, used, after = sockets(pid), measure.status(pid, "VmRSS"), sockets(pid)
            except (FileNotFoundError, KeyError):
                return  # the broker has ended, which the honest clients find
            connections = max(before, after)
            self.samples.append((used, bound(connections), connections))
            if self.over.wait(0.5):
                return

    def peak(self):
        """The sample that comes closest to its bound, in bytes."""
        return max(self.samples, key=lambda sample: sample[0] - sample[1])


def sockets(pid):
    found = 0
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(file).startswith("socket:")
        except FileNotFoundError:
            pass
    return found


def bound(connections):
    return (REQUEST_MIB + REPLY_MIB + CACHE_MIB + OTHER_MIB) * MIB + connections * CONNECTION_BYTES


def start(binary, folder):
    broker = Broker(binary, "")
    broker.admin = free_port()
    config = pathlib.Path(folder, "y.toml")
    sizes = {"request": REQUEST_MIB, "reply": REPLY_MIB, "cache": CACHE_MIB}
    config.write_text(CONFIG.format(admin=broker.admin, address=broker.address, folder=folder, **sizes))
    broker.command = [binary, "run", str(config)]
    return broker.start()


def fill(broker):
    """Makes all topics; returns the offset and the value of the last record of the long one."""
    measure.create(broker.address, [LONG_TOPIC, honest.SMALL, honest.COMMITTED], 1)
    measure.create_topic(broker.address, honest.LARGE, honest.LARGE_PARTITIONS)
    measure.create_topics(broker.address, TOPICS)
    large, small = honest.one_mib(), batch(honest.NOW_MS, [b"a small record"])
    with honest.connect(broker.port) as connection:
        for number in range(LONG_BATCHES):
            honest.produce(connection, LONG_TOPIC, [(0, large)])
            honest.produce(connection, LONG_TOPIC, [(0, small)])
        honest.produce(connection, LONG_TOPIC, [(0, batch(honest.NOW_MS, [LAST_VALUE]))])
    return LONG_BATCHES * (16 + 1), LAST_VALUE


def memory_in_use(broker):
    """Of requests and of replies, in bytes, as the metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.admin}/metrics", timeout=SECONDS_MAX) as response:
        used = {name: float(value) for name, value in GAUGE.findall(response.read().decode())}
    assert used.keys() == {"request", "reply"}, f"no such metrics: {used}"
    return used


def seconds_until_free(broker):
    started = time.monotonic()
    while any((used := memory_in_use(broker)).values()):
        if time.monotonic() - started > FREE_AGAIN_SECONDS:
            return None, used
        time.sleep(0.2)
    return time.monotonic() - started, used


def verify(binary, folder):
    command = [binary, "store", "verify", f"{folder}/y.db"]
    return subprocess.run(command, capture_output=True, text=True)


class Measured:
    """What one run has shown, and which of it must not be."""

    def __init__(self):
        self.faults = []
        self.figures = {"kinds": {}}

    def times(self, without, beside):
        for name in without:
            self.figures["kinds"][name] = {
                "without": self._times_of(name, "without", *without[name]),
                "attack": self._times_of(name, "beside the attack", *beside[name]),
            }

    def _times_of(self, name, when, times, faults):
        self.faults += [f"{name} {when}: {fault}" for fault in faults]
        if times and max(times) > honest.ANSWER_SECONDS_MAX and not faults:
            self.faults.append(f"{name} {when}: answered after {max(times):.1f} s")
        figures = {"p50": honest.quantile(times, 0.5), "p99": honest.quantile(times, 0.99), "max": max(times)}
        return {**{key: value * 1000 for key, value in figures.items()}, "requests": len(times), "faults": len(faults)}

    def resident(self, when, resident, peak):
        used, allowed, connections = resident.peak()
        self.figures[when] = {"resident": used, "bound": allowed, "connections": connections, "VmHWM": peak}
        self.figures[when]["samples"] = [sample[0] for sample in resident.samples]
        over = [sample for sample in resident.samples if sample[0] > sample[1]]
        if over:
            self.faults.append(
                f"resident {when}: {len(over)} of {len(resident.samples)} samples above the bound, the most"
                f" {used / MIB:.1f} MiB of {allowed / MIB:.1f} MiB with {connections} connections"
            )

    def show(self):
        print(f"{'p50 / p99 / max in ms':34} {'without':>28}    {'beside the attack':>28}")
        for name, kind in self.figures["kinds"].items():
            print(f"{name:34} {shown(kind['without']):>28}    {shown(kind['attack']):>28}")
        for when in ["without", "attack"]:
            seen = self.figures[when]
            print(
                f"resident at most, {when}: {seen['resident'] / MIB:.1f} of {seen['bound'] / MIB:.1f} MiB"
                f" with {seen['connections']} connections (VmHWM {seen['VmHWM'] / MIB:.1f})"
            )
        print("attackers:", ", ".join(f"{count:,} {part}" for part, count in self.figures["attackers"].items()))


def shown(times):
    return f"{times['p50']:.1f} / {times['p99']:.1f} / {times['max']:.1f}" + (" !" if times["faults"] else "")


def phase(broker, kinds, seconds, measured, when, has_begun=lambda: True):
    with Resident(broker) as resident:
        times = honest.measure_all(broker.port, kinds, seconds, has_begun)
    measured.resident(when, resident, measure.peak_resident(broker.process.pid))
    return times


def run(binary, seconds, parts, folder):
    measured, broker = Measured(), start(binary, folder)
    attack = attackers.Attack(broker.port, LONG_TOPIC, parts)
    try:
        compare(broker, attack, seconds, measured)
        broker.stop()
    finally:
        attack.kill()
        if broker.process.poll() is None:
            broker.kill()
    verified = verify(binary, folder)
    if verified.returncode != 0:
        measured.faults.append(f"store verify: {verified.stdout}{verified.stderr}")
    return measured


def compare(broker, attack, seconds, measured):
    """Honest clients alone, and beside the attackers; then what the attackers leave behind."""
    kinds = honest.kinds(LONG_TOPIC, fill(broker), TOPICS)
    without = phase(broker, kinds, seconds, measured, "without")
    attack.start()
    beside = phase(broker, kinds, seconds, measured, "attack", attack.has_begun)
    attack.stop()
    if not attack.has_begun():
        measured.faults.append(f"the attackers did not get to work: {attack.figures()}")
    measured.times(without, beside)
    measured.figures["attackers"] = attack.figures()
    took, used = seconds_until_free(broker)
    if took is None:
        measured.faults.append(f"memory in use {FREE_AGAIN_SECONDS} s after the attack: {used}")
    measured.figures["free again"] = took


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--seconds", type=float, default=8)
    arguments.add_argument("--json")
    arguments.add_argument("--parts", default=",".join(attackers.PARTS))
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = run(options.binary, options.seconds, options.parts.split(","), folder)
    measured.show()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**measured.figures, "faults": measured.faults}, indent=2))
    for fault in measured.faults:
        print(f"FAULT {fault}")
    if not measured.faults:
        took = measured.figures["free again"]
        print(f"ok: all honest requests were answered, memory was free again after {took:.1f} s, the store is well")
    return 1 if measured.faults else 0


if __name__ == "__main__":
    sys.exit(main())
