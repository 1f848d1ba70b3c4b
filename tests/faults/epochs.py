#!/usr/bin/env python3
"""After a restore from a backup, consumers see that the log was truncated (KIP-320), and skip no record.

A store is backed up at 60 records. The original goes on to 110, and is started again meanwhile, while consumers read
all of it. Then the backup takes its place, and is appended to until it ends at 160: after where the consumers stand.
Shown call by call, with librdkafka, and with the Java client in Kafka's console consumer.

    epochs.py --binary PATH
"""

import argparse
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from broker import SECONDS_MAX, Broker

sys.path.append(str(Path(__file__).resolve().parent.parent / "routed"))

import calls  # noqa: E402
import records  # noqa: E402

TOPIC = "epochs"
AT_BACKUP, AT_RESTORE, AT_LAST = 60, 110, 160
FENCED, UNKNOWN_EPOCH = 74, 75
LATEST, EARLIEST = -1, -2


def caller_of(address):
    """With as much time as all else has here."""
    caller = calls.Caller(address)
    caller.socket.settimeout(SECONDS_MAX)
    return caller


def append(address, word, first, count):
    """Batches of ten records that say when they were produced, and at which offset."""
    caller = caller_of(address)
    for base in range(first, first + count, 10):
        values = [f"{word} {offset}".encode() for offset in range(base, base + 10)]
        batch = records.batch(int(time.time() * 1000), values)
        (topic,) = calls.produce(caller, 9, {"Name": TOPIC, "PartitionData": [{"Index": 0, "Records": batch}]})
        (answer,) = topic["PartitionResponses"]
        assert (answer["ErrorCode"], answer["BaseOffset"]) == (0, base), f"Produce: {answer}"


def current_epoch(caller):
    return caller.topic(TOPIC)["Partitions"][0]["LeaderEpoch"]


def end_of_epoch(caller, epoch, current=-1):
    """(error, epoch, end offset)"""
    row = {"Partition": 0, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch}
    answer = caller.ask("OffsetForLeaderEpoch", 4, ReplicaId=-1, Topics=[{"Topic": TOPIC, "Partitions": [row]}])
    (found,) = answer["Topics"][0]["Partitions"]
    return found["ErrorCode"], found["LeaderEpoch"], found["EndOffset"]


def fetch(caller, offset, current=-1, last_fetched=-1):
    row = {"Partition": 0, "CurrentLeaderEpoch": current, "FetchOffset": offset, "LastFetchedEpoch": last_fetched,
           "LogStartOffset": -1, "PartitionMaxBytes": 1 << 20}
    answer = caller.ask("Fetch", 12, ReplicaId=-1, MaxWaitMs=0, MinBytes=0, MaxBytes=1 << 20, SessionEpoch=-1,
                        Topics=[{"Topic": TOPIC, "Partitions": [row]}])
    return answer["Responses"][0]["Partitions"][0]


def offset_of(caller, when):
    """(offset, leader epoch)"""
    row = {"PartitionIndex": 0, "CurrentLeaderEpoch": -1, "Timestamp": when}
    answer = caller.ask("ListOffsets", 6, ReplicaId=-1, Topics=[{"Name": TOPIC, "Partitions": [row]}])
    (found,) = answer["Topics"][0]["Partitions"]
    return found["Offset"], found["LeaderEpoch"]


