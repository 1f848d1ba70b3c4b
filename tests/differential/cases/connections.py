"""What is no call of any API that is served, or hardly a call at all: is it answered, or hung up on?"""

import struct

from cases import case
from cases.cluster import SERVED
from schema import request_header

METADATA, API_VERSIONS = 3, 18


def frame(body):
    return struct.pack(">i", len(body)) + body


def alive(b):
    """Whether this connection, or if need be a new one, still serves."""
    b.other("Metadata", 12, Topics=[])


@case("Connection", each={"84": 84, "93": 93, "10000": 10_000, "max": 32767, "-1": -1, "min": -32768,
                          "once LeaderAndIsr": 4, "once UpdateMetadata": 6, "of controllers": 62})
def api_key(b, key):
    b.ask_key(key, 0)
    alive(b)


@case("Connection", each={name: name for name in SERVED if name != "ApiVersions"})
def version_past_the_last(b, name):
    api = b.broker.apis[name]
    b.ask_key(api.key, api.last + 1, bytes(20), flexible=True)


@case("Connection", each={name: name for name in SERVED if name != "ApiVersions"})
def version_before_the_first(b, name):
    api = b.broker.apis[name]
    b.ask_key(api.key, api.low - 1, bytes(20))


@case("Connection", each={"0": 0, "1": 1, "2": 2})
def produce_version_that_is_only_advertised(b, version):
    """KAFKA-18659."""
    b.ask_key(0, version, struct.pack(">hii", -1, 1000, 0))


@case("Connection", each={"-1": -1, "min": -2**31, "0": 0, "one more than 100 MiB": 100 * 1024 * 1024 + 1,
                          "max": 2**31 - 1})
def frame_length(b, length):
    b.ask_frame(struct.pack(">i", length))
    alive(b)


@case("Connection", each={str(size): size for size in (1, 2, 3, 4, 7, 8, 9)})
def header_cut_off(b, size):
    b.ask_frame(frame(request_header(METADATA, 1, 7, "a-client", False)[:size]))


@case("Connection", each={"-2": -2, "min": -32768, "past the end": 500})
def client_id_length(b, length):
    b.ask_frame(frame(struct.pack(">hhih", METADATA, 1, 7, length) + b"ab\0\0\0\0"))


@case("Connection", each={"null": None, "empty": "", "long": "x" * 5000, "accent": "é"})
def client_id(b, client_id):
    b.ask_frame(frame(request_header(METADATA, 1, 7, client_id, False) + struct.pack(">i", 0)))


@case("Connection", each={"0": 0, "-1": -1, "max": 2**31 - 1})
def correlation_id(b, correlation_id):
    b.ask_frame(frame(request_header(METADATA, 1, correlation_id, "a-client", False) + struct.pack(">i", 0)))


@case("Connection")
def client_id_that_is_no_text(b):
    b.ask_frame(frame(struct.pack(">hhih", METADATA, 1, 7, 2) + b"\xff\xfe" + struct.pack(">i", 0)))


# One tag in the header of a flexible version: its number, its length, its bytes.
@case("Connection", each={"unknown": b"\1\x63\2ab", "empty": b"\1\x63\0", "too long": b"\1\x63\x7fab",
                          "twice": b"\2\x63\0\x63\0",
                          "in disorder": b"\2\x63\0\x62\0", "count cut off": b"\xff",
                          "endless count": b"\xff\xff\xff\xff\xff\xff"})
def header_tags(b, tags):
    head = request_header(API_VERSIONS, 3, 7, "a-client", False)
    b.ask_frame(frame(head + tags + b"\2a\2b\0"))


@case("Connection", each={"unknown": b"\1\x63\2ab", "too long": b"\1\x63\x7fab", "twice": b"\2\x63\0\x63\0",
                          "in disorder": b"\2\x63\0\x62\0"})
def body_tags(b, tags):
    head = request_header(API_VERSIONS, 3, 7, "a-client", True)
    b.ask_frame(frame(head + b"\2a\2b" + tags))


@case("Connection",
      each={"text": b"GET / HTTP/1.1\r\n\r\n", "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)})
def another_protocol(b, data):
    b.be_impatient()
    b.ask_frame(data)
    b.hang_up()
    alive(b)


@case("Connection")
def byte_by_byte(b):
    data = frame(request_header(METADATA, 1, 7, "a-client", False) + struct.pack(">i", 0))
    for byte in data[:-1]:
        b.link().send(bytes([byte]))
    b.ask_frame(data[-1:])


@case("Connection")
def three_at_once(b):
    """Answered in order, though they share a correlation id; the last one closes."""
    one = frame(request_header(METADATA, 1, 7, "a-client", False) + struct.pack(">i", 0))
    other = frame(request_header(API_VERSIONS, 9, 7, "a-client", True))
    b.ask_frame(one + other + frame(request_header(84, 0, 7, "a-client", False)))
    b.await_another(), b.await_another()


@case("Connection")
def half_a_frame_and_gone(b):
    b.link().send(struct.pack(">i", 100) + bytes(50))
    b.hang_up()
    alive(b)
