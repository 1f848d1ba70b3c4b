#!/usr/bin/env python3
"""An acknowledgement comes after the disk has the record: seen in the system calls.

A kill cannot show this, because the kernel keeps what a dead process wrote. So the broker runs under strace, records
are produced one by one, and between the arrival of each and its answer an fdatasync (or fsync) of the store must have
begun and completed.

    fsync.py --binary PATH [--records 50]
"""

import argparse
import re
import sys
import tempfile
from typing import NamedTuple

from confluent_kafka import Producer

from broker import SECONDS_MAX, Broker

SYNCS = ("fdatasync", "fsync")
RECEIVES = ("recvfrom", "recvmsg", "read", "readv")
SENDS = ("sendto", "sendmsg", "write", "writev")
CALLS = ",".join([*SYNCS, *RECEIVES, *SENDS])
# No string is so long: it would be cut, and what follows it on the connection would not be understood.
STRING_BYTES_MAX = 1 << 20
STORE = "y.db"
PRODUCE = b"\0\0"
MARK = re.compile(rb"MARK(\d{6})")

# The beginning of a call, or of its rest: `PID recvfrom(12<socket:[345]>, ...` or `PID <... recvfrom resumed>...`.
BEGUN = re.compile(r"(\d+)\s+(\w+)\((.*)$", re.DOTALL)
RESUMED = re.compile(r"(\d+)\s+<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
UNFINISHED = "<unfinished ...>"
# What a file descriptor is, which strace -y writes behind it.
DESCRIPTOR = re.compile(r"\d+<(.*?)>(?=[,)\s]|$)")
TEXT = re.compile(r"\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
RESULT = re.compile(r"\)\s+= (-?\d+)(?: [^\"]*)?$")


def produce(address, count):
    """One record at a time: the next is sent when the last was acknowledged."""
    timeout_ms = SECONDS_MAX * 1000
    settings = {"linger.ms": 0, "acks": "1", "enable.idempotence": False, "log_level": 0}
    # No record is sent twice because the first answer was late.
    settings |= {"message.timeout.ms": 2 * timeout_ms, "request.timeout.ms": timeout_ms, "socket.timeout.ms": timeout_ms}
    producer = Producer({"bootstrap.servers": address, **settings})
    for number in range(count):
        failures = []
        marker = f"MARK{number:06d}".encode()
        producer.produce("durable", marker * 4, on_delivery=lambda error, _: failures.append(error))
        assert producer.flush(3 * SECONDS_MAX) == 0
        assert failures == [None], failures


class Call(NamedTuple):
    """A system call, or its beginning, of which `result` is not known yet."""

    name: str
    arguments: str
    result: int | None

    def descriptor(self):
        """The file or the socket: a number alone may mean another one later on."""
        found = DESCRIPTOR.match(self.arguments)
        return found.group(1) if found else ""

    def data(self):
        """The bytes that strace wrote with C's escapes."""
        text = "".join(TEXT.findall(self.arguments))
        return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def calls(trace):
    """Yields (thread, call) when a call begins and again when it has ended, in the order in which strace saw it.

    A call of one thread that others come in between is written in two parts, which belong together by the thread.
    """
    unfinished = {}
    for line in trace:
        line = line.rstrip("\n")
        if found := BEGUN.match(line):
            thread, name, arguments = found.groups()
            is_unfinished = arguments.endswith(UNFINISHED)
            arguments = arguments.removesuffix(UNFINISHED)
            yield thread, Call(name, arguments, None)
            if is_unfinished:
                unfinished[thread] = arguments
                continue
        elif found := RESUMED.match(line):
            thread, name, rest = found.groups()
            arguments = unfinished.pop(thread) + rest
        else:
            continue  # a signal, or the end of a thread
        result = RESULT.search(arguments)
        yield thread, Call(name, arguments, int(result.group(1)) if result else -1)


class Trace:
    """Follows the arrival of each marker, a sync that begins after it and completes, and the answer to just that request.

    The client asks other things meanwhile (metadata, telemetry), whose answers may come at any time.
    """

    def __init__(self):
        self.received, self.sent = {}, {}  # by socket: the bytes of the frame that is not whole yet
        self.syncing = {}  # by thread: the marker that was waiting when its sync began
        self.waiting = None  # (marker, socket, correlation id) of the record that is not answered yet
        self.is_synced = False
        self.answered = []

    def follow(self, trace):
        for thread, call in calls(trace):
            if call.name in SYNCS:
                self.sync(thread, call)
            elif "socket:" not in call.descriptor():
                continue
            elif call.name in SENDS and call.result is None:
                self.send(call)
            elif call.name in SENDS and call.result > 0:
                self.forget(call)
            elif call.name in RECEIVES and call.result is not None and call.result > 0:
                self.receive(call)

    def sync(self, thread, call):
        if call.result is None:
            self.syncing[thread] = self.waiting
        elif call.result == 0 and STORE in call.descriptor() and self.waiting and self.syncing[thread] == self.waiting:
            self.is_synced = True

    def receive(self, call):
        socket, data = call.descriptor(), call.data()
        assert len(data) >= call.result, f"strace has cut the bytes of {call}"
        frames, self.received[socket] = split(self.received.get(socket, b"") + data[: call.result])
        for frame in frames:
            if frame[:2] == PRODUCE and (found := MARK.search(frame)):
                self.waiting, self.is_synced = (int(found.group(1)), socket, frame[4:8]), False

    def send(self, call):
        """The client may have the answer from here on."""
        socket = call.descriptor()
        data = self.sent.get(socket, b"") + call.data()
        frames, rest = split(data)
        begun = {frame[:4] for frame in [*frames, rest[4:]]}
        if self.waiting and self.waiting[1] == socket and self.waiting[2] in begun:
            assert self.is_synced, f"record {self.waiting[0]} was acknowledged before a sync of it completed: {call}"
            self.answered.append(self.waiting[0])
            self.waiting = None

    def forget(self, call):
        """Of what was to be sent, so much went out."""
        socket = call.descriptor()
        _, self.sent[socket] = split(self.sent.get(socket, b"") + call.data()[: call.result])


def split(data):
    """The frames that are whole, without their lengths, and the bytes that follow them."""
    frames = []
    while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
        frames.append(data[4:end])
        data = data[end:]
    return frames, data


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--records", type=int, default=50)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/trace"
        strace = ["strace", "-f", "-y", "-s", str(STRING_BYTES_MAX), "-e", f"trace={CALLS}", "-o", file]
        broker = Broker(options.binary, f"sqlite://{folder}/{STORE}", wrapper=strace).start()
        produce(broker.address, options.records)
        broker.stop()
        trace = Trace()
        with open(file, encoding="latin-1", newline="\n") as lines:
            trace.follow(lines)
    expected = list(range(options.records))
    assert trace.answered == expected, f"not every acknowledgement was found in the trace: {trace.answered}"
    print(f"ok: {options.records} acknowledgements, each after a completed sync")
    return 0


if __name__ == "__main__":
    sys.exit(main())
