#!/usr/bin/env python3
"""Makes the data that every client program sends and reads back: the event log of a made-up shop.

    dataset.py --out FILE        200,000 records, some 70 MB, the same bytes on every machine

What is in it, and why:
- JSON events of 150 to 2,000 bytes (views, carts, orders, reviews in several scripts), as real topics hold them;
- keys of customers, null keys (guests), and empty keys, which must not become null;
- null values (tombstones: "delete my data"), and empty values;
- binary values (sensor frames), so that nobody may treat a value as text;
- every 4,000th value is 100 to 250 KB, every 40,000th is 900 KB: near the default limit of 1 MiB,
  and far larger than a fetch that asks for less;
- headers on a third: plain ones, the same key twice, null values, empty values, unicode;
- timestamps that mostly rise; some are up to a minute late, and so are the last 40 of every 40,000:
  the newest record of a partition is not its last.

The file, all numbers big-endian:

    file   = "YGRD" | u32 version = 1 | u32 partitions | u32 records | record...
    record = u32 length of body | body | u32 CRC-32 of body
    body   = i64 timestamp in ms | i32 partition | bytes key | bytes value | i32 headers | header...
    header = bytes name | bytes value
    bytes  = i32 length, -1 for null | that many bytes

A client checks a record that it has read back by building its body again: the bytes, or their CRC,
must be those of the file. Records of a partition stand in the order they must be produced in.
"""

import argparse
import hashlib
import json
import os
import random
import struct
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

MAGIC, VERSION = b"YGRD", 1
RECORDS, PARTITIONS = 200_000, 4
LARGE_EVERY, HUGE_EVERY, HUGE_BYTES = 4_000, 40_000, 900_000
# 2025-06-15. Topics for it need retention.ms=-1, or a broker may delete what is that old.
BASE_TIMESTAMP_MS = 1_750_000_000_000
STEP_MS = 40

WORDS = ("durable lightweight linen steel ceramic walnut compact wireless folding insulated brushed "
         "vintage organic recycled waterproof adjustable stackable matte polished hand-made").split()
THINGS = "lamp kettle chair backpack headphones notebook bottle jacket bicycle teapot shelf blanket".split()
REVIEWS = ["Would buy again.", "Très bon produit, livré à temps !", "素晴らしい品質です。", "Отличное качество",
           "صنع بعناية", "Größe fällt klein aus – sonst prima", "👍🏽👍🏽 five stars ✨", "पैसा वसूल"]
PAGES = ["/", "/search", "/cart", "/checkout", "/help/returns", "/c/kitchen", "/c/outdoor"]


class Record(NamedTuple):
    timestamp: int
    partition: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: list  # of (str, bytes or None)
    body: bytes = b""


def encode_body(timestamp, partition, key, value, headers):
    """The canonical bytes of a record, as the file holds them."""
    parts = [struct.pack(">qi", timestamp, partition), _bytes(key), _bytes(value), struct.pack(">i", len(headers))]
    for name, content in headers:
        parts += [_bytes(name.encode()), _bytes(content)]
    return b"".join(parts)


def _bytes(raw):
    return b"\xff\xff\xff\xff" if raw is None else struct.pack(">i", len(raw)) + raw


def decode_body(body):
    timestamp, partition = struct.unpack_from(">qi", body)
    at = 12

    def take():
        nonlocal at
        length = struct.unpack_from(">i", body, at)[0]
        at += 4 + max(length, 0)
        return None if length < 0 else body[at - length:at]

    key, value = take(), take()
    count = struct.unpack_from(">i", body, at)[0]
    at += 4
    headers = [(take().decode(), take()) for _ in range(count)]
    return Record(timestamp, partition, key, value, headers, body)


def read(path):
    """All records of a file; raises if one does not match its checksum."""
    data = Path(path).read_bytes()
    version, _, count = struct.unpack_from(">III", data, 4)
    if data[:4] != MAGIC or version != VERSION:
        raise ValueError(f"{path} is not a data set of version {VERSION}")
    records, at = [], 16
    for _ in range(count):
        length = struct.unpack_from(">I", data, at)[0]
        body = data[at + 4:at + 4 + length]
        if zlib.crc32(body) != struct.unpack_from(">I", data, at + 4 + length)[0]:
            raise ValueError(f"{path}: record {len(records)} does not match its checksum")
        records.append(decode_body(body))
        at += 8 + length
    return records


