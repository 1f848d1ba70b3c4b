"""Runs the workload, kills its processes and the broker, and lets the checker judge the history of all."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from checker import COMMITTED, FINAL, UNKNOWN, History, check
from topics import create_topic, isolated_ends, read_all
from waiting import end, wait_until

HERE = Path(__file__).resolve().parent
TOPIC, PARTITIONS, PROCESSES = "random", 3, 2
ANOMALIES_SHOWN, EVENTS_SHOWN, TAIL_LINES = 5, 25, 10


class Process:
    """A process of the workload, started again with the same transactional ids whenever it is killed."""

    def __init__(self, address, number, history, log):
        self.command = [sys.executable, str(HERE / "workload.py"), address, TOPIC, str(PARTITIONS), str(number), str(history)]
        self.log = log
        self.log.write_text("")
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def stop(self):
        code = end(self.process)
        assert code == 0, f"the workload does not end well: {code}\n{self.said()}"

    def said(self):
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([*(f"    | {line}" for line in lines), f"    whole log: {self.log}"])


def disturb(broker, processes, seconds, kills, dice):
    """In random order `kills` of the broker, if there is one to be killed, and as many of processes."""
    blows = (["broker"] * kills if broker else []) + ["process"] * kills
    dice.shuffle(blows)
    pause = seconds / (len(blows) + 1)
    for blow in blows:
        time.sleep(pause * (0.5 + dice.random()))
        if blow == "broker":
            broker.kill()
            broker.start()
        else:
            one = dice.choice(processes)
            one.kill()
            one.start()
    time.sleep(pause)


def final_events(address):
    """What is there when nobody writes any more, as events of a reader that reads all."""
    def is_closed():
        stable, high = isolated_ends(address, TOPIC)
        return stable == high
    wait_until(is_closed, lambda: f"no transaction is open: {isolated_ends(address, TOPIC)} (stable, high)")

    def event(name, **fields):
        return {"event": name, "at": time.monotonic_ns(), **fields}
    records = read_all(address, TOPIC)
    return [event("assign", reader=FINAL, partitions=[[number, 0] for number in range(PARTITIONS)]),
            *(event("read", reader=FINAL, partition=partition, offset=offset, value=value)
              for partition, offset, value in records), event("final")]


def events_of(file):
    with open(file) as lines:
        return [json.loads(line) for line in lines]


def summary(events):
    """A sentence; a history in which something does not happen shows nothing."""
    history = History(events)
    outcomes = Counter(one.outcome() for one in history.transactions.values() if one.writes)
    reads = len(history.reads)
    for what, count in [("committed transactions", outcomes[COMMITTED]), ("aborted transactions", outcomes["aborted"]),
                        ("reads", reads), ("observations", len(history.observations))]:
        assert count > 0, f"the history has no {what}: it shows nothing"
    return (f"{outcomes[COMMITTED]} transactions committed, {outcomes['aborted']} aborted, {outcomes[UNKNOWN]} unknown; "
            f"{reads} reads, {len(history.observations)} observations")


def report(anomalies, events, file):
    """The kinds, the first ones, and what happened to what the first is about."""
    counts = Counter(one.kind for one in anomalies)
    lines = [f"{len(anomalies)} anomalies: {', '.join(f'{count} x {kind}' for kind, count in counts.items())}"]
    lines += [f"    {one.kind}: {one.sentence}" for one in anomalies[:ANOMALIES_SHOWN]]
    about = set(anomalies[0].about)
    own = [one for one in events if about & {one.get("txn"), one.get("value")}]
    lines += ["    what the first is about:", *(f"    | {json.dumps(one)}" for one in own[:EVENTS_SHOWN])]
    return "\n".join([*lines, f"    whole history: {file}"])


def check_history(address, broker, name, seconds, kills, dice, logs):
    """One run; `broker` is None if it is not to be killed. A sentence of what was seen."""
    create_topic(address, TOPIC, PARTITIONS)
    file = logs / f"history-{name}.jsonl"
    file.write_text("")
    processes = [Process(address, number, file, logs / f"workload-{name}-{number}.log") for number in range(PROCESSES)]
    try:
        for one in processes:
            one.start()
        disturb(broker, processes, seconds, kills, dice)
        for one in processes:
            one.stop()
    finally:
        for one in processes:
            if one.process:
                one.kill()
    with open(file, "a") as history:
        history.writelines(json.dumps(event) + "\n" for event in final_events(address))
    events = sorted(events_of(file), key=lambda event: event["at"])
    anomalies = check(events)
    assert not anomalies, report(anomalies, events, file)
    return summary(events)
