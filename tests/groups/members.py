"""A program of group members, as the driver sees it."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "target/test-tools"
SETTLE_SECONDS_MAX = 60

PROGRAMS = {
    "java": ["java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
             f"{TOOLS}/java/classes:{TOOLS}/java/libs/*", "GroupMembers"],
    "librdkafka": [str(TOOLS / "venv/bin/python"), str(HERE / "confluent.py")],
    "kafka-python": [str(TOOLS / "venv/bin/python"), str(HERE / "kafka_python.py")],
    "kafkajs": ["node", str(HERE / "kafkajs.js")],
    "franz-go": [str(TOOLS / "go/group-members")],
}


def wait_until(condition, what, seconds=SETTLE_SECONDS_MAX):
    """`what`: a sentence, or what makes one."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.02)


class Members:
    """All members of one group, in one process."""

    def __init__(self, client, bootstrap, group, topic, mode, log, *more):
        self.log = open(log, "w")
        self.process = subprocess.Popen(
            [*PROGRAMS[client], bootstrap, group, topic, mode, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, bufsize=1, env=os.environ | {"NODE_PATH": f"{TOOLS}/node/node_modules"})
        self.assigned = {}  # by member, those that are here
        self.assignments = {}  # how often each was told something that is not nothing
        self.read = []  # (partition, offset), in the order in which it was read
        self.uncertain = set()  # the same, of what was read and perhaps not committed
        self.left = set()
        self.started = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.log.write(line)
            if not line.startswith("{"):
                continue  # the client's own log
            said = json.loads(line)
            name = said["member"]
            with self._lock:
                if "assigned" in said and name in self.assigned:
                    self.assigned[name] = said["assigned"]
                    self.assignments[name] = self.assignments.get(name, 0) + bool(said["assigned"])
                self.read += [tuple(one) for one in said.get("read", [])]
                self.uncertain |= {tuple(one) for one in said.get("uncertain", [])}
                if "left" in said:
                    self.left.add(name)
                    self.assigned.pop(name, None)

    def _tell(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def add(self, instance=None):
        """A new member; its name."""
        self.started += 1
        name = f"m{self.started}"
        self.assigned[name] = []
        self._tell("add", name, *([instance] if instance else []))
        return name

    def leave(self, name):
        """It goes in good order."""
        self._tell("leave", name)
        wait_until(lambda: name in self.left, f"{name} leaves")

    def names(self):
        return list(self.assigned)

    def share(self, partitions, seconds=SETTLE_SECONDS_MAX):
        """Waits until all partitions are shared, each with one member, as evenly as can be; how long it took."""
        def is_shared():
            with self._lock:
                parts = [list(one) for one in self.assigned.values()]
            sizes = [len(one) for one in parts]
            every = sorted(number for one in parts for number in one)
            return every == list(range(partitions)) and max(sizes) - min(sizes) <= 1
        started = time.monotonic()
        wait_until(is_shared, lambda: f"all partitions are shared: {self.assigned}", seconds)
        return time.monotonic() - started

    def committed(self):
        """What was read and, so say the members, committed."""
        with self._lock:
            return list(self.read)

    def seen(self):
        """What was read at least once."""
        with self._lock:
            return set(self.read) | self.uncertain

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0, "the members do not end well"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
