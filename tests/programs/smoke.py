"""Kafka Streams' own system tests, StreamsSmokeTest and StreamsEosTest, which are judged by their own verifiers.

As in Kafka's system tests, their topics are made first, their processors are killed and started again while the driver
produces, and here the broker is as well.
"""

import random
import shutil
import time

import topics
from programs import Program, wait_until, write_properties

PARTITIONS = 5
SMOKE_TOPICS = ["echo", "data", "min", "min-suppressed", "min-raw", "max", "sum", "sws-raw", "sws-suppressed", "dif",
                "cnt", "avg", "tagg", "fk"]
EOS_TOPICS = ["data", "echo", "min", "sum", "repartition", "max", "cnt"]
PROCESSORS = 2
EOS_SECONDS = 60


class Application:
    """The processors of a system test, and its driver, all of one main class."""

    def __init__(self, place, name, jars, main, address):
        self.place, self.name, self.jars, self.main, self.address = place, name, jars, main, address
        self.processors = []

    def program(self, name, command):
        settings = {
            "bootstrap.servers": self.address, "processing.guarantee": "exactly_once_v2",
            "state.dir": self.state(name), "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000,
            "acceptable.recovery.lag": 9223372036854775807, "reconnect.backoff.max.ms": 500,
        }
        file = write_properties(self.place.folder / f"{name}.properties", settings)
        return Program(name, self.jars, self.main, file, command, level="WARN")

    def state(self, name):
        return self.place.folder / f"{name}-state"

    def add(self, command):
        one = self.program(f"{self.name}-processor-{len(self.processors) + 1}", command)
        self.processors.append(one.start())

    def wait(self, condition, what):
        """As `wait_until`, as long as all processors run: what one of them does not do would be waited for in vain."""
        def holds():
            ended = [one.name for one in self.processors if not one.runs()]
            assert not ended, f"{', '.join(ended)} has ended by itself"
            return condition()
        return wait_until(holds, what)

    def kill(self, one, broker):
        """A processor with its state, and the broker."""
        one.kill()
        broker.kill()
        shutil.rmtree(self.state(one.name), ignore_errors=True)
        broker.start()
        one.start()


def smoke(place, options):
    """StreamsSmokeTest: many aggregations, windows and joins of what the driver has produced for 30 s."""
    with place.broker() as broker:
        topics.create(broker.address, {name: PARTITIONS for name in SMOKE_TOPICS})
        application = Application(place, "smoke", "connect", "org.apache.kafka.streams.tests.StreamsSmokeTest",
                                  broker.address)
        for _ in range(PROCESSORS):
            application.add("process")
        driver = application.program("smoke-driver", "run").start()
        application.wait(lambda: len(topics.read(broker.address, "echo", PARTITIONS)) > 200, "records are processed")
        application.kill(random.choice(application.processors), broker)
        application.wait(lambda: not driver.runs(), "the verifier has a verdict")
        driver.end()
        said = driver.said()
        assert "SUCCESS" in said and "FAIL" not in said, "the verifier found a fault"
        for one in application.processors:
            one.stop()
    return "StreamsSmokeTest 4.3.1: its verifier says SUCCESS, after a kill of a processor and of the broker"


def verify_eos(application, command):
    """The verifier of StreamsEosTest reads all that was produced, and all that was made of it."""
    for one in application.processors:
        one.stop()
    verifier = application.program(f"{application.name}-verifier", command).start()
    verifier.end()
    said = verifier.said()
    assert "ALL-RECORDS-DELIVERED" in said and "FAILED" not in said, "the verifier found a fault"


def eos(place, options):
    """StreamsEosTest, simple and complex: two processors that take turns in being killed."""
    if place.binary is None:
        return "not tried: StreamsEosTest insists on three replicas, and this Kafka is one broker"
    for kind in ("", "-complex"):
        with place.broker() as broker:
            run_eos(place, broker, kind, options)
        shutil.rmtree(place.folder / "broker")
    return "StreamsEosTest 4.2.1, simple and complex: its verifier says ALL-RECORDS-DELIVERED"


def run_eos(place, broker, kind, options):
    topics.create(broker.address, {name: PARTITIONS for name in EOS_TOPICS})
    application = Application(place, f"eos{kind}", "eos", "org.apache.kafka.streams.tests.StreamsEosTest", broker.address)
    driver = application.program(f"eos{kind}-driver", "run").start()
    for _ in range(PROCESSORS):
        application.add(f"process{kind}")
    kills, last, ends = options.kills or 3, "cnt" if kind else "sum", time.monotonic() + EOS_SECONDS
    def processed():
        return len(topics.read(broker.address, last, PARTITIONS))
    for number in range(kills):
        enough = processed() + 200
        application.wait(lambda: processed() >= enough, lambda: f"{enough} records of {last}; there are {processed()}")
        application.kill(application.processors[number % PROCESSORS], broker)
    application.wait(lambda: time.monotonic() > ends, "the driver has had its time")
    driver.stop()
    total = len(topics.read(broker.address, "data", PARTITIONS))
    application.wait(lambda: processed() >= total, lambda: f"all {total} records are processed; {processed()} are")
    verify_eos(application, f"verify{kind}")
