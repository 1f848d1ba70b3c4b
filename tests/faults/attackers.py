"""Clients that try to make a broker hold memory, or to keep it busy; what each does is at its function.

They run in a process of their own. Whoever is closed by the broker connects again at once and goes on.
"""

import contextlib
import itertools
import multiprocessing
import os
import socket
import struct
import threading
import time
import traceback

import measure
from scale.wire import API_VERSIONS, NOTHING, Connection, compact, request

FETCH, METADATA, OFFSET_FETCH, JOIN, CONSUMER_HEARTBEAT = (1, 4), (3, 5), (9, 5), (11, 4), (68, 1)
FETCHERS, READERS_OF_METADATA, UPLOADS = 100, 60, 3
METADATA_EACH = 16
FETCH_BYTES, UPLOAD_BYTES, UPLOAD_SENT = 50 << 20, 99 << 20, 98 << 20
OFFSET_FETCHES = [6_000_000, 200_000]  # partitions; the larger is a request of 24 MB
JOINS, JOINS_AT_ONCE = 20_000, 16
SESSION_MS = 30 * 60_000
REGEX_MEMBERS, REGEX_LENGTH = 4, 600
RECEIVE_BUFFER = 4096
MEMBER_ID_REQUIRED = 79


def fetch_request(topic):
    """From the first offset, as much as there is."""
    body = struct.pack(">iiiib", -1, 500, 1, FETCH_BYTES, 0) + struct.pack(">i", 1) + measure.string(topic)
    return request(FETCH, body + struct.pack(">iiqi", 1, 0, 0, FETCH_BYTES))


def metadata_request():
    return request(METADATA, struct.pack(">ib", -1, 0))


def offset_fetch_request(group, topic, partitions):
    indexes = struct.pack(f">{partitions}i", *range(partitions))
    body = measure.string(group) + struct.pack(">i", 1) + measure.string(topic)
    return request(OFFSET_FETCH, body + struct.pack(">i", partitions) + indexes)


def join_body(group):
    body = measure.string(group) + struct.pack(">ii", SESSION_MS, SESSION_MS) + measure.string("")
    metadata = struct.pack(">i", 6) + bytes(6)
    return body + measure.string("consumer") + struct.pack(">i", 1) + measure.string("range") + metadata


def heartbeat_request(member, regex):
    """A member of the consumer protocol (KIP-848) joins with an expression."""
    body = compact(f"regex-{member}") + compact(f"member-{member}") + struct.pack(">i", 0) + NOTHING + NOTHING
    body += struct.pack(">i", 60_000) + NOTHING + compact(regex) + NOTHING + b"\1" + NOTHING
    return measure.request(*CONSUMER_HEARTBEAT, body, True)


def expression(number):
    """Costly to match: each character of a name may go on in every one of its branches. No two are the same."""
    branches = [f"t{number}"]
    for ending in itertools.cycle("abcdefghij" if number % 2 else "0123456789"):
        branch = f".*.?{ending}"
        if len("|".join([*branches, branch])) > REGEX_LENGTH:
            return "|".join(branches).ljust(REGEX_LENGTH, "|")
        branches.append(branch)


PARTS = ["fetches", "metadata", "uploads", "offset fetches", "joins", "expressions"]


