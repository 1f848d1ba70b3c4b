"""Kafka Streams with `exactly_once_v2`: a word count and a join of windows, killed together with their broker.

The folder of their state is deleted at each kill, so that they restore it from their changelogs, which are compacted.
"""

import random
import shutil
import subprocess
import time
from collections import Counter

import topics
from programs import JARS, Program, SECONDS_MAX, write_properties

PARTITIONS = 3
WORDS = [f"word{number}" for number in range(40)]
LINES, LINES_PER_SECOND, LINES_BETWEEN_KILLS = 1500, 150, 600
WINDOW_MS, PAIRS, PAIRS_PER_SECOND = 10_000, 1200, 60


def application(name, main, place, address):
    """A Streams program, and the folder of its state."""
    state = place.folder / f"{name}-state"
    settings = {
        "application.id": name, "bootstrap.servers": address, "processing.guarantee": "exactly_once_v2",
        "state.dir": state, "num.stream.threads": 2, "commit.interval.ms": 100,
        # Who is killed cannot leave: until the session is over nobody gets its partitions.
        "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "auto.offset.reset": "earliest",
        # Of a broker that comes back, clients hear late by themselves.
        "reconnect.backoff.max.ms": 500}
    file = write_properties(place.folder / f"{name}.properties", settings)
    return Program(name, "newest", main, file), state


def kill_both(broker, program, state):
    """And start both again, the program with nothing but its changelogs."""
    program.kill()
    broker.kill()
    shutil.rmtree(state)
    broker.start()
    program.start()


def lines(count, seed):
    chance = random.Random(seed)
    for number in range(count):
        yield " ".join(chance.choices(WORDS, k=chance.randint(1, 8)))


def wrong_counts(pairs):
    """In the order of the topic each word is counted 1, 2, 3 and so on, in one partition; the first that is not."""
    last = Counter()
    for word, count in pairs:
        if count != last[word] + 1:
            return f"{word} is {count} after {last[word]}"
        last[word] += 1
    return None


def counts(reader):
    return [(topics.text(one.key()), int.from_bytes(one.value(), "big")) for one in reader.records]


def check_internal_topics(address):
    """The topics that the program has made for itself."""
    internal = {name for name in topics.names(address) if name.startswith("word-count-")}
    repartition = {name for name in internal if name.endswith("-repartition")}
    changelog = {name for name in internal if name.endswith("-changelog")}
    assert len(repartition) == len(changelog) == 1 and len(internal) == 2, f"internal topics: {internal}"
    assert topics.config(address, *changelog, "cleanup.policy") == "compact", "the changelog is not compacted"
    assert topics.config(address, *repartition, "cleanup.policy") == "delete"
    return changelog.pop()


def check_changelog(address, changelog, expected):
    """What is last for a key is its count, be the topic compacted or not."""
    found = {}
    for one in topics.read(address, changelog, PARTITIONS):
        found[topics.text(one.key())] = int.from_bytes(one.value()[-8:], "big")
    assert found == expected, f"the changelog has {found}, not {expected}"


def word_count(place, options):
    """Kafka's own WordCountDemo; then kafka-streams-application-reset, and all of it again."""
    kills, seed = (options.kills or 4) if options.long else 1, options.seed
    sentences = list(lines(LINES if not options.long else LINES_BETWEEN_KILLS * (kills + 1), seed))
    expected = Counter(word for sentence in sentences for word in sentence.split())
    with place.broker() as broker:
        address = broker.address
        topics.create(address, {"streams-plaintext-input": PARTITIONS, "streams-wordcount-output": PARTITIONS})
        program, state = application("word-count", "org.apache.kafka.streams.examples.wordcount.WordCountDemo", place,
                                     address)
        program.start()
        load = topics.Load(address, [{"topic": "streams-plaintext-input", "value": one} for one in sentences],
                           LINES_PER_SECOND)
        reader = topics.Reader(address, "streams-wordcount-output", PARTITIONS)
        chance = random.Random(seed)
        for _ in range(kills):
            enough = len(reader.records) + chance.randint(300, 900)
            program.wait(lambda: reader.has(enough),
                         lambda: f"{enough} counts are read; so far {len(reader.records)}")
            kill_both(broker, program, state)
        load.finish()
        total = sum(expected.values())
        program.wait(lambda: reader.has(total),
                     lambda: f"{total} counts are read; so far {len(reader.records)}")
        changelog = check_internal_topics(address)
        program.stop()
        check_counts(address, expected, changelog)
        reset(place, address, program, state)
        program.start()
        program.wait(lambda: reader.has(2 * total),
                     lambda: f"{total} counts are read again; so far {len(reader.records) - total}")
        program.stop()
        again = counts(reader)[total:]
        assert len(again) == total and wrong_counts(again) is None, f"counted again: {wrong_counts(again)}"
        reader.close()
    return f"{total} words in {len(sentences)} lines counted once each, {kills} kills of both; again after a reset"


