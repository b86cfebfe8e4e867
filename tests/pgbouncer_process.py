"""A real pgbouncer as a child process, from Debian's package, with its settings as they come, before a PostgreSQL of tests."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postgres_process import UNPRIVILEGED, USER, PostgresProcess

_PROGRAM = "pgbouncer"
_STARTS_IN_SECONDS = 20


@contextmanager
def running_pgbouncer(server: PostgresProcess, pool_mode: str, *, sessions: int) -> Iterator[PostgresProcess]:
    """Yield something with `url(database)` like the server's, through pgbouncer.

    sessions   at the server, for each database
    """
    program = shutil.which(_PROGRAM, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise RuntimeError("no pgbouncer: apt-get install pgbouncer")
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    behind = PostgresProcess(directory)
    users, settings = directory / "users", directory / "pgbouncer.ini"
    users.write_text(f'"{USER}" ""\n', encoding="utf-8")
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {behind.port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {pool_mode}\ndefault_pool_size = {sessions}\n",
        encoding="utf-8",
    )
    account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
    if account is not None:
        for path in (directory, users, settings):
            os.chown(path, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [program, "--quiet", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account.pw_uid if account is not None else None,
        group=account.pw_gid if account is not None else None,
        extra_groups=[] if account is not None else None,
    )
    try:
        _wait_for(behind.port, process)
        yield behind
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_IN_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("pgbouncer did not start") from None
            time.sleep(0.02)
        else:
            return
