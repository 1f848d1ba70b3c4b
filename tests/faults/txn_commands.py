#!/usr/bin/env python3
"""`yagura txn` and what else shows transactions, on Yagura and on Apache Kafka: the commands speak to either.

    txn_commands.py --binary PATH [--kafka-libs JARS]

A transaction that hangs can only be made on Kafka, with a setting that makes it careless; Yagura refuses what would.
"""

import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

from broker import SECONDS_MAX, Broker, free_port, wait_until

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "clients"), str(TESTS / "differential")]

import records  # noqa: E402
import wire  # noqa: E402
from confluent_kafka import KafkaError, KafkaException, Producer  # noqa: E402
from kafka_server import KafkaServer  # noqa: E402

# Transactions last until the test ends them, on a slow day, too; but one that is to time out.
TIMEOUT_MS, SHORT_TIMEOUT_MS = 900_000, 1_000
PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN = 0, 22, 24
COORDINATOR_ERRORS = {14, 15, 16}
FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
CARELESS = ["transaction.partition.verification.enable=false"]


class Commands:
    def __init__(self, binary, bootstrap):
        self.binary, self.bootstrap = binary, bootstrap

    def run(self, *arguments, expect=0):
        """What a command wrote to stdout and stderr."""
        command = [self.binary, *arguments, "--bootstrap", self.bootstrap, "--timeout", f"{SECONDS_MAX}s"]
        ended = subprocess.run(command, capture_output=True, timeout=2 * SECONDS_MAX)
        out, err = ended.stdout.decode(), ended.stderr.decode()
        assert ended.returncode == expect, f"{arguments}: exit code {ended.returncode}: {out}{err}"
        assert "panicked" not in err, err
        return out, err

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--format", "json")[0])

    def begin(self, transactional_id, topic):
        """A producer that has a transaction open, with one record."""
        producer = Producer({
            "bootstrap.servers": self.bootstrap, "transactional.id": transactional_id, "log_level": 0,
            "transaction.timeout.ms": TIMEOUT_MS, "message.timeout.ms": TIMEOUT_MS})
        producer.init_transactions(SECONDS_MAX)
        producer.begin_transaction()
        producer.produce(topic, b"x")
        assert producer.flush(SECONDS_MAX) == 0
        return producer

    def partition(self, topic):
        return self.json("topic", "describe", topic)[0]["partitions"][0]


def check_open_transaction(commands):
    """It is listed, described, and shown where it is, until it ends."""
    commands.run("topic", "create", "orders", "--partitions", "1")
    assert commands.partition("orders")["open_transactions"] == 0
    producer = commands.begin("billing-1", "orders")
    listed = commands.json("txn", "list")
    assert [(one["transactional_id"], one["state"]) for one in listed] == [("billing-1", "Ongoing")], listed
    producer_id = listed[0]["producer"]
    for filters, found in [
        (["--state", "Ongoing", "--state", "Empty"], 1),
        (["--state", "Empty"], 0),
        (["--producer-id", str(producer_id)], 1),
        (["--producer-id", str(producer_id + 1)], 0),
        (["--duration", "0ms"], 1),
        (["--duration", "7d"], 0),
        (["--id-pattern", "billing-.*"], 1),
        (["--id-pattern", "billing"], 0),
    ]:
        assert len(commands.json("txn", "list", *filters)) == found, filters
    for filters, words in [(["--state", "Gone"], 'no state "Gone"'), (["--id-pattern", "("], "INVALID_REGULAR_EXPRESSION")]:
        _, err = commands.run("txn", "list", *filters, expect=1)
        assert words in err, err
    described = commands.json("txn", "describe", "billing-1")[0]
    assert described["producer"] == producer_id and described["timeout_ms"] == TIMEOUT_MS, described
    assert described["partitions"] == [{"topic": "orders", "partition": 0}] and described["started_ms"] > 0, described
    text, _ = commands.run("txn", "describe", "billing-1")
    assert text.startswith("transactional id billing-1: Ongoing, ") and "\nopen for " in text, text
    _, err = commands.run("txn", "describe", "nobody", expect=1)
    assert "yagura txn list" in err, err
    text, _ = commands.run("txn", "describe", "nobody", "billing-1", expect=1)
    assert text.startswith("transactional id billing-1: Ongoing, "), text
    at = commands.partition("orders")
    assert (at["last_stable"], at["latest"], at["open_transactions"]) == (0, 1, 1), at
    check_abort_is_refused(commands, producer_id)
    producer.abort_transaction(SECONDS_MAX)
    wait_until(lambda: commands.json("txn", "describe", "billing-1")[0]["state"] == "CompleteAbort", "it is aborted")
    at = commands.partition("orders")
    assert (at["last_stable"], at["latest"], at["open_transactions"]) == (2, 2, 0), at


