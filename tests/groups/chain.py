#!/usr/bin/env python3
"""Three groups in a chain, each writing to the topic that the next one reads, that rebalance at the same time.

    chain.py --binary PATH [--mode eager|cooperative|consumer]

All three scale 1 -> 4 -> 2 together, three times over, while records are produced; at the end of the chain each record
has arrived once. A member that was late, and whose commit was refused, says so: what it has read may come again.
"""

import argparse
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import setting
from members import Members, wait_until
from setting import LOGS

PARTITIONS, TOPICS = 6, ["a", "b", "c", "d"]
ROUNDS = 3
CALL_SECONDS_MAX, FLUSH_SECONDS_MAX, DELIVERY_MS_MAX = 120, 300, 600_000


class Load:
    """Numbers into the first topic, until it is stopped."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 2, "log_level": 0,
                                  "enable.idempotence": True, "message.timeout.ms": DELIVERY_MS_MAX})
        self.sent, self.stopped = 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.is_set():
            self.producer.produce(TOPICS[0], str(self.sent), partition=self.sent % PARTITIONS)
            self.sent += 1
            self.producer.poll(0.003)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        assert self.producer.flush(FLUSH_SECONDS_MAX) == 0, "not all was produced"
        return self.sent


class Topics:
    """What is in the topics, when nobody writes to them any more."""

    def __init__(self, address):
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "end", "enable.auto.commit": False})

    def ends(self, topic):
        found = [self.consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=CALL_SECONDS_MAX)
                 for number in range(PARTITIONS)]
        assert all(low == 0 for low, _ in found), f"{topic}: {found}"
        return [high for _, high in found]

    def values(self, topic):
        """Of all records, in no order."""
        ends, values = self.ends(topic), []
        self.consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        def read():
            values.extend(int(one.value()) for one in self.consumer.consume(1000, timeout=0.2) if not one.error())
            return len(values) >= sum(ends)
        wait_until(read, lambda: f"{len(values)} of {sum(ends)} records of {topic} are read")
        self.consumer.unassign()
        return values


def together(groups, change):
    """All groups at the same time."""
    with ThreadPoolExecutor(len(groups)) as pool:
        list(pool.map(change, groups))
    for one in groups:
        one.share(PARTITIONS)


def grow(members):
    while len(members.names()) < 4:
        members.add()


def shrink(members):
    for name in members.names()[2:]:
        members.leave(name)


def check_chain(groups, topics, sent):
    """
    Each group has read all that is in its topic, and no record twice that it has committed; what it has read it has
    written on, as often. So each record arrives once, and again only for a commit that was refused: how many those are.
    """
    for one, topic, following in zip(groups, TOPICS, TOPICS[1:]):
        every = {(partition, offset) for partition, end in enumerate(topics.ends(topic)) for offset in range(end)}
        one.wait(lambda: every <= one.seen(), lambda: f"of {topic} {len(every - one.seen())} records are not read")
        one.end()
        twice = one.twice()
        assert not twice, f"{topic}: {len(twice)} records were read and committed twice, such as {twice[:3]}\n{one.said()}"
        assert one.seen() == every, f"{topic}: read what is not there: {sorted(one.seen() - every)[:3]}"
        written = sum(topics.ends(following))
        assert written == len(one.all_read()), f"{len(one.all_read())} records of {topic} were read, {written} written on"
    arrived = topics.values(TOPICS[-1])
    missing = set(range(sent)) - set(arrived)
    assert not missing, f"{len(missing)} of {sent} records have not arrived, such as {sorted(missing)[:3]}"
    again, uncertain = len(arrived) - sent, sum(len(one.uncertain) for one in groups)
    assert again <= uncertain, f"{again} records have arrived again, and {uncertain} were read without a commit"
    return again


def check(address, mode):
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    new = [NewTopic(name, PARTITIONS, 1) for name in TOPICS]
    for one in admin.create_topics(new, request_timeout=CALL_SECONDS_MAX).values():
        one.result(CALL_SECONDS_MAX)
    groups = [Members("librdkafka", address, f"from-{one}", one, mode, LOGS / f"chain-{mode}-{one}.log", following)
              for one, following in zip(TOPICS, TOPICS[1:])]
    try:
        load = Load(address)
        together(groups, lambda members: members.add())
        for _ in range(ROUNDS):
            together(groups, grow)
            for one in groups:
                one.progress()
            together(groups, shrink)
        sent = load.stop()
        again = check_chain(groups, Topics(address), sent)
        print(f"ok: {mode}: three chained groups, {sent} records, each arrived once, but for {again} whose commit was "
              "refused", flush=True)
    finally:
        for one in groups:
            one.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--mode", action="append")
    options = arguments.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    for mode in options.mode or ["eager", "cooperative", "consumer"]:
        with tempfile.TemporaryDirectory() as folder, setting.yagura(options.binary, folder) as broker:
            check(broker.address, mode)


if __name__ == "__main__":
    main()
