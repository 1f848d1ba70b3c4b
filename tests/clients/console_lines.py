#!/usr/bin/env python3
"""Makes the lines that kafka-console-producer sends, and checks those that kafka-console-consumer prints.

    console_lines.py make --dataset FILE --parts N --out LINES      (LINES-0 ... LINES-(N-1); prints how many)
    console_lines.py check --lines LINES READ ...                   one READ file per partition

A line is `headers <tab> key <tab> value`, as both tools write it; the first header is the line's number. It
comes back as the same line behind `CreateTime:.. <tab> Partition:.. <tab> Offset:..`, so each line of READ must be
a line of LINES to the byte; numbers must rise within a partition, and offsets run from 0.

Left out: records that are not text, or hold what the tools take for a separator. Null is NULL in both.
"""

import argparse
import re
import sys
from pathlib import Path

import checking
import dataset

NULL = b"NULL"


def line(number, record):
    """The record as a line, or None if the tools cannot say it."""
    headers = [("n", b"%d" % number), *record.headers]
    fields = [record.key, record.value, *(content for _, content in headers)]
    if any(content and (not is_text(content) or content == NULL) for content in fields):
        return None
    if any(mark in (content or b"") for _, content in headers for mark in (b",", b":")):
        return None
    printed = b",".join(name.encode() + b":" + text(content) for name, content in headers)
    return b"\t".join([printed, text(record.key), text(record.value)])


def is_text(content):
    try:
        return not any(mark in content.decode() for mark in "\t\n\r")
    except UnicodeDecodeError:
        return False


def text(content):
    return NULL if content is None else content


def make(args):
    total = 0
    for part, records in checking.parts(dataset.read(args.dataset), list(range(args.parts))):
        lines = [made for made in (line(i, r) for i, r in enumerate(records)) if made is not None]
        Path(f"{args.out}-{part}").write_bytes(b"".join(one + b"\n" for one in lines))
        total += len(lines)
    print(total)


def check(args):
    produced = {int(re.match(rb"n:(\d+)", one)[1]): one for one in args.lines.read_bytes().splitlines()}
    left = dict(produced)
    for partition, path in enumerate(args.read):
        last = -1
        for offset, got in enumerate(path.read_bytes().splitlines()):
            wanted = rb"CreateTime:\d+\tPartition:%d\tOffset:%d\t(n:(\d+).*)" % (partition, offset)
            match = re.fullmatch(wanted, got)
            if not match:
                raise checking.Mismatch(f"{path.name}: expected {wanted}, got {checking.short(got)}")
            content, n = match[1], int(match[2])
            if left.pop(n, None) != content:
                raise checking.Mismatch(f"{path.name} at offset {offset}: {checking.short(content)}, "
                                        f"was produced as {checking.short(produced.get(n))}, once")
            if n <= last:
                raise checking.Mismatch(f"{path.name} at offset {offset}: line {n} came after line {last}")
            last = n
    if left:
        raise checking.Mismatch(f"{len(left)} of {len(produced)} lines were not read back")
    print(f"{len(produced)} lines read back, byte by byte")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("make")
    maker.add_argument("--dataset", required=True)
    maker.add_argument("--parts", required=True, type=int)
    maker.add_argument("--out", required=True)
    maker.set_defaults(run=make)
    checker = commands.add_parser("check")
    checker.add_argument("--lines", required=True, type=Path)
    checker.add_argument("read", nargs="+", type=Path)
    checker.set_defaults(run=check)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    try:
        main()
    except checking.Mismatch as error:
        sys.exit(f"console_lines: {error}")
