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
    """Walks the trace: arrival of marker n, a sync that completes, and then the next thing written to a socket."""
    waiting, synced, seen = None, False, 0
    arrival = re.compile(r"(?:recvfrom|read).*MARK(\d{6})")
    done = re.compile(r"(?:fdatasync|fsync)(?:\(\d+\)| resumed>.*)\s+= 0")
    answer = re.compile(r"(?:sendto|writev|sendmsg|write)\((\d+), (?:\[\{iov_base=)?\"\\0\\0\\0")
    for line in trace:
        if found := arrival.search(line):
            waiting, synced = int(found.group(1)), False
        elif waiting is not None and done.search(line):
            synced = True
        elif waiting is not None and answer.search(line):
            assert synced, f"record {waiting} was acknowledged before a sync completed: {line}"
            seen += 1
            waiting = None
    assert seen == count, f"{seen} of {count} acknowledgements were found in the trace"


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
