"""Produce: what a batch may hold and claim."""

import records
from cases import case
from cases.produce import send

HOUR_MS = 3_600_000


def send_and_look(b, one, **configs):
    name = b.topic(**configs)
    send(b, name, one)
    b.contents(name)


@case("Produce", each={
    "null value": (b"k", None, ()), "empty value": (b"k", b"", ()), "empty key": (b"", b"v", ()),
    "both null": (None, None, ()),
    "headers": (b"k", b"v", ((b"h", b"1"), (b"h", b"2"), (b"", b""), (b"null", None))),
    "null header name": (b"k", b"v", ((None, b"1"),)), "50 kB": (b"k", b"v" * 50_000, ()),
})
def record(b, one):
    send_and_look(b, b.batch(one))


@case("Produce", each={"gzip": records.GZIP, "snappy": records.SNAPPY, "lz4": records.LZ4, "zstd": records.ZSTD,
                       "5": 5, "6": 6, "7": 7})
def codec(b, codec):
    send_and_look(b, b.batch(b"one", b"two", codec=codec))


@case("Produce", each={"gzip": records.GZIP, "snappy": records.SNAPPY, "lz4": records.LZ4, "zstd": records.ZSTD})
def not_what_the_codec_says(b, codec):
    send_and_look(b, b.batch(codec=codec, payload=b"not compressed at all"))


@case("Produce", each={"plain to gzip": ("gzip", 0), "gzip to uncompressed": ("uncompressed", 1),
                       "snappy to uncompressed": ("uncompressed", 2), "lz4 to uncompressed": ("uncompressed", 3),
                       "zstd to uncompressed": ("uncompressed", 4), "gzip to snappy": ("snappy", 1),
                       "plain to zstd": ("zstd", 0),
                       "gzip to gzip": ("gzip", 1), "plain to lz4": ("lz4", 0)})
def topic_codec(b, wanted):
    compression, codec = wanted
    send_and_look(b, b.batch(b"one", b"two", codec=codec), compression_type=compression)


@case("Produce", each={
    "wrong": {"crc": 1}, "of another magic": {"magic": 1}, "magic 3": {"magic": 3}, "magic -1": {"magic": -1},
    "base offset": {"base_offset": 1000}, "leader epoch": {"leader_epoch": 9},
    "negative base offset": {"base_offset": -5},
    "last delta too high": {"last_offset_delta": 5}, "last delta too low": {"last_offset_delta": 1},
    "last delta negative": {"last_offset_delta": -1}, "count too high": {"count": 5}, "count too low": {"count": 2},
    "count 0": {"count": 0}, "count negative": {"count": -1}, "count max": {"count": 2**31 - 1},
    "length 0": {"length": 0}, "length short": {"length": 30}, "length one less": {"length": 75},
    "length long": {"length": 1000}, "length negative": {"length": -1}, "length max": {"length": 2**31 - 1},
    "last delta and count": {"last_offset_delta": 9, "count": 10},
})
def claim(b, claims):
    """Three records, of which the head says otherwise."""
    send_and_look(b, b.batch(b"a", b"b", b"c", **claims))


@case("Produce", each={
    "last delta too high": {"last_offset_delta": 5}, "last delta too low": {"last_offset_delta": 1},
    "count too high": {"count": 5}, "count too low": {"count": 2}, "count 0": {"count": 0},
    "count max": {"count": 2**31 - 1},
    "last delta and count": {"last_offset_delta": 9, "count": 10},
})
def compressed_claim(b, claims):
    send_and_look(b, b.batch(b"a", b"b", b"c", codec=records.GZIP, **claims))


def three(*offset_deltas):
    return b"".join(records.record(delta, 0) for delta in offset_deltas)


@case("Produce", each={
    "deltas with a gap": three(0, 1, 5), "deltas in disorder": three(1, 0, 2), "deltas all 0": three(0, 0, 0),
    "negative delta": three(-1, 0, 1), "cut off": three(0, 1, 2)[:-3], "more than they say": three(0, 1, 2, 3),
    "bytes behind": three(0, 1, 2) + b"xx",
    "record of length -1": b"\x01" + three(0, 1, 2), "record of length 0": b"\0" + three(0, 1, 2),
    "garbage": b"\xff" * 40, "nothing": b"",
})
def records_of_three(b, payload):
    """The head says three, of deltas 0 to 2."""
    send_and_look(b, b.batch(b"a", b"b", b"c", payload=payload))


