"""The broker of a part: Yagura on SQLite, or Apache Kafka, which proves the test. Both may be killed and started again."""

import sys
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "groups")]

import setting  # noqa: E402
from setting import free_port, kafka_server  # noqa: E402, F401

# Retention and compaction are looked at soon, so that a test can wait for them. Some programs insist on three replicas.
CONFIG = setting.CONFIG + 'retention_interval = "500ms"\nreplication_factor_max = 3\n'
KAFKA = ["group.initial.rebalance.delay.ms=100", "log.cleaner.backoff.ms=500", "log.retention.check.interval.ms=1000"]


class Kafka(kafka_server.KafkaServer):
    """Apache Kafka, which keeps its ports and its folder over a kill."""

    @property
    def address(self):
        return self.bootstrap

    def _configure(self):
        if self.bootstrap is None:
            super()._configure()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Place:
    """Where a part runs: `broker()` gives it a fresh one, `folder` is its own."""

    def __init__(self, binary, kafka_libs, folder):
        self.binary, self.kafka_libs, self.folder = binary, kafka_libs, Path(folder)

    @contextmanager
    def broker(self):
        folder = self.folder / "broker"
        folder.mkdir()
        if self.binary is None:
            with self.kafka("broker") as broker:
                yield broker
        else:
            with setting.yagura(self.binary, folder, config=CONFIG) as broker:
                yield broker

    def kafka(self, name):
        """Apache Kafka, in any case."""
        return Kafka(self.kafka_libs, self.folder / name, KAFKA)
