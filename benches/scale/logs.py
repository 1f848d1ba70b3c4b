"""Costs of long logs: finding a time in one, and deleting half of one."""

import random
import struct
import time

import measure
from scale import batches, cost, stores
from scale.produce import SECONDS, LoneProducer
from scale.rows import Figure, Row
from scale.wire import DELETE_RECORDS, LIST_OFFSETS, PRODUCE, Connection, check_produced, produce

VALUE = bytes(range(256)) * 4
RECORDS = 63  # of 1 KiB and a few bytes: a batch of just under 64 KiB
BACK_MS = 2 * 3600 * 1000  # how long before now the first record is; the last is before now, a millisecond per record
WINDOW = 64
EARLIEST = -2  # the time that asks for the log's first offset
STEP_SECONDS, QUIET_SECONDS = 0.5, 3
DELETION_SECONDS_MAX, DELETION_SECONDS_MAX_FULL = 25, 180


class Log:
    """A store with one long log, where record n is n milliseconds after the first."""

    def __init__(self, bench, megabytes):
        self.bench, self.megabytes = bench, megabytes
        self.folder = bench.kept.folder(f"log-{megabytes}", self.make)
        self.first_ms = int((self.folder / "first_ms").read_text())
        self.records = megabytes * 1_000_000 // len(VALUE) // RECORDS * RECORDS

    def make(self, folder):
        first_ms = int(time.time() * 1000) - BACK_MS
        (folder / "first_ms").write_text(str(first_ms))
        batch = batches.Batch([VALUE] * RECORDS)
        count = self.megabytes * 1_000_000 // len(VALUE) // RECORDS
        bodies = (produce("log", [(0, batch.at(first_ms + number * RECORDS))]) for number in range(count))
        broker = stores.broker(self.bench, folder)
        measure.create_topic(broker.address, "log", 1)
        measure.create_topic(broker.address, "beside", 1)
        with Connection(broker.port) as connection:
            for reply in connection.pipeline(PRODUCE, bodies, WINDOW):
                check_produced(reply, "log")
        broker.stop()

    def broker(self, **settings):
        return stores.broker(self.bench, self.folder, **settings)


def find(connection, time_ms):
    """The offset of the first record from a time on, or a special offset."""
    body = struct.pack(">ibi", -1, 0, 1) + measure.string("log") + struct.pack(">iiiq", 1, 0, -1, time_ms)
    reply = connection.ask(LIST_OFFSETS, body)
    error, _, offset = struct.unpack_from(">hqq", reply, 4 + 4 + 2 + len("log") + 4 + 4)
    assert error == 0, f"ListOffsets: error {error}"
    return offset


def by_time(bench, megabytes):
    """CPU in microseconds and KiB read, per look-up of a random time."""
    log, numbers = Log(bench, megabytes), random.Random(1)
    broker = log.broker()
    with Connection(broker.port) as connection:
        log_start = find(connection, EARLIEST)

        def look_up(_):
            wanted = numbers.randrange(log_start, log.records)
            found = find(connection, log.first_ms + wanted)
            assert found == wanted, f"found {found} instead of {wanted}"

        spent, read = cost.microseconds_and_read(broker, look_up)
    broker.stop()
    return spent, read / 1024


def delete_before(connection, offset):
    """Milliseconds that DeleteRecords takes."""
    body = struct.pack(">i", 1) + measure.string("log") + struct.pack(">iiqi", 1, 0, offset, 30_000)
    started = time.perf_counter()
    reply = connection.ask(DELETE_RECORDS, body)
    took = time.perf_counter() - started
    _, log_start, error = struct.unpack_from(">iqh", reply, 4 + 4 + 2 + len("log") + 4)
    assert (error, log_start) == (0, offset), f"DeleteRecords: error {error}, log start {log_start}"
    return took * 1000


def while_deleted(bench, producer, folder):
    """Latencies of produces from the call on until the files have shrunk and then not for a while.

    Pages are freed, or files deleted, some time after the call that wanted it; how long after is the broker's affair.
    """
    seconds_max = DELETION_SECONDS_MAX_FULL if bench.scale_full else DELETION_SECONDS_MAX
    steps, shrunk, size = [], None, stores.disk_bytes(folder)
    while len(steps) * STEP_SECONDS < seconds_max:
        steps.append(producer.latencies(STEP_SECONDS))
        before, size = size, stores.disk_bytes(folder)
        if size < before:
            shrunk = len(steps)
        elif shrunk and (len(steps) - shrunk) * STEP_SECONDS > QUIET_SECONDS and len(steps) * STEP_SECONDS > SECONDS:
            break
    if shrunk is None:
        print(f"  (no file has shrunk in {seconds_max} s: nothing was deleted in the background yet)", flush=True)
    counted = max(shrunk or len(steps), round(SECONDS / STEP_SECONDS))
    return [took for step in steps[:counted] for took in step]


def deletions(bench, megabytes):
    """Milliseconds of one call that deletes half of what is left, and p99 of produces while that goes on, over before."""
    log = Log(bench, megabytes)
    broker = log.broker(retention_interval="1s", **stores.known(bench, delete_delay="0s"))
    producer = LoneProducer(broker.port, "beside")
    with Connection(broker.port) as connection:
        before = cost.p99(producer.latencies())
        log_start = find(connection, EARLIEST)
        took = delete_before(connection, (log_start + log.records) // 2)
        during = cost.p99(while_deleted(bench, producer, log.folder))
    producer.close()
    broker.stop()
    return took, during / before


LOGS = [30, 300, 3_000]
DISK = 2_600_000  # for each MB: the store, and the log that is written before it
ROWS = [
    Row(LOGS, by_time, [
        Figure("ListOffsets by time, in MB stored", allowed=1.5),
        Figure("ListOffsets by time, bytes read, in MB stored", "KiB", goal="< 256"),
    ], disk=DISK),
    Row(LOGS, deletions, [
        Figure("DeleteRecords of half, in MB stored", "ms", allowed=1.5),
        Figure("produce p99 beside the background deletion over without, in MB stored", "x", goal="<= 2"),
    ], disk=DISK),
]
