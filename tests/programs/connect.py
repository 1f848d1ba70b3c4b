"""Kafka Connect, distributed: a file source and a file sink on two workers, one of which is killed with the broker.

The source has exactly-once support: the topic has each line once, whatever is killed. The sink has none in Kafka either:
its file has each line once as long as nothing is killed, and afterwards each line at least once.
"""

import json
import random
import time
import urllib.error
import urllib.request
from collections import Counter

import topics
from place import free_port
from programs import Program, wait_until, write_properties

CALL_SECONDS_MAX = 120
INTERNAL = ["connect-configs", "connect-offsets", "connect-status"]
LINES_AT_FIRST, LINES_PER_ROUND, LINES_PER_SECOND = 300, 600, 300
SOURCE = {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1",
          "topic": "lines", "exactly.once.support": "required", "transaction.boundary": "poll"}
SINK = {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1", "topics": "lines",
        "consumer.override.isolation.level": "read_committed"}


class Worker(Program):
    """One worker of the cluster, and its REST server."""

    def __init__(self, name, place, address):
        self.port = free_port()
        converter = "org.apache.kafka.connect.storage.StringConverter"
        settings = {
            "bootstrap.servers": address, "group.id": "connect", "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": converter, "value.converter": converter, "exactly.once.source.support": "enabled",
            **{f"{one}.storage.topic": f"connect-{one}{'s' if one != 'status' else ''}" for one in
               ("config", "offset", "status")},
            **{f"{one}.storage.replication.factor": 1 for one in ("config", "offset", "status")},
            "offset.storage.partitions": 3, "status.storage.partitions": 2, "offset.flush.interval.ms": 1000,
            # Quick rebalances.
            "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "scheduled.rebalance.max.delay.ms": 1000,
            "reconnect.backoff.max.ms": 500, "consumer.session.timeout.ms": 6000,
            "consumer.heartbeat.interval.ms": 1000, "consumer.reconnect.backoff.max.ms": 500,
            "producer.reconnect.backoff.max.ms": 500,
        }
        file = write_properties(place.folder / f"{name}.properties", settings)
        super().__init__(name, "connect", "org.apache.kafka.connect.cli.ConnectDistributed", file)

    def start(self):
        self.answered = Counter()
        return super().start()

    def stop(self):
        """A worker that is told to end while its REST server is still busy with a call, though that is answered, never ends."""
        if self.runs():
            self.wait(lambda: all(self.said().count(call) >= count for call, count in self.answered.items()),
                      lambda: f"calls are over: {self.answered}")
        super().stop()

    def call(self, method, path, body=None):
        """The answer, or None while the worker has none: it is starting, rebalancing, or the leader is gone."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            assert error.code in (404, 409) or error.code >= 500, f"{method} {path}: {error.code} {said}"
            return None
        except OSError:
            return None

    def status(self, connector):
        return self.call("GET", f"/connectors/{connector}/status") or {"connector": {}, "tasks": []}

    def place_of(self, connector):
        """The worker that runs its task, if both run."""
        status = self.status(connector)
        tasks = status["tasks"]
        failed = [one for one in [status["connector"], *tasks] if one.get("state") == "FAILED"]
        assert not failed, f"{connector} has failed: {failed}"
        is_running = status["connector"].get("state") == "RUNNING" and [one["state"] for one in tasks] == ["RUNNING"]
        return tasks[0]["worker_id"] if is_running else None

    def worker_id(self):
        return f"127.0.0.1:{self.port}"


class Lines:
    """The source's file."""

    def __init__(self, file):
        self.file, self.count = open(file, "w", buffering=1), 0

    def write(self, count, per_second):
        for _ in range(count):
            self.count += 1
            self.file.write(f"line {self.count}\n")
            time.sleep(1 / per_second)

    def all(self):
        return [f"line {number}" for number in range(1, self.count + 1)]


