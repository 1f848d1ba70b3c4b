#!/usr/bin/env python3
"""A web UI on the broker: Quarkus' Kafka UI shows topics, messages and consumer groups, and changes them.

    web_ui.py --binary PATH [--ui DIRECTORY]

The UI is a page of web components; they get what they show over one WebSocket, in JSON-RPC. The test loads
the page and its components as a browser does, then asks over that WebSocket what they ask.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "faults"), str(HERE / "clients")]

from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

import kafka_server  # noqa: E402
from broker import Broker  # noqa: E402
from ports import free_port  # noqa: E402

TOOLS = HERE.parent / "target/test-tools/web-ui"
# What waits ends when there is what it waits for; these are for a machine that has no time for the test.
START_SECONDS_MAX, CALL_SECONDS_MAX, SETTLE_SECONDS_MAX, STOP_SECONDS_MAX = 1200, 300, 180, 120
STARTED_MS = time.time() * 1000
EXTENSION = "quarkus-kafka-client"
COUNTS = [7, 5, 0, 4]  # what is put into each partition of "orders"
COMMITTED = [3, 5, 0, 1]  # where the group "billing" stands in it


class WebUi:
    """Maven, and under it the JVM that serves the UI."""

    def __init__(self, tools, folder, bootstrap):
        self.port = free_port()
        self.log = pathlib.Path(folder) / "log"
        # A copy, since Quarkus writes beside it.
        pom = shutil.copy(pathlib.Path(tools) / "pom.xml", folder)
        (maven,) = pathlib.Path(tools).glob("apache-maven-*/bin/mvn")
        options = {
            "debug": "false",
            "jvm.args": "-Xmx256m",
            "kafka.bootstrap.servers": bootstrap,
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            "quarkus.kafka.devservices.enabled": "false",  # it would start a Kafka in a container
            "quarkus.test.continuous-testing": "disabled",
            "quarkus.console.enabled": "false",
            "quarkus.analytics.disabled": "true",
        }
        self.command = [maven, "-B", "-q", "-ntp", "-f", pom, "quarkus:dev"]
        self.command += [f"-D{name}={value}" for name, value in options.items()]
        self.process = None

    def start(self):
        environment = {**os.environ, "MAVEN_OPTS": "-Xmx256m -XX:TieredStopAtLevel=1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the UI ended with {self.process.returncode}: {self.said()}"
            try:
                return self.get("/q/dev-ui/")
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the UI does not answer: {self.said()}")

    def said(self):
        return self.log.read_text(errors="replace")[-5000:]

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=CALL_SECONDS_MAX) as response:
            return response.read().decode()

    def children(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    def stop(self):
        """Maven ends the JVM under it; one that is left over must not outlive the test."""
        if self.process is None or self.process.poll() is not None:
            return
        children = self.children()
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            children += self.children()
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 10
        while any(alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        for child in filter(alive, children):
            os.kill(child, signal.SIGKILL)


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Calls:
    """What the UI's components ask its server, over a WebSocket of the standard library's making."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=CALL_SECONDS_MAX)
        self.stream = self.socket.makefile("rb")
        self.last = 0
        head = [
            "GET /q/dev-ui/json-rpc-ws HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Origin: http://127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode())
        status = self.stream.readline()
        assert b" 101 " in status, status
        while self.stream.readline().strip():
            pass

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(b"\x81" + size + mask + masked)

    def take(self, size):
        data = self.stream.read(size)
        assert len(data) == size, "the UI has closed the WebSocket"
        return data

    def receive(self):
        """The next message of text; frames of other kinds are passed over."""
        text = b""
        while True:
            first, size = self.take(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.take(8))
            data = self.take(size)
            if first & 0x0F in (0, 1):
                text += data
                if first & 0x80:
                    return text.decode()

    def __call__(self, method, **parameters):
        self.last += 1
        call = {"jsonrpc": "2.0", "id": self.last, "method": f"{EXTENSION}_{method}", "params": parameters}
        self.send(json.dumps(call))
        while True:
            answer = json.loads(self.receive())
            if answer.get("id") == self.last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]["object"]


def put_in(bootstrap):
    """A topic with records in three of four partitions, one of them a tombstone, and an empty one."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topics = [NewTopic("orders", len(COUNTS), 1), NewTopic("empty", 2, 1)]
    for future in admin.create_topics(topics, request_timeout=CALL_SECONDS_MAX).values():
        future.result(CALL_SECONDS_MAX)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "enable.idempotence": True})
    records = {}
    for partition, count in enumerate(COUNTS):
        for offset in range(count):
            value = None if (partition, offset) == (3, 2) else f"größe {partition}/{offset}"
            records[partition, offset] = (f"key-{partition}-{offset}", value, {"origin": f"test-{offset}"})
            key, value, headers = records[partition, offset]
            producer.produce("orders", value, key, partition, headers=list(headers.items()))
    assert producer.flush(CALL_SECONDS_MAX) == 0, "not all was produced"
    return records


def join(bootstrap, group, name):
    names = {"bootstrap.servers": bootstrap, "group.id": group, "client.id": name}
    consumer = Consumer({**names, "enable.auto.commit": False})
    consumer.subscribe(["orders"])
    return consumer


def wait_for_members(consumers):
    """Until each has its half; from then on they heartbeat by themselves."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline:
        for consumer in consumers:
            consumer.poll(0.1)
        assigned = [len(consumer.assignment()) for consumer in consumers]
        if assigned == [2, 2]:
            return
    raise AssertionError(f"the group does not settle: {assigned}")


