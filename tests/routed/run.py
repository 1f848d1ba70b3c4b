#!/usr/bin/env python3
"""Real clients on two services in one stack: topics named scratch.* in memory, all others in SQLite.

    run.py --binary PATH            starts `PATH run` on such a stack
    run.py --bootstrap HOST:PORT    a broker that runs already and keeps all topics in one place, such as Apache Kafka:
                                    proves the clients; what only two services do is left out

Each client makes topics in both services, produces to them by name or by id, reads them back in a group, and commits.
Then groups whose members are different clients, fetch sessions in both services on one connection, and a restart,
after which only one service has anything left. Ends with "N passed, N failed".
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sessions
from calls import UNKNOWN_TOPIC, Caller, Log
from clients import HERE, PARTITIONS, PROGRAMS, TOOLS, Client, ends

import setting
from members import Members, wait_until
from setting import LOGS

COUNT = 200  # records of one go
TOOLS_RECORDS = 10  # that kafka_tools.sh leaves in kept.*
# What waits ends when there is what it waits for; these are for a machine that has no time for the test.
SETTLE_SECONDS_MAX, TOOLS_SECONDS_MAX, VERIFY_SECONDS_MAX = 180, 1800, 600
FETCH_VERSIONS = [12, 13, 18]  # the last one by topic name, the first by id, and the latest
SESSION_CHECKS = [("turns", "two fetch sessions by turns", sessions.check_turns),
                  ("close", "one of two fetch sessions is closed", sessions.check_close)]
HAVE_NEXT = ["java", "librdkafka"]  # the clients that speak KIP-848
CONFIG = """
[admin]
bind = "{admin}"
[listeners.main]
bind = "{address}"
stack = ["limits", "framing", "metrics", "trace", "route"]
[services.kept]
kind = "storage"
url = "sqlite://{folder}/y.db"
auto_create_topics = false
group_initial_rebalance_delay = "100ms"
group_consumer_heartbeat_interval = "500ms"
group_consumer_session_timeout = "{session_seconds}s"
[services.scratch]
kind = "storage"
url = "memory://"
auto_create_topics = false
[route]
default = "kept"
[[route.rules]]
topics = ["scratch.*"]
to = "scratch"
"""


class Results:
    """Runs checks one after the other and counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, check, *arguments):
        started, fault = time.monotonic(), ""
        try:
            check(*arguments)
        except Exception:  # noqa: BLE001: whatever it is, the others go on
            fault = "\n" + traceback.format_exc(limit=-3)
        self.passed, self.failed = self.passed + (not fault), self.failed + bool(fault)
        print(f"{'FAIL' if fault else 'ok  '} {name:56} {time.monotonic() - started:5.1f} s{fault}", flush=True)


def topics_of(client):
    """One in each service; what is produced to which is known beforehand, so that a check can tell what is missing."""
    return f"kept.{client}", f"scratch.{client}"


TOTAL = 3 * COUNT  # of each topic of a client


# --- each client alone


def check_client(results, client, address):
    kept, scratch = topics_of(client.name)
    for topic in (kept, scratch):
        results.check(f"{client.name} creates {topic}", client.create, topic)
        results.check(f"{client.name} produces to {topic}", client.produce, 0, COUNT, topic)
    results.check(f"{client.name} produces to both with one producer", client.produce, COUNT, COUNT, kept, scratch)
    results.check(f"{client.name} produces to both with acks=0", check_fire, address, client, 2 * COUNT, COUNT, kept,
                  scratch)
    for topic in (kept, scratch):
        results.check(f"{client.name} reads {topic} in a group", client.check_read, client.name, TOTAL, topic)
    results.check(f"{client.name} reads both in a group", client.check_read, f"{client.name}-both", TOTAL, kept, scratch)
    groups = [client.name, f"{client.name}-both"]
    if client.name in HAVE_NEXT:
        groups.append(f"{client.name}-next")
        name = f"{client.name} reads both in a group of KIP-848"
        results.check(name, client.check_read_next, groups[-1], TOTAL, kept, scratch)
    for group in groups:
        name = f"{group} has committed to both"
        results.check(name, check_committed, address, group, (kept, scratch), ends(TOTAL))


