"""What groups at rest and the reading of metrics cost a producer."""

import contextlib
import subprocess
import sys

import measure
from broker import free_port
from scale import cost, stores
from scale.groups import FULL, settled_groups
from scale.produce import LoneProducer
from scale.rows import Figure, Row

# A process of its own: a thread would keep the producer waiting for Python's lock.
SCRAPER = """
import sys, time, urllib.request
while True:
    with urllib.request.urlopen(sys.argv[1]) as page:
        print(len(page.read()), flush=True)
    time.sleep(1)
"""


@contextlib.contextmanager
def scraped(address):
    """Reads /metrics once a second, as Prometheus would."""
    command = [sys.executable, "-c", SCRAPER, f"http://{address}/metrics"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert int(process.stdout.readline()) > 0
        yield
    finally:
        process.terminate()
        pages = process.communicate()[0].split()
    assert len(pages) > 1, "metrics were not read again"


def produces(bench, groups):
    """p99 in milliseconds; without groups nobody reads metrics either."""
    with stores.folder() as folder:
        admin = f"127.0.0.1:{free_port()}"
        broker = stores.broker(bench, folder, admin, group_initial_rebalance_delay="0ms")
        measure.create_topic(broker.address, "beside", 1)
        # One of them holds the connection of all; to keep the rest would make Python's collector slow.
        member = settled_groups(broker.port, groups)[0] if groups else None
        # Each new group is looked at once, and once more for what may expire.
        cost.settle(broker.process.pid)
        producer = LoneProducer(broker.port, "beside")
        producer.latencies(1)
        with scraped(admin) if groups else contextlib.nullcontext():
            took = cost.p99(producer.latencies())
        producer.close()
        if member:
            member.close()
        broker.stop()
    return took


ROWS = [
    Row(
        [0, 10_000], produces,
        [Figure("produce p99 beside idle groups and /metrics, read each second", "ms", allowed=1.3)],
        full=FULL,
    ),
]
