#!/usr/bin/env python3
"""Transactions with real clients: copied exactly once, and random histories that a checker judges.

    run.py --binary PATH               against Yagura; kills clients and the broker
    run.py --kafka-libs JARS           against Apache Kafka, whose broker is not killed: proves the tests themselves
    run.py ... [--only NAME]  [--kills 4] [--seconds 25] [--seed N]
    run.py --judge FILE                judges the history of an earlier run once more

`--kills`: of copiers and brokers, for each client; of brokers, and as many of processes, in a history of that many
seconds. Names are "copy CLIENT" and "history STORE"; --only takes the first word, too. Ends with "N passed, N failed".
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
import unittest
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "groups"))

import checker_tests  # noqa: E402
import copying  # noqa: E402
import histories  # noqa: E402
import setting  # noqa: E402
import several  # noqa: E402
from checker import check  # noqa: E402

SESSION_SECONDS = 6
MEMORY = setting.CONFIG.replace("{store}", "memory://")
COPIES = [f"copy {client}" for client in copying.PROGRAMS]
HISTORIES = ["history memory", "history sqlite", "history kills"]


@contextmanager
def setup(options, name):
    """The address of a fresh broker, and the broker if it may be killed."""
    with tempfile.TemporaryDirectory() as folder:
        if options.kafka_libs:
            with setting.kafka(options.kafka_libs, folder, SESSION_SECONDS) as kafka:
                yield kafka.bootstrap, None
        else:
            config = MEMORY if name == "history memory" else setting.CONFIG
            with setting.yagura(options.binary, folder, config=config, session_seconds=SESSION_SECONDS) as broker:
                yield broker.address, broker if name in [*COPIES, "history kills"] else None


def check_one(name, options):
    dice = random.Random(f"{options.seed} {name}")
    kind, what = name.split()
    with setup(options, name) as (address, broker):
        if kind == "copy":
            return copying.check(address, broker, what, options.kills, dice, setting.LOGS)
        return histories.check_history(address, broker, what, options.seconds, options.kills, dice, setting.LOGS)


def run_one(name, options):
    started = time.monotonic()
    try:
        said = check_one(name, options)
    except Exception as error:  # noqa: BLE001: whatever it is, the others go on
        why = str(error) if isinstance(error, AssertionError) and str(error) else traceback.format_exc()
        print(f"FAIL {name} ({time.monotonic() - started:.0f} s)\n{why}", flush=True)
        return False
    print(f"ok: {name} ({time.monotonic() - started:.0f} s): {said}", flush=True)
    return True


def prove_checker():
    """The checker is proved before it judges."""
    tests = unittest.defaultTestLoader.loadTestsFromModule(checker_tests)
    result = unittest.TextTestRunner(verbosity=0).run(tests)
    assert result.wasSuccessful() and result.testsRun, "the checker does not find what it is to find"


def judge(file):
    events = histories.events_of(file)
    anomalies = check(events)
    print(histories.report(anomalies, events, file) if anomalies else f"ok: {histories.summary(events)}")
    return bool(anomalies)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on = arguments.add_mutually_exclusive_group(required=True)
    on.add_argument("--binary")
    on.add_argument("--kafka-libs")
    on.add_argument("--judge")
    arguments.add_argument("--only", action="append", default=[])
    arguments.add_argument("--kills", type=int, default=4)
    arguments.add_argument("--seconds", type=float, default=25)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = arguments.parse_args()
    prove_checker()
    if options.judge:
        return judge(options.judge)
    print(f"seed {options.seed}", flush=True)
    setting.LOGS.mkdir(parents=True, exist_ok=True)
    names = COPIES + (["history kafka"] if options.kafka_libs else HISTORIES)
    if several.asked_for()[0] > 1:
        names = [name for name in names if name != "history memory"]  # which each broker would have for itself
    wanted = [name for name in names if not options.only or {name, name.split()[0]} & set(options.only)]
    if not wanted:
        arguments.error(f"--only has none of: {', '.join(names)}")
    passed = sum(run_one(name, options) for name in wanted)
    print(f"{passed} passed, {len(wanted) - passed} failed")
    return passed != len(wanted)


if __name__ == "__main__":
    sys.exit(main())
