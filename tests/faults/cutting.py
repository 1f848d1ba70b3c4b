"""A proxy between a broker and its Postgres server, which cuts a connection at a chosen message."""

import socket
import struct
import threading
import time

from ports import free_port

# What is done with the message at which a connection is cut.
BEFORE, AFTER = "before", "after"
# How long the server gets to act on a message whose answer nobody will see.
ACT_SECONDS = 0.05
STARTUP, COMMIT = "startup", b"COMMIT\0"


class Proxy:
    """Counts what the broker sends once it is armed; the first message of a connection has no type."""

    def __init__(self, port):
        self.server, self.port = ("127.0.0.1", port), free_port()
        self.lock, self.left, self.mode, self.cut = threading.Lock(), None, None, None
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, number, mode):
        """The connection of the message of this number, from 1, is cut before it or after it."""
        with self.lock:
            self.left, self.mode, self.cut = number, mode, None

    def disarm(self):
        """The message at which a connection was cut; None if there were fewer."""
        with self.lock:
            self.left = None
            return self.cut

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.server)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        try:
            kind = STARTUP
            while True:
                head = read(client, 4 if kind is STARTUP else 5)
                body = read(client, struct.unpack(">i", head[-4:])[0] - 4)
                mode = self._mode((kind if kind is STARTUP else head[:1]), body)
                if mode is BEFORE:
                    return
                server.sendall(head + body)
                if mode is AFTER:
                    client.shutdown(socket.SHUT_RDWR)
                    time.sleep(ACT_SECONDS)
                    return
                kind = None
        except OSError:
            pass
        finally:
            close(client), close(server)

    def _mode(self, kind, body):
        with self.lock:
            if self.left is None:
                return None
            self.left -= 1
            if self.left > 0:
                return None
            self.left, self.cut = None, (kind, body)
            return self.mode

    @staticmethod
    def _answers(server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        finally:
            close(client), close(server)


def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def close(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
