"""Where the stores of tests are: SQLite files, or schemas of Postgres where `tests/postgres.py` says so."""

import os
import zlib

# The URL of a Postgres store whose schema is SCHEMA.
VARIABLE = "YAGURA_TEST_STORE"


def on_postgres():
    return VARIABLE in os.environ


def store(path):
    """The URL of the store that is at this path, or stands for it: equal paths are the same store."""
    base = os.environ.get(VARIABLE)
    if base is None:
        return f"sqlite://{path}"
    return base.replace("SCHEMA", f"at_{zlib.crc32(str(path).encode()):08x}")