class Attack:
    """Start it, stop it; `done` counts what each part did."""

    def __init__(self, port, topic, parts):
        self.port, self.topic, self.parts = port, topic, parts
        self.done = {part: multiprocessing.Value("q", 0) for part in ["reconnects", *parts]}
        self.process = multiprocessing.Process(target=self._run, daemon=True)

    def start(self):
        self.process.start()

    def stop(self):
        """All connections are closed with the process."""
        assert self.process.is_alive(), "the attackers failed; their traceback is above"
        self.kill()

    def kill(self):
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def has_begun(self):
        """Whether all are there who leave answers unread, so that memory is short."""
        wanted = {"fetches": FETCHERS, "metadata": READERS_OF_METADATA}
        done = self.figures()
        return all(done[part] >= wanted[part] for part in self.parts if part in wanted)

    def figures(self):
        # Without the locks: the process may have been killed while it held one.
        return {part: count.get_obj().value for part, count in self.done.items()}

    def _count(self, part):
        with self.done[part].get_lock():
            self.done[part].value += 1

    def _run(self):
        clients = {
            "fetches": [(self._leave_unread, "fetches", fetch_request(self.topic), FETCHERS)],
            "metadata": [(self._leave_unread, "metadata", metadata_request() * METADATA_EACH, READERS_OF_METADATA)],
            "uploads": [(self._upload,)] * UPLOADS,
            "offset fetches": [(self._offset_fetch, partitions) for partitions in OFFSET_FETCHES],
            "joins": [(self._join, "one"), (self._join, "many")],
            "expressions": [(self._expressions, member) for member in range(REGEX_MEMBERS)],
        }
        wanted = [client for part in self.parts for client in clients[part]]
        threads = [threading.Thread(target=self._again, args=client) for client in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(3600)

    def _again(self, part, *arguments):
        """Until the part has done all it wants to do."""
        while True:
            try:
                return part(*arguments)
            except OSError:
                self._count("reconnects")
                time.sleep(0.01)
            except Exception:
                traceback.print_exc()
                os._exit(1)

    # Requests whose answers nobody reads.

    def _connect(self):
        """A client with little room for what it does not read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def _leave_unread(self, part, requests, count):
        clients = [Unread(requests) for _ in range(count)]
        while True:
            for client in clients:
                if client.is_open():
                    continue
                if client.connection:
                    client.connection.close()
                    self._count("reconnects")
                with contextlib.suppress(OSError):
                    client.begin(self._connect())
                    self._count(part)
            time.sleep(0.2)

    def _offset_fetch(self, partitions):
        with self._connect() as connection:
            asked = offset_fetch_request("simple", self.topic, partitions)
            while True:
                connection.sendall(asked)
                self._count("offset fetches")

    def _upload(self):
        """A large frame that never ends."""
        head = struct.pack(">ihhih", UPLOAD_BYTES, 0, 8, 1, -1)
        with self._connect() as connection:
            connection.sendall(head + bytes(UPLOAD_SENT - len(head)))
            self._count("uploads")
            connection.recv(1)  # until it is closed
        raise ConnectionError("closed")

    # Requests that leave something behind, or take long.

    def _join(self, groups):
        """A broker remembers each id that it gives out."""
        bodies = (join_body("crowd" if groups == "one" else f"crowd-{number}") for number in range(JOINS))
        with Connection(self.port) as connection:
            for reply in connection.pipeline(JOIN, bodies, JOINS_AT_ONCE):
                error = struct.unpack_from(">h", reply, 4)[0]
                assert error == MEMBER_ID_REQUIRED, f"JoinGroup: error {error}"
                self._count("joins")
            while True:
                connection.ask(API_VERSIONS, b"")
                time.sleep(1)

    def _expressions(self, member):
        with Connection(self.port) as connection:
            for number in itertools.count(member, REGEX_MEMBERS):
                connection.socket.sendall(heartbeat_request(member, expression(number)))
                measure.receive(connection.socket)
                self._count("expressions")


class Unread:
    """Sends requests, and then the same again, slowly: bytes to a connection that the broker has closed fail, and who
    does not read sees its end in no other way."""

    def __init__(self, requests):
        self.requests, self.sent, self.connection = requests, 0, None

    def begin(self, connection):
        self.connection, self.sent = connection, 0
        connection.sendall(self.requests)
        connection.setblocking(False)

    def is_open(self):
        if self.connection is None:
            return False
        try:
            self.sent += self.connection.send(self.requests[self.sent % len(self.requests):][:1])
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True
