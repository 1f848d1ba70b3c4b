#!/usr/bin/env python3
"""A store that cannot be used is refused with a sentence that says why and what to do.

Held by another process, written by a newer release, another program's, damaged, in a folder that is not there. And
`store backup` copies a store that a broker is using, `store verify` finds a flipped byte.

    files.py --binary PATH
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

from confluent_kafka import Producer

from broker import SECONDS_MAX, Broker


def refused(binary, path, *expected):
    """Starting on this file fails, by itself, with these words."""
    command = [binary, "broker", "--storage", f"sqlite://{path}", "--listen", "127.0.0.1:0", "--admin", "off"]
    ended = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, text=True)
    assert ended.returncode == 1, f"exit code {ended.returncode}: {ended.stderr}"
    for words in expected:
        assert words in ended.stderr, f"{words!r} is not in {ended.stderr!r}"
    assert "panicked" not in ended.stderr, ended.stderr


def leaves_nothing(binary, path, *expected):
    """A file that is no store is refused, and nothing is made beside it."""
    before = sorted(os.listdir(os.path.dirname(path)))
    refused(binary, path, *expected)
    assert sorted(os.listdir(os.path.dirname(path))) == before


def fill(address, count=2_000):
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for number in range(count):
        producer.produce("t", f"value {number}".encode() * 20)
    assert producer.flush(SECONDS_MAX) == 0


def store(binary, *arguments):
    return subprocess.run([binary, "store", *arguments], capture_output=True, text=True, timeout=SECONDS_MAX)


def check_backup(binary, folder, path, broker):
    copy = f"{folder}/copy.db"
    made = store(binary, "backup", path, copy)
    assert made.returncode == 0, made.stderr
    assert store(binary, "backup", path, copy).returncode == 1, "a backup must not overwrite"
    fill(broker.address, 100)
    verified = store(binary, "verify", copy)
    assert verified.returncode == 0 and "2000 records" in verified.stdout + verified.stderr, verified
    assert store(binary, "verify", path).returncode == 0, "the store in use is well too"
    restored = Broker(binary, f"sqlite://{copy}").start()
    restored.stop()


def check_flipped_byte(binary, folder, path):
    """Bit rot in a batch is found by its CRC."""
    copy = f"{folder}/rotten.db"
    shutil.copy(path, copy)
    with open(copy, "r+b") as file:
        content = file.read()
        assert b"value 7value 7" in content
        file.seek(0)
        # All of them: pages that are not in use any more may have it, too.
        file.write(content.replace(b"value 7value 7", b"VALUE 7value 7"))
    verified = store(binary, "verify", copy)
    assert verified.returncode == 1 and "CRC" in verified.stdout + verified.stderr, verified


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    binary = arguments.parse_args().binary
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/y.db"
        broker = Broker(binary, f"sqlite://{path}").start()
        fill(broker.address)
        refused(binary, path, "held by another process", "stop that one first")
        check_backup(binary, folder, path, broker)
        broker.stop()
        check_flipped_byte(binary, folder, path)

        refused(binary, f"{folder}/nowhere/y.db", "folder must exist")
        newer = f"{folder}/newer.db"
        shutil.copy(path, newer)
        with sqlite3.connect(newer) as connection:
            connection.execute("PRAGMA user_version=99")
        refused(binary, newer, "newer release", "upgrade Yagura")
        foreign = f"{folder}/foreign.db"
        with sqlite3.connect(foreign) as connection:
            connection.execute("CREATE TABLE t (x)")
        leaves_nothing(binary, foreign, "another program")
        copied = store(binary, "backup", foreign, f"{folder}/no.db")
        assert copied.returncode == 1 and "another program" in copied.stderr, copied
        os.mkdir(f"{folder}/folder")
        leaves_nothing(binary, f"{folder}/folder", "is a folder")
        garbage = f"{folder}/garbage.db"
        with open(garbage, "wb") as file:
            file.write(os.urandom(300_000))
        leaves_nothing(binary, garbage, "not a Yagura store")
        torn = f"{folder}/torn.db"
        shutil.copy(path, torn)
        with open(torn, "r+b") as file:
            file.seek(100)
            file.write(os.urandom(200_000))
        refused(binary, torn, "damaged")
        verified = store(binary, "verify", torn)
        said = verified.stdout + verified.stderr
        assert verified.returncode == 1 and "yagura store verify" not in said, verified
    print("ok: every unusable store was refused with its cause and its remedy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