def check_page(ui, _calls, _bootstrap, _records):
    page = ui.get(f"/q/dev-ui/{EXTENSION}/topics")
    assert "<!DOCTYPE html>" in page and "importmap" in page, page[:500]
    for component in ["topics", "messages", "consumer-groups", "nodes"]:
        script = ui.get(f"/q/dev-ui/{EXTENSION}/qwc-kafka-{component}.js")
        assert "customElements.define" in script, script[:500]


def check_topics(_ui, calls, _bootstrap, _records):
    topics = calls("getTopics")
    shown = {topic["name"]: (topic["partitionsCount"], topic["nmsg"], topic["internal"]) for topic in topics}
    assert shown == {"orders": (4, sum(COUNTS), False), "empty": (2, 0, False)}, shown


def check_messages(_ui, calls, _bootstrap, records):
    page = calls("topicMessages", topicName="orders")["messages"]
    shown = {
        (message["partition"], message["offset"]): (message["key"], message.get("value"), message["headers"])
        for message in page
    }
    assert len(page) == len(records) and shown == records, f"{shown}\nis not\n{records}"
    now = time.time() * 1000
    assert all(STARTED_MS - 1000 < message["timestamp"] <= now + 1000 for message in page), page
    assert calls("topicMessages", topicName="empty")["messages"] == []


def check_groups(_ui, calls, bootstrap, _records):
    """A group with two members and lag, and one that nobody is in."""
    consumers = [join(bootstrap, "billing", f"billing-{number}") for number in range(2)]
    try:
        wait_for_members(consumers)
        offsets = [TopicPartition("orders", partition, offset) for partition, offset in enumerate(COMMITTED)]
        for consumer in consumers:
            mine = {assigned.partition for assigned in consumer.assignment()}
            consumer.commit(offsets=[offset for offset in offsets if offset.partition in mine], asynchronous=False)
        groups = {group["name"]: group for group in calls("getInfo")["consumerGroups"]}
        assert groups.keys() == {"billing"}, groups
        billing = groups["billing"]
        lag = [count - committed for count, committed in zip(COUNTS, COMMITTED, strict=True)]
        assert (billing["state"], billing["protocol"], billing["lag"]) == ("STABLE", "range", sum(lag)), billing
        assert {member["clientId"] for member in billing["members"]} == {"billing-0", "billing-1"}, billing
        shown = {
            partition["partition"]: partition["lag"]
            for member in billing["members"]
            for partition in member["partitions"]
            if partition["topic"] == "orders"
        }
        assert shown == dict(enumerate(lag)), billing
    finally:
        for consumer in consumers:
            consumer.close()
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while billing["state"] != "EMPTY" and time.monotonic() < deadline:
        (billing,) = calls("getInfo")["consumerGroups"]
    assert (billing["state"], billing["members"]) == ("EMPTY", []), billing


def check_cluster(_ui, calls, bootstrap, _records):
    information = calls("getInfo")
    cluster = information["clusterInfo"]
    nodes = [f"{node['host']}:{node['port']}" for node in cluster["nodes"]]
    assert nodes == [information["broker"]] == [bootstrap] and cluster["id"], information
    assert calls("getAclInfo")["entries"] == []


def check_changes(_ui, calls, bootstrap, _records):
    """A topic made, written to and deleted in the UI."""
    topics = calls("createTopic", topicName="made", partitions=3, replications=1, configs={})
    assert ("made", 3) in {(topic["name"], topic["partitionsCount"]) for topic in topics}, topics
    put = {"topicName": "made", "partition": 1, "key": "k", "value": "written in the UI", "headers": {"a": "b"}}
    calls("createMessage", **put)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition("made", 1, 0)])
        message = consumer.poll(CALL_SECONDS_MAX)
        assert message and not message.error(), message and message.error()
        assert (message.key(), message.value(), message.headers()) == (b"k", b"written in the UI", [("a", b"b")])
    finally:
        consumer.close()
    named = {topic["name"] for topic in calls("deleteTopic", topicName="made")}
    assert named == {"orders", "empty"}, named


CHECKS = [check_page, check_topics, check_messages, check_groups, check_cluster, check_changes]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--ui", default=TOOLS, help="where tests/setup.sh has put Maven and the UI's pom.xml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(arguments.binary, "memory://").start()
        ui = WebUi(arguments.ui, folder, broker.address)
        try:
            records = put_in(broker.address)
            ui.start()
            calls = Calls(ui.port)
            for check in CHECKS:
                check(ui, calls, broker.address, records)
                print(f"ok: {check.__name__}", flush=True)
            calls.close()
        except BaseException:
            said = ui.said() if ui.log.exists() else ""
            print(f"the UI said: {said}\nthe broker said: {broker.stderr()}", file=sys.stderr)
            raise
        finally:
            ui.stop()
            broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
