"""TransactionalMessageCopier, which Kafka's system tests use: it consumes, and produces what it read in transactions.

It is killed on the way, and aborts transactions at random; the copy has each record once, in its order.
"""

import random

import topics
from programs import Program

RECORDS, TRANSACTION_RECORDS = 3000, 50
# A copier with an assigned partition asks for its position before it starts its producer, so that offsets of a
# transaction that it left open stand in its way until that has timed out; and it gives up after a minute.
TRANSACTION_MS_MAX = 20_000
MODES = {"assigned": [], "a group": ["--group-mode", "--use-group-metadata"]}


def progress(program):
    """How many transactions it says it has been through."""
    return program.said().count('"stage":"ProcessLoop"')


def copy(address, name, options_of_mode, place, chance):
    output = f"copied-{name}"
    topics.create(address, {output: 1})
    program = Program(f"copier-{name}", "newest", "org.apache.kafka.tools.TransactionalMessageCopier",
                      "--broker-list", address, "--input-topic", "numbers", "--input-partition", 0,
                      "--output-topic", output, "--transactional-id", name, "--consumer-group", name,
                      "--transaction-size", TRANSACTION_RECORDS, "--transaction-timeout", TRANSACTION_MS_MAX,
                      "--enable-random-aborts", *options_of_mode)
    program.start()
    enough = chance.randint(5, 30)
    program.wait(lambda: progress(program) >= enough, lambda: f"{enough} transactions; so far {progress(program)}")
    program.kill()
    place.kill()
    place.start()
    program.start()
    program.end()
    assert "ShutdownComplete" in program.said(), "it has not ended in good order"
    found = [topics.text(one.value()) for one in topics.read(address, output, 1)]
    wanted = [str(number) for number in range(RECORDS)]
    wrong = next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), None)
    assert found == wanted, f"{len(found)} records of {RECORDS} are copied; the first wrong one: {wrong}"
    raw = topics.read(address, output, 1, isolation="read_uncommitted")
    return len(raw) - len(found)


def copier(place, options):
    """With a partition that is assigned, and as a member of a group."""
    chance, aborted = random.Random(options.seed), 0
    with place.broker() as broker:
        topics.create(broker.address, {"numbers": 1})
        topics.produce(broker.address, [{"topic": "numbers", "key": str(number), "value": str(number)}
                                        for number in range(RECORDS)])
        for name, options_of_mode in MODES.items():
            aborted += copy(broker.address, name.replace(" ", "-"), options_of_mode, broker, chance)
    assert aborted > 0, "no transaction was aborted, so nothing is shown"
    return f"{RECORDS} records copied once by each of {len(MODES)} copiers, {aborted} in aborted transactions unseen"
