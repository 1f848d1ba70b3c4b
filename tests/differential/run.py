#!/usr/bin/env python3
"""Sends the same calls, with the same mistakes in them, to Apache Kafka and to Yagura, and compares the answers.

    run.py --kafka-libs JARS --binary PATH     both; fails on a disagreement not in known_differences.toml
    run.py --kafka-libs JARS --kafka-only      prints what Kafka answers
    run.py --kafka-libs JARS --self-check      Kafka against Kafka: whatever differs, the cases are to blame
    ... --only API                             only the cases of this API (repeat it for more)
    ... --case PATTERN                         only cases whose name matches
    ... --record FILE                          writes both answers to all cases, as JSON

Everything of Yagura's APIs is asked at every version. Error codes, shapes, nulls and numbers must agree;
ids, addresses, wording and clocks (compare.py) need not. Ends with "N passed, N failed".
"""

import argparse
import fnmatch
import json
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

import bench  # noqa: E402
import cases  # noqa: E402
import compare  # noqa: E402
import kafka_server  # noqa: E402
import schema  # noqa: E402

KNOWN = HERE / "known_differences.toml"
# Four times as fast: the controller does not wait for more before it writes.
KAFKA_SETTINGS = ["controller.quorum.append.linger.ms=0"]
STOP_SECONDS_MAX, SLOW_SECONDS = 30, 8


class Result(NamedTuple):
    """What one broker answered to one case at one version."""
    api: str
    version: int
    name: str
    answers: list
    broken: str | None


def answers_of(name, bootstrap, now_ms, args):
    """Runs the cases against one broker. A case that has nothing to ask at some version has no result there."""
    apis = load_apis(args)
    broker, wanted = bench.Broker(name, bootstrap, apis, now_ms), chosen(args, apis)
    normaliser, results = compare.Normaliser(broker), []
    for one, version in wanted:
        broken, start = None, time.monotonic()
        with bench.Bench(broker, one.api, version, one.name) as at:
            try:
                one(at)
            except bench.SetupFailed as error:
                broken = str(error)
            answers = [[what, normaliser.answer(what, answer)] for what, answer in at.answers]
        if time.monotonic() - start > SLOW_SECONDS:
            print(f"{broker.name} took {time.monotonic() - start:.0f} s for {one.api} v{version} {one.name}", flush=True)
        if answers or broken:
            results.append(Result(one.api, version, one.name, answers, broken))
    return results


def judge(kafka, yagura, known):
    """Prints each disagreement. Returns (passed, failed), a listed difference that is gone among the failed."""
    passed = failed = 0
    needed = set()
    for theirs, ours in zip(kafka, yagura):
        faults = [f"{name} could not prepare: {result.broken}"
                  for name, result in (("Kafka", theirs), ("Yagura", ours)) if result.broken]
        for path, kafka_value, yagura_value in step_disagreements(theirs.answers, ours.answers):
            excuses = [one for one in known if one.covers(theirs, path)]
            needed.update(excuses)
            if not excuses:
                faults.append(f"{path}\n        Kafka   {kafka_value}\n        Yagura  {yagura_value}")
        passed, failed = passed + (not faults), failed + bool(faults)
        if faults:
            print(f"FAIL {theirs.api} v{theirs.version} {theirs.name}", *faults, sep="\n    ", flush=True)
    for one in known:
        if one not in needed and any(fnmatch.fnmatchcase(r.api, one.api) for r in kafka):
            print(f"FAIL known_differences.toml: {one.api} {one.case} {one.path} no longer differs")
            failed += 1
    return passed, failed


def step_disagreements(kafka, yagura):
    for index in range(max(len(kafka), len(yagura))):
        theirs = kafka[index] if index < len(kafka) else ["nothing more", None]
        ours = yagura[index] if index < len(yagura) else ["nothing more", None]
        step = theirs[0] if theirs[0] == ours[0] else f"{theirs[0]} / {ours[0]}"
        for path, *values in compare.disagreements(theirs[1], ours[1]):
            yield f"{index + 1}: {step} {path}".rstrip(), *values