class LibrdkafkaReader(threading.Thread):
    """Reads with librdkafka, without a group."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.values, self.is_over = queue.Queue(), threading.Event()
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False,
                                  "auto.offset.reset": "earliest", "log_level": 0})
        self.consumer.assign([TopicPartition(TOPIC, 0, 0)])
        self.start()

    def run(self):
        while not self.is_over.is_set():
            message = self.consumer.poll(0.2)
            # What it says of a broker that is away for a moment is not about records.
            if message is not None and not message.error():
                self.values.put(message.value().decode())

    def stop(self):
        self.is_over.set()
        self.join(SECONDS_MAX)
        self.consumer.close()


class JavaReader(threading.Thread):
    """Reads with the Java client, without a group: Kafka's console consumer."""

    def __init__(self, address, log):
        super().__init__(daemon=True)
        self.values = queue.Queue()
        command = ["java", "-Xmx256m", "-cp", f"{calls.TOOLS}/java/libs/*",
                   "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", address,
                   "--topic", TOPIC, "--partition", "0", "--offset", "earliest"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.values.put(line.strip())

    def stop(self):
        self.process.terminate()
        self.process.wait(SECONDS_MAX)


def expect(reader, wanted):
    """Reads until all of these values have come; others may come again."""
    missing, deadline = set(wanted), time.monotonic() + SECONDS_MAX
    while missing:
        try:
            missing.discard(reader.values.get(timeout=max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            shown = sorted(missing, key=lambda value: int(value.split()[1]))
            raise AssertionError(f"{type(reader).__name__} misses {len(shown)} values from {shown[0]!r} on") from None


def check_calls(address, first, second):
    """The answers once the restored store was appended to; `second` is an epoch that it has never seen."""
    caller = caller_of(address)
    third = current_epoch(caller)
    assert third > second, f"the epoch is {third} after {first} and {second}"
    ends = {epoch: end_of_epoch(caller, epoch) for epoch in (first, second, third, third + 1)}
    truncated = (0, first, AT_BACKUP)
    assert ends == {first: truncated, second: truncated, third: (0, third, AT_LAST), third + 1: (0, -1, -1)}, ends
    assert end_of_epoch(caller, second, current=second)[0] == FENCED
    assert end_of_epoch(caller, second, current=third + 1)[0] == UNKNOWN_EPOCH
    assert fetch(caller, AT_RESTORE, current=second)["ErrorCode"] == FENCED
    assert fetch(caller, AT_RESTORE, current=third + 1)["ErrorCode"] == UNKNOWN_EPOCH
    diverging = fetch(caller, AT_RESTORE, current=third, last_fetched=second)["DivergingEpoch"]
    assert (diverging["Epoch"], diverging["EndOffset"]) == (first, AT_BACKUP), diverging
    fetched = fetch(caller, 0, current=third, last_fetched=first)
    epochs = {batch["BaseOffset"]: batch["PartitionLeaderEpoch"] for batch in records.show(fetched["Records"])}
    assert epochs == {base: first if base < AT_BACKUP else third for base in range(0, AT_LAST, 10)}, epochs
    assert offset_of(caller, EARLIEST) == (0, first) and offset_of(caller, LATEST) == (AT_LAST, third)


def check_without_append(address, second):
    """A client that knows a later epoch than the backup need not wait until somebody appends."""
    caller = caller_of(address)
    # The readers may have asked already.
    assert fetch(caller, AT_RESTORE, current=second)["ErrorCode"] in (UNKNOWN_EPOCH, FENCED)
    current = current_epoch(caller)
    assert current > second, f"the epoch is {current} after {second}"
    assert end_of_epoch(caller, second, current=current)[2] == AT_BACKUP


def check_restart(broker, path):
    """A start that nothing is appended after changes nothing; the first append begins an epoch."""
    first = current_epoch(caller_of(broker.address))
    for _ in range(2):
        broker.stop()
        size = os.path.getsize(path)
        broker.start()
        assert current_epoch(caller_of(broker.address)) == first
        assert os.path.getsize(path) == size
    append(broker.address, "old", AT_RESTORE - 10, 10)
    second = current_epoch(caller_of(broker.address))
    assert second > first, f"the epoch is {second} after {first}"
    return first, second


def restore(binary, path, copy):
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    os.rename(copy, path)
    verified = subprocess.run([binary, "store", "verify", path], capture_output=True, text=True, timeout=SECONDS_MAX)
    assert verified.returncode == 0, verified


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    binary = arguments.parse_args().binary
    logs = calls.TOOLS.parent / "test-logs"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open(logs / "epochs-java.log", "w") as log:
        path, copy = f"{folder}/y.db", f"{folder}/copy.db"
        broker = Broker(binary, f"sqlite://{path}").start()
        calls.Log(caller_of(broker.address), TOPIC)
        append(broker.address, "old", 0, AT_BACKUP)
        readers = [LibrdkafkaReader(broker.address), JavaReader(broker.address, log)]
        try:
            backup = [binary, "store", "backup", path, copy]
            made = subprocess.run(backup, capture_output=True, text=True, timeout=SECONDS_MAX)
            assert made.returncode == 0, made.stderr
            append(broker.address, "old", AT_BACKUP, AT_RESTORE - 10 - AT_BACKUP)
            first, second = check_restart(broker, path)
            for reader in readers:
                expect(reader, [f"old {offset}" for offset in range(AT_RESTORE)])
            broker.stop()
            restore(binary, path, copy)
            # Epochs are seconds, and the last one may be one more than its own.
            time.sleep(2.5)
            broker.start()
            check_without_append(broker.address, second)
            append(broker.address, "new", AT_BACKUP, AT_LAST - AT_BACKUP)
            check_calls(broker.address, first, second)
            for reader in readers:
                expect(reader, [f"new {offset}" for offset in range(AT_BACKUP, AT_LAST)])
            broker.stop()
        finally:
            for reader in readers:
                reader.stop()
            broker.process.kill()
    print("ok: consumers saw that a restored log was truncated, and skipped nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
