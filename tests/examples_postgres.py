#!/usr/bin/env python3
"""Runs the programs of examples/postgres against a fresh broker on a private cluster: each must say where its message is,
and have read it; and the broker must have that message alone.

    examples_postgres.py --binary PATH
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "clients"), str(HERE / "faults")]

from broker import SECONDS_MAX, Broker, wait_until  # noqa: E402
from postgres_server import PostgresServer, programs  # noqa: E402

EXAMPLES, TARGET = HERE.parent / "examples/postgres", HERE.parent / "target"
TOOLS, BUILT = TARGET / "test-tools", TARGET / "examples/rust-postgres"
COMMANDS = {
    "sql": [f"{programs()}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", EXAMPLES / "outbox.sql"],
    "python": [TOOLS / "venv/bin/python", EXAMPLES / "outbox.py"],
    "java": ["java", "-cp", f"{TOOLS}/java/libs/*", EXAMPLES / "Outbox.java"],
    "node": ["node", EXAMPLES / "outbox.js"],
    "rust": [BUILT / "debug/outbox"],
}


def check(language, command, binary, broker, url):
    if language == "sql":
        command = [*command, url]
    environment = os.environ | {"DATABASE_URL": url, "NODE_PATH": str(TOOLS / "node/node_modules")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, f"{language} ended with {done.returncode}: {done.stdout}{done.stderr}"
    said = re.fullmatch(r"order 1 is at offset 0 of partition \d+\norder 1 is shipped\n", done.stdout)
    assert said, f"{language} has said {done.stdout!r} {done.stderr!r}"
    consume = [binary, "consume", f"orders-{language}", "--bootstrap", broker.address, "--key-separator", ": "]
    found = subprocess.run(consume, capture_output=True, text=True, check=True, timeout=SECONDS_MAX).stdout
    key, _, value = found.partition(": ")
    assert key == "1" and json.loads(value) == {"id": 1, "item": "a lamp"}, f"{language} has sent {found!r}"
    print(f"ok: examples/postgres, {language}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    binary = str(Path(parser.parse_args().binary).resolve())
    build = ["nice", "cargo", "build", "--quiet", "--locked"]
    subprocess.run(build, cwd=EXAMPLES / "rust", env=os.environ | {"CARGO_TARGET_DIR": str(BUILT)}, check=True)
    with tempfile.TemporaryDirectory(prefix="yagura-examples-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder, "server")) as server:
            broker = Broker(binary, server.url()).start()
            # It listens before it has made the tables.
            wait_until(lambda: server.succeeds("SELECT FROM yagura.outbox"), "there is no outbox")
            for language, command in COMMANDS.items():
                url = f"postgres://yagura@127.0.0.1:{server.port}/postgres"
                check(language, list(map(str, command)), binary, broker, url)
            broker.stop()


if __name__ == "__main__":
    main()
