"""The commands that the store's user needs, declared once: for its access list, and to try whether it may run them.

Those of the scripts are among them: a server asks the same of a script's user (Redis, "ACL": "commands executed within scripts").
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.limiter.script import ScriptStore
from tallygate.limiter.writes import PERMISSION

KEYS: Final = "tg:*"  # and channels
_TEXT: Final = "tg:{probe}:text"  # a key that holds text: commands for other types fail at it, and change nothing
_NONE: Final = "tg:{probe}:none"  # a key that nobody sets
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


def access_list(user: str) -> str:
    """The command that makes the least user, or brings it to what is needed: only PASSWORD is left to be put in."""
    allowed = " ".join(f"+{name.lower().replace(' ', '|')}" for name in COMMANDS)
    return f"ACL SETUSER {user} reset on >PASSWORD ~{KEYS} &{KEYS} {allowed}"


async def check_writes(store: ScriptStore) -> None:
    """Write a small key that expires. Raises StoreError, whose `obstacle` says why no writes are taken."""
    await store.command(*_words(_WRITE))


async def check_commands(store: ScriptStore) -> None:
    """Run each command once, without effect but for a small write.

    Raises StoreError: its `obstacle` names the commands that are refused to the user, or says why no writes are taken.
    """
    tried = [name for name in COMMANDS if name not in _APART]
    answers = await asyncio.gather(*(store.command(*_words(name)) for name in tried), return_exceptions=True)
    _raise_refused([name for name, answer in zip(tried, answers, strict=True) if _is_refused(answer)])
    written = answers[tried.index(_WRITE)]
    if isinstance(written, BaseException):
        raise written


async def check_permissions(store: ScriptStore) -> None:
    """Ask the server whether the user may run each command, or where it may not ask, run them; SUBSCRIBE too.

    To be called at the end of a connection, which can do nothing else afterwards. Raises StoreError as `check_commands` does.
    """
    try:
        user = await store.command(b"ACL", b"WHOAMI")
        answers = await asyncio.gather(*(store.command(b"ACL", b"DRYRUN", user, *_words(name)) for name in COMMANDS))
    except StoreError:  # Redis 6.2 has no DRYRUN, and the least user may not run it
        await check_commands(store)
        try:
            await store.command(*_words("SUBSCRIBE"))
        except StoreError as error:
            _raise_refused(["SUBSCRIBE"] if _is_refused(error) else [])
    else:
        _raise_refused([name for name, answer in zip(COMMANDS, answers, strict=True) if answer != b"OK"])


def _is_refused(answer: object) -> bool:
    return isinstance(answer, StoreError) and answer.obstacle == PERMISSION


def _raise_refused(names: list[str]) -> None:
    if names:
        text = f"refuses {', '.join(names)} to its user (NOPERM): tallygate doctor --acl prints what it needs"
        raise StoreError(f"the store {text}", Obstacle(PERMISSION.name, text))


def _words(name: str) -> tuple[bytes, ...]:
    """A command with its arguments."""
    return tuple(word.encode() for word in (*name.split(), *COMMANDS[name].split()))
