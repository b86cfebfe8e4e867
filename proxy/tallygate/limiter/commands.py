"""The commands that the store's user needs, declared once: for its access list, and to try whether it may run them.

Those of the scripts are among them: a server asks the same of a script's user (Redis, "ACL": "commands executed within scripts").
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.limiter.keys import partition_keys
from tallygate.limiter.script import Store, StoreNode
from tallygate.limiter.writes import PERMISSION

KEYS: Final = "tg:*"  # and channels
_TEXT: Final = "TEXT"  # stands for a key that holds text: commands for other types fail at it, and change nothing
_NONE: Final = "NONE"  # stands for a key that nobody sets
_WRITE: Final = "SET"
# These change the connection: connecting runs the first, and listening to announcements the second.
_APART: Final = frozenset({"SELECT", "SUBSCRIBE"})

# By command, with its subcommand if it has any: arguments with which to try it.
COMMANDS: Final[Mapping[str, str]] = {
    "SET": f"{_TEXT} 1 PX 60000",
    "PING": "",
    "INFO": "server",
    "TIME": "",
    "SELECT": "0",
    "CLIENT SETNAME": "tallygate",
    "EVAL": "return 0",
    "EVALSHA": f"{'0' * 40} 0",
    "PUBLISH": "tg:probe tried",
    "SUBSCRIBE": "tg:probe",
    "GET": _TEXT,
    "MGET": _TEXT,
    "EXISTS": _TEXT,
    "EXPIRE": f"{_NONE} 60",
    "PEXPIRE": f"{_NONE} 60000",
    "PTTL": _NONE,
    "RENAME": f"{_NONE} {_NONE}",
    "RENAMENX": f"{_NONE} {_NONE}",
    "HDEL": f"{_TEXT} field",
    "HGET": f"{_TEXT} field",
    "HGETALL": _TEXT,
    "HINCRBY": f"{_TEXT} field 1",
    "HMGET": f"{_TEXT} field",
    "HSET": f"{_TEXT} field 1",
    "ZADD": f"{_TEXT} 1 member",
    "ZRANGE": f"{_TEXT} 0 -1",
    "ZRANGEBYSCORE": f"{_TEXT} 0 1",
    "ZREM": f"{_TEXT} member",
    "XACK": f"{_TEXT} group 1-1",
    "XADD": f"{_TEXT} * field 1",
    "XAUTOCLAIM": f"{_TEXT} group consumer 1 0-0",
    "XDEL": f"{_TEXT} 1-1",
    "XGROUP CREATE": f"{_TEXT} group 0",
    "XGROUP DELCONSUMER": f"{_TEXT} group consumer",
    "XINFO CONSUMERS": f"{_TEXT} group",
    "XINFO STREAM": _TEXT,
    "XLEN": _TEXT,
    "XRANGE": f"{_TEXT} - +",
    "XREADGROUP": f"GROUP group consumer STREAMS {_TEXT} >",
    "MEMORY USAGE": _TEXT,
    "DEL": _TEXT,
}

_CLUSTER_COMMANDS: Final[Mapping[str, str]] = {"CLUSTER SLOTS": "", "ASKING": ""}


def needed_commands(*, is_cluster: bool) -> Mapping[str, str]:
    return {**COMMANDS, **_CLUSTER_COMMANDS} if is_cluster else COMMANDS


def access_list(user: str, *, is_cluster: bool) -> str:
    """The command that makes the least user, or brings it to what is needed: only PASSWORD is left to be put in."""
    allowed = " ".join(f"+{name.lower().replace(' ', '|')}" for name in needed_commands(is_cluster=is_cluster))
    return f"ACL SETUSER {user} reset on >PASSWORD ~{KEYS} &{KEYS} {allowed}"


async def check_writes(store: Store) -> None:
    """Write a small key that expires to each server. Raises StoreError, whose `obstacle` says why no writes are taken."""
    for node in store.nodes():
        await node.store.command(*_words(_WRITE, COMMANDS[_WRITE], node))


async def check_commands(store: Store) -> None:
    """Run each command once at each server, without effect but for a small write.

    Raises StoreError: its `obstacle` names the commands that are refused to the user, or says why no writes are taken.
    """
    for node in store.nodes():
        await _try_commands(node, needed_commands(is_cluster=store.is_cluster))


async def _try_commands(node: StoreNode, needed: Mapping[str, str]) -> None:
    tried = [name for name in needed if name not in _APART]
    calls = (node.store.command(*_words(name, needed[name], node)) for name in tried)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    _raise_refused([name for name, answer in zip(tried, answers, strict=True) if _is_refused(answer)])
    written = answers[tried.index(_WRITE)]
    if isinstance(written, BaseException):
        raise written


async def check_permissions(store: Store) -> None:
    """Ask each server whether the user may run each command, or where it may not ask, run them; SUBSCRIBE too.

    To be called at the end of a connection, which can do nothing else afterwards. Raises StoreError as `check_commands` does.
    """
    for node in store.nodes():
        await _ask_permissions(node, needed_commands(is_cluster=store.is_cluster))


async def _ask_permissions(node: StoreNode, needed: Mapping[str, str]) -> None:
    command = node.store.command
    try:
        user = await command(b"ACL", b"WHOAMI")
        calls = (command(b"ACL", b"DRYRUN", user, *_words(name, tried, node)) for name, tried in needed.items())
        answers = await asyncio.gather(*calls)
    except StoreError:  # Redis 6.2 has no DRYRUN, and the least user may not run it
        await _try_commands(node, needed)
        try:
            await command(*_words("SUBSCRIBE", COMMANDS["SUBSCRIBE"], node))
        except StoreError as error:
            _raise_refused(["SUBSCRIBE"] if _is_refused(error) else [])
    else:
        _raise_refused([name for name, answer in zip(needed, answers, strict=True) if answer != b"OK"])


def _is_refused(answer: object) -> bool:
    return isinstance(answer, StoreError) and answer.obstacle == PERMISSION


def _raise_refused(names: list[str]) -> None:
    if names:
        text = f"refuses {', '.join(names)} to its user (NOPERM): tallygate doctor --acl prints what it needs"
        raise StoreError(f"the store {text}", Obstacle(PERMISSION.name, text))


def _words(name: str, arguments: str, node: StoreNode) -> tuple[bytes, ...]:
    """A command with its arguments. Its keys are of a partition that the server has."""
    probe = partition_keys(node.partitions[0]).probe
    keys = {_TEXT: probe + b":text", _NONE: probe + b":none"}
    return tuple(keys.get(word) or word.encode() for word in (*name.split(), *arguments.split()))
