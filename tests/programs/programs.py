"""A program under test as the driver sees it: a JVM with a log, which is started, killed and waited for."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"
JARS, LOGS = TARGET / "test-tools/programs", TARGET / "test-logs/programs"
# Waits end when there is what they wait for. These are for a machine that has no time for the test.
SECONDS_MAX, STOP_SECONDS_MAX = 600, 180
TAIL_LINES, LINE_CHARACTERS_MAX = 25, 400
# What these programs log at WARN is how they meet a broker that is gone; at INFO it is hundreds of settings.
LOG4J = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = {level}
rootLogger.appenderRef.out.ref = out
"""
STATES = re.compile(r"\b(ERROR|FATAL|FAIL\w*|Exception|shutdown|RUNNING)\b")


def wait_until(condition, what, seconds=SECONDS_MAX):
    """Returns what `condition` does, once that is true; `what`: a sentence, or what makes one."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.1)
    return found


class Program:
    """A main class of one of the folders of jars, with arguments; it may be started again and again."""

    all = []

    def __init__(self, name, jars, main, *arguments, memory="384m", level="INFO", stdin=subprocess.DEVNULL):
        self.name, self.stdin, self.process, self.started = name, stdin, None, 0
        self.log = LOGS / f"{name}.log"
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        settings = LOGS / f"log4j-{level}.properties"
        settings.write_text(LOG4J.format(level=level))
        self.command = ["java", f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                        f"-Dlog4j2.configurationFile={settings}", "-cp", f"{JARS}/classes:{JARS}/{jars}/*", main,
                        *map(str, arguments)]
        Program.all.append(self)

    def start(self):
        assert not self.runs(), f"{self.name} runs already"
        self.started = self.log.stat().st_size
        with open(self.log, "ab") as log:
            # Its own session: a Ctrl-C at the tests must not race with stop().
            self.process = subprocess.Popen(self.command, stdin=self.stdin, stdout=log, stderr=log, text=True,
                                            start_new_session=True)
        return self

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """As a power cut would: no handler runs."""
        if self.runs():
            os.kill(self.process.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """As an operator would; a JVM that is told so ends with 143, and one that was done already with 0."""
        if self.runs():
            self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{STOP_SECONDS_MAX} s after SIGTERM {self.name} still runs") from None
        assert code in (0, 128 + signal.SIGTERM), f"{self.name} ended with {code} after SIGTERM"

    def end(self, seconds=SECONDS_MAX):
        """Waits for it to end by itself, and well."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {seconds} s") from None
        assert code == 0, f"{self.name} ended with {code}"

    def said(self):
        """All that it has said since it was last started."""
        with open(self.log, "rb") as log:
            log.seek(self.started)
            return log.read().decode(errors="replace")

    def wait(self, condition, what):
        """As `wait_until`, as long as the program runs."""
        def holds():
            has_ended = not self.runs()
            found = condition()
            if has_ended and not found:
                said = what() if callable(what) else what
                raise AssertionError(f"{self.name} has ended with {self.process.returncode}, before: {said}")
            return found
        return wait_until(holds, what)

    def report(self):
        """The part of its log that matters: the last words of trouble and of states, and the end."""
        lines = [line[:LINE_CHARACTERS_MAX] for line in self.log.read_text(errors="replace").splitlines()]
        trouble = [line for line in lines[:-TAIL_LINES] if STATES.search(line)][-TAIL_LINES:]
        shown = "\n".join(f"    {self.name} | {line}" for line in [*trouble, *lines[-TAIL_LINES:]])
        return f"{shown}\n    whole log: {self.log}"


def end_all():
    """No part leaves a program to the next one."""
    for one in Program.all:
        one.kill()
    Program.all.clear()


def write_properties(file, settings):
    """A Java properties file, in which backslashes would be escapes."""
    assert not any("\\" in f"{name}{value}" for name, value in settings.items()), settings
    Path(file).write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return file
