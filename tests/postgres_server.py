"""A PostgreSQL server for tests, on a socket in a temporary folder. `.ci/postgres` installs it on Debian 12."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql/15/bin")
EXTENSIONS = Path("/usr/share/postgresql/15/extension")
# A lost cluster is no loss here.
_OPTIONS = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c shared_buffers=64MB"


class PostgresServer:
    """A running server.

    Args:
        folder: an empty folder. Its path must be short, because the path of a socket has at most 107 bytes.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        # PostgreSQL refuses to run as root.
        self._words = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._words:
            os.chown(folder, *pwd.getpwnam("postgres")[2:4])
        data = ["-D", str(folder / "data")]
        self._run("initdb", *data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale", "C")
        self._data = data
        self.start()

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        options = f"{_OPTIONS} -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", *self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stops the server."""
        self._run("pg_ctl", *self._data, "-m", "immediate", "stop")

    def kill(self) -> None:
        """Ends all processes of the server by SIGKILL, as when the machine loses its power."""
        main = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        processes = [main, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        while any(map(_is_running, processes)):
            time.sleep(0.01)
        # A process that its parent has not waited for still has its number, and the next server would see it.
        for path in (self.folder / "data" / "postmaster.pid", *self.folder.glob(".s.PGSQL*")):
            path.unlink()

    def location(self, table: str, database: str = "postgres") -> str:
        """The location of an index."""
        return f"postgresql://postgres@/{database}/{table}?host={self.folder}"

    def _run(self, program: str, *words: str) -> None:
        command = [*self._words, str(BINARIES / program), *words]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program} failed: {log.read_text()[-2000:] if log.exists() else ''}")


def missing_parts() -> str | None:
    """Why the server cannot run here, or None."""
    if not (BINARIES / "initdb").exists():
        return "there is no PostgreSQL 15 (Debian 12: .ci/postgres)"
    if not (EXTENSIONS / "vector.control").exists():
        return "PostgreSQL has no pgvector (Debian 12: .ci/postgres)"
    if os.geteuid() == 0 and (shutil.which("runuser") is None or not _has_user("postgres")):
        return "root needs the user postgres for a server"
    return None


def has_cartridge() -> bool:
    """Whether RDKit's cartridge is installed."""
    return (EXTENSIONS / "rdkit.control").exists()


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
