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


ROUNDS, ROUND_SECONDS = 8, 3


def produces(bench, groups):
    """p99 beside them over p99 in a store without any, whose metrics nobody reads. The two take turns: from one minute to the
    next a disk's own p99 changes by more than what is looked for."""
    with contextlib.ExitStack() as stack:
        alone = stack.enter_context(producer(bench, groups=0))[0]
        beside, admin = stack.enter_context(producer(bench, groups))
        took = {alone: [], beside: []}
        for _ in range(ROUNDS):
            took[alone] += alone.latencies(ROUND_SECONDS)
            with scraped(admin):
                took[beside] += beside.latencies(ROUND_SECONDS)
    return cost.p99(took[beside]) / cost.p99(took[alone])


@contextlib.contextmanager
def producer(bench, groups):
    """One of small batches on a broker of its own, and the address of that one's metrics."""
    with stores.folder() as folder:
        admin = f"127.0.0.1:{free_port()}"
        broker = stores.broker(bench, folder, admin, group_initial_rebalance_delay="0ms")
        measure.create_topic(broker.address, "beside", 1)
        # One of them holds the connection of all; to keep the rest would make Python's collector slow.
        member = settled_groups(broker.port, groups)[0] if groups else None
        # Each new group is looked at once, and once more for what may expire.
        cost.settle(broker.process.pid)
        lone = LoneProducer(broker.port, "beside")
        lone.latencies(1)
        yield lone, admin
        lone.close()
        if member:
            member.close()
        broker.stop()


ROWS = [
    Row(
        [1_000, 10_000], produces,
        [Figure("produce p99 beside idle groups and /metrics, read each second, over without", "x", goal="<= 1.3")],
        full=FULL,
    ),
]