def check_fire(address, client, first, count, *topics):
    """What is not acknowledged is all there, some time after the client is done with it."""
    client.fire(first, count, *topics)
    expected = {topic: ends(first + count) for topic in topics}
    with Caller(address) as caller:
        def found():
            return {topic: caller.ends(topic, PARTITIONS) for topic in topics}
        wait_until(lambda: found() == expected, lambda: f"{found()} is {expected}", SETTLE_SECONDS_MAX)


def check_committed(address, group, topics, offsets):
    """Both topics in one call: offsets are with the group, wherever the records are. Nothing follows what was read."""
    with Caller(address) as caller:
        found = caller.committed(group, *topics, partitions=PARTITIONS)
        assert found == {topic: offsets for topic in topics}, f"{group} has committed {found}, not {offsets}"
        for topic in topics:
            assert caller.ends(topic, PARTITIONS) == offsets, f"{topic} ends at {caller.ends(topic, PARTITIONS)}"


# --- groups whose members are different clients


@contextmanager
def group_of(address, group, mode, *members):
    """One member for each (client, topic)."""
    with ExitStack() as stack:
        made = []
        for number, (client, topic) in enumerate(members):
            log = LOGS / f"routed-group-{group}-{number}-{client}.log"
            made.append(Members(client, address, group, topic, mode, log))
            stack.callback(made[-1].kill)
        for one in made:
            one.add()
        yield made
        for one in made:
            one.end()


def partitions_of(members):
    """What the member of each program has."""
    return [sorted(sum(one.assigned.values(), [])) for one in members]


def is_shared(members, each):
    """All partitions of a topic, so many for each."""
    parts = partitions_of(members)
    return sorted(sum(parts, [])) == list(range(PARTITIONS)) and all(len(part) in each for part in parts)


def said(members):
    return "\n".join(one.said() for one in members)


def wait_shared(members, each):
    wait_until(lambda: is_shared(members, each), lambda: f"shared: {partitions_of(members)}\n{said(members)}",
               SETTLE_SECONDS_MAX)


def rows_of(partitions, count):
    return {(partition, offset) for partition in partitions for offset in range(ends(count)[partition])}


def wait_read(members, count):
    """
    All that was produced is read, and nothing else; nothing twice that was committed; and each record by the member that
    has its partition, unless one had no time and has lost it.
    """
    every = rows_of(range(PARTITIONS), count)

    def seen():
        return set().union(*(one.seen() for one in members))
    wait_until(lambda: every <= seen(),
               lambda: f"read: {[len(one.seen()) for one in members]} of {count} records\n{said(members)}",
               SETTLE_SECONDS_MAX)
    assert seen() == every, f"never produced: {sorted(seen() - every)[:3]}"
    read = [row for one in members for row in one.committed()]
    assert len(read) == len(set(read)), f"{len(read) - len(set(read))} records were read and committed twice"
    if not any(one.uncertain or one.losses for one in members):
        found, expected = [one.seen() for one in members], [rows_of(part, count) for part in partitions_of(members)]
        assert found == expected, f"read: {found}, of {expected}"


def wait_committed(address, group, topics, count):
    """What one member could not commit another one does, or it does so later."""
    expected = {topic: ends(count) for topic in topics}
    with Caller(address) as caller:
        def committed():
            return caller.committed(group, *topics, partitions=PARTITIONS)
        wait_until(lambda: committed() == expected, lambda: f"committed: {committed()}, not {expected}", SETTLE_SECONDS_MAX)


