"""What a call costs a broker: CPU, bytes read and written, time."""

import os
import time

CALLS = 10_000
SECONDS_MAX = 5  # how long one cost is measured, if each call takes so long that CALLS would take longer

RESTING_SECONDS, SETTLE_SECONDS_MAX = 0.1, 600


def cpu_seconds(pid):
    """CPU time of all threads, to the nanosecond."""
    spent = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
            spent += int(stat.read().split()[0])
    return spent / 1e9


def settle(pid):
    """Until what was done before has no work left behind: a second with next to none."""
    end, spent = time.monotonic() + SETTLE_SECONDS_MAX, RESTING_SECONDS
    while spent >= RESTING_SECONDS and time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(1)
        spent = cpu_seconds(pid) - before


def io(pid, field):
    """A counter of /proc/PID/io: `rchar` is what read and pread gave, `write_bytes` what is bound for a disk.

    Sockets are read with recv, which rchar does not count. wchar would count what writev sends to sockets; write_bytes
    does not, but is only right on a real disk: files of a tmpfs never get there.
    """
    with open(f"/proc/{pid}/io") as lines:
        return int(next(line for line in lines if line.startswith(field + ":")).split()[1])


def bytes_written(pid, action, settle_seconds=0):
    """What an action has the process write to disks, with what follows within a while."""
    before = io(pid, "write_bytes")
    action()
    time.sleep(settle_seconds)
    written = io(pid, "write_bytes") - before
    assert written > 0, "nothing was written to a disk: the store has to be on a real one, not on a tmpfs"
    return written


def resident(pid):
    """Bytes in memory, counted page by page: VmRSS is a sum of counters per core, each a little behind."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024


def repeated(calls, call, seconds_max):
    """Calls made, with numbers from 0, until there are enough or it takes too long."""
    end = time.monotonic() + seconds_max
    for number in range(calls):
        call(number)
        if time.monotonic() > end:
            return number + 1
    return calls


def microseconds(broker, call, calls=CALLS):
    """CPU of the broker per call."""
    return microseconds_and_read(broker, call, calls)[0]


def microseconds_and_read(broker, call, calls=CALLS):
    """CPU of the broker per call, and bytes that it read from files."""
    pid = broker.process.pid
    repeated(calls // 10, call, SECONDS_MAX / 5)
    spent, read = cpu_seconds(pid), io(pid, "rchar")
    made = repeated(calls, call, SECONDS_MAX)
    return (cpu_seconds(pid) - spent) / made * 1e6, (io(pid, "rchar") - read) / made


def p99(values):
    return sorted(values)[int(len(values) * 0.99)]
