"""Consume, transform, produce, exactly once: two copiers of one group, whose processes and broker are killed."""

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from confluent_kafka import Producer

from topics import Reader, create_topic, ends, isolated_ends, read_all
from waiting import end, wait_until

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "target/test-tools"
JAVA = ["java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
        f"{TOOLS}/java/classes:{TOOLS}/java/libs/*", "TransactionalCopier"]
PROGRAMS = {
    "java-1": [*JAVA, "1"],
    "java-2": [*JAVA, "2"],
    "librdkafka": [str(TOOLS / "venv/bin/python"), str(HERE / "copier_confluent.py")],
    "franz-go": [str(TOOLS / "go/transactional-copier")],
}
PARTITIONS, INPUT, OUTPUT, ABANDONED, GROUP = 4, "input", "output", "abandoned", "copiers"
BLOWS = ["copier", "broker", "pause", "both"]
# Longer than a session and longer than a transaction may take: what comes back is a zombie.
PAUSE_SECONDS, TRANSACTION_SECONDS_MAX = 13, 10
INPUT_PAUSE_SECONDS, DELIVERY_MS_MAX = 0.004, 600_000
TAIL_LINES = 30


class Load:
    """Produces numbers, in each partition from 0 on, until it is stopped."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "enable.idempotence": True, "log_level": 0,
                                  "message.timeout.ms": DELIVERY_MS_MAX, "reconnect.backoff.max.ms": 100})
        self.sent, self.failures = 0, []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopped.is_set():
            partition, number = self.sent % PARTITIONS, self.sent // PARTITIONS
            self.producer.produce(INPUT, str(number), str(partition), partition,
                                  on_delivery=lambda error, _: error and self.failures.append(str(error)))
            self.sent += 1
            self.producer.poll(INPUT_PAUSE_SECONDS)

    def stop(self):
        """Each (partition, number) that is in the topic, in order."""
        self.close()
        assert self.producer.flush(DELIVERY_MS_MAX / 1000) == 0 and not self.failures, f"not produced: {self.failures[:3]}"
        return [(at % PARTITIONS, at // PARTITIONS) for at in range(self.sent)]

    def close(self):
        self._stopped.set()
        self._thread.join()


class Attempts:
    """What copiers have said of their transactions. A commit is said before it is called."""

    def __init__(self):
        self.committing, self.ended = {}, {}

    def hear(self, said):
        if "committing" in said:
            self.committing[said["committing"]] = said["records"]
        if "ended" in said:
            self.ended[said["ended"]] = said["committed"]


class Copier:
    """One member of the group, with its own transactional id. Each process that it is has another name."""

    all = []

    def __init__(self, client, address, number, attempts, log):
        self.client, self.address, self.number, self.attempts = client, address, number, attempts
        self.log, self.starts, self.left = open(log, "w"), 0, False
        self.process = self._listener = None
        Copier.all.append(self)

    def start(self):
        self.starts += 1
        name = f"c{self.number}-{self.starts}"
        self.process = subprocess.Popen(
            [*PROGRAMS[self.client], "copy", self.address, name, f"copier-{self.number}", INPUT, OUTPUT, GROUP,
             str(PARTITIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self._listener = threading.Thread(target=self._listen, args=[self.process.stdout], daemon=True)
        self._listener.start()

    def _listen(self, lines):
        for line in lines:
            # Anything else was cut off by the end of the program.
            if line.startswith("{") and line.endswith("}\n"):
                said = json.loads(line)
                self.attempts.hear(said)
                self.left |= "left" in said
            os.write(self.log.fileno(), line.encode())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._listener.join()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """It ends in good order."""
        code = end(self.process)
        self._listener.join(1)
        assert code == 0 and self.left, f"the copier does not end well: {code}\n{self.said()}"

    def said(self):
        lines = Path(self.log.name).read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([*(f"    | {line}" for line in lines), f"    whole log: {self.log.name}"])


class Blows:
    """What happens to copiers and the broker, each kind equally often, in random order."""

    def __init__(self, broker, copiers, dice):
        self.broker, self.copiers, self.dice = broker, copiers, dice
        self.kinds = BLOWS if broker else ["copier", "pause"]
        self.deck = []

    def next(self):
        if not self.deck:
            self.deck = self.dice.sample(self.kinds, len(self.kinds))
        kind, copier = self.deck.pop(), self.dice.choice(self.copiers)
        if kind == "pause":
            copier.pause()
        if kind in ("copier", "both"):
            copier.kill()
        if kind in ("broker", "both"):
            self.broker.kill()
            self.broker.start()
        if kind in ("copier", "both"):
            copier.start()


def check_visible(records, attempts, sent):
    """
    `records`: (partition, offset, value) of a read with read_committed. Each input once, in the order of its partition,
    and of each transaction all or nothing. How many of the attempts are seen.
    """
    last, counts, seen = {}, Counter(), Counter()
    for partition, offset, value in records:
        source, number, attempt = value.split(":")
        source, number = int(source), int(number)
        place = f"{value} at offset {offset} of partition {partition}"
        assert attempt in attempts.committing, f"{place} is visible, and its transaction was never to be committed"
        assert attempts.ended.get(attempt) is not False, f"{place} is visible, and its transaction was aborted"
        assert partition == (source + number) % PARTITIONS, f"{place} is in the wrong partition"
        before = last.get((partition, source), -1)
        assert number > before, f"{place} comes after number {before} of the same input partition"
        last[partition, source] = number
        counts[source, number] += 1
        seen[attempt] += 1
    twice = [one for one, count in counts.items() if count > 1]
    assert not twice, f"{len(twice)} inputs are there twice, such as {twice[:3]} (partition, number)"
    missing = sorted(set(sent) - set(counts))
    assert not missing, f"{len(missing)} inputs are missing, such as {missing[:3]} (partition, number)"
    assert set(counts) == set(sent), f"what was never sent: {sorted(set(counts) - set(sent))[:3]}"
    for attempt, count in attempts.committing.items():
        whole = {count} if attempts.ended.get(attempt) else {0, count}
        assert seen[attempt] in whole, f"of the {count} records of {attempt} {seen[attempt]} are visible"
    return len(seen)


def check_abandoned(client, address, broker, log):
    """
    The last stable offset moves on without the producer, whose transactional id nobody uses again, and without the broker
    that has known of it. How long that took after the kill.
    """
    create_topic(address, ABANDONED, 1)
    started = time.monotonic()
    with open(log, "w") as file:
        process = subprocess.Popen([*PROGRAMS[client], "abandon", address, "a1", "abandoned", ABANDONED],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("{"), f"no transaction was left open; see {log}"
        said = json.loads(line)
    finally:
        process.kill()
        process.wait()
    # As the program asked for it: a client that has done so otherwise proves nothing.
    if client.startswith("java-"):
        assert said["version"] == int(client[-1]), f"the client has transaction version {said['version']}"
    killed = time.monotonic()
    (stable,), (high,) = isolated_ends(address, ABANDONED)
    # On a slow day the transaction is aborted before this looks.
    is_late = time.monotonic() - started >= TRANSACTION_SECONDS_MAX
    assert stable < high or is_late, f"nothing is open: the last stable offset is {stable}, the high watermark {high}"
    if broker:
        broker.kill()
        broker.start()

    def is_closed():
        (stable,), (high,) = isolated_ends(address, ABANDONED)
        return stable == high
    wait_until(is_closed, lambda: f"the last stable offset moves on: {isolated_ends(address, ABANDONED)}")
    values = [value for _, _, value in read_all(address, ABANDONED)]
    assert values == ["committed"], f"visible after the abort: {values}"
    return time.monotonic() - killed


def deal_blows(reader, blows, kills, dice):
    """Each only after what was before has been survived: something more has been copied."""
    for _ in range(kills):
        before = len(reader.records)
        wait_until(lambda: len(reader.records) > before, "something is copied")
        time.sleep(dice.random())
        blows.next()
    before = len(reader.records)
    wait_until(lambda: len(reader.records) > before, "something is copied")


def check_copies(reader, attempts, sent, address):
    """At the end; a sentence of what was seen."""
    def is_complete():
        # What is wrong is said by the check; only what may still come is waited for.
        return len(reader.records) >= len(sent)
    wait_until(is_complete, lambda: f"{len(reader.records)} of {len(sent)} inputs are copied")
    for one in Copier.all:
        one.stop()
    wait_until(lambda: isolated_ends(address, OUTPUT)[0] == isolated_ends(address, OUTPUT)[1], "no transaction is open")
    visible = read_all(address, OUTPUT)
    seen = check_visible(visible, attempts, sent)
    # One who has read all the time has seen just what is there in the end.
    wait_until(lambda: len(reader.records) >= len(visible), "the reader has read all")
    reader.stop()
    assert sorted(reader.records) == sorted(visible), (
        f"seen once and not any more, or the other way round: {sorted(set(reader.records) ^ set(visible))[:3]}")
    stored = read_all(address, OUTPUT, isolation="read_uncommitted")
    aborted = len(stored) - len(visible)
    assert aborted > 0, "nothing was aborted: the test shows nothing"
    return f"{len(sent)} inputs, each copied once, in {seen} transactions; {aborted} aborted records never seen"


def check(address, broker, client, kills, dice, logs):
    """The whole test of one client; a sentence of what was seen."""
    create_topic(address, INPUT, PARTITIONS)
    create_topic(address, OUTPUT, PARTITIONS)
    attempts = Attempts()
    Copier.all.clear()
    copiers = [Copier(client, address, number, attempts, logs / f"copy-{client}-{number}.log") for number in (1, 2)]
    load, reader = Load(address), Reader(address, OUTPUT, PARTITIONS)
    try:
        for one in copiers:
            one.start()
        deal_blows(reader, Blows(broker, copiers, dice), kills, dice)
        sent = load.stop()
        assert sum(ends(address, INPUT)) == len(sent), "an input was stored twice or not at all"
        said = check_copies(reader, attempts, sent, address)
        seconds = check_abandoned(client, address, broker, logs / f"copy-{client}-abandoned.log")
        return f"{said}; an abandoned transaction was over after {seconds:.0f} s"
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *(one.said() for one in copiers)])) from None
    finally:
        for one in copiers:
            if one.process:
                one.kill()
        load.close()
        reader.close()