def check_termination(commands):
    """What holds up a reader of committed records is shown to them; it is ended, and its producer is fenced."""
    producer = commands.begin("stuck-1", "orders")
    begin = commands.partition("orders")["last_stable"]
    _, err = commands.run("consume", "orders", "--isolation", "read_committed")
    assert f"offsets {begin} to {begin} of partition 0 are held back" in err and "yagura txn open --topic orders" in err, err
    found = commands.json("txn", "open", "--topic", "orders")
    assert [(one["transactional_id"], one["start_offset"]) for one in found] == [("stuck-1", begin)], found
    terminate = ["txn", "terminate", "stuck-1"]
    out, err = commands.run(*terminate)
    assert "stuck-1: Ongoing" in out and "nothing has been changed" in err, (out, err)
    assert commands.partition("orders")["open_transactions"] == 1
    out, err = commands.run(*terminate, "--execute")
    assert out.endswith("and fenced its producer\n") and not err, (out, err)
    wait_until(lambda: commands.partition("orders")["open_transactions"] == 0, "it is aborted")
    assert commands.json("txn", "open") == []
    _, err = commands.run(*terminate, "--execute")
    assert "no transaction is open" in err, err
    _, err = commands.run("consume", "orders", "--isolation", "read_committed")
    assert not err, err
    try:
        producer.commit_transaction(SECONDS_MAX)
    except KafkaException as error:
        assert error.args[0].code() in FENCED, error
    else:
        raise AssertionError("the producer was not fenced")


def check_abort_is_refused(commands, producer_id):
    """What its transactional id will end does not hang, and nobody else ends it."""
    assert commands.json("txn", "find-hanging", "--topic", "orders", "--max-transaction-timeout", "0ms") == []
    _, err = commands.run("txn", "find-hanging")
    assert "yagura txn open" in err, err
    abort = ["txn", "abort", "--topic", "orders", "--partition", "0"]
    for which in [["--start-offset", "0"], ["--producer-id", str(producer_id)]]:
        _, err = commands.run(*abort, *which, "--execute", expect=1)
        assert "does not hang" in err and "yagura txn terminate billing-1" in err, err
    _, err = commands.run(*abort, "--start-offset", "1", expect=1)
    assert "no transaction at offset 1 is open" in err, err
    assert commands.partition("orders")["open_transactions"] == 1


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS_MAX) as response:
        page = response.read().decode()
    values = [line.split()[-1] for line in page.splitlines() if line.startswith(name + " ")]
    assert len(values) == 1, f"{name} is not once in\n{page}"
    return float(values[0])


def shows(port, name, value):
    """Not before the store is open."""
    try:
        return metric(port, name) == value
    except (OSError, AssertionError):
        return False


def check_metrics(commands, broker, port):
    """They are those of the store: a broker that starts shows what is open in it."""
    wait_until(lambda: shows(port, "yagura_transactions_open", 0), "none is open")
    kept = commands.begin("kept", "orders")
    assert metric(port, "yagura_transactions_open") == 1
    wait_until(lambda: metric(port, "yagura_transactions_oldest_open_seconds") > 0, "it grows older")
    broker.kill()
    broker.start()
    wait_until(lambda: shows(port, "yagura_transactions_open", 1), "it is open still")
    kept.abort_transaction(SECONDS_MAX)
    assert metric(port, "yagura_transactions_open") == 0
    assert metric(port, "yagura_transactions_timed_out_total") == 0
    abandon(commands.bootstrap, "abandoned", "orders")
    wait_until(lambda: metric(port, "yagura_transactions_timed_out_total") == 1, "it has timed out")
    assert metric(port, "yagura_transactions_open") == 0
    assert commands.json("txn", "describe", "abandoned")[0]["state"] == "CompleteAbort"