def check_counts(address, expected, changelog):
    """At the end of all: nothing was counted twice or left out, and the state is what was counted."""
    end = topics.read(address, "streams-wordcount-output", PARTITIONS)
    pairs = [(topics.text(one.key()), int.from_bytes(one.value(), "big")) for one in end]
    assert wrong_counts(pairs) is None, f"counts in the output: {wrong_counts(pairs)}"
    found = Counter(word for word, _ in pairs)
    assert found == expected, f"the output counts {found}, not {expected}"
    check_changelog(address, changelog, expected)


def reset(place, address, program, state):
    """kafka-streams-application-reset: the input is read from its start again, the internal topics are gone."""
    shutil.rmtree(state)
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/newest/*",
               "org.apache.kafka.tools.StreamsResetter", "--bootstrap-server", address, "--application-id", program.name,
               "--input-topics", "streams-plaintext-input", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, f"the reset ended with {done.returncode}: {done.stdout}{done.stderr}"
    left = [name for name in topics.names(address) if name.startswith(f"{program.name}-")]
    assert not left, f"after a reset there are still {left}"


def pairs():
    """
    Clicks and orders in the order of their keys. An order is 1 to 9 s after its click, within the window, or, for odd
    keys, 11 to 19 s: what is joined is known.
    """
    start_ms = int(time.time() * 1000) - PAIRS * 1000
    for number in range(PAIRS):
        click_ms = start_ms + number * 1000
        order_ms = click_ms + 1000 * (1 + number % 9) + (WINDOW_MS if number % 2 else 0)
        for topic, at_ms in (("clicks", click_ms), ("orders", order_ms)):
            yield {"topic": topic, "key": f"key{number}", "value": f"{topic}{number}", "timestamp": at_ms}


def windowed_join(place, options):
    """Two streams joined, each pair in the window once."""
    expected = sorted((f"key{number}", f"clicks{number}+orders{number}") for number in range(0, PAIRS, 2))
    kills, chance = options.kills or 2, random.Random(options.seed)
    with place.broker() as broker:
        address = broker.address
        topics.create(address, {"clicks": PARTITIONS, "orders": PARTITIONS, "joined": PARTITIONS})
        program, state = application("windowed-join", "WindowedJoin", place, address)
        program.start()
        load = topics.Load(address, list(pairs()), 2 * PAIRS_PER_SECOND)
        reader = topics.Reader(address, "joined", PARTITIONS)
        for _ in range(kills):
            enough = min(len(reader.records) + chance.randint(60, 200), len(expected))
            program.wait(lambda: reader.has(enough),
                         lambda: f"{enough} pairs are read; so far {len(reader.records)}")
            kill_both(broker, program, state)
        load.finish()
        program.wait(lambda: reader.has(len(expected)),
                     lambda: f"{len(expected)} pairs are read; so far {len(reader.records)}")
        reader.close()
        program.stop()
        found = [(topics.text(one.key()), topics.text(one.value())) for one in topics.read(address, "joined", PARTITIONS)]
        odd = Counter(found) - Counter(expected)
        assert not odd, f"joined wrongly, or more than once: {list(odd.items())[:5]}"
        assert sorted(found) == expected, f"{len(found)} of {len(expected)} pairs were joined"
        internal = {name for name in topics.names(address) if name.startswith("windowed-join-")}
        assert len(internal) == 2, f"internal topics: {internal}"
        for name in internal:
            policy = topics.config(address, name, "cleanup.policy")
            assert "delete" in policy, f"{name}: cleanup.policy={policy}"
    return f"{len(expected)} pairs of {PAIRS} in the window, each joined once, {kills} kills of both"