@case("Produce", each={"deltas with a gap": three(0, 1, 5), "cut off": three(0, 1, 2)[:-3],
                       "bytes behind": three(0, 1, 2) + b"xx"})
def compressed_records_of_three(b, payload):
    packed = records.COMPRESS[records.GZIP](payload)
    send_and_look(b, b.batch(b"a", b"b", b"c", codec=records.GZIP, payload=packed))


@case("Produce")
def no_records(b):
    """A batch that claims to be empty, and is."""
    send_and_look(b, b.batch(payload=b"", count=0, last_offset_delta=0))


@case("Produce", each={"control": records.CONTROL, "LogAppendTime": records.LOG_APPEND_TIME, "delete horizon": 64,
                       "unused bit 7": 128, "unused bit 14": 1 << 14, "transactional": records.TRANSACTIONAL})
def attributes(b, bits):
    send_and_look(b, b.batch(attributes=bits))


@case("Produce", each={"two batches": 2, "three batches": 3})
def batches(b, count):
    send_and_look(b, b.batch() * count)


@case("Produce", each={"a byte": b"x", "12 zeros": bytes(12), "half a batch": None})
def behind_the_batch(b, more):
    send_and_look(b, b.batch() + (b.batch()[:40] if more is None else more))


@case("Produce", each={"1": 1, "20": 20, "61": 61, "all but one": -1})
def truncated(b, size):
    send_and_look(b, b.batch()[:size])


@case("Produce", each={"0": 0, "1": 1})
def old_format(b, magic):
    send_and_look(b, records.old_message(magic, b.now))


@case("Produce", each={"largest": 0, "one byte too large": 1})
def max_message_bytes(b, too_many):
    one = b.batch(b"v" * 500)
    send_and_look(b, one, max_message_bytes=len(one) - too_many)


@case("Produce")
def larger_than_the_default(b):
    name = b.topic()
    send(b, name, b.batch(b"v" * 1_048_588))


@case("Produce")
def small_enough_only_once_compressed(b):
    send_and_look(b, b.batch(b"v" * 5000, codec=records.GZIP), max_message_bytes=500)


@case("Produce", each={
    "none": {"timestamps": [-1]}, "zero": {"timestamps": [0]}, "negative": {"timestamps": [-5]},
    "max claimed too high": {"max_timestamp": 2**62}, "max claimed none": {"max_timestamp": -1},
})
def time(b, claims):
    send_and_look(b, b.batch(**claims), retention_ms=-1)


@case("Produce", each={"three hours": 3 * HOUR_MS, "half an hour": HOUR_MS // 2,
                       "a century": 100 * 365 * 24 * HOUR_MS})
def future(b, ahead_ms):
    send_and_look(b, b.batch(back_ms=-ahead_ms))


@case("Produce")
def future_in_one_of_three(b):
    now = b.now - HOUR_MS
    send_and_look(b, b.batch(b"a", b"b", b"c", timestamps=[now, now + 5 * HOUR_MS, now]))


@case("Produce", each={"too far": 3 * HOUR_MS, "near enough": HOUR_MS // 2, "ahead": -HOUR_MS // 2})
def before_max(b, back_ms):
    send_and_look(b, b.batch(back_ms=back_ms), message_timestamp_before_max_ms=2 * HOUR_MS)


@case("Produce", each={"plain": 0, "gzip": records.GZIP})
def both_limits_broken(b, codec):
    now = b.now
    one = b.batch(b"a", b"b", b"c", b"d", timestamps=[now - 9 * HOUR_MS, now - HOUR_MS // 2, now + 9 * HOUR_MS,
                                                      now - HOUR_MS], codec=codec)
    send_and_look(b, one, message_timestamp_before_max_ms=4 * HOUR_MS)


@case("Produce", each={"plain": {}, "gzip": {"codec": records.GZIP}, "old": {"timestamps": [1]},
                       "future": {"timestamps": [2**62]},
                       "bit set": {"attributes": records.LOG_APPEND_TIME}})
def log_append_time(b, claims):
    send_and_look(b, b.batch(**claims), message_timestamp_type="LogAppendTime", retention_ms=-1)


@case("Produce")
def max_timestamp_is_worked_out(b):
    now = b.now - HOUR_MS
    send_and_look(b, b.batch(b"a", b"b", b"c", timestamps=[now, now + 5000, now + 1000], max_timestamp=now))
