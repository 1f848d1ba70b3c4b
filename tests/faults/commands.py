#!/usr/bin/env python3
"""What commands say, and when they end: to somebody who is new, and makes the usual mistakes.

    commands.py --binary PATH
"""

import argparse
import json
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from broker import SECONDS_MAX, Broker, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Commands:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.broker = Broker(binary, f"sqlite://{folder}/y.db")

    def environment(self):
        return {**os.environ, "YAGURA_BOOTSTRAP": self.broker.address}

    def run(self, *arguments, expect=0, given=b""):
        """What a command wrote to stdout and stderr."""
        command, environment = [self.binary, *arguments], self.environment()
        ended = subprocess.run(command, input=given, capture_output=True, timeout=SECONDS_MAX, env=environment)
        out, err = ended.stdout.decode(), ended.stderr.decode()
        assert ended.returncode == expect, f"{arguments}: exit code {ended.returncode}: {out}{err}"
        assert "panicked" not in err, err
        return out, err

    def start(self, *arguments, **streams):
        return subprocess.Popen([self.binary, *arguments], env=self.environment(), **streams)

    def file(self, name, text):
        path = f"{self.folder}/{name}"
        pathlib.Path(path).write_text(text)
        return path


def check_errors(commands):
    """Each begins with the program's name and ends its line, whoever found it."""
    broken = commands.file("broken.toml", '[listeners.main]\nbind = "127.0.0.1:0"\nstack = ["tracing", "nowhere"]\n')
    for arguments, code, words in [
        (["check", broken], 1, 'did you mean "trace"?'),
        (["run", broken], 1, 'did you mean "trace"?'),
        (["check", f"{commands.folder}/none.toml"], 1, "cannot be read"),
        (["broker", "--storage", "pigeon://loft"], 1, "--storage: "),
        (["broker", "--listen", "nowhere"], 2, "expected a host and port"),
        (["topic", "create"], 2, "NAME"),
        (["store", "verify", f"{commands.folder}/none.db"], 1, "there is no file"),
    ]:
        out, err = commands.run(*arguments, expect=code)
        assert err.startswith("yagura: ") and err.endswith("\n") and words in err, (arguments, err)
        assert not out, out
    unclosed = commands.file("unclosed.toml", '[listeners.main]\nstack = ["framing"\n\n[node]\nnode_id = 1\n')
    _, err = commands.run("check", unclosed, expect=1)
    assert err.count("this is not TOML") == 1 and f"{unclosed}:2:9: " in err, err


