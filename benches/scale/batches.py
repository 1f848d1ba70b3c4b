"""Uncompressed record batches as they are on the wire; of a large one as many copies as fill a log, each at another time."""

import struct

from records import CRC32C, varint

HEAD_BYTES = 61
CRC_FROM = 21  # where the bytes begin that the CRC covers
LENGTH_FROM = 12  # where the bytes begin that the length counts


def advance(state, data):
    """The register of CRC-32C after `data`."""
    for byte in data:
        state = CRC32C[(state ^ byte) & 0xFF] ^ state >> 8
    return state


def record(number, value):
    """A record without key or headers, `number` milliseconds after the first of its batch."""
    body = b"\0" + varint(number) + varint(number) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


class Batch:
    """A batch whose records are a millisecond apart, to be had at any time.

    The CRC of 64 KiB takes Python many times as long as the broker takes to store them. CRCs are linear, so it is put
    together from that of the part which never changes, and from how that part moves each bit of the register before it.
    """

    def __init__(self, values):
        self.count = len(values)
        payload = b"".join(record(number, value) for number, value in enumerate(values))
        self.rest = struct.pack(">qhii", -1, -1, -1, self.count) + payload
        self.rest_crc = advance(0, self.rest)
        self.moved = [advance(1 << bit, bytes(len(self.rest))) for bit in range(32)]

    def at(self, first_ms):
        """The batch with its first record at `first_ms`."""
        times = struct.pack(">hiqq", 0, self.count - 1, first_ms, first_ms + self.count - 1)
        state, crc = advance(0xFFFFFFFF, times), self.rest_crc ^ 0xFFFFFFFF
        for bit in range(32):
            if state >> bit & 1:
                crc ^= self.moved[bit]
        length = CRC_FROM - LENGTH_FROM + len(times) + len(self.rest)
        return struct.pack(">qiibI", 0, length, -1, 2, crc) + times + self.rest


def small(size, first_ms):
    """A batch of one record that is `size` bytes long in all."""
    without = len(Batch([b""]).at(0))
    made = Batch([b"v" * (size - without - 2)]).at(first_ms)  # two lengths take a byte more each
    assert len(made) == size, len(made)
    return made
