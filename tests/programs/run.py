#!/usr/bin/env python3
"""Programs written for Apache Kafka, unchanged, on a fresh broker each.

    run.py --binary PATH [NAME ...]         Yagura
    run.py --kafka-libs JARS [NAME ...]     Apache Kafka: proves the tests
    run.py ... --long                       the long forms, and the programs that are only tried in those
    run.py ... --kills N --seed N           how often programs and brokers are killed, and when

Needs what tests/setup.sh installs. Logs go to target/test-logs/programs.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import connect
import copier
import mirror
import programs
import schemas
import smoke
import streams
import tools
from place import Place

SHORT = {"word-count": streams.word_count, "connect": connect.connect, "copier": copier.copier,
         "schemas": schemas.schemas, "tools": tools.tools}
LONG = {"windowed-join": streams.windowed_join, "mirror": mirror.mirror, "smoke": smoke.smoke, "eos": smoke.eos}
KAFKA_LIBS = programs.TARGET / "test-tools/java/libs"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--binary", metavar="PATH")
    where.add_argument("--kafka-libs", metavar="JARS", help="for instance target/test-tools/java/libs")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SHORT | LONG))
    options = parser.parse_args()
    unknown = set(options.names) - set(SHORT | LONG)
    if unknown:
        parser.error(f"no program is called {', '.join(sorted(unknown))}; there are {', '.join(SHORT | LONG)}")
    return options


def run(name, options):
    """One part; what was shown, or the reason with the logs of its programs."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="yagura-programs-") as folder:
        binary = options.binary and str(Path(options.binary).resolve())
        try:
            shown = (SHORT | LONG)[name](Place(binary, options.kafka_libs or KAFKA_LIBS, folder), options)
        except BaseException:
            for one in programs.Program.all:
                print(one.report(), file=sys.stderr)
            print(f"FAIL {name}, seed {options.seed}", file=sys.stderr, flush=True)
            raise
        finally:
            programs.end_all()
    print(f"ok: {name}: {shown} ({time.monotonic() - started:.0f} s)", flush=True)


def main():
    options = arguments()
    if not (programs.TARGET / "test-tools/stamps/programs").exists():
        sys.exit("run.py: run tests/setup.sh first, it installs the programs")
    # A SIGTERM must take the same way out as Ctrl-C: all programs are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: ended by SIGTERM"))
    print(f"seed {options.seed}")
    for name in options.names or [*SHORT, *(LONG if options.long else [])]:
        random.seed(options.seed)
        run(name, options)


if __name__ == "__main__":
    main()
