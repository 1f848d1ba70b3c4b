#!/usr/bin/env python3
"""Shows that a topic's batches are stored with the codec that its producer was told to use.

    stored_codecs.py --bootstrap 127.0.0.1:9092 gzip:topic-a zstd:topic-b ...

A round trip alone cannot show it: a client that believes the broker too old for a codec sends its
records uncompressed and says nothing (KAFKA-18659). So this reads the raw batches and
looks at the codec bits of each, and that the batches follow each other without a gap.

`--plain-below BYTES`: librdkafka sends a batch as it is when compression makes it no smaller;
uncompressed batches below that size are then let pass, but with no more than one in ten of the records. (It is not one
in ten of the batches: a client that gets little time makes many small ones.)
"""

import argparse
import struct
import sys

import wire

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset ... record count
CONTROL = 0x20


class Unexpected(Exception):
    """What is stored is not what was asked for."""


def batches(connection, topic, partition):
    """Yields (base offset, size, attributes, record count, last offset) of every stored batch."""
    at = connection.offset(topic, partition, wire.EARLIEST)
    end = connection.offset(topic, partition, wire.LATEST)
    while at < end:
        data, start = connection.fetch(topic, partition, at), at
        for batch in whole_batches(data):
            yield batch
            at = batch[4] + 1
        if at == start:
            raise Unexpected(f"{topic}-{partition}: no batch at offset {at}, but the end is {end}")


def whole_batches(data):
    position = 0
    while position + BATCH_HEADER.size <= len(data):
        base, length, _, magic, _, attributes, last_delta, *_, count = BATCH_HEADER.unpack_from(data, position)
        if magic != 2:
            raise Unexpected(f"batch at offset {base} has magic {magic}")
        position += 12 + length
        if position > len(data):
            return  # a fetch may cut its last batch short
        yield base, 12 + length, attributes, count, base + last_delta


def check_topic(connection, topic, codec, plain_below):
    """Returns (batches, records); raises Unexpected at the first wrong codec or gap."""
    total = records = plain = 0
    for partition in connection.metadata([topic])[1][topic]:
        expected_base = connection.offset(topic, partition, wire.EARLIEST)
        for base, size, attributes, count, last in batches(connection, topic, partition):
            if base != expected_base or last - base + 1 != count:
                raise Unexpected(f"{topic}-{partition}: expected offset {expected_base}, "
                                 f"got a batch of {base}..{last} with {count} records")
            stored = CODECS[attributes & 7]
            small = stored == "none" and size < plain_below
            if stored != codec and not small or attributes & CONTROL:
                raise Unexpected(f"{topic}-{partition}: batch at {base} ({count} records, {size} bytes) "
                                 f"is {stored}, not {codec}; attributes {attributes:#x}")
            expected_base, total, records = last + 1, total + 1, records + count
            plain += count if stored != codec else 0
    if records == 0 or plain * 10 > records:
        raise Unexpected(f"{topic}: {plain} of {records} records, in {total} batches, are uncompressed")
    return total, records


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--plain-below", type=int, default=0, metavar="BYTES")
    parser.add_argument("topics", nargs="+", metavar="CODEC:TOPIC")
    args = parser.parse_args()
    with wire.Connection(args.bootstrap) as connection:
        for codec, topic in (pair.split(":", 1) for pair in args.topics):
            total, records = check_topic(connection, topic, codec, args.plain_below)
            print(f"{topic}: {records} records in {total} batches, all {codec}")


if __name__ == "__main__":
    try:
        main()
    except (Unexpected, wire.BrokerError, OSError) as error:
        sys.exit(f"stored_codecs: {error}")
