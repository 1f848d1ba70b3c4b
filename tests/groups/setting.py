"""The brokers that groups are tried on: their settings make rebalances quick."""

import sys
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "faults"), str(HERE.parent / "clients")]

import kafka_server  # noqa: E402
from broker import Broker, free_port  # noqa: E402, F401

LOGS = HERE.parent.parent / "target/test-logs"
CONFIG = """
[admin]
bind = "{admin}"
[listeners.main]
bind = "{address}"
stack = ["framing", "local"]
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
group_initial_rebalance_delay = "100ms"
group_consumer_heartbeat_interval = "500ms"
group_consumer_session_timeout = "6s"
"""
KAFKA_SETTINGS = [
    "group.initial.rebalance.delay.ms=100", "group.consumer.min.heartbeat.interval.ms=500",
    "group.consumer.heartbeat.interval.ms=500", "group.consumer.min.session.timeout.ms=6000",
    "group.consumer.session.timeout.ms=6000"]


@contextmanager
def yagura(binary, folder, admin="off", config=CONFIG):
    """A broker on SQLite, which may be killed and started again."""
    broker = Broker(binary, "")
    file = Path(folder, "y.toml")
    file.write_text(config.format(address=broker.address, folder=folder, admin=admin))
    broker.command = [binary, "run", str(file)]
    broker.start()
    try:
        yield broker
        broker.stop()
    finally:
        broker.process.kill()


def kafka(libs, folder):
    """Apache Kafka with the same settings."""
    return kafka_server.KafkaServer(Path(libs), Path(folder), KAFKA_SETTINGS)
