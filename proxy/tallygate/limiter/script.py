"""The Lua scripts as they are sent: prelude and body as one source, known by its SHA-1, so that rolling deploys can mix."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """sha is what EVALSHA takes; two versions of a script never share one."""

    name: str
    source: bytes
    sha: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    admit: Script
    checkpoint: Script
    settle: Script
    withdraw: Script
    expire: Script
    read: Script
    restore: Script
    reanchor: Script
    posted: Script
    due_orgs: Script
    fence: Script


class ScriptStore(Protocol):
    """What the limiter needs of a Redis client. Both raise StoreError if the answer does not come in time, or is an error."""

    async def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The script's reply: bytes, int, or a list of them. A lost connection is retried once: scripts are idempotent."""

    async def command(self, *parts: bytes) -> Any:
        """One plain command's reply. Never retried."""


def load_scripts() -> Scripts:
    """Read the package's scripts. Call it once, where the limiter is composed."""
    folder = files("tallygate.limiter") / "scripts"

    def load(name: str, *, alone: bool = False) -> Script:
        body = (folder / f"{name}.lua").read_bytes()
        source = body if alone else (folder / "prelude.lua").read_bytes() + b"\n" + body
        return Script(name, source, hashlib.sha1(source).hexdigest().encode())  # noqa: S324  Redis names scripts by SHA-1

    return Scripts(
        admit=load("admit"),
        checkpoint=load("checkpoint"),
        settle=load("settle"),
        withdraw=load("withdraw"),
        expire=load("expire"),
        read=load("read"),
        restore=load("restore"),
        reanchor=load("reanchor"),
        posted=load("posted"),
        due_orgs=load("due_orgs", alone=True),
        fence=load("fence", alone=True),
    )