def check_shared_group(address, client):
    """A member of each client in one classic group, on a topic that is not where the group is."""
    topic, group = "scratch.shared", "shared"
    client.create(topic)
    with group_of(address, group, "eager", *((one, topic) for one in PROGRAMS)) as members:
        wait_shared(members, each=[1])
        for number in range(2):  # the second goes to fetch sessions that have records behind them
            client.produce(number * COUNT, COUNT, topic)
            wait_read(members, (number + 1) * COUNT)
        wait_committed(address, group, [topic], 2 * COUNT)


def check_group_of_both(address, client, group, mode):
    """Members of one group read topics of both services. In a classic group the leader asks for all of them at once."""
    kept, scratch = f"kept.{group}", f"scratch.{group}"
    for topic in (kept, scratch):
        client.create(topic)
    members = [("java", scratch), ("librdkafka", scratch), ("librdkafka", kept)]
    with group_of(address, group, mode, *members) as (java, librdkafka, other):
        wait_shared([java, librdkafka], each=[1, 2])
        wait_shared([other], each=[PARTITIONS])
        for number in range(2):
            client.produce(number * COUNT, COUNT, kept, scratch)
            wait_read([java, librdkafka], (number + 1) * COUNT)
            wait_read([other], (number + 1) * COUNT)
        wait_committed(address, group, [kept, scratch], 2 * COUNT)


# --- calls by topic id and by fetch session


def check_raw(results, address, is_routed):
    """Each check on a connection and topics of its own. Returns the logs of the first service."""
    logs = []

    def on_a_connection(name, check, *arguments):
        with Caller(address) as caller:
            pair = [Log(caller, f"{service}.{name}") for service in ("kept", "scratch")]
            logs.append(pair[0])
            check(caller, *arguments, pair)

    for version in FETCH_VERSIONS:
        for name, what, check in SESSION_CHECKS:
            results.check(f"{what}, Fetch {version}", on_a_connection, f"{name}-{version}", check, version)
    results.check("topics by id", on_a_connection, "by-id", sessions.check_by_id)
    for version in FETCH_VERSIONS:
        results.check(f"one fetch session of both, Fetch {version}", on_a_connection, f"both-{version}",
                      sessions.check_session_of_both, version)
    results.check("topics of both in one call", on_a_connection, "in-one", sessions.check_both)
    results.check("topics of both in one Produce with acks=0", on_a_connection, "unacked", sessions.check_unacked)
    results.check("pages of topics of both", on_a_connection, "paged", sessions.check_pages)
    if is_routed:
        results.check("what cannot be split", on_a_connection, "refused", sessions.check_refusals)
    return logs


def check_configs(address, topic):
    """A config request names its topic as a resource."""
    topic_type, set_value = 2, 0
    resource = {"ResourceType": topic_type, "ResourceName": topic}
    change = {"Name": "retention.ms", "ConfigOperation": set_value, "Value": "86400001"}
    with Caller(address) as caller:
        altered = caller.ask("IncrementalAlterConfigs", 1, Resources=[{**resource, "Configs": [change]}], ValidateOnly=False)
        assert altered["Responses"][0]["ErrorCode"] == 0, altered
        described = caller.ask("DescribeConfigs", 4, Resources=[{**resource, "ConfigurationKeys": ["retention.ms"]}],
                               IncludeSynonyms=False, IncludeDocumentation=False)
        found = described["Results"][0]
        values = [config["Value"] for config in found["Configs"] or []]
        assert (found["ErrorCode"], values) == (0, ["86400001"]), described


# --- where it all is


def check_all_topics(address):
    """Metadata for all topics has those of both services."""
    with Caller(address) as caller:
        names = [one["Name"] for one in caller.ask("Metadata", 12, Topics=None)["Topics"]]
    expected = {topic for client in PROGRAMS for topic in topics_of(client)} | {"kept.next", "scratch.next"}
    assert expected <= set(names), f"missing: {expected - set(names)}"
    assert len(names) == len(set(names)), f"topics that are listed twice: {names}"


