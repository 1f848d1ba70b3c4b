"""Record batches: built with any mistake one may want, and shown as dicts when they come back.

The compressed forms are the plainest legal ones (literals and stored blocks), so that the standard
library is enough. What a batch claims (counts, CRC, sequences) can be set apart from what it holds.
"""

import gzip
import struct
import zlib

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 8, 16, 32  # attribute bits
HEAD = struct.Struct(">qiibIhiqqqhii")  # base offset ... record count
BATCH_OVERHEAD = HEAD.size  # 61
CRC_FROM = 21  # where the bytes begin that the CRC covers


def _crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(value):
    """Zigzag, as in records."""
    value = value << 1 ^ value >> 63
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def record(offset_delta, timestamp_delta, key=None, value=b"value", headers=()):
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta) + sized(key) + sized(value)
    body += varint(len(headers)) + b"".join(sized(name) + sized(content) for name, content in headers)
    return varint(len(body)) + body


def batch(timestamp, values=(b"value",), codec=NONE, **claims):
    """A batch of one record per value, all of the same time.

    A value may also be a (key, value, headers) triple. `claims` override what the head says: attributes,
    base_offset, leader_epoch, magic, crc, last_offset_delta, first_timestamp, max_timestamp, producer_id,
    producer_epoch, sequence, count, length; `timestamps` gives each record a time of its own, `payload`
    replaces the records.
    """
    times = claims.pop("timestamps", None) or [timestamp] * len(values)
    first = claims.pop("first_timestamp", times[0] if times else timestamp)
    payload = claims.pop("payload", None)
    if payload is None:
        triples = [value if isinstance(value, tuple) else (None, value, ()) for value in values]
        payload = b"".join(record(i, time - first, *one) for i, (one, time) in enumerate(zip(triples, times)))
        payload = COMPRESS.get(codec, bytes)(payload)
    covered = struct.pack(
        ">hiqqqhii",
        claims.pop("attributes", 0) | codec,
        claims.pop("last_offset_delta", len(values) - 1),
        first,
        claims.pop("max_timestamp", max(times, default=timestamp)),
        claims.pop("producer_id", -1),
        claims.pop("producer_epoch", -1),
        claims.pop("sequence", -1),
        claims.pop("count", len(values)),
    ) + payload
    head = struct.pack(
        ">qiibI",
        claims.pop("base_offset", 0),
        claims.pop("length", len(covered) + CRC_FROM - 12),
        claims.pop("leader_epoch", -1),
        claims.pop("magic", 2),
        claims.pop("crc", crc32c(covered)),
    )
    if claims:
        raise ValueError(f"no such claim: {', '.join(claims)}")
    return head + covered


def old_message(magic, timestamp, value=b"value"):
    """A message set of one message, of format 0 or 1."""
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", timestamp) if magic else b"")
    body += struct.pack(">ii", -1, len(value)) + value
    return struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body


def snappy(data):
    """Raw snappy: the length, then literals."""
    out, value = bytearray(), len(data)
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for at in range(0, len(data), 60):
        piece = data[at:at + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return bytes(out)


def xxh32_short(data):
    """xxHash32, seed 0, of fewer than 4 bytes: the header checksum of lz4."""
    mask, value = 0xFFFFFFFF, 374761393 + len(data)
    for byte in data:
        value = value + byte * 374761393 & mask
        value = (value << 11 | value >> 21) * 2654435761 & mask
    value = (value ^ value >> 15) * 2246822519 & mask
    value = (value ^ value >> 13) * 3266489917 & mask
    return value ^ value >> 16


def lz4(data):
    """A frame with one stored block: blocks are independent and up to 64 KiB."""
    flags = b"\x60\x40"
    head = b"\x04\x22\x4d\x18" + flags + bytes([xxh32_short(flags) >> 8 & 0xFF])
    return head + struct.pack("<I", len(data) | 1 << 31) + data + bytes(4)


def zstd(data):
    """A frame with one stored block: its window is the content, whose size has four bytes."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


COMPRESS = {GZIP: gzip.compress, SNAPPY: snappy, LZ4: lz4, ZSTD: zstd}


def read_varint(data, at):
    """A zigzag number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at


def read_sized(data, at):
    length, at = read_varint(data, at)
    return (None, at) if length < 0 else (data[at:at + length], at + length)


def unpack(data):
    """(the head of each batch as `HEAD` has it, its records as dicts); plain batches and those of gzip."""
    at = 0
    while at + BATCH_OVERHEAD <= len(data):
        head = HEAD.unpack_from(data, at)
        end = at + 12 + head[1]
        payload = data[at + BATCH_OVERHEAD:end]
        yield head, list(_records_of(head, gzip.decompress(payload) if head[5] & 7 == GZIP and payload else payload))
        at = end


def _records_of(head, payload):
    base, first, at = head[0], head[7], 0
    of_append = head[8] if head[5] & LOG_APPEND_TIME else None  # the time of all records, as readers see it
    for _ in range(head[12]):
        _, at = read_varint(payload, at)
        time, at = read_varint(payload, at + 1)  # behind the attributes
        offset, at = read_varint(payload, at)
        key, at = read_sized(payload, at)
        value, at = read_sized(payload, at)
        count, at = read_varint(payload, at)
        headers = []
        for _ in range(count):
            name, at = read_sized(payload, at)
            content, at = read_sized(payload, at)
            headers.append([name, content])
        yield {"Offset": base + offset, "Timestamp": first + time if of_append is None else of_append, "Key": key,
               "Value": value, "Headers": headers}


def show(data):
    """The batches in a `Records` field: each head as a dict, its records as hex."""
    if data is None:
        return None
    batches, at = [], 0
    while at + BATCH_OVERHEAD <= len(data):
        fields = HEAD.unpack_from(data, at)
        end = at + 12 + fields[1]
        if fields[3] != 2 or end > len(data):
            break
        batches.append(_show_batch(fields, data[at:end]))
        at = end
    if at < len(data):
        batches.append("the beginning of a batch")
    return batches


def _show_batch(fields, raw):
    base, _, epoch, _, crc, attributes, last, first, newest, producer, producer_epoch, sequence, count = fields
    payload = raw[BATCH_OVERHEAD:]
    codec = attributes & 7
    return {
        "BaseOffset": base, "PartitionLeaderEpoch": epoch, "Attributes": attributes, "LastOffsetDelta": last,
        "BaseTimestamp": first, "MaxTimestamp": newest, "ProducerId": producer, "ProducerEpoch": producer_epoch,
        "BaseSequence": sequence, "Count": count, "CrcIsRight": crc == crc32c(raw[CRC_FROM:]),
        # What a broker compressed itself need not be the same bytes.
        "Payload": payload.hex() if codec == NONE else f"codec {codec}",
    }
