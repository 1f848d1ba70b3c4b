"""Kafka's command-line tools for transactions, configs and log dirs, on a broker with an open transaction."""

import os
import subprocess

from confluent_kafka import Producer

import topics
from programs import HERE, JARS, LOGS, SECONDS_MAX, TAIL_LINES

OPEN = "open-end"
CALL_SECONDS_MAX = 120
# Nobody but the tool is to end it.
TRANSACTION_MS = 600_000


def tools(place, options):
    """The script ends at the first output that is not as expected."""
    with place.broker() as broker:
        topics.create(broker.address, {"open": 1})
        producer = Producer({"bootstrap.servers": broker.address, "transactional.id": OPEN, "log_level": 0,
                             "transaction.timeout.ms": TRANSACTION_MS})
        producer.init_transactions(CALL_SECONDS_MAX)
        producer.begin_transaction()
        producer.produce("open", "in-doubt", partition=0)
        assert producer.flush(CALL_SECONDS_MAX) == 0, "a record was not produced in a transaction"
        kind = "kafka" if place.binary is None else "yagura"
        log = LOGS / "kafka-tools.log"
        with open(log, "wb") as out:
            code = subprocess.call([HERE / "kafka_tools.sh", broker.address, kind, OPEN], stdout=out, stderr=out,
                                   env=os.environ | {"KAFKA_LIBS": str(JARS / "newest")}, timeout=2 * SECONDS_MAX)
        lines = log.read_text(errors="replace").splitlines()
        assert code == 0, "\n".join([f"exit {code}", *lines[-TAIL_LINES:], f"whole log: {log}"])
    return lines[-1].removeprefix("ok: ")
