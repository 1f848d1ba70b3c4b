"""A private Postgres cluster on a free port, which may be killed and started again."""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import time

from ports import free_port

SECONDS_MAX = 60
# The server does not run as root.
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []


def programs():
    """The newest Postgres that is installed, as Debian has them."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    assert found, "no Postgres is installed; on Debian: apt-get install postgresql"
    return max(found, key=lambda path: int(path.split("/")[-2]))


class PostgresServer:
    """Trusts whoever connects as yagura. Settings are those of the server, such as ("max_connections=20",)."""

    def __init__(self, folder, settings=(), primary=None, owned=()):
        self.home = pathlib.Path(folder)
        self.data = self.home / "postgres"
        self.port = free_port()
        self.settings = settings
        self.process, self.lines = None, []
        self.home.mkdir(exist_ok=True)
        for name in owned:
            (self.home / name).chmod(0o600)
            if AS_POSTGRES:
                shutil.chown(self.home / name, "postgres")
        if AS_POSTGRES:
            # The folders above are the test's own.
            self.home.chmod(0o755)
            self.data.mkdir(mode=0o700)
            shutil.chown(self.data, "postgres")
        if primary:
            self._run("pg_basebackup", "-D", self.data, "-h", "127.0.0.1", "-p", primary.port, "-U", "yagura", "-R", "-c", "fast",
                      "-X", "stream")
        else:
            self._run("initdb", "-D", self.data, "-U", "yagura", "-A", "trust", "-E", "UTF8", "--no-locale")

    def allow(self, line):
        """Adds a line to pg_hba.conf, from the next start on; the first replaces what is there."""
        file = self.data / "pg_hba.conf"
        if not self.lines:
            file.write_text("")
        self.lines.append(line)
        file.write_text("\n".join([*self.lines, ""]))

    def restart(self):
        self.stop()
        self.start()

    def standby(self, folder):
        """A copy that follows this server."""
        return PostgresServer(folder, primary=self)

    def promote(self):
        """Makes a standby the primary."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data)

    def session(self, user="yagura"):
        """A connection that does nothing, if the server takes one."""
        command = [f"{programs()}/psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", "postgres"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _run(self, program, *arguments):
        command = [*AS_POSTGRES, f"{programs()}/{program}", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")

    def start(self):
        command = [*AS_POSTGRES, f"{programs()}/postgres", "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1",
                   "-k", str(self.data), "-c", "max_connections=200", "-c", "shared_buffers=256MB"]
        for setting in self.settings:
            command += ["-c", setting]
        log = open(self.home / "postgres.log", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        log.close()
        deadline = time.monotonic() + SECONDS_MAX
        ready = [f"{programs()}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode != 0:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self

    def stop(self, how=signal.SIGINT):
        """SIGINT is "fast", SIGQUIT is "immediate", as if the machine had crashed."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(SECONDS_MAX)

    def log(self):
        return (self.home / "postgres.log").read_text(errors="replace")[-4000:]

    def url(self, schema="yagura", user="yagura"):
        return f"postgres://{user}@127.0.0.1:{self.port}/postgres?schema={schema}&sslmode=disable"

    def query(self, sql, user="yagura"):
        """The rows of a statement, as psql prints them."""
        command = [f"{programs()}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
                   str(self.port), "-U", user, "-d", "postgres", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def succeeds(self, sql, user="yagura"):
        try:
            self.query(sql, user)
        except subprocess.CalledProcessError:
            return False
        return True

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop(signal.SIGQUIT)