def check_explain(commands):
    """In a pipe, lines have at most 80 characters; a reader that closes the pipe is no failure."""
    stack = str(ROOT / "config/stacks/routed.toml")
    out, _ = commands.run("explain", stack)
    assert max(map(len, out.splitlines())) <= 80 and "retention_interval" in out, out
    reader, writer = os.pipe()
    os.close(reader)
    ended = commands.start("explain", stack, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = ended.communicate(timeout=SECONDS_MAX)
    assert ended.returncode == 0 and not err, err


def check_addresses(commands):
    """A name to listen on, and an admin server with a token from a file or the environment."""
    _, err = commands.run("broker", "--storage", "memory://", "--listen", "localhost:0", "--admin", "0.0.0.0:0", expect=1)
    assert "--admin-token-file" in err and "YAGURA_ADMIN_TOKEN" in err, err
    token = commands.file("token", "sesame\n")
    for arguments, environment in [(["--admin-token-file", token], {}), ([], {"YAGURA_ADMIN_TOKEN": "sesame"})]:
        port = free_port()
        command = [commands.binary, "broker", "--storage", "memory://", "--listen", "localhost:0", "--admin", f"localhost:{port}"]
        broker = subprocess.Popen([*command, *arguments], env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: status(port, "/livez") == 200, "the admin server listens")
            assert status(port, "/metrics") == 401 and status(port, "/metrics", "sesame") == 200
            assert status(port, "/metrics", "sesame", "bearer") == 200
        finally:
            broker.terminate()
            assert broker.wait(timeout=SECONDS_MAX) == 0


def status(port, path, token=None, scheme="Bearer"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("Authorization", f"{scheme} {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as response:
            return response.status
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return None


def check_topics(commands):
    commands.run("topic", "create", "t", "--partitions", "2")
    _, err = commands.run("topic", "delete", "absent", expect=1)
    assert "does not exist" in err and "topic list" in err and "create" not in err, err
    _, err = commands.run("topic", "describe", "absent", expect=1)
    assert "yagura topic list" in err, err
    _, err = commands.run("topic", "create", "huge", "--partitions", "2000000", expect=1)
    assert "at most 10,000 partitions" in err and "log tells" not in err, err
    _, err = commands.run("topic", "alter", "t", "--partitions", "2", expect=1)
    assert ".;" not in err and "partitions can be added to a topic" in err, err
    out, _ = commands.run("topic", "alter", "t", "--unset", "retention.ms")
    assert out == 'config retention.ms of topic "t" is not set\n', out
    _, err = commands.run("topic", "alter", "t", "--unset", "foo", expect=1)
    assert '"foo"' in err and "nothing has been changed" in err, err
    commands.run("topic", "alter", "t", "--set", "retention.ms=1000000")
    out, _ = commands.run("topic", "alter", "t", "--unset", "retention.ms")
    assert out == 'changed 1 config of topic "t"\n', out


def check_groups(commands):
    plan = ["group", "reset", "g", "--topic", "t", "--to", "earliest"]
    out, err = commands.run(*plan)
    assert "set the offsets" not in out and "nothing has been changed" in err, (out, err)
    out, err = commands.run(*plan, "--execute")
    assert out.endswith('set the offsets of 2 partitions for group "g"\n') and not err, (out, err)
    out, _ = commands.run("group", "list")
    header, row = (line.split() for line in out.splitlines())
    assert header == ["group", "state", "type", "protocol"] and row == ["g", "Empty", "classic"], out
    listed = json.loads(commands.run("group", "list", "--format", "json")[0])
    assert listed == [{"group": "g", "state": "Empty", "type": "classic", "protocol": ""}], listed


def check_perf(commands):
    commands.run("topic", "create", "empty")
    out, _ = commands.run("perf", "consume", "empty")
    assert out.startswith("read no records in ") and "latency" not in out, out
    shown = json.loads(commands.run("perf", "consume", "empty", "--format", "json")[0])
    assert shown["records"] == 0 and shown["latency_us"] is None, shown
    # What it was called before is still read, and not shown.
    assert json.loads(commands.run("perf", "consume", "empty", "--json")[0]).keys() == shown.keys()
    help_text, _ = commands.run("perf", "consume", "--help")
    assert "--format" in help_text and "--json" not in help_text, help_text


def check_produce_without_a_record(commands):
    """It creates nothing."""
    _, err = commands.run("produce", "never", given=b"")
    assert '0 records to topic "never", 0 failed' in err, err
    _, err = commands.run("produce", "never", "--key-separator", ":", given=b"no key\nnone either\n", expect=1)
    assert "line 2: there is no key separator" in err and "2 failed" in err, err
    _, err = commands.run("produce", "never", "--format", "json", given=b"{\n", expect=1)
    assert "line 1: " in err, err
    assert "never" not in commands.run("topic", "list")[0]
    _, err = commands.run("produce", "once", "--key-separator", ":", given=b"no key\nk:v\n", expect=1)
    assert '1 record to topic "once" (1 partition), 1 failed' in err and "line 1: " in err, err
    assert commands.run("consume", "once")[0] == "v\n"


def check_produce_on_a_terminal(commands):
    """It says how to end it, and ends so."""
    master, terminal = pty.openpty()
    with open(f"{commands.folder}/produce.err", "wb") as file:
        produce = commands.start("produce", "typed", stdin=terminal, stderr=file)
    os.close(terminal)
    said = lambda: pathlib.Path(file.name).read_text()
    wait_until(lambda: "end with Ctrl-D" in said(), said)
    os.write(master, b"hello\n\x04")
    assert produce.wait(timeout=SECONDS_MAX) == 0, said()
    os.close(master)
    assert commands.run("consume", "typed")[0] == "hello\n"
    _, err = commands.run("produce", "typed", given=b"more\n")
    assert "Ctrl-D" not in err, err


def check_reader_that_goes(commands):
    """`consume --follow | head -1` ends on a topic to which nobody writes."""
    commands.run("produce", "quiet", given=b"one\n")
    consume = commands.start("consume", "quiet", "--follow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert consume.stdout.readline() == b"one\n"
    commands.run("produce", "quiet", given=b"two\n")
    assert consume.stdout.readline() == b"two\n", "it must follow"
    consume.stdout.close()
    assert consume.wait(timeout=SECONDS_MAX) == 0
    said = consume.stderr.read().decode()
    # A broker that gets no time for seconds is away for it, which it says.
    assert all("does not answer" in line or "answers again" in line for line in said.splitlines()), said


def check_outage(commands):
    """`consume --follow` tells that the broker is away, and that it is back, and goes on."""
    commands.run("produce", "followed", given=b"one\n")
    with open(f"{commands.folder}/consume.err", "wb") as errors:
        consume = commands.start("consume", "followed", "--follow", stdout=subprocess.PIPE, stderr=errors)
    said = lambda: pathlib.Path(errors.name).read_text()
    is_away = lambda: said().count("does not answer; trying again") > said().count("answers again")
    assert consume.stdout.readline() == b"one\n"
    for end in [commands.broker.kill, commands.broker.stop]:
        end()
        wait_until(is_away, said)
        commands.broker.start()
        wait_until(lambda: not is_away(), said)
        commands.run("produce", "followed", given=b"more\n")
        assert consume.stdout.readline() == b"more\n"
    consume.stdout.close()
    assert consume.wait(timeout=SECONDS_MAX) == 0
    # Each is said once, in turn. There may be more than two outages: a broker that gets no time for seconds is one.
    lines = said().splitlines()
    away, back = lines[::2], lines[1::2]
    assert len(away) >= 2 and all("does not answer; trying again" in line for line in away), said()
    assert len(back) >= 2 and all("answers again" in line for line in back), said()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    binary = os.path.abspath(arguments.parse_args().binary)
    with tempfile.TemporaryDirectory() as folder:
        commands = Commands(binary, folder)
        for check in [check_errors, check_explain, check_addresses]:
            check(commands)
            print(f"ok: {check.__name__}", flush=True)
        commands.broker.start()
        for check in [
            check_topics,
            check_groups,
            check_perf,
            check_produce_without_a_record,
            check_produce_on_a_terminal,
            check_reader_that_goes,
            check_outage,
        ]:
            check(commands)
            print(f"ok: {check.__name__}", flush=True)
        commands.broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
