"""Random transactions and readers of them, which write down all that they do: one process, killed at any moment.

    workload.py ADDRESS TOPIC PARTITIONS PROCESS HISTORY

PROCESS tells which transactional ids it has. The file HISTORY is one event a line; README.md says what they are. A line is
written before a call whose effect it tells of, and after one whose result it tells of. Ends well when standard input ends.
"""

import concurrent.futures
import json
import os
import random
import sys
import threading
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from topics import PASSING, client_config
from waiting import again, raised

WRITERS, ASSIGNED_READERS, SUBSCRIBED_READERS = 3, 1, 1
KEYS, WRITES_MAX = 12, 8
TRANSACTION_MS_MAX, SESSION_MS_MAX = 15_000, 6000
CALL_SECONDS_MAX, OBSERVE_SECONDS_MAX = 20, 5
# Of all transactions. The rest is committed.
ABORT_SHARE, LEAVE_SHARE, BRIEF_SHARE = 0.15, 0.08, 0.05
BRIEF_SECONDS, PAUSE_SECONDS_MAX, OPEN_SECONDS_MAX = 0.002, 0.01, 0.1
RUN_SECONDS_MAX, POLL_SECONDS, OBSERVE_PAUSE_SECONDS = 4, 0.1, 0.03


class Log:
    """The history of this process. Each line is one write, so that a kill leaves none behind but the last."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()

    def tell(self, event, **fields):
        with self._lock:
            line = json.dumps({"event": event, "at": time.monotonic_ns(), **fields})
            os.write(self._file, line.encode() + b"\n")


class Worker(threading.Thread):
    """Repeats `run_once` until it is stopped."""

    def __init__(self, place, name):
        super().__init__(name=f"{name}-{place.process}-{os.getpid()}", daemon=True)
        self.place, self.log, self.stopped = place, place.log, place.stopped
        self.dice = random.Random()

    def run(self):
        while not self.stopped.is_set():
            try:
                self.run_once()
            except (KafkaException, concurrent.futures.TimeoutError) as error:
                print(f"{self.name}: {error!r}", file=sys.stderr, flush=True)
                time.sleep(POLL_SECONDS)

    def pause(self, seconds_max):
        time.sleep(self.dice.random() * seconds_max)


class Place:
    """What all workers share."""

    def __init__(self, address, topic, partitions, process, log):
        self.address, self.topic, self.partitions, self.process, self.log = address, topic, partitions, process, log
        self.stopped = threading.Event()


class Writer(Worker):
    """Transactions with one transactional id, by one producer after another."""

    def __init__(self, place, number):
        super().__init__(place, f"writer{number}")
        self.id, self.count = f"id-{place.process}-{number}", 0

    def run_once(self):
        """With one producer, until an error or a whim ends it."""
        producer, zombie = self.new_producer(), None
        while not self.stopped.is_set():
            whim = self.dice.random()
            if whim < LEAVE_SHARE:
                zombie = producer, self.write(producer)
                break
            self.end(producer, self.write(producer), whim < LEAVE_SHARE + ABORT_SHARE)
        # Another one is to fence it, with what it has left open; half of them try to commit that nevertheless.
        if zombie and self.dice.random() < 0.5:
            producer = self.new_producer()
            self.end(*zombie, False)

    def new_producer(self):
        producer = Producer({**client_config(self.place.address), "transactional.id": self.id, "linger.ms": 1,
                             "transaction.timeout.ms": TRANSACTION_MS_MAX, "retry.backoff.ms": 20})
        self.log.tell("init", id=self.id)
        again(lambda: producer.init_transactions(CALL_SECONDS_MAX))
        self.log.tell("initialised", id=self.id)
        return producer

    def write(self, producer):
        """Leaves a transaction open; its name."""
        self.count += 1
        txn = f"{self.name}.{self.count}"
        self.log.tell("begin", txn=txn, id=self.id, timeout_ms=TRANSACTION_MS_MAX)
        producer.begin_transaction()
        for number in range(self.dice.randint(1, WRITES_MAX)):
            key, value = self.dice.randrange(KEYS), f"{txn}/{number}"
            partition = key % self.place.partitions
            self.log.tell("write", txn=txn, value=value, partition=partition)
            producer.produce(self.place.topic, value, str(key), partition, on_delivery=self.delivered)
            producer.poll(0)
            self.pause(PAUSE_SECONDS_MAX)
        if self.dice.random() < 0.5:
            # Open, with records that are surely there.
            raised(lambda: producer.flush(CALL_SECONDS_MAX))
            self.pause(OPEN_SECONDS_MAX)
        return txn

    def delivered(self, error, message):
        if not error:
            self.log.tell("stored", value=message.value().decode(), partition=message.partition(), offset=message.offset())

    def end(self, producer, txn, is_to_abort):
        try:
            if is_to_abort:
                self.abort(producer, txn)
            else:
                self.commit(producer, txn)
                self.log.tell("end", txn=txn, outcome="committed")
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                self.log.tell("end", txn=txn, outcome="unknown", why=str(error))
                raise
            print(f"{txn}: {error}", file=sys.stderr, flush=True)
            self.abort(producer, txn)

    def commit(self, producer, txn):
        self.log.tell("commit", txn=txn)
        if self.dice.random() < BRIEF_SHARE:
            # Its outcome is unknown if it takes longer: nobody asks again.
            raised(lambda: producer.flush(CALL_SECONDS_MAX))
            raised(lambda: producer.commit_transaction(BRIEF_SECONDS))
        else:
            again(lambda: producer.commit_transaction(CALL_SECONDS_MAX))

    def abort(self, producer, txn):
        self.log.tell("abort", txn=txn)
        again(lambda: producer.abort_transaction(CALL_SECONDS_MAX))
        self.log.tell("end", txn=txn, outcome="aborted")


class Reader(Worker):
    """Reads with read_committed and tells of each record. One poll gives one record, thus each has its own time."""

    config = {"isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest",
              "fetch.wait.max.ms": 50}

    def consumer(self, **more):
        return Consumer({**client_config(self.place.address), **self.config, **more})

    def read(self, consumer, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopped.is_set():
            one = consumer.poll(POLL_SECONDS)
            if one is None:
                continue
            if one.error():
                if one.error().code() not in PASSING:
                    raise KafkaException(one.error())
                continue
            self.log.tell("read", reader=self.name, partition=one.partition(), offset=one.offset(),
                          value=one.value().decode())
            self.took(one)

    def took(self, one):
        pass


class AssignedReader(Reader):
    """Some partitions at a time, sometimes from their begin, mostly from where it was."""

    def __init__(self, place, number):
        super().__init__(place, f"assigned{number}")
        self.next = [0] * place.partitions

    def run_once(self):
        consumer = self.consumer(**{"group.id": "no-group"})
        try:
            while not self.stopped.is_set():
                self.assign(consumer)
                self.read(consumer, self.dice.random() * RUN_SECONDS_MAX)
        finally:
            consumer.close()

    def assign(self, consumer):
        if self.dice.random() < 0.1:
            self.next = [0] * self.place.partitions
        chosen = self.dice.sample(range(self.place.partitions), self.dice.randint(1, self.place.partitions))
        self.log.tell("assign", reader=self.name, partitions=[[number, self.next[number]] for number in chosen])
        consumer.assign([TopicPartition(self.place.topic, number, self.next[number]) for number in chosen])

    def took(self, one):
        self.next[one.partition()] = one.offset() + 1


class SubscribedReader(Reader):
    """One of the group, which comes and goes; where it begins is what the group has committed."""

    def __init__(self, place, number):
        super().__init__(place, f"subscribed{number}")

    def run_once(self):
        consumer = self.consumer(**{"group.id": "readers", "enable.auto.commit": True, "auto.commit.interval.ms": 500,
                                    "session.timeout.ms": SESSION_MS_MAX, "heartbeat.interval.ms": 500})

        def assigned(_, partitions):
            self.log.tell("assign", reader=self.name, partitions=[[one.partition, None] for one in partitions])
        try:
            consumer.subscribe([self.place.topic], on_assign=assigned)
            self.read(consumer, RUN_SECONDS_MAX + self.dice.random() * RUN_SECONDS_MAX * 2)
        finally:
            consumer.close()


class Observer(Worker):
    """Asks for last stable offsets."""

    def __init__(self, place):
        super().__init__(place, "observer")

    def run_once(self):
        admin = AdminClient(client_config(self.place.address))
        asked = {TopicPartition(self.place.topic, number): OffsetSpec.latest() for number in range(self.place.partitions)}
        while not self.stopped.is_set():
            begin = time.monotonic_ns()
            answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED,
                                         request_timeout=OBSERVE_SECONDS_MAX)
            for at, answer in answers.items():
                stable = answer.result(OBSERVE_SECONDS_MAX * 2).offset
                if stable < 0:  # librdkafka's word for "not known": the broker was away
                    continue
                self.log.tell("lso", partition=at.partition, stable=stable, **{"from": begin})
            time.sleep(OBSERVE_PAUSE_SECONDS)


def end_at_once(failure):
    """A worker that has failed otherwise than Kafka's clients do would be missing in silence."""
    threading.__excepthook__(failure)
    os._exit(1)


def main():
    threading.excepthook = end_at_once
    address, topic, partitions, process, path = sys.argv[1:]
    place = Place(address, topic, int(partitions), process, Log(path))
    workers = [*(Writer(place, number) for number in range(WRITERS)),
               *(AssignedReader(place, number) for number in range(ASSIGNED_READERS)),
               *(SubscribedReader(place, number) for number in range(SUBSCRIBED_READERS)), Observer(place)]
    for one in workers:
        one.start()
    sys.stdin.read()
    place.stopped.set()
    for one in workers:
        one.join()


if __name__ == "__main__":
    main()