def sunk(file):
    """The whole lines in the sink's file."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


def start_connectors(worker, source_file, sink_file):
    for name, config in (("source", SOURCE | {"file": str(source_file)}), ("sink", SINK | {"file": str(sink_file)})):
        # Again if the worker says that it is rebalancing.
        worker.wait(lambda: worker.call("PUT", f"/connectors/{name}/config", config), f"connector {name} is taken")
        worker.wait(lambda: worker.place_of(name), lambda: f"{name} runs; it is {worker.status(name)}")


def kill_one(broker, workers, lines):
    """The worker with the source's task and the broker, while lines are written; the other worker takes over."""
    home = wait_until(lambda: workers[0].place_of("source"), "the source runs")
    killed, other = sorted(workers, key=lambda one: one.worker_id() != home)
    assert killed.worker_id() == home, f"the source runs on {home}"
    lines.write(LINES_PER_ROUND // 3, LINES_PER_SECOND)
    killed.kill()
    broker.kill()
    lines.write(LINES_PER_ROUND // 3, LINES_PER_SECOND)
    broker.start()
    lines.write(LINES_PER_ROUND // 3, LINES_PER_SECOND)
    for name in ("source", "sink"):
        # Until the session of the killed one is over, its last state stands there.
        other.wait(lambda: other.place_of(name) == other.worker_id(), lambda: f"{name} has moved: {other.status(name)}")
    killed.start()


def wait_for_sink(worker, lines, file):
    wanted = set(lines.all())
    worker.wait(lambda: wanted <= set(sunk(file)),
                lambda: f"{len(wanted)} lines are in the sink's file; it lacks {len(wanted - set(sunk(file)))}")


def check_topic(address, lines):
    found = [topics.text(one.value()) for one in topics.read(address, "lines", 1)]
    wrong = next((pair for pair in zip(found, lines.all()) if pair[0] != pair[1]), None)
    assert len(found) == lines.count and wrong is None, \
        f"{len(found)} lines in the topic, of {lines.count}; the first wrong one, and what it should be: {wrong}"


def connect(place, options):
    """Two workers; lines from file to topic to file."""
    kills = (options.kills or 3) if options.long else 1
    source_file, sink_file = place.folder / "source.txt", place.folder / "sink.txt"
    with place.broker() as broker:
        topics.create(broker.address, {"lines": 1})
        workers = [Worker(f"connect-{number}", place, broker.address) for number in (1, 2)]
        lines = Lines(source_file)
        for one in workers:
            one.start()
        start_connectors(workers[0], source_file, sink_file)
        lines.write(LINES_AT_FIRST, LINES_PER_SECOND)
        wait_for_sink(workers[0], lines, sink_file)
        assert sunk(sink_file) == lines.all(), f"before any kill: {len(sunk(sink_file))} lines of {lines.count}"
        for topic in INTERNAL:
            policy = topics.config(broker.address, topic, "cleanup.policy")
            assert policy == "compact", f"{topic}: cleanup.policy={policy}"
        for _ in range(kills):
            kill_one(broker, workers, lines)
            wait_for_sink(workers[0 if workers[0].runs() else 1], lines, sink_file)
            check_topic(broker.address, lines)
            random.shuffle(workers)
        again = len(sunk(sink_file)) - lines.count
        for one in workers:
            one.stop()
        check_offsets_are_kept(broker, workers[0], lines, sink_file)
    return f"{lines.count} lines once each in the topic, {again} of them again in the sink's file, {kills} kills"


def check_offsets_are_kept(broker, worker, lines, sink_file):
    """All workers and the broker end: what starts afterwards goes on where they were, and repeats nothing."""
    before = len(sunk(sink_file))
    broker.kill()
    broker.start()
    worker.start()
    lines.write(LINES_AT_FIRST, LINES_PER_SECOND)
    wait_for_sink(worker, lines, sink_file)
    assert sunk(sink_file)[before:] == lines.all()[-LINES_AT_FIRST:], "after a clean stop lines were repeated"
    check_topic(broker.address, lines)
    offsets = worker.wait(lambda: worker.call("GET", "/connectors/source/offsets"), "the offsets are told")["offsets"]
    place_in_file = [one["offset"]["position"] for one in offsets]
    wanted = sum(len(line) + 1 for line in lines.all())
    assert place_in_file == [wanted], f"the source's offset is {place_in_file}, not {wanted}"
    worker.stop()
