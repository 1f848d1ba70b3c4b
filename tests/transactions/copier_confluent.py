"""Copies records exactly once with librdkafka; README.md says how it is called."""

import json
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from waiting import PAUSE_SECONDS, again, raised

ABORT_SHARE, DELAY_SECONDS_MAX, BATCH_RECORDS_MAX = 0.1, 0.03, 50
CALL_SECONDS_MAX = 30
TRANSACTION_MS_MAX, SESSION_MS_MAX = 10_000, 6000


def say(**fields):
    print(json.dumps(fields), flush=True)


def client_config(bootstrap, name):
    return {"bootstrap.servers": bootstrap, "client.id": name, "retry.backoff.ms": 20, "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100, "log_level": 3,
            # With "rebootstrap" librdkafka 2.16 forgets a broker that was away while a call waits for its coordinator, and
            # the call never ends, whatever its timeout.
            "metadata.recovery.strategy": "none"}


def new_producer(bootstrap, name, transactional_id):
    producer = Producer({**client_config(bootstrap, name), "transactional.id": transactional_id, "linger.ms": 1,
                         "transaction.timeout.ms": TRANSACTION_MS_MAX})
    again(lambda: producer.init_transactions(CALL_SECONDS_MAX))
    return producer


class Copier:
    """Copies with one producer and one consumer, until an error that only new ones help against."""

    def __init__(self, bootstrap, name, transactional_id, group, partitions, attempts):
        self.name, self.partitions, self.attempts = name, partitions, attempts
        self.metadata = None
        self.producer = new_producer(bootstrap, name, transactional_id)
        self.consumer = Consumer({
            **client_config(bootstrap, name), "group.id": group, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "isolation.level": "read_committed", "session.timeout.ms": SESSION_MS_MAX,
            "heartbeat.interval.ms": 500, "partition.assignment.strategy": "range", "fetch.wait.max.ms": 100})

    def subscribe(self, topic):
        # Of the generation in which the records were read: a consumer that has been evicted has others than it had.
        def assigned(consumer, _):
            self.metadata = consumer.consumer_group_metadata()
        self.consumer.subscribe([topic], on_assign=assigned)

    def run(self, output, stopped):
        while not stopped.is_set():
            records = self.consumer.consume(BATCH_RECORDS_MAX, PAUSE_SECONDS)
            errors = [one.error() for one in records if one.error()]
            if errors:
                print(f"{self.name} could not read: {errors[0]}", file=sys.stderr, flush=True)
            records = [one for one in records if not one.error()]
            if records and not self.copy(records, output):
                self.rewind()

    def copy(self, records, output):
        """One transaction; False if it was aborted."""
        attempt = f"{self.name}.{next(self.attempts)}"
        try:
            self.write(records, output, attempt)
            if random.random() < ABORT_SHARE:
                again(lambda: self.producer.abort_transaction(CALL_SECONDS_MAX))
                say(ended=attempt, committed=False)
                return False
            say(committing=attempt, records=len(records))
            again(lambda: self.producer.commit_transaction(CALL_SECONDS_MAX))
            say(ended=attempt, committed=True)
            return True
        except KafkaException as error:
            print(f"{attempt}: {error}", file=sys.stderr, flush=True)
            if not error.args[0].txn_requires_abort():
                raise
            again(lambda: self.producer.abort_transaction(CALL_SECONDS_MAX))
            return False

    def write(self, records, output, attempt):
        self.producer.begin_transaction()
        offsets = {}
        for one in records:
            number = int(one.value())
            self.producer.produce(output, f"{one.partition()}:{number}:{attempt}", one.key(),
                                  (one.partition() + number) % self.partitions)
            offsets[one.partition()] = one.offset() + 1
        time.sleep(random.random() * DELAY_SECONDS_MAX)
        places = [TopicPartition(records[0].topic(), partition, offset) for partition, offset in offsets.items()]
        again(lambda: self.producer.send_offsets_to_transaction(places, self.metadata, CALL_SECONDS_MAX))
        raised(lambda: self.producer.flush(CALL_SECONDS_MAX))
        time.sleep(random.random() * DELAY_SECONDS_MAX)

    def rewind(self):
        """What was read since the last commit comes again."""
        for place in again(lambda: self.consumer.committed(self.consumer.assignment(), CALL_SECONDS_MAX)):
            if place.error:
                raise KafkaException(place.error)
            self.consumer.seek(TopicPartition(place.topic, place.partition, max(place.offset, 0)))

    def close(self):
        self.consumer.close()


def counter():
    number = 0
    while True:
        number += 1
        yield number


def copy(bootstrap, name, transactional_id, source, output, group, partitions):
    stopped, attempts = threading.Event(), counter()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    while not stopped.is_set():
        copier = None
        try:
            copier = Copier(bootstrap, name, transactional_id, group, int(partitions), attempts)
            copier.subscribe(source)
            copier.run(output, stopped)
        except KafkaException as error:
            print(f"{name} needs a new producer: {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE_SECONDS)
        finally:
            if copier:
                copier.close()
    say(left=True)


def abandon(bootstrap, name, transactional_id, output):
    """Leaves a transaction open."""
    producer = new_producer(bootstrap, name, transactional_id)
    for value in ["committed", "abandoned"]:
        producer.begin_transaction()
        producer.produce(output, value)
        if value == "committed":
            again(lambda: producer.commit_transaction(CALL_SECONDS_MAX))
    while raised(lambda: producer.flush(CALL_SECONDS_MAX)):
        pass
    say(open=True)
    threading.Event().wait()


if __name__ == "__main__":
    {"copy": copy, "abandon": abandon}[sys.argv[1]](*sys.argv[2:])
