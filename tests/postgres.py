#!/usr/bin/env python3
"""Runs a test on Postgres instead of SQLite: a private cluster, of which each broker of the test gets a schema.

    postgres.py [--layout batches] [--brokers "3 behind"] COMMAND [ARGUMENT...]
    postgres.py python tests/groups/run.py --binary target/release/yagura

With --brokers, several brokers on one store stand for each broker of the test: "3 behind" one address, or "3 apart".
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "clients"), str(HERE / "faults")]

from postgres_server import PostgresServer  # noqa: E402
from several import VARIABLE as BROKERS  # noqa: E402
from store import VARIABLE  # noqa: E402


def main():
    command, layout, environment = sys.argv[1:], "", dict(os.environ)
    if command[:1] == ["--layout"]:
        layout, command = f"&layout={command[1]}", command[2:]
    if command[:1] == ["--brokers"]:
        environment[BROKERS], command = command[1], command[2:]
    if not command or command[0] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    with tempfile.TemporaryDirectory(prefix="yagura-postgres-") as folder, PostgresServer(folder) as server:
        done = subprocess.run(command, env={**environment, VARIABLE: server.url("SCHEMA") + layout})
        if done.returncode != 0:
            print(f"the Postgres server said: {server.log()}", file=sys.stderr)
    sys.exit(done.returncode)


main()