def generate(count=RECORDS):
    """Yields the bodies, one by one."""
    rng = random.Random(20250615)
    for i in range(count):
        timestamp = BASE_TIMESTAMP_MS + i * STEP_MS
        if i % 97 == 50 or i % HUGE_EVERY >= HUGE_EVERY - 40:
            # An event that came late. Odd, so that it never equals one that came in time.
            timestamp -= 2 * rng.randrange(30_000) + 1
        customer = rng.randrange(5_000)
        key = _key(rng, customer)
        # As a keyed producer does: one customer, one partition. Guests go round.
        partition = customer % PARTITIONS if key else i % PARTITIONS
        yield encode_body(timestamp, partition, key, _value(rng, i, customer), _headers(rng, i))


def _key(rng, customer):
    kind = rng.random()
    if kind < 0.3:
        return None
    return b"" if kind < 0.305 else f"customer-{customer:05}".encode()


def _value(rng, i, customer):
    if i % HUGE_EVERY == 17_000:
        return _export(rng, HUGE_BYTES)
    if i % LARGE_EVERY == 1_234:
        return _export(rng, rng.randrange(100 * 1024, 250_000))
    kind = rng.random()
    if kind < 0.02:
        return None
    if kind < 0.03:
        return b""
    if kind < 0.06:
        return b"\x00\x01" + rng.getrandbits(512).to_bytes(64, "big") + b"\x00\xff\n\t" * 16
    return json.dumps(_event(rng, i, customer), ensure_ascii=False).encode()


def _event(rng, i, customer):
    event = {"id": f"{rng.getrandbits(64):016x}", "seq": i, "customer": customer,
             "agent": "Mozilla/5.0 (X11; Linux x86_64) shop/%d.%d" % (rng.randrange(9), rng.randrange(40))}
    kind = rng.random()
    if kind < 0.6:
        return event | {"type": "view", "page": rng.choice(PAGES), "ms": rng.randrange(4_000)}
    if kind < 0.9:
        return event | {"type": "cart", "item": _item(rng), "quantity": rng.randrange(1, 4)}
    if kind < 0.97:
        return event | {"type": "order", "items": [_item(rng) for _ in range(rng.randrange(2, 12))],
                        "total": rng.randrange(100, 900_000) / 100, "paid": rng.random() < 0.9}
    return event | {"type": "review", "stars": rng.randrange(1, 6), "text": rng.choice(REVIEWS) * rng.randrange(1, 9)}


def _item(rng):
    return {"sku": f"SKU-{rng.randrange(20_000):05}", "name": f"{rng.choice(WORDS)} {rng.choice(THINGS)}",
            "price": rng.randrange(100, 90_000) / 100, "tags": [rng.choice(WORDS) for _ in range(2)]}


def _export(rng, size):
    """One long line of text that compresses as text does."""
    lines, length = [], 0
    while length < size:
        line = f"{rng.getrandbits(40):010x};{rng.choice(WORDS)};{rng.choice(THINGS)};{rng.randrange(10_000)}|"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def _headers(rng, i):
    if i % 3:
        return []
    headers = [("trace-id", f"{rng.getrandbits(128):032x}".encode()), ("source", b"web")]
    kind = rng.random()
    if kind < 0.15:  # the same key twice, not side by side
        headers += [("hop", b"edge"), ("region", b"eu"), ("hop", b"core")]
    elif kind < 0.3:
        headers += [("consent", None), ("note", b"")]
    elif kind < 0.4:
        headers += [("город", "Київ".encode()), ("emoji", "🏯".encode()), ("raw", b"\x00\xfe\xff")]
    return headers


def write(path, count=RECORDS):
    """Writes the file; it gets its name only when it is whole. Returns its SHA-256."""
    sha, part = hashlib.sha256(), Path(f"{path}.part{os.getpid()}")
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "wb") as file:
        for piece in _pieces(count):
            sha.update(piece)
            file.write(piece)
    part.rename(path)
    return sha.hexdigest()


def _pieces(count):
    yield MAGIC + struct.pack(">III", VERSION, PARTITIONS, count)
    for body in generate(count):
        yield struct.pack(">I", len(body)) + body + struct.pack(">I", zlib.crc32(body))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    sha = write(args.out)
    print(f"{args.out}: {RECORDS} records, {args.out.stat().st_size / 1e6:.1f} MB, sha256 {sha}")


if __name__ == "__main__":
    main()
