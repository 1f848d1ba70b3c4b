#!/usr/bin/env python3
"""An acknowledgement comes after the disk has the record: seen in the system calls.

A kill cannot show this, because the kernel keeps what a dead process wrote. So the broker runs under strace, records
are produced one by one, and between the arrival of each and its answer there must be a completed fdatasync (or fsync)
of the store.

    fsync.py --binary PATH [--records 50]
"""

import argparse
import re
import sys
import tempfile

from confluent_kafka import Producer

from broker import Broker

CALLS = "fdatasync,fsync,recvfrom,read,sendto,write,writev,sendmsg"


def produce(address, count):
    """One record at a time: the next is sent when the last was acknowledged."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "acks": "1", "enable.idempotence": False})
    for number in range(count):
        failures = []
        marker = f"MARK{number:06d}".encode()
        producer.produce("durable", marker * 4, on_delivery=lambda error, _: failures.append(error))
        assert producer.flush(30) == 0
        assert failures == [None], failures


def follow(trace, count):
    """Walks the trace: arrival of marker n, a sync that completes, and then the answer to just that request.

    The client asks other things meanwhile (metadata, telemetry), whose answers may come at any time.
    """
    waiting, correlation, synced, seen = None, None, False, 0
    done = re.compile(r"(?:fdatasync|fsync)(?:\(\d+\)| resumed>.*)\s+= 0")
    for line in trace:
        if found := ARRIVAL.search(line):
            waiting, correlation, synced = int(found.group(2)), correlation_of(found.group(1)), False
        elif waiting is not None and done.search(line):
            synced = True
        elif waiting is not None and correlation in answers(line):
            assert synced, f"record {waiting} was acknowledged before a sync completed: {line}"
            seen += 1
            waiting = None
    assert seen == count, f"{seen} of {count} acknowledgements were found in the trace"


ARRIVAL = re.compile(r"(?:recvfrom|read).*?\"(.*)MARK(\d{6})")
SENDING = re.compile(r"(?:sendto|writev|sendmsg|write)\(")
TEXT = re.compile(r"\"((?:[^\"\\]|\\.)*)\"")
# The header of a Produce request: API key 0, its version, the correlation id, and the client id with its length.
PRODUCE = re.compile(rb"\0\0\0[\x03-\x0d](.{4})\0\x07rdkafka", re.DOTALL)


def plain(text):
    """The bytes that strace wrote with C's escapes."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def correlation_of(before):
    """The correlation id of the Produce request that the marker stands in: the last header in front of it."""
    return PRODUCE.findall(plain(before))[-1]


def answers(line):
    """The correlation ids of the frames that this line sends."""
    found = set()
    for text in TEXT.findall(line) if SENDING.search(line) else ():
        rest = plain(text)
        while len(rest) >= 8:
            found.add(rest[4:8])
            rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--records", type=int, default=50)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = f"{folder}/trace"
        strace = ["strace", "-f", "-s", "400", "-e", f"trace={CALLS}", "-o", trace]
        broker = Broker(options.binary, f"sqlite://{folder}/y.db", wrapper=strace).start()
        produce(broker.address, options.records)
        broker.stop()
        with open(trace, errors="replace") as lines:
            follow(lines, options.records)
    print(f"ok: {options.records} acknowledgements, each after a completed sync")
    return 0


if __name__ == "__main__":
    sys.exit(main())
