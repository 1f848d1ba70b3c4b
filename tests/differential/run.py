#!/usr/bin/env python3
"""Sends the same calls, with the same mistakes in them, to Apache Kafka and to Yagura, and compares the answers.

    run.py --kafka-libs JARS --binary PATH     both; fails on a disagreement not in known_differences.toml
    run.py --kafka-libs JARS --kafka-only      prints what Kafka answers
    run.py --kafka-libs JARS --self-check      Kafka against Kafka: whatever differs, the cases are to blame
    ... --only API                             only the cases of this API (repeat it for more)
    ... --case PATTERN                         only cases whose name matches
    ... --record FILE                          writes both answers to all cases, as JSON

Everything of Yagura's APIs is asked at every version. Error codes, shapes, nulls and numbers must agree;
ids, addresses, wording and clocks (compare.py) need not. Cases that disagree in how long a broker took are asked
again a few times: a busy machine lets one wait that need not. Ends with "N passed, N failed".
"""

import argparse
import fnmatch
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

import broker as brokers  # noqa: E402
import cases  # noqa: E402
import compare  # noqa: E402
import kafka_server  # noqa: E402
import schema  # noqa: E402
import wire  # noqa: E402
from bench import Bench  # noqa: E402

KNOWN = HERE / "known_differences.toml"
# Several times as fast: neither the controller nor the group coordinator waits for more before it writes. And a member is
# told what its own heartbeat has led to: otherwise Kafka assigns once a second, aside.
KAFKA_SETTINGS = ["controller.quorum.append.linger.ms=0", "group.coordinator.append.linger.ms=0",
                  "group.consumer.assignment.interval.ms=0", "group.consumer.assignor.offload.enable=false",
                  # Both look often for what is to be cleaned or has timed out.
                  "log.cleaner.backoff.ms=100", "transaction.abort.timed.out.transaction.cleanup.interval.ms=100",
                  # A broker that gets no processor for long is not fenced by its own controller.
                  "broker.session.timeout.ms=600000"]
YAGURA_CONFIG = """
[admin]
bind = "off"
[listeners.main]
bind = "127.0.0.1:0"
stack = ["limits", "framing", "metrics", "trace", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
group_initial_rebalance_delay = "0ms"
retention_interval = "100ms"
"""
START_SECONDS_MAX, STOP_SECONDS_MAX, SLOW_SECONDS, TAIL_LINES = 120, 120, 60, 20
ATTEMPTS = 8
LISTENS = re.compile(r"^\s*listens\s+(\S+:\d+) \(main", re.MULTILINE)


class Result(NamedTuple):
    """What one broker answered to one case at one version."""
    api: str
    version: int
    name: str
    answers: list
    broken: str | None


def answers_of(name, bootstrap, now_ms, args, attempt=0, indexes=None):
    """Runs the cases against one broker, or those at some indexes once more."""
    apis = load_apis(args)
    broker, results = brokers.Broker(name, bootstrap, apis, now_ms, attempt), []
    with Bench(broker, "Metadata", 12, "start") as bench:
        broker.begin(bench)
    pairs = chosen(args, apis)
    for one, version in pairs if indexes is None else [pairs[index] for index in indexes]:
        start = time.monotonic()
        result = run_case(broker, one, version)
        if time.monotonic() - start > SLOW_SECONDS:
            print(f"{name} took {time.monotonic() - start:.0f} s for {one.api} v{version} {one.name}", flush=True)
        results.append(result)
    return results


def run_case(broker, case, version):
    broken = None
    with Bench(broker, case.api, version, case.name) as bench:
        try:
            case(bench)
        except Exception as error:  # the broker's doing or the case's own: either way a failure that is shown
            broken = f"{type(error).__name__}: {error}"
        normaliser = compare.Normaliser(broker, bench.members)
        answers = [[what, normaliser.answer(what, answer)] for what, answer in bench.answers]
    return Result(case.api, version, case.name, answers, broken)


def judge(kafka, yagura, known, all_were_run):
    """Prints each disagreement. Returns (passed, failed), a listed difference that is gone among the failed."""
    passed = failed = 0
    needed = set()
    for theirs, ours in zip(kafka, yagura, strict=True):
        faults = [f"{name} could not prepare: {result.broken}"
                  for name, result in (("Kafka", theirs), ("Yagura", ours)) if result.broken]
        for path, kafka_value, yagura_value in step_disagreements(theirs.answers, ours.answers):
            excuses = [one for one in known if one.covers(theirs, path, kafka_value, yagura_value)]
            needed.update(excuses)
            if not excuses:
                faults.append(f"{path}\n        Kafka   {kafka_value:.300}\n        Yagura  {yagura_value:.300}")
        if not (theirs.answers or ours.answers or faults):
            continue  # there is nothing to ask at this version
        passed, failed = passed + (not faults), failed + bool(faults)
        if faults:
            print(f"FAIL {theirs.api} v{theirs.version} {theirs.name}", *faults, sep="\n    ", flush=True)
    for one in known if all_were_run else []:
        if one not in needed:
            print(f"FAIL {KNOWN.name}: {one.api} {one.case} {one.path} no longer differs")
            failed += 1
    return passed, failed


