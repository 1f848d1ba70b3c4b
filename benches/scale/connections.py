"""What idle connections hold."""

import resource
import socket

import measure
from scale import cost, stores
from scale.rows import Figure, Row
from scale.wire import API_VERSIONS, request

SPARE_FILES = 1_000
AT_ONCE = 100  # fewer than a listener's backlog


def allow_files(count):
    """The broker inherits the limit. Returns whether so many may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
        return True
    except (ValueError, OSError):
        return False


def connect(port, count):
    made = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for one in made:
        one.sendall(request(API_VERSIONS, b""))
    for one in made:
        measure.receive(one)
    return made


def resident(bench, count):
    """KiB of growth per connection that has asked for ApiVersions and is silent since."""
    assert allow_files(count + SPARE_FILES), f"no more files may be open than {resource.getrlimit(resource.RLIMIT_NOFILE)}"
    with stores.folder() as folder:
        broker = stores.broker(bench, folder)
        # What the first connections alone bring into memory is not theirs.
        open_ones = connect(broker.port, AT_ONCE)
        before = cost.resident(broker.process.pid)
        for _ in range(count // AT_ONCE):
            open_ones += connect(broker.port, AT_ONCE)
        grown = cost.resident(broker.process.pid) - before
        for one in open_ones:
            one.close()
        broker.stop()
    return grown / count / 1024


ROWS = [Row([100, 1_000, 10_000], resident, [Figure("idle connections, resident memory of each", "KiB", goal="<= 24")])]
