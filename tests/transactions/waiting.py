"""Waits for states, ends and answers. The deadline is for a machine that has no time for the test."""

import subprocess
import sys
import time

from confluent_kafka import KafkaException

SECONDS_MAX, PAUSE_SECONDS = 300, 0.2


def wait_until(condition, what, seconds=SECONDS_MAX):
    """`what`: a sentence, or what makes one."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.05)


def raised(call):
    """What a call of the client returns or raises.

    One that calls back several times, as flush does, goes on calling back after an error that it is to raise: confluent-kafka then
    raises SystemError, and the error as its cause.
    """
    try:
        return call()
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


def again(call):
    """A call that may be made again is to be."""
    while True:
        try:
            return raised(call)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            print(f"again: {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE_SECONDS)


def end(process):
    """Closes the input of a process, which is to end then; its exit code, or why there is none."""
    process.stdin.close()
    try:
        return process.wait(SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS_MAX} s"
