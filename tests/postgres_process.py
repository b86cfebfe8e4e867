"""A real PostgreSQL server as a child process, from Debian's package, for tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valkey_process import free_port

USER = "tallygate"
UNPRIVILEGED = "nobody"  # initdb refuses root


def binaries() -> Path:
    """The newest installed server's binaries. Raises RuntimeError that says what to install."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere:
        return Path(elsewhere).resolve().parent
    raise RuntimeError("no PostgreSQL server: apt-get install postgresql")


class PostgresProcess:
    """One server on loopback. `stop` and `start` keep its data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._bin = binaries()
        self._account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        if self._account is not None:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)
        self._run("initdb", "--pgdata", str(self.data), "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync")

    def copy(self, primary: "PostgresProcess") -> None:
        """Become a standby of a running server, which it follows once it is started."""
        if self._account is not None:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)
        source = f"host=127.0.0.1 port={primary.port} user={USER}"
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--no-password")
        self._run("pg_basebackup", "--pgdata", str(self.data), "--dbname", source, *options)

    def promote(self) -> None:
        """Let a standby follow nobody any more, and take writes."""
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "promote")

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, **settings: str) -> None:
        """settings: of postgresql.conf, beside those of every test."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c shared_buffers=128MB"
        options += "".join(f" -c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "--log", str(self.directory / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "--mode", mode, "stop")

    def own(self, *paths: Path) -> None:
        """Give files to the server's account, for its eyes only."""
        for path in paths:
            path.chmod(0o600)
            if self._account is not None:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        subprocess.run(
            [str(self._bin / program), *arguments],
            check=True,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.pw_uid if account is not None else None,
            group=account.pw_gid if account is not None else None,
            extra_groups=[] if account is not None else None,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


@contextmanager
def running_standby(primary: PostgresProcess) -> Iterator[PostgresProcess]:
    """A server that follows another one by streaming. It may be stopped within."""
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    server = PostgresProcess(directory)
    try:
        server.copy(primary)
        server.start()
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[PostgresProcess]:
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    server = PostgresProcess(directory)
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
