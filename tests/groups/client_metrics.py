#!/usr/bin/env python3
"""Clients push their metrics (KIP-714): the Java client and librdkafka, to /metrics.

    client_metrics.py --binary PATH

Nobody pushes until a subscription asks for it; only what it asks for comes, and only from clients that it matches. While
there is none, the calls are not even offered: librdkafka would write on standard error that it is asked for nothing.
"""

import argparse
import re
import subprocess
import tempfile
import urllib.request

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import setting
from members import TOOLS, Members, wait_until
from setting import LOGS

import wire  # setting knows where it is

PUSHED = re.compile(r"^(yagura_client_org_\w+)\{(.*)\} \S+$", re.M)
GET_TELEMETRY_SUBSCRIPTIONS, PUSH_TELEMETRY = 71, 72
CALL_SECONDS_MAX = 120
JAVA, LIBRDKAFKA = ("m1", "apache-kafka-java"), ("writer", "confluent-kafka-python")


def pushed(admin):
    """Names of metrics, by client id and software."""
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=CALL_SECONDS_MAX) as page:
        found = {}
        for name, labels in PUSHED.findall(page.read().decode()):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found.setdefault((labels["client_id"], labels["client_software_name"]), set()).add(name)
        return found


def subscribe(bootstrap, *options, action="--alter"):
    """With the tool that Kafka has for it."""
    java = ["java", "-cp", f"{TOOLS}/java/libs/*", "org.apache.kafka.tools.ClientMetricsCommand"]
    done = subprocess.run([*java, "--bootstrap-server", bootstrap, action, *options], capture_output=True, text=True,
                          timeout=CALL_SECONDS_MAX)
    assert done.returncode == 0, done.stdout + done.stderr


def is_offered(bootstrap):
    """Whether a new connection is offered the two calls."""
    with wire.Connection(bootstrap) as connection:
        served = connection.api_versions()
    offered = [key in served for key in (GET_TELEMETRY_SUBSCRIPTIONS, PUSH_TELEMETRY)]
    assert offered[0] == offered[1], offered
    return offered[0]


def check_offer(broker):
    """It lasts as long as there is a subscription, also after a new start."""
    assert not is_offered(broker.address), "nobody has asked for metrics"
    for name in ("one", "two"):
        subscribe(broker.address, "--name", name, "--metrics", "a.")
        assert is_offered(broker.address), f"{name} asks for metrics"
    broker.stop()
    broker.start()
    wait_until(lambda: is_offered(broker.address), "offered after a new start")
    for name, rest in (("one", True), ("two", False)):
        subscribe(broker.address, "--name", name, action="--delete")
        assert is_offered(broker.address) == rest, f"{name} is deleted"
    print("ok: the calls are offered while there is a subscription")


def check(broker, admin):
    topics = AdminClient({"bootstrap.servers": broker.address, "enable.metrics.push": False})
    topics.create_topics([NewTopic("t", 1, 1)], request_timeout=CALL_SECONDS_MAX)["t"].result(CALL_SECONDS_MAX)
    subscribe(broker.address, "--name", "java", "--metrics", "org.apache.kafka.consumer.", "--interval", "300",
              "--match", "client_id=m.*")
    consumers = Members("java", broker.address, "g", "t", "eager", LOGS / "client-metrics-java.log")
    producer = Producer({"bootstrap.servers": broker.address, "client.id": "writer"})

    def wait_for(who):
        """What is pushed when this client pushes. What it has pushed is forgotten when it is silent, so look once."""
        found = {}

        def is_pushed():
            producer.produce("t", b"record")
            producer.poll(0.01)
            found.clear()
            found.update(pushed(admin))
            return who in found
        consumers.wait(is_pushed, lambda: f"{who} pushes: {found}")
        return found

    try:
        consumers.add()
        found = wait_for(JAVA)
        assert all(name.startswith("yagura_client_org_apache_kafka_consumer_") for name in found[JAVA]), found
        assert LIBRDKAFKA not in found, f"it was not asked: {found}"
        print(f"ok: the Java client pushes {len(found[JAVA])} metrics")
        subscribe(broker.address, "--name", "all", "--metrics", "*", "--interval", "300")
        # A client that is asked for nothing asks again after five minutes: another one asks at once.
        producer = Producer({"bootstrap.servers": broker.address, "client.id": "writer"})
        print(f"ok: librdkafka pushes {len(wait_for(LIBRDKAFKA)[LIBRDKAFKA])} metrics")
        assert producer.flush(CALL_SECONDS_MAX) == 0, "not all was produced"
        consumers.end()
    finally:
        consumers.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    options = arguments.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    admin = f"127.0.0.1:{setting.free_port()}"
    with tempfile.TemporaryDirectory() as folder, setting.yagura(options.binary, folder, admin) as broker:
        check_offer(broker)
        check(broker, admin)


if __name__ == "__main__":
    main()
