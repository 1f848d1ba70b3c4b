"""Free ports for the servers of tests."""

import socket

_reserved = []


def free_port():
    """A port that is this test's alone until it ends.

    It is kept by a socket that is bound to it and does not listen. While there is one, the kernel gives the port to
    nobody who asks for any, neither to listen on nor to connect from: not to other tests, nor to a client that tries
    whether a broker is back, which would then be connected to itself. The server of the test may bind it again and
    again, since both set SO_REUSEADDR.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    return reserved.getsockname()[1]