def abandon(bootstrap, transactional_id, topic):
    """Begins a transaction that nobody ends."""
    with wire.Connection(bootstrap) as connection:
        producer = struct.pack(">qh", *init_producer_id(connection, transactional_id, SHORT_TIMEOUT_MS))
        place = wire.string(topic) + wire.array([struct.pack(">i", 0)])
        body = wire.string(transactional_id) + producer + wire.array([place])
        reply = connection.call(ADD_PARTITIONS_TO_TXN, 2, body)
        reply.take("ii"), reply.string(), reply.take("i")
        _, error = reply.take("ih")
        assert error == 0, f"AddPartitionsToTxn: error code {error}"


def init_producer_id(connection, transactional_id, timeout_ms=TIMEOUT_MS):
    """Producer id and epoch."""
    body = wire.string(transactional_id) + struct.pack(">i", timeout_ms)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        reply = connection.call(INIT_PRODUCER_ID, 1, body)
        _, error, producer_id, epoch = reply.take("ihqh")
        if error == 0:
            return producer_id, epoch
        assert error in COORDINATOR_ERRORS and time.monotonic() < deadline, f"InitProducerId: error code {error}"
        time.sleep(0.1)


def produce_without_adding(bootstrap, transactional_id, topic):
    """A record in a transaction that the coordinator knows nothing of; the producer id."""
    with wire.Connection(bootstrap) as connection:
        producer_id, epoch = init_producer_id(connection, transactional_id)
        batch = records.batch(int(time.time() * 1000), attributes=records.TRANSACTIONAL, producer_id=producer_id,
                              producer_epoch=epoch, sequence=0)
        place = struct.pack(">ii", 0, len(batch)) + batch
        body = wire.string(transactional_id) + struct.pack(">hi", -1, SECONDS_MAX * 1000)
        reply = connection.call(PRODUCE, 8, body + wire.array([wire.string(topic) + wire.array([place])]))
        reply.take("i"), reply.string(), reply.take("i")
        _, error = reply.take("ih")
        assert error == 0, f"Produce: error code {error}"
        return producer_id


def check_hanging_transaction(commands):
    """It is found, shown before anything is done, and aborted."""
    commands.run("topic", "create", "stuck", "--partitions", "1")
    producer_id = produce_without_adding(commands.bootstrap, "careless", "stuck")
    assert commands.json("txn", "find-hanging") == [], "it may still be going on"
    found = commands.json("txn", "find-hanging", "--max-transaction-timeout", "0ms")
    assert [(one["topic"], one["start_offset"], one["producer"]) for one in found] == [("stuck", 0, producer_id)], found
    abort = ["txn", "abort", "--topic", "stuck", "--partition", "0", "--start-offset", "0"]
    out, err = commands.run(*abort)
    assert str(producer_id) in out and "nothing has been changed" in err, (out, err)
    assert commands.partition("stuck")["open_transactions"] == 1
    out, err = commands.run(*abort, "--execute")
    assert out.endswith('aborted the transaction in partition 0 of topic "stuck"\n') and not err, (out, err)
    at = commands.partition("stuck")
    assert (at["last_stable"], at["latest"], at["open_transactions"]) == (2, 2, 0), at


def on_yagura(binary, folder):
    port = free_port()
    broker = Broker(binary, f"sqlite://{folder}/y.db", admin=f"127.0.0.1:{port}").start()
    commands = Commands(binary, broker.address)
    check_open_transaction(commands)
    check_termination(commands)
    print("ok: an open transaction on Yagura", flush=True)
    check_metrics(commands, broker, port)
    print("ok: open transactions in the metrics", flush=True)
    broker.stop()


def on_kafka(binary, libs, folder):
    with KafkaServer(libs, f"{folder}/kafka", CARELESS) as kafka:
        commands = Commands(binary, kafka.bootstrap)
        check_open_transaction(commands)
        check_termination(commands)
        print("ok: an open transaction on Kafka", flush=True)
        check_hanging_transaction(commands)
        print("ok: a transaction that hangs", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kafka-libs")
    arguments = arguments.parse_args()
    binary = os.path.abspath(arguments.binary)
    with tempfile.TemporaryDirectory() as folder:
        on_yagura(binary, folder)
        if arguments.kafka_libs:
            on_kafka(binary, arguments.kafka_libs, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
