"""Single measurements, over raw sockets where a client library would be part of what is measured."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time

from broker import Broker, free_port

TOPICS_PER_REQUEST = 1000


def request(api, version, body, flexible, correlation=1):
    header = struct.pack(">hhih", api, version, correlation, 1) + b"b" + (b"\0" if flexible else b"")
    return struct.pack(">i", len(header) + len(body)) + header + body


def receive(connection):
    head = b""
    while len(head) < 4:
        piece = connection.recv(4 - len(head))
        if not piece:
            raise ConnectionError("closed")
        head += piece
    left, parts = struct.unpack(">i", head)[0], []
    while left:
        piece = connection.recv(min(left, 1 << 20))
        if not piece:
            raise ConnectionError("closed")
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)


def start_to_answer(binary, store):
    """Seconds from exec to the first ApiVersions answer."""
    port = free_port()
    command = [binary, "broker", "--storage", store, "--listen", f"127.0.0.1:{port}", "--admin", "off"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                if time.perf_counter() - started > 10:
                    raise
        connection.sendall(request(18, 0, b"", False))
        receive(connection)
        took = time.perf_counter() - started
        connection.close()
        return took
    finally:
        process.terminate()
        process.wait()


def status(pid, field):
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


def peak_resident(pid):
    return status(pid, "VmHWM")


def idle_resident(binary, store):
    """Bytes resident a second after the first answer."""
    broker = Broker(binary, store).start()
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.sendall(request(18, 0, b"", False))
        receive(connection)
        time.sleep(1)
        size = status(broker.process.pid, "VmRSS")
    broker.stop()
    return size


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def written(pid):
    """Bytes that the process has had written to disks."""
    with open(f"/proc/{pid}/io") as lines:
        return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def create(address, names, partitions):
    host, _, port = address.rpartition(":")
    topics = b"".join(string(n) + struct.pack(">ihii", partitions, 1, 0, 0) for n in names)
    body = struct.pack(">i", len(names)) + topics + struct.pack(">ib", 30_000, 0)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request(19, 3, body, False))
        receive(connection)


def create_topic(address, name, partitions):
    create(address, [name], partitions)


def create_topics(address, count):
    for first in range(0, count, TOPICS_PER_REQUEST):
        create(address, [f"topic-{n:05d}" for n in range(first, min(first + TOPICS_PER_REQUEST, count))], 1)


def metadata_all(port):
    """Seconds for one Metadata request for all topics."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started = time.perf_counter()
        connection.sendall(request(3, 5, struct.pack(">ib", -1, 0), False))
        receive(connection)
        return time.perf_counter() - started


@contextlib.contextmanager
def parked_fetches(port, topic, count):
    """Consumers that wait for records which never come, each asking again after half a minute."""
    body = struct.pack(">iiiib", -1, 35_000, 1, 1 << 20, 0) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">i", 1) + struct.pack(">iqi", 0, 0, 1 << 20)
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for connection in connections:
        connection.sendall(request(1, 4, body, False))
    time.sleep(0.5)
    yield
    for connection in connections:
        connection.close()
