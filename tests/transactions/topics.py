"""Topics as admin clients and readers see them."""

import threading

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from waiting import SECONDS_MAX, wait_until

CALL_SECONDS_MAX = 120
BATCH_RECORDS_MAX, POLL_SECONDS = 500, 0.1
# What a reader hears of while there is no broker.
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
           KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}


def client_config(address):
    return {"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100}


def reader_config(address, isolation):
    return {**client_config(address), "group.id": "no-group", "enable.auto.commit": False, "isolation.level": isolation,
            "enable.partition.eof": True, "auto.offset.reset": "error", "fetch.wait.max.ms": 100}


def create_topic(address, name, partitions):
    admin = AdminClient(client_config(address))
    created = admin.create_topics([NewTopic(name, partitions, 1)], request_timeout=CALL_SECONDS_MAX)
    created[name].result(CALL_SECONDS_MAX)
    # Apache Kafka's brokers learn of it a moment later.
    wait_until(lambda: len(partitions_of(admin, name)) == partitions, f"{name} has its partitions")


def partitions_of(admin, name):
    return sorted(admin.list_topics(name, CALL_SECONDS_MAX).topics[name].partitions)


def ends(address, name, isolation=IsolationLevel.READ_UNCOMMITTED):
    """Where each partition ends for readers of this isolation level."""
    while True:
        admin = AdminClient(client_config(address))
        asked = {TopicPartition(name, number): OffsetSpec.latest() for number in partitions_of(admin, name)}
        answers = admin.list_offsets(asked, isolation_level=isolation, request_timeout=CALL_SECONDS_MAX)
        try:
            found = {at.partition: answer.result(CALL_SECONDS_MAX).offset for at, answer in answers.items()}
        except KafkaException as error:
            # The first append after a start has come between metadata and this; unlike a consumer, this client does not ask again.
            if error.args[0].code() != KafkaError.FENCED_LEADER_EPOCH:
                raise
            continue
        return [found[number] for number in sorted(found)]


def isolated_ends(address, name):
    """The last stable offsets, and the high watermarks."""
    return ends(address, name, IsolationLevel.READ_COMMITTED), ends(address, name)


def read_all(address, name, isolation="read_committed"):
    """(partition, offset, value) of all records, in the order of each partition."""
    consumer = Consumer(reader_config(address, isolation))
    numbers = range(len(ends(address, name)))
    consumer.assign([TopicPartition(name, number, 0) for number in numbers])
    records, ended = [], set()

    def has_ended():
        for one in consumer.consume(BATCH_RECORDS_MAX, POLL_SECONDS):
            if one.error() is None:
                records.append((one.partition(), one.offset(), one.value().decode()))
            elif one.error().code() == KafkaError._PARTITION_EOF:
                ended.add(one.partition())
        return ended == set(numbers)
    wait_until(has_ended, lambda: f"{name} is read to its end: {len(records)} records, at the end of {ended}")
    consumer.close()
    return records


class Reader:
    """Reads with read_committed until it is stopped, each partition in order from its begin."""

    def __init__(self, address, name, partitions):
        self.records, self._failures = [], []
        self._last = [-1] * partitions
        self._consumer = Consumer(reader_config(address, "read_committed"))
        self._consumer.assign([TopicPartition(name, number, 0) for number in range(partitions)])
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopped.is_set():
            for one in self._consumer.consume(BATCH_RECORDS_MAX, POLL_SECONDS):
                self._take(one)
        self._consumer.close()

    def _take(self, one):
        if one.error() is None:
            if one.offset() <= self._last[one.partition()]:
                self._failures.append(f"offset {one.offset()} after {self._last[one.partition()]}")
            self._last[one.partition()] = one.offset()
            self.records.append((one.partition(), one.offset(), one.value().decode()))
        elif one.error().code() not in PASSING | {KafkaError._PARTITION_EOF}:
            self._failures.append(str(one.error()))

    def close(self):
        self._stopped.set()
        self._thread.join(SECONDS_MAX)

    def stop(self):
        self.close()
        assert not self._failures, f"the reader: {self._failures[:3]}"
