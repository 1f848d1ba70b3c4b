"""The brokers that groups are tried on: their settings make rebalances quick."""

import sys
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "faults"), str(HERE.parent / "clients")]

import kafka_server  # noqa: E402
from broker import Broker, free_port  # noqa: E402, F401
from store import store  # noqa: E402

LOGS = HERE.parent.parent / "target/test-logs"
# Of the consumer protocol. A client that gets no time for so long is rightly evicted, so it is long unless a test wants
# to see that.
SESSION_SECONDS = 45
LOG_CHARACTERS = 4000
CONFIG = """
[admin]
bind = "{admin}"
[listeners.main]
bind = "{address}"
stack = ["framing", "local"]
[services.local]
kind = "storage"
url = "{store}"
group_initial_rebalance_delay = "100ms"
group_consumer_heartbeat_interval = "500ms"
group_consumer_session_timeout = "{session_seconds}s"
"""


@contextmanager
def yagura(binary, folder, admin="off", config=CONFIG, session_seconds=SESSION_SECONDS):
    """A broker, which may be killed and started again."""
    broker = Broker(binary, "")
    file = Path(folder, "y.toml")
    settings = {"address": broker.address, "store": store(f"{folder}/y.db"), "admin": admin}
    file.write_text(config.format(**settings, folder=folder, session_seconds=session_seconds))
    broker.command = [binary, "run", str(file)]
    broker.start()
    try:
        yield broker
        broker.stop()
    except BaseException:
        print(f"the broker said: {broker.stderr()[-LOG_CHARACTERS:]}", file=sys.stderr, flush=True)
        raise
    finally:
        broker.process.kill()
        broker.process.wait()


def kafka(libs, folder, session_seconds=SESSION_SECONDS):
    """Apache Kafka with the same settings."""
    return kafka_server.KafkaServer(Path(libs), Path(folder), [
        "group.initial.rebalance.delay.ms=100", "group.consumer.min.heartbeat.interval.ms=500",
        "group.consumer.heartbeat.interval.ms=500", "group.consumer.min.session.timeout.ms=6000",
        f"group.consumer.session.timeout.ms={session_seconds * 1000}"])
