"""Brokers on SQLite stores, and stores that several rows share."""

import pathlib
import subprocess
import tempfile

from broker import Broker, free_port

# A real disk if the checkout is on one; the default folder for temporary files may be a tmpfs.
ON_DISK = pathlib.Path(__file__).resolve().parents[2] / "target"
CONFIG = """
[admin]
bind = "{admin}"
[listeners.main]
bind = "{address}"
stack = ["limits", "framing", "metrics", "local"]
[layers.limits]
connections_max = 1000000
[layers.framing]
max_in_flight = 1000
[services.local]
kind = "storage"
url = "sqlite://{folder}/y.db"
{settings}
"""


def folder():
    """A temporary folder on a real disk."""
    ON_DISK.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(dir=ON_DISK, prefix="scale-")


def config(address, folder, admin="off", **settings):
    lines = "\n".join(f'{name} = "{value}"' for name, value in settings.items())
    return CONFIG.format(admin=admin, address=address, folder=folder, settings=lines)


def broker(bench, folder, admin="off", **settings):
    """A started broker on the store in `folder`, with settings of its service that are texts."""
    made = Broker(bench.binary, "")
    file = pathlib.Path(folder, "y.toml")
    file.write_text(config(made.address, folder, admin, **settings))
    made.command = [bench.binary, "run", str(file)]
    return made.start()


def known(bench, **setting):
    """The setting, unless this binary has none of its name: figures of older ones are to be had, too."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "y.toml")
        file.write_text(config(f"127.0.0.1:{free_port()}", folder, **setting))
        checked = subprocess.run([bench.binary, "check", str(file)], capture_output=True)
    return setting if checked.returncode == 0 else {}


class Kept:
    """Stores that take long to make: a folder each, made when it is first asked for, gone at the end of the run."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def folder(self, name, make):
        made = self.root / name
        if not made.exists():
            unfinished = self.root / f"{name}.unfinished"
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(made)
        return made


def disk_bytes(folder):
    """What the files of a folder take, holes left out."""
    taken = 0
    for file in pathlib.Path(folder).rglob("*"):
        try:
            taken += file.stat().st_blocks * 512
        except FileNotFoundError:  # the broker has just deleted it
            pass
    return taken