def check_tools(address):
    """Kafka's command-line tools on topics of both services."""
    env = os.environ | {"KAFKA_LIBS": str(TOOLS / "java/libs")}
    done = subprocess.run([HERE / "kafka_tools.sh", address], capture_output=True, text=True, timeout=TOOLS_SECONDS_MAX,
                          env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def check_store(binary, folder, logs):
    """The file that is left is well, and has the records of the first service: so many, and none of the other's."""
    file = f"{folder}/y.db"
    verified = subprocess.run([binary, "store", "verify", file], capture_output=True, text=True,
                              timeout=VERIFY_SECONDS_MAX)
    said = verified.stdout + verified.stderr
    assert verified.returncode == 0, said
    expected = TOTAL * len(PROGRAMS) + 2 * 2 * COUNT + TOOLS_RECORDS + sum(log.end for log in logs)
    assert re.search(rf"\b{expected} records\b", said), f"{expected} records were produced to kept.*: {said}"
    content = Path(file).read_bytes()
    for client in PROGRAMS:
        kept, scratch = (f"record 7 of {topic}".encode() for topic in topics_of(client))
        assert kept in content, f"{kept} is not in the store"
        assert scratch not in content, f"{scratch} is in the store"


def check_gone(address, client):
    """Topics in memory are gone, and the offsets that a group has committed to them do not outlive them."""
    topic, group = topics_of(client.name)[1], client.name
    with Caller(address) as caller:
        for name in [topics_of(one)[1] for one in PROGRAMS] + ["scratch.shared", "scratch.next", "scratch.classic"]:
            found = caller.topic(name)
            assert found["ErrorCode"] == UNKNOWN_TOPIC, f"{name} is still there: {found}"
        client.create(topic)
        found = caller.committed(group, topic, partitions=PARTITIONS)
        assert found == {topic: [-1] * PARTITIONS}, f"{group} has committed to the {topic} of before: {found}"


def stop(broker):
    try:
        broker.stop()
    finally:
        broker.kill()  # one that does not stop must not outlive the test


def check_restart(results, broker, binary, folder, client, logs):
    results.check("the broker stops", stop, broker)
    results.check("the store has the records of kept.* only", check_store, binary, folder, logs)
    results.check("the broker starts again", broker.start)
    for name in PROGRAMS:
        topic = topics_of(name)[0]
        results.check(f"{topic} is as it was", client.check_read, "after", TOTAL, topic)
    results.check("scratch.* is gone", check_gone, broker.address, client)


def check_all(results, address, is_routed, after=lambda client, logs: None):
    with ExitStack() as stack:
        clients = {}
        for name in PROGRAMS:
            clients[name] = Client(name, address)
            stack.callback(clients[name].end)
        for client in clients.values():
            check_client(results, client, address)
        results.check("one classic group of all clients", check_shared_group, address, clients["java"])
        for group, mode in [("classic", "eager"), ("next", "consumer")]:
            name = f"one {group} group of different clients reads both"
            results.check(name, check_group_of_both, address, clients["java"], group, mode)
        for topic in topics_of("java"):
            results.check(f"configs of {topic}", check_configs, address, topic)
        logs = check_raw(results, address, is_routed)
        results.check("Metadata for all topics", check_all_topics, address)
        results.check("Kafka's tools on both", check_tools, address)
        after(clients["librdkafka"], logs)


def check_binary(results, binary):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with setting.yagura(binary, folder, config=CONFIG) as broker:
                check_all(results, broker.address, True, lambda client, logs: check_restart(
                    results, broker, binary, folder, client, logs))
        except (AssertionError, OSError) as error:
            def fail():
                raise error
            results.check("the broker starts, and stops at the end", fail)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--binary")
    where.add_argument("--bootstrap")
    options = arguments.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    results = Results()
    if options.binary:
        check_binary(results, str(Path(options.binary).resolve()))
    else:
        check_all(results, options.bootstrap, False)
    print(f"{results.passed} passed, {results.failed} failed")
    return results.failed > 0


if __name__ == "__main__":
    sys.exit(main())