@contextmanager
def yagura(binary, folder):
    """A fresh Yagura on a store of its own."""
    port, = kafka_server.free_ports(1)
    bootstrap = f"127.0.0.1:{port}"
    with open(folder / "yagura.log", "wb") as log:
        process = subprocess.Popen(
            [binary, "broker", "--storage", f"sqlite://{folder}/y.db", "--listen", bootstrap, "--admin", "off"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        kafka_server.wait_until_it_answers(bootstrap, lambda: process.poll() is None, 30)
        yield bootstrap
        if process.poll() is not None:
            print(f"Yagura ended by itself, with exit code {process.returncode}")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def chosen(args, apis):
    """The (case, version) pairs to run."""
    picked = [one for one in cases.load() if not args.only or one.api in args.only]
    picked = [one for one in picked if fnmatch.fnmatchcase(one.name, args.case)]
    pairs = [(one, version) for one in picked for version in one.versions(apis)]
    keys = [(one.api, one.name, version) for one, version in pairs]
    if len(keys) != len(set(keys)):
        sys.exit(f"two cases share a name: {sorted(key for key in keys if keys.count(key) > 1)[:3]}")
    return pairs if args.version is None else [pair for pair in pairs if pair[1] == args.version]


def run_all(args, folder):
    """The results of each broker, at the same time."""
    now_ms = int(time.time() * 1000)
    print(f"{len(chosen(args, load_apis(args)))} cases", flush=True)
    with ExitStack() as stack:
        kafka = stack.enter_context(kafka_server.KafkaServer(args.kafka_libs, folder / "kafka", KAFKA_SETTINGS))
        brokers = [("kafka", kafka.bootstrap)]
        if args.self_check:
            other = stack.enter_context(kafka_server.KafkaServer(args.kafka_libs, folder / "other", KAFKA_SETTINGS))
            brokers.append(("kafka", other.bootstrap))
        elif not args.kafka_only:
            brokers.append(("yagura", stack.enter_context(yagura(args.binary, folder))))
        # A process each: two threads would only wait for one another.
        with ProcessPoolExecutor(len(brokers)) as pool:
            return list(pool.map(answers_of, *zip(*brokers), [now_ms] * 2, [args] * 2))


def load_apis(args):
    return schema.load_apis(next(args.kafka_libs.glob("kafka-clients-*.jar")))


def show(results):
    """One block per case; versions with the same answers share one."""
    blocks = {}
    for result in results:
        text = "".join(f"\n    {what}: {json.dumps(answer)}" for what, answer in result.answers)
        text = text.replace(f"{result.api} v{result.version}", result.api)
        text = text.replace(f"{result.api}-{result.version}-".lower(), "~") + f"\n    BROKEN {result.broken}" * bool(result.broken)
        blocks.setdefault((result.api, result.name), {}).setdefault(text, []).append(result.version)
    for (api, name), texts in blocks.items():
        for text, versions in texts.items():
            print(f"\n{api} v{','.join(map(str, versions))} {name}{text}")


def record(path, results):
    rows = [{"api": of[0].api, "version": of[0].version, "case": of[0].name,
             "answers": [[what, answer] for what, answer in of[0].answers],
             **({"broken": of[0].broken} if of[0].broken else {}),
             **({"yagura": of[1].answers} if len(of) > 1 else {})} for of in zip(*results)]
    path.write_text(json.dumps(rows, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka-libs", required=True, type=Path, help="folder with the jars of kafka_2.13")
    parser.add_argument("--binary", type=lambda text: str(Path(text).resolve()), help="the yagura binary")
    parser.add_argument("--kafka-only", action="store_true")
    parser.add_argument("--self-check", action="store_true")
    parser.add_argument("--only", action="append", metavar="API")
    parser.add_argument("--case", default="*", metavar="PATTERN")
    parser.add_argument("--version", type=int)
    parser.add_argument("--record", type=Path, metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that both brokers are stopped
    if not (args.binary or args.kafka_only or args.self_check):
        parser.error("--binary is missing")
    with tempfile.TemporaryDirectory(prefix="yagura-differential-") as folder:
        results = run_all(args, Path(folder))
    if args.record:
        record(args.record, results)
    if args.kafka_only:
        show(results[0])
        return
    passed, failed = judge(*results, [] if args.self_check else compare.load_known(KNOWN))
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
