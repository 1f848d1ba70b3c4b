#!/usr/bin/env python3
"""Starts and stops a real Apache Kafka: one KRaft node on free loopback ports, all in one folder.

    kafka_server.py start --libs JARS --dir FOLDER [--set key=value ...]
                                        prints "bootstrap=127.0.0.1:PORT pid=PID"
    kafka_server.py stop --dir FOLDER   ends that process, and no other

As a module: `with KafkaServer(libs, folder) as kafka: ... kafka.bootstrap`. The client tests run
against it to prove the tests themselves, and the differential tests to compare answers.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import wire
from ports import free_port

CLUSTER_ID = "eWFndXJhLXRlc3RzLWthZg"  # any 16 bytes in base64url
START_SECONDS_MAX, STOP_SECONDS_MAX, ANSWER_SECONDS_MAX = 300, 120, 30

# Kafka's own defaults, but for what one node cannot do (three replicas) and what only costs time.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""

LOG4J = """\
Configuration:
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}
  Loggers:
    Root: {level: INFO, AppenderRef: [{ref: STDOUT}]}
"""


def wait_until_it_answers(bootstrap, alive, seconds):
    """Waits for a Metadata reply that names a broker; `alive()` says whether waiting still makes sense."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive():
            raise RuntimeError("the broker ended before it answered")
        try:
            with wire.Connection(bootstrap, ANSWER_SECONDS_MAX) as connection:
                if connection.metadata([])[0] > 0:
                    return
        except (OSError, wire.BrokerError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"no answer from {bootstrap} in {seconds} seconds")


class KafkaServer:
    """One broker process and its folder."""

    def __init__(self, libs, folder, settings=()):
        self.libs, self.folder, self.settings = Path(libs).resolve(), Path(folder).resolve(), list(settings)
        self.process = self.bootstrap = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        if not list(self.libs.glob("kafka_2.13-*.jar")):
            raise RuntimeError(f"{self.libs} holds no kafka_2.13 jar")
        self._configure()
        if self._java("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER_ID, "-c").wait():
            raise RuntimeError(f"the data folder could not be formatted; see {self.folder}/kafka.log")
        self.process = self._java("kafka.Kafka")
        (self.folder / "pid").write_text(str(self.process.pid))
        try:
            wait_until_it_answers(self.bootstrap, lambda: self.process.poll() is None, START_SECONDS_MAX)
        except RuntimeError as error:
            self.stop()
            raise RuntimeError(f"{error}; see {self.folder}/kafka.log") from None

    def _configure(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        broker, controller = free_port(), free_port()
        text = PROPERTIES.format(broker=broker, controller=controller, folder=self.folder)
        (self.folder / "server.properties").write_text(text + "\n".join(self.settings) + "\n")
        if not (self.folder / "log4j2.yaml").exists():
            (self.folder / "log4j2.yaml").write_text(LOG4J)
        self.bootstrap = f"127.0.0.1:{broker}"

    def _java(self, main, *args):
        command = ["java", "-Xmx512m", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={self.folder}/log4j2.yaml",
                   "-cp", f"{self.libs}/*", main, *args, str(self.folder / "server.properties")]
        with open(self.folder / "kafka.log", "ab") as log:
            # Its own session: a Ctrl-C at the tests must not race with stop().
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    cwd=self.folder, start_new_session=True)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        (self.folder / "pid").unlink(missing_ok=True)


def is_our_broker(pid, folder):
    """A pid can be reused; only a process that names this folder on its command line is ours."""
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def stop_by_folder(folder):
    pid_file = folder / "pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + STOP_SECONDS_MAX
    sent = None
    while is_our_broker(pid, folder):
        wanted = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        if wanted != sent:
            os.kill(pid, wanted)
            sent = wanted
        time.sleep(0.1)
    pid_file.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start")
    start.add_argument("--libs", required=True, help="folder with the jars of kafka_2.13")
    start.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one more broker property")
    stop = commands.add_parser("stop")
    for command in (start, stop):
        command.add_argument("--dir", required=True, type=Path)
    args = parser.parse_args()
    if args.command == "stop":
        stop_by_folder(args.dir.resolve())
        return
    server = KafkaServer(args.libs, args.dir, args.set)
    server.start()
    print(f"bootstrap={server.bootstrap} pid={server.process.pid}")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"kafka_server: {error}")
