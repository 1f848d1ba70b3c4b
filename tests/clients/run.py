#!/usr/bin/env python3
"""Runs the real-client tests against a broker: real Kafka clients, from their own registries.

    run.py --binary PATH        starts `PATH broker` on a fresh SQLite store, stops it with SIGTERM at the end
    run.py --kafka JARS         starts a real Apache Kafka instead: proves the tests themselves
    run.py --bootstrap H:P      uses a broker that runs already
    run.py ... NAME ...         only these clients

Each client is one test; that its batches are stored with the codec it was told to use is another
(stored_codecs.py). Needs what tests/setup.sh installs. Logs go to target/test-logs.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dataset
import kafka_server
from checking import CODECS
from ports import free_port
from store import store

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "faults"))

import several  # noqa: E402
from broker import Broker  # noqa: E402

TARGET = HERE.parent.parent / "target"
TOOLS, LOGS, DATA = TARGET / "test-tools", TARGET / "test-logs", TARGET / "test-data"
# What waits ends when there is what it waits for; these are for a machine that has no time for the test.
CLIENT_SECONDS_MAX, START_SECONDS_MAX, STOP_SECONDS_MAX, TAIL_LINES = 3600, 180, 180, 40
PYTHON = str(TOOLS / "venv/bin/python")


class Client(NamedTuple):
    """How a client program is called, and what of its topics is looked at afterwards."""
    command: list
    positional: bool = False
    env: dict = {}
    plain_below: int = 0
    more_topics: dict = {}


CLIENTS = {
    "java": Client(["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{TOOLS}/java/classes:{TOOLS}/java/libs/*",
                    "ClientTest"], positional=True, more_topics={"admin-recompressed": "zstd", "acks0": "lz4"}),
    # librdkafka and kafka-python leave a batch uncompressed if that makes it no larger: one tiny record, say.
    "confluent_kafka": Client([PYTHON, str(HERE / "client_confluent.py")], plain_below=1000),
    "kcat": Client([PYTHON, str(HERE / "client_kcat.py")], plain_below=1000),
    "kafka_python": Client([PYTHON, str(HERE / "client_kafka_python.py")], plain_below=1000),
    "kafkajs": Client(["node", str(HERE / "node/client.js")], env={"NODE_PATH": f"{TOOLS}/node/node_modules"}),
    "kafka_tools": Client([str(HERE / "kafka_tools.sh")], positional=True, env={"KAFKA_LIBS": f"{TOOLS}/java/libs"}),
}


def client_command(client, bootstrap, data, prefix):
    values = {"bootstrap": bootstrap, "dataset": str(data), "codecs": ",".join(CODECS), "prefix": prefix}
    if client.positional:
        return [*client.command, *values.values()]
    return [*client.command, *(word for name, value in values.items() for word in (f"--{name}", value))]


def codecs_command(client, bootstrap, prefix):
    topics = {codec: codec for codec in CODECS} | client.more_topics
    return [PYTHON, str(HERE / "stored_codecs.py"), "--bootstrap", bootstrap, "--plain-below", str(client.plain_below),
            *(f"{codec}:{prefix}-{suffix}" for suffix, codec in topics.items())]


class Results:
    """Runs tests one after the other and counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, command, env):
        """Runs a command as a test; its output goes to a log, whose end is shown if it fails."""
        log = LOGS / f"{name.replace(' ', '-')}.log"
        start = time.monotonic()
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env={**os.environ, **env}, start_new_session=True)
            try:
                code = process.wait(CLIENT_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                code = f"no end within {CLIENT_SECONDS_MAX} s"
            finally:
                end_group(process)
        return self.add(name, time.monotonic() - start, code == 0 or f"exit {code}\n{tail(log)}")

    def add(self, name, seconds, outcome):
        """`outcome` is True, or what went wrong."""
        ok = outcome is True
        self.passed, self.failed = self.passed + ok, self.failed + (not ok)
        print(f"{'ok  ' if ok else 'FAIL'} {name:32} {seconds:6.1f} s" + ("" if ok else f"  {outcome}"), flush=True)
        return ok


def end_group(process):
    """A client that is stopped early must not leave children that keep on producing."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def tail(log):
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"    | {line[:2000]}" for line in lines) + f"\n    whole log: {log}"


@contextmanager
def yagura(binary, storage, results):
    """The broker under test, on free ports and a store of its own."""
    with tempfile.TemporaryDirectory(prefix="yagura-clients-") as folder:
        if several.asked_for()[0] > 1:
            brokers = Broker(binary, storage or store(f"{folder}/y.db")).start()
            yield brokers.address
            return brokers.stop()
        port, admin = free_port(), free_port()
        log = LOGS / "yagura.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [binary, "broker", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
                 "--storage", storage or store(f"{folder}/y.db")],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, start_new_session=True)
        try:
            bootstrap = f"127.0.0.1:{port}"
            try:
                kafka_server.wait_until_it_answers(bootstrap, lambda: process.poll() is None, START_SECONDS_MAX)
            except RuntimeError as error:
                raise RuntimeError(f"{error}\n{tail(log)}") from None
            yield bootstrap
            start = time.monotonic()
            outcome = stop_yagura(process, log)
            results.add("stops on SIGTERM", time.monotonic() - start, outcome)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def stop_yagura(process, log):
    """True if it was still running and then ends with exit code 0 in time."""
    if process.poll() is not None:
        return f"the broker had ended before, with exit code {process.returncode}\n{tail(log)}"
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return f"still running {STOP_SECONDS_MAX} s after SIGTERM\n{tail(log)}"
    return code == 0 or f"exit code {code} after SIGTERM\n{tail(log)}"


@contextmanager
def broker(args, results):
    """Yields the bootstrap address of the broker that the arguments name."""
    if args.bootstrap:
        kafka_server.wait_until_it_answers(args.bootstrap, lambda: True, START_SECONDS_MAX)
        yield args.bootstrap
    elif args.kafka:
        with tempfile.TemporaryDirectory(prefix="kafka-clients-") as folder:
            try:
                with kafka_server.KafkaServer(args.kafka, folder) as kafka:
                    yield kafka.bootstrap
            finally:
                if Path(folder, "kafka.log").exists():
                    shutil.copy(Path(folder, "kafka.log"), LOGS)
    else:
        with yagura(str(Path(args.binary).resolve()), args.storage, results) as bootstrap:
            yield bootstrap


def data_file():
    """The data set, made anew only when its generator has changed."""
    version = hashlib.sha256(Path(dataset.__file__).read_bytes()).hexdigest()[:12]
    path = DATA / f"records-{version}.bin"
    if not path.exists():
        for old in DATA.glob("records-*.bin"):
            old.unlink()
        dataset.write(path)
    return path


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bootstrap", metavar="HOST:PORT")
    where.add_argument("--binary", metavar="PATH")
    where.add_argument("--kafka", metavar="JARS", help="for instance target/test-tools/java/libs")
    parser.add_argument("--storage", metavar="URL", help="with --binary: another store than a fresh SQLite file")
    parser.add_argument("clients", nargs="*", metavar="NAME", help=", ".join(CLIENTS))
    args = parser.parse_args()
    unknown = set(args.clients) - set(CLIENTS)
    if unknown:
        parser.error(f"no client is called {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    return args


def run_client(results, name, bootstrap, data):
    # Clients wait for minutes for a broker that is gone; so ask first.
    kafka_server.wait_until_it_answers(bootstrap, lambda: True, START_SECONDS_MAX)
    # Unlike any earlier prefix, for a broker that keeps its topics; no underscore, Kafka's tools warn of it.
    client, prefix = CLIENTS[name], f"{name.replace('_', '-')}-{int(time.time()):x}"
    if results.run(name, client_command(client, bootstrap, data, prefix), client.env):
        results.run(f"{name} stored codecs", codecs_command(client, bootstrap, prefix), {})


def main():
    args = arguments()
    if not (TOOLS / "stamps/classes").exists():
        sys.exit("run.py: run tests/setup.sh first, it installs the clients")
    # A SIGTERM must take the same way out as Ctrl-C: the broker is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: ended by SIGTERM"))
    LOGS.mkdir(parents=True, exist_ok=True)
    data, results = data_file(), Results()
    try:
        with broker(args, results) as bootstrap:
            for name in args.clients or CLIENTS:
                run_client(results, name, bootstrap, data)
    except (RuntimeError, OSError) as error:
        results.add("the broker answers", 0, str(error))
    print(f"{results.passed} passed, {results.failed} failed")
    sys.exit(results.failed > 0)


if __name__ == "__main__":
    main()
