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

from confluent_kafka import KafkaError, Producer

from broker import SECONDS_MAX, Broker
from files import refused

# EX_SOFTWARE of sysexits.h.
FAILED = 70
IN_FLIGHT = [
    KafkaError._TRANSPORT,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
]


class Sender:
    """Sends records one by one, and counts those that were acknowledged, and those of which nobody knows."""

    def __init__(self, broker):
        self.broker, self.acknowledged, self.unknown = broker, 0, 0
        self.producer = Producer(
            {
                "bootstrap.servers": broker.address,
                "acks": "all",
                "enable.idempotence": False,
                "retries": 0,
                "linger.ms": 0,
                "message.timeout.ms": SECONDS_MAX * 1000,
                "request.timeout.ms": SECONDS_MAX * 1000,
                "socket.timeout.ms": SECONDS_MAX * 1000,
                "log_level": 0,
            }
        )

    def send(self):
        """Whether one more record was acknowledged."""
        before = self.acknowledged

        def delivered(error, _):
            self.acknowledged += error is None
            # The broker ended after the request had gone out to it.
            self.unknown += error is not None and error.code() in IN_FLIGHT

        self.producer.produce("t", b"v" * 100, on_delivery=delivered)
        while self.producer.flush(0.1) > 0:
            if self.broker.process.poll() is not None:
                # Nobody is left to answer.
                self.producer.purge()
        return self.acknowledged > before


def must_send(broker, count=20):
    sender = Sender(broker)
    for _ in range(count):
        assert sender.send(), "a broker that should go on does not"
    return count


def records(binary, path):
    verified = subprocess.run([binary, "store", "verify", path], capture_output=True, text=True, timeout=SECONDS_MAX)
    said = verified.stdout + verified.stderr
    assert verified.returncode == 0, said
    words = said.replace(",", "").split()
    return int(words[words.index("records") - 1])


def check_second_brokers(binary, folder, path, broker):
    """None of them starts, and the first one does not notice."""
    sent = must_send(broker)
    link, hard = f"{folder}/link.db", f"{folder}/hard.db"
    os.symlink("y.db", link)
    os.link(path, hard)
    for other in [path, link, hard]:
        refused(binary, other, "held by another process", "stop that one first")
    os.remove(f"{path}-lock")
    refused(binary, path, "held by another process", "stop that one first")
    os.remove(hard)
    os.remove(link)
    sent += must_send(broker)
    assert broker.process.poll() is None, broker.stderr()
    return sent


def ended(broker, times, *expected):
    """It has ended by itself, with these words."""
    code = broker.process.wait(timeout=SECONDS_MAX)
    log = broker.stderr()
    assert code == FAILED, f"exit code {code}: {log}"
    why = [line for line in log.splitlines() if "ends with exit code 70" in line]
    # It is said once for each time that this broker was started and has failed.
    assert len(why) == times and "panicked" not in log, log
    for words in expected:
        assert words in why[-1], f"{words!r} is not in {why[-1]!r}"


def check_taken_over(broker, path):
    """Nothing is acknowledged once another token is there."""
    sender = Sender(broker)
    assert sender.send()
    with sqlite3.connect(path, timeout=SECONDS_MAX) as connection:
        connection.execute("UPDATE counters SET value = 7 WHERE name = 'owner'")
    connection.close()
    deadline = time.monotonic() + SECONDS_MAX
    while broker.process.poll() is None:
        assert time.monotonic() < deadline, "it has not noticed"
        assert not sender.send(), "acknowledged, though the store is another process's"
    ended(broker, 1, "another process has taken over the store", "stop one of them")
    return sender.acknowledged


def check_name_lost(broker, path):
    """What is acknowledged until it is noticed, within a second, is in the file that was moved.

    Returns how many are there at least and at most: what the broker was about when it ended may be there or not.
    """
    sender = Sender(broker)
    assert sender.send()
    os.rename(path, f"{path}-moved")
    deadline = time.monotonic() + SECONDS_MAX
    while broker.process.poll() is None:
        assert time.monotonic() < deadline, "it has not noticed"
        sender.send()
    ended(broker, 2, "was removed, replaced or moved", "put the file back")
    assert not os.path.exists(path), "it must not make another one"
    os.rename(f"{path}-moved", path)
    return sender.acknowledged, sender.acknowledged + sender.unknown


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
        least, most = check_name_lost(broker, path)
        found = records(binary, path)
        assert sent + least <= found <= sent + most, f"{found} records are there, of {sent + least} acknowledged"
        broker.start()
        sent = found + must_send(broker)
        broker.stop()
        assert records(binary, path) == sent
    print(f"ok: {sent} records, every second broker was refused, and who had lost its store has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
