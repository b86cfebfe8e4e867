"""The Lua scripts as they are sent: each with the shared parts that it needs, named by SHA-1, so that versions can coexist."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Protocol

from tallygate.limiter.keys import ALL_PARTITIONS

# Files whose names nearly every function uses. These are defined outside of the function that has all others: Lua finds what a
# function uses of the very one that defines it by a search through all such names, and what lies further out at once.
_OUTER: Final = ("base", "keys")
_WITH_OWN_KEYS: Final = frozenset({"expire"})  # of whoever is due
# Of a Lua file, the files of scripts/shared whose names it uses: anywhere, or only in the block that has this line. Each call
# makes all functions anew, and one takes half a hundredth of it, so those that hardly a call needs are made where one does.
_NEEDS: Final = re.compile(rb"^-- needs: (.+)$", re.MULTILINE)
_MADE_HERE: Final = re.compile(rb"^ +-- made here: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """sha is what EVALSHA takes; two versions of a script never share one.

    has_own_keys   hardly any two calls have the same keys
    """

    name: str
    source: bytes
    sha: bytes
    has_own_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    admit: Script
    checkpoint: Script
    settle: Script
    defer: Script
    withdraw: Script
    forget: Script
    expire: Script
    read: Script
    restore: Script
    reanchor: Script
    posted: Script
    due_orgs: Script
    waiting: Script
    stored: Script
    fence: Script


class ScriptStore(Protocol):
    """A Redis client as the limiter needs it. Calls raise StoreError if the answer does not come in time, or is an error."""

    @property
    def is_cluster(self) -> bool:
        """Whether it is a Redis Cluster, which takes keys of one slot in a command."""

    @property
    def resent(self) -> int:
        """How many calls of scripts were sent a second time, since a connection was lost: the first copy may still arrive."""

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The script's reply: bytes, int, or a list of them. A lost connection is retried once: scripts are idempotent."""

    async def command(self, *parts: bytes) -> Any:
        """One plain command's reply. Never retried."""


@dataclass(frozen=True, slots=True)
class StoreNode:
    """A server of a store: the only one, or a master of a cluster.

    name         its address, without a secret
    store        calls it and no other
    partitions   those that it has
    """

    name: str
    store: ScriptStore
    partitions: tuple[int, ...]


class Store(ScriptStore, Protocol):
    """All of the limiter's store, whatever servers it is made of."""

    def nodes(self) -> Sequence[StoreNode]:
        """Its servers, each with its partitions."""


def asked_together(store: ScriptStore, partitions: tuple[int, ...] = ALL_PARTITIONS) -> Sequence[tuple[int, ...]]:
    """Partitions whose keys one command may have: all of these, but of a cluster, which takes keys of one slot, each alone."""
    return [(partition,) for partition in partitions] if store.is_cluster else [partitions]


@cache
def load_scripts() -> Scripts:
    """The package's scripts, read once in a process: one file of `scripts` for each field of Scripts."""
    folder = files("tallygate.limiter") / "scripts"
    return Scripts(**{field.name: new_script(field.name, _joined(folder, field.name)) for field in fields(Scripts)})


def new_script(name: str, source: bytes) -> Script:
    sha = hashlib.sha1(source).hexdigest().encode()  # noqa: S324  Redis names scripts by SHA-1
    return Script(name, source, sha, has_own_keys=name in _WITH_OWN_KEYS)


def _joined(folder: Traversable, name: str) -> bytes:
    """The script after the shared files that it needs: each file of `scripts/shared` once, after those that it needs itself."""
    body, shared = (folder / f"{name}.lua").read_bytes(), folder / "shared"
    placed = _placed(shared, _named(_NEEDS, body), frozenset())
    body = _filled(shared, body, frozenset(placed))
    outer = [placed.pop(file) for file in _OUTER if file in placed]
    return b"\n".join((*outer, b"local function decide()", *placed.values(), body, b"end", b"return decide()"))


def _placed(shared: Traversable, files: Sequence[str], outside: frozenset[str]) -> dict[str, bytes]:
    """The texts of these files and of those that they need, but for what is defined outside, each after what it needs.

    Where a line says which files are made here, the texts of those stand that are not in front of it already.
    """
    defined = outside.union(_with_their_needs(shared, files))
    placed: dict[str, bytes] = {}

    def place(some: Sequence[str]) -> None:
        for file in some:
            if file in defined - outside - placed.keys():
                source = (shared / f"{file}.lua").read_bytes()
                place(sorted(_with_their_needs(shared, [*_named(_NEEDS, source), *_named(_MADE_HERE, source)])))
                placed[file] = _filled(shared, source, defined)

    place(files)
    return placed


def _filled(shared: Traversable, source: bytes, defined: frozenset[str]) -> bytes:
    return _MADE_HERE.sub(lambda line: b"\n".join(_placed(shared, line[1].decode().split(", "), defined).values()), source)


def _with_their_needs(shared: Traversable, files: Sequence[str]) -> set[str]:
    found = set(files)
    for file in files:
        found |= _with_their_needs(shared, _named(_NEEDS, (shared / f"{file}.lua").read_bytes()))
    return found


def _named(line: re.Pattern[bytes], source: bytes) -> list[str]:
    """The files that lines of this kind name."""
    return [name for names in line.findall(source) for name in names.decode().split(", ")]
