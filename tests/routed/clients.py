"""The client programs, as the driver sees them."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "groups"))

from members import PROGRAMS as MEMBERS  # noqa: E402
from members import TOOLS  # noqa: E402
from setting import LOGS  # noqa: E402

PARTITIONS = 3
ANSWER_SECONDS_MAX = 400  # more than the programs allow for each of their steps
TAIL_LINES = 30
PROGRAMS = {
    "java": [*MEMBERS["java"][:-1], "RoutedClient"],
    "librdkafka": [MEMBERS["librdkafka"][0], str(HERE / "confluent.py")],
    "kafkajs": ["node", str(HERE / "kafkajs.js")],
}


class Client:
    """A program that is told what to do, and answers when it is done."""

    def __init__(self, name, address):
        self.name = name
        self.log = open(LOGS / f"routed-{name}.log", "w")
        self.process = subprocess.Popen(
            [*PROGRAMS[name], address, str(PARTITIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, bufsize=1, env=os.environ | {"NODE_PATH": f"{TOOLS}/node/node_modules"})

    def ask(self, *words):
        """Its answer; an AssertionError that says what went wrong."""
        line = " ".join(map(str, words))
        timer = threading.Timer(ANSWER_SECONDS_MAX, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(line + "\n")
            said = self.process.stdout.readline()
            while said and not said.startswith("{"):
                said = self.process.stdout.readline()  # the client's own log
        except OSError:
            said = ""
        finally:
            timer.cancel()
        assert said, f"{self.name} ended, or took {ANSWER_SECONDS_MAX} s, over {line!r}\n{self.said()}"
        answer = json.loads(said)
        assert "error" not in answer, f"{self.name}: {line}: {answer['error']}\n{self.said()}"
        return answer

    def said(self):
        """The end of its log."""
        last = Path(self.log.name).read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([*(f"    | {line}" for line in last), f"    whole log: {self.log.name}"])

    def create(self, topic):
        self.ask("create", topic)

    def produce(self, first, count, *topics):
        """Records with these numbers to each of the topics, by turns, from one producer."""
        self.ask("produce", first, count, *topics)

    def fire(self, first, count, *topics):
        """The same with acks=0."""
        self.ask("fire", first, count, *topics)

    def check_read(self, group, count, *topics, word="consume"):
        """A consumer of this group finds in each topic the records that were produced, once, and commits them."""
        read = sorted(self.ask(word, group, count * len(topics), *topics)["read"])
        expected = sorted(row(topic, number) for topic in topics for number in range(count))
        wrong = [(found, one) for found, one in zip(read, expected) if found != one]
        assert not wrong, f"{topics}: {wrong[0][0]} was read where {wrong[0][1]} was produced"
        assert len(read) == len(expected), f"{topics}: {len(read)} records were read, {len(expected)} produced"

    def check_read_next(self, group, count, *topics):
        """The same in a group of KIP-848."""
        self.check_read(group, count, *topics, word="consume-next")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def row(topic, number):
    """Where a record stands, and what is in it: the programs produce each number to the partition that it gives."""
    return [number % PARTITIONS, number // PARTITIONS, str(number), f"record {number} of {topic}"]


def ends(count):
    """Where the partitions end after so many records."""
    return [len(range(partition, count, PARTITIONS)) for partition in range(PARTITIONS)]