def is_of_time(kafka, yagura, known):
    """
    Whether the two disagree in how long one took, or whether it answered in time; or in a generation: Yagura forgets a group that is
    empty when it looks, here each 100 ms, and Kafka each 10 minutes.
    """
    if any("silence" in (result.broken or "") for result in (kafka, yagura)):
        return True
    for path, *values in step_disagreements(kafka.answers, yagura.answers):
        if (": waited" in path or "silence" in values or path.endswith("GenerationId")) and not any(one.covers(kafka, path, *values) for one in known):
            return True
    return False


def ask_again(pool, addresses, results, now_ms, args):
    """Puts other answers in the place of those in which only time is to blame, if it is."""
    known = known_differences(args)
    for attempt in range(1, ATTEMPTS):
        indexes = [at for at, (kafka, yagura) in enumerate(zip(*results, strict=True)) if is_of_time(kafka, yagura, known)]
        if not indexes:
            return
        print(f"{len(indexes)} cases again, which took longer on one broker than on the other", flush=True)
        fresh = pool.starmap(answers_of, [(*one, now_ms, args, attempt, indexes) for one in addresses])
        for before, after in zip(results, fresh, strict=True):
            for at, result in zip(indexes, after, strict=True):
                before[at] = result


def known_differences(args):
    return [] if args.self_check else compare.load_known(KNOWN)


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
    config, file = folder / "yagura.toml", folder / "yagura.log"
    config.write_text(YAGURA_CONFIG.format(folder=folder))
    with open(file, "wb") as log:
        process = subprocess.Popen(
            [binary, "run", config],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        bootstrap = where_it_listens(process, file)
        kafka_server.wait_until_it_answers(bootstrap, lambda: process.poll() is None, START_SECONDS_MAX)
        yield bootstrap
        if process.poll() is not None:
            print(f"FAIL Yagura ended by itself, with exit code {process.returncode}\n{tail(file)}")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def where_it_listens(process, log):
    """The address that Yagura says: it has chosen the port itself."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if found := LISTENS.search(log.read_text(errors="replace")):
            return found.group(1)
        if process.poll() is not None:
            raise RuntimeError(f"Yagura ended with exit code {process.returncode}")
        time.sleep(0.02)
    raise RuntimeError("Yagura does not listen")


def tail(log):
    """The end of a log, as its folder is about to go."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join([f"{log.name}:", *(f"    | {line:.300}" for line in lines)])


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
    with ExitStack() as stack:
        kafka = stack.enter_context(kafka_server.KafkaServer(args.kafka_libs, folder / "kafka", KAFKA_SETTINGS))
        addresses = [("kafka", kafka.bootstrap)]
        if args.self_check:
            other = stack.enter_context(kafka_server.KafkaServer(args.kafka_libs, folder / "other", KAFKA_SETTINGS))
            addresses.append(("kafka", other.bootstrap))
        elif not args.kafka_only:
            addresses.append(("yagura", stack.enter_context(yagura(args.binary, folder))))
            with wire.Connection(addresses[-1][1]) as connection:
                args.highest = {key: highest for key, (_, highest) in connection.api_versions().items()}
        print(f"{len(chosen(args, load_apis(args)))} cases", flush=True)
        # A process each: two threads would only wait for one another.
        # They end at once when the pool does: with the handler of this process, one that is told so just before it waits for
        # more work would wait for ever.
        default = (signal.SIGTERM, signal.SIG_DFL)
        with multiprocessing.Pool(len(addresses), signal.signal, default) as pool:
            results = pool.starmap(answers_of, [(*one, now_ms, args) for one in addresses])
            if len(addresses) == 2:
                ask_again(pool, addresses, results, now_ms, args)
        if kafka.process.poll() is not None:
            raise RuntimeError(f"Kafka ended in the middle of it, with exit code {kafka.process.returncode}")
        return results


def load_apis(args):
    """Kafka's APIs, those that Yagura serves up to the version that it ends at."""
    apis = schema.load_apis(next(args.kafka_libs.glob("kafka-clients-*.jar")))
    return {name: api._replace(high=min(api.high, args.highest.get(api.key, api.high))) for name, api in apis.items()}


def show(results):
    """One block per case; versions with the same answers share one."""
    blocks = {}
    for result in results:
        text = "".join(f"\n    {what}: {json.dumps(answer)}" for what, answer in result.answers)
        text = text.replace(f"{result.api} v{result.version}", result.api)
        text = text.replace(f"{result.api}-{result.version}-".lower(), "~")
        text += f"\n    BROKEN {result.broken}" * bool(result.broken)
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
    args.highest = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that both brokers are stopped
    if not (args.binary or args.kafka_only or args.self_check):
        parser.error("--binary is missing")
    with tempfile.TemporaryDirectory(prefix="yagura-differential-") as folder:
        try:
            results = run_all(args, Path(folder))
        except RuntimeError as error:
            logs = [*Path(folder).glob("*/kafka.log"), *Path(folder).glob("yagura.log")]
            sys.exit("\n".join([f"differential: {error}", *map(tail, logs)]))
    if args.record:
        record(args.record, results)
    if args.kafka_only:
        show(results[0])
        return
    all_were_run = not (args.only or args.case != "*" or args.version is not None)
    passed, failed = judge(*results, known_differences(args), all_were_run)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
