"""Several brokers on one store, in the place of the one that a test starts: `tests/postgres.py --brokers` asks for them.

The test's address is that of a balancer, which gives each connection to the next broker. "behind": that address is all that
clients ever learn. "apart": it is where they begin; then they learn the address of each broker.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from ports import free_port

HERE = pathlib.Path(__file__).resolve().parent
# How many, and how clients reach them, such as "3 behind".
VARIABLE = "YAGURA_TEST_BROKERS"
POLL_SECONDS = 0.01


def asked_for():
    """How many brokers are to stand for one, and whether each has an address of its own."""
    count, _, how = os.environ.get(VARIABLE, "1 behind").partition(" ")
    return int(count), how == "apart"


class Process:
    """What a test takes for the process of its broker."""

    def __init__(self, broker, count, apart):
        self.broker, self.apart = broker, apart
        self.ports = [free_port() for _ in range(count)]
        self.members = [None] * count
        self.commands = [self._command(number) for number in range(count)]
        backends = [f"127.0.0.1:{port}" for port in self.ports]
        self.balancer = subprocess.Popen([sys.executable, str(HERE / "balancer.py"), broker.address, *backends])

    def _command(self, number):
        """The test's command, for one of the brokers: the admin server is the first one's."""
        own, given = f"127.0.0.1:{self.ports[number]}", self.broker.address
        advertised = own if self.apart else given
        command = list(self.broker.command)
        if "run" in command:
            file = pathlib.Path(command[command.index("run") + 1])
            text = file.read_text().replace(f'bind = "{given}"', f'bind = "{own}"\nadvertise = "{advertised}"')
            if number > 0:
                admin = text.index("bind = ", text.index("[admin]"))
                text = text[:admin] + 'bind = "off"' + text[text.index("\n", admin):]
            copy = file.with_name(f"{file.stem}.{number}.toml")
            copy.write_text(text)
            command[command.index("run") + 1] = str(copy)
            return command
        command[command.index("--listen") + 1] = own
        if number > 0:
            command[command.index("--admin") + 1] = "off"
        return [*command, "--advertise", advertised]

    def start(self, start_one):
        """Starts those that do not run."""
        for number, member in enumerate(self.members):
            if member is None or member.poll() is not None:
                self.members[number] = start_one(self.commands[number])
        return self.ports

    def _running(self):
        return [member for member in self.members if member and member.poll() is None]

    @property
    def pid(self):
        return self._running()[0].pid

    def kill_one(self):
        """Kills one; the others go on."""
        running = self._running()
        if running:
            one = random.choice(running)
            one.kill()
            one.wait()

    def send_signal(self, number):
        for member in self._running():
            member.send_signal(number)

    def poll(self):
        """The code of one that has ended badly by itself, or of all if all have ended."""
        codes = [member.poll() for member in self.members if member]
        bad = [code for code in codes if code not in (None, 0, -signal.SIGKILL)]
        return bad[0] if bad else None if None in codes else max(codes, default=0)

    def kill(self):
        for member in self._running():
            member.kill()
        self.balancer.kill()

    def wait(self, seconds=None):
        """The greatest of their codes, once all have ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        codes = [member.wait(deadline and max(POLL_SECONDS, deadline - time.monotonic())) for member in self.members if member]
        self.balancer.kill()
        self.balancer.wait()
        return max(codes, key=abs, default=0)
