"""A program of group members, as the driver sees it."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "target/test-tools"
# Waits end when there is what they wait for. These are for a machine that has no time for the test.
SETTLE_SECONDS_MAX = 180
SESSION_SECONDS = 45  # as clients have it by default
TAIL_LINES, TAIL_CHARACTERS = 30, 500

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
        self.losses = {}  # how often each was told that its membership is over
        self.read = []  # (partition, offset) of what was read and committed, in the order of the commits
        self.read_by = {}  # how much of it by each member
        self.uncertain = []  # the same, of what was read and perhaps not committed
        self.left = set()
        self.started = 0
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self):
        for line in self.process.stdout:
            with self._lock:
                self.log.write(line)
                # Anything else is the client's own log, or was cut off by the end of the program.
                if line.startswith("{") and line.endswith("\n"):
                    self._hear(json.loads(line))

    def _hear(self, said):
        name = said["member"]
        if "assigned" in said and name in self.assigned:
            self.assigned[name] = said["assigned"]
            self.assignments[name] = self.assignments.get(name, 0) + bool(said["assigned"])
        if "lost" in said:
            self.losses[name] = self.losses.get(name, 0) + 1
        read = [tuple(one) for one in said.get("read", [])]
        self.read += read
        self.read_by[name] = self.read_by.get(name, 0) + len(read)
        self.uncertain += [tuple(one) for one in said.get("uncertain", [])]
        if "left" in said:
            self.left.add(name)
            self.assigned.pop(name, None)

    def _tell(self, *words):
        try:
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise AssertionError(f"the program of members has ended\n{self.said()}") from None

    def wait(self, condition, what, seconds=SETTLE_SECONDS_MAX):
        """As `wait_until`; it does not wait for a program that has ended, and tells what the program last said."""
        def holds():
            has_ended = self.process.poll() is not None
            is_so = condition()
            assert is_so or not has_ended, f"the program of members has ended with {self.process.returncode}"
            return is_so
        try:
            wait_until(holds, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None

    def said(self):
        """The end of the log, without what was read."""
        with self._lock:
            self.log.flush()
        lines = Path(self.log.name).read_text(errors="replace").splitlines()
        last = [line[:TAIL_CHARACTERS] for line in lines if '"read"' not in line][-TAIL_LINES:]
        return "\n".join([*(f"    | {line}" for line in last), f"    whole log: {self.log.name}"])

    def add(self, instance=None, session_seconds=SESSION_SECONDS):
        """A new member; its name. In the consumer protocol the broker says how long a session is."""
        self.started += 1
        name = f"m{self.started}"
        with self._lock:
            self.assigned[name] = []
        self._tell("add", name, str(session_seconds), *([instance] if instance else []))
        return name

    def leave(self, name):
        """It goes in good order."""
        self._tell("leave", name)
        self.wait(lambda: name in self.left, f"{name} leaves")

    def names(self):
        with self._lock:
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
        self.wait(is_shared, lambda: f"all partitions are shared: {self.assigned}", seconds)
        return time.monotonic() - started

    def progress(self):
        """Waits until each of the members has read something more, and committed it."""
        names = self.names()
        before = {name: self.read_by.get(name, 0) for name in names}

        def idle():
            return [name for name in names if self.read_by.get(name, 0) == before[name]]
        self.wait(lambda: not idle(), lambda: f"{idle()} read and commit: {self.assigned}")

    def committed(self):
        """What was read and, so say the members, committed."""
        with self._lock:
            return list(self.read)

    def twice(self):
        """
        What was read more than once by members that have committed it each time: no member lost anything, so this is
        the broker's fault. What a member could not commit, since it was late, comes again and may do so.
        """
        counts = Counter(self.committed())
        return sorted(one for one, count in counts.items() if count > 1)

    def all_read(self):
        """What was read, as often as it was."""
        with self._lock:
            return self.read + self.uncertain

    def seen(self):
        """What was read at least once."""
        return set(self.all_read())

    def end(self):
        """All members leave; from then on everything that they have said is known."""
        self.process.stdin.close()
        try:
            code = self.process.wait(SETTLE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            code = f"no end within {SETTLE_SECONDS_MAX} s"
        assert code == 0, f"the members do not end well: {code}\n{self.said()}"
        self._listener.join()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._listener.join(10)
        with self._lock:
            self.log.close()
