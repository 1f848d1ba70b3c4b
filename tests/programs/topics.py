"""Topics as the tests look at them, with librdkafka."""

import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from programs import wait_until

CALL_SECONDS_MAX, FLUSH_SECONDS_MAX, DELIVERY_MS_MAX = 120, 600, 900_000


def admin(address):
    return AdminClient({"bootstrap.servers": address, "log_level": 0})


def create(address, topics, config=None):
    """`topics`: how many partitions each of them has."""
    new = [NewTopic(name, partitions, 1, config=config or {}) for name, partitions in topics.items()]
    client = admin(address)
    for one in client.create_topics(new, request_timeout=CALL_SECONDS_MAX).values():
        one.result(CALL_SECONDS_MAX)
    # Kafka answers before its own metadata has them.
    wait_until(lambda: set(topics) <= set(client.list_topics(timeout=CALL_SECONDS_MAX).topics), "the topics are there")


def names(address):
    return set(admin(address).list_topics(timeout=CALL_SECONDS_MAX).topics)


def config(address, topic, name):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = admin(address)  # its answers come only as long as it is there
    (found,) = client.describe_configs([resource], request_timeout=CALL_SECONDS_MAX).values()
    return found.result(CALL_SECONDS_MAX)[name].value


class Load:
    """Records into topics, `per_second` of them, until it is stopped or has sent all; each is written once."""

    def __init__(self, address, records, per_second):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 2, "log_level": 0,
                                  "enable.idempotence": True, "message.timeout.ms": DELIVERY_MS_MAX})
        self.records, self.pause_seconds, self.sent, self.error = records, 1 / per_second, 0, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for record in self.records:
            self.producer.produce(**record, on_delivery=self._delivered)
            self.sent += 1
            self.producer.poll(self.pause_seconds)

    def _delivered(self, error, _):
        self.error = self.error or error

    def finish(self):
        """Waits until all is written."""
        self.thread.join()
        assert self.producer.flush(FLUSH_SECONDS_MAX) == 0, "not all was produced"
        assert self.error is None, f"a record was not produced: {self.error}"


def produce(address, records):
    """All of them at once; how many they are."""
    load = Load(address, records, 1_000_000)
    load.finish()
    return load.sent


class Reader:
    """Reads all partitions of a topic from their beginnings, and goes on with each call of `poll`."""

    def __init__(self, address, topic, partitions, isolation="read_committed"):
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False,
                                  "isolation.level": isolation, "enable.partition.eof": True, "log_level": 0,
                                  "fetch.wait.max.ms": 100})
        self.consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self.topic, self.partitions, self.records = topic, partitions, []

    def poll(self, seconds=0.5):
        """Takes what is there; returns the partitions that were read to their ends."""
        ends = set()
        for message in self.consumer.consume(5000, timeout=seconds):
            error = message.error()
            if error is None:
                self.records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.add(message.partition())
            elif error.code() >= 0 or error.fatal():
                raise KafkaException(error)
        return ends

    def has(self, count):
        """Whether that many records are read by now."""
        self.poll()
        return len(self.records) >= count

    def close(self):
        self.consumer.close()


def text(value):
    return None if value is None else value.decode()


def read(address, topic, partitions, isolation="read_committed"):
    """All records that are in a topic now."""
    reader, ended = Reader(address, topic, partitions, isolation), set()
    def is_read():
        ended.update(reader.poll())
        return len(ended) == partitions
    wait_until(is_read, lambda: f"{topic} is read to its end; {len(reader.records)} records are read")
    reader.close()
    return reader.records
