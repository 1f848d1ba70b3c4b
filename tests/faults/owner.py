#!/usr/bin/env python3
"""A store is one file, whatever it is called, and one process's.

A second broker on it is refused, by a symbolic link, by a hard link and after the lock file was removed, and the first
one goes on. One whose store another process has taken over, or whose store has lost its name, acknowledges nothing any
more, and ends with exit code 70.

    owner.py --binary PATH
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Producer

from broker import Broker
from files import refused

# EX_SOFTWARE of sysexits.h.
FAILED = 70


class Sender:
    """Sends records one by one, and counts those that were acknowledged."""

    def __init__(self, address):
        self.acknowledged = 0
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "acks": "all",
                "enable.idempotence": False,
                "retries": 0,
                "linger.ms": 0,
                "message.timeout.ms": 2_000,
                "log_level": 0,
            }
        )

    def send(self):
        """Whether one more record was acknowledged."""
        before = self.acknowledged

        def delivered(error, _):
            self.acknowledged += error is None

        self.producer.produce("t", b"v" * 100, on_delivery=delivered)
        self.producer.flush(10)
        return self.acknowledged > before


def must_send(address, count=20):
    sender = Sender(address)
    for _ in range(count):
        assert sender.send(), "a broker that should go on does not"
    return count


def records(binary, path):
    verified = subprocess.run([binary, "store", "verify", path], capture_output=True, text=True, timeout=60)
    said = verified.stdout + verified.stderr
    assert verified.returncode == 0, said
    words = said.replace(",", "").split()
    return int(words[words.index("records") - 1])


def check_second_brokers(binary, folder, path, broker):
    """None of them starts, and the first one does not notice."""
    sent = must_send(broker.address)
    link, hard = f"{folder}/link.db", f"{folder}/hard.db"
    os.symlink("y.db", link)
    os.link(path, hard)
    for other in [path, link, hard]:
        refused(binary, other, "held by another process", "stop that one first")
    os.remove(f"{path}-lock")
    refused(binary, path, "held by another process", "stop that one first")
    os.remove(hard)
    os.remove(link)
    sent += must_send(broker.address)
    assert broker.process.poll() is None, broker.stderr()
    return sent


def ended(broker, times, *expected):
    """It has ended by itself, with these words."""
    code = broker.process.wait(timeout=20)
    log = broker.stderr()
    assert code == FAILED, f"exit code {code}: {log}"
    why = [line for line in log.splitlines() if "ends with exit code 70" in line]
    # It is said once for each time that this broker was started and has failed.
    assert len(why) == times and "panicked" not in log, log
    for words in expected:
        assert words in why[-1], f"{words!r} is not in {why[-1]!r}"


def check_taken_over(broker, path):
    """Nothing is acknowledged once another token is there."""
    sender = Sender(broker.address)
    assert sender.send()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE counters SET value = 7 WHERE name = 'owner'")
    connection.close()
    while broker.process.poll() is None:
        assert not sender.send(), "acknowledged, though the store is another process's"
    ended(broker, 1, "another process has taken over the store", "stop one of them")
    return sender.acknowledged


def check_name_lost(broker, path):
    """What is acknowledged within the second until it is noticed is in the file that was moved."""
    sender = Sender(broker.address)
    assert sender.send()
    os.rename(path, f"{path}-moved")
    deadline = time.monotonic() + 20
    while broker.process.poll() is None:
        assert time.monotonic() < deadline, "it has not noticed"
        sender.send()
    ended(broker, 2, "was removed, replaced or moved", "put the file back")
    assert not os.path.exists(path), "it must not make another one"
    os.rename(f"{path}-moved", path)
    return sender.acknowledged


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    binary = arguments.parse_args().binary
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/y.db"
        broker = Broker(binary, f"sqlite://{path}").start()
        sent = check_second_brokers(binary, folder, path, broker)
        sent += check_taken_over(broker, path)
        assert records(binary, path) == sent, "what was acknowledged is not what is there"
        broker.start()
        sent += check_name_lost(broker, path)
        assert records(binary, path) == sent, "what was acknowledged is not what is there"
        broker.start()
        sent += must_send(broker.address)
        broker.stop()
        assert records(binary, path) == sent
    print(f"ok: {sent} records, every second broker was refused, and who had lost its store has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
