"""Checks at start that a Redis server is safe for limits. Every message names the fix."""

import re
from dataclasses import dataclass
from typing import Final

from tallygate.domain.errors import ConfigError, StoreError
from tallygate.limiter.script import ScriptStore, new_script

VERSION_MIN: Final = (6, 2)  # ZADD LT
# Releases with the fix of CVE-2025-49844 (remote code through the Lua engine), by software and series; newer series have it.
_PATCHED: Final = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
UNHELD_MASTER: Final = (
    "a master that is cut off from its replicas goes on admitting until its callers find the new one, and what it then took is "
    "lost: CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 2, and the same in redis.conf of every server"
)
_PROBE: Final = b"return 1 -- tallygate asks whether scripts are allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server reports of itself.

    policy             of eviction
    persists           whether it keeps an append-only file
    memory_max_bytes   its maxmemory; 0 without
    replicas           how many follow it
    is_held_back       whether it takes writes only while enough replicas keep up (min-replicas-to-write)
    warnings           what works but should be changed, one sentence each
    """

    software: str
    version: tuple[int, ...]
    policy: str
    persists: bool
    memory_bytes: int
    memory_max_bytes: int
    replicas: int
    is_held_back: bool
    warnings: tuple[str, ...]


async def server_facts(store: ScriptStore) -> ServerFacts:
    """Ask a server about itself. Raises StoreError."""
    info = _fields((await store.command(b"INFO")).decode(errors="replace"))
    software = "valkey" if "valkey_version" in info else "redis"
    version = tuple(int(part) for part in re.findall(r"\d+", info.get(f"{software}_version", ""))[:3])
    return ServerFacts(
        software=software,
        version=version,
        policy=info.get("maxmemory_policy", "unknown"),
        persists=info.get("aof_enabled") != "0",
        memory_bytes=int(info.get("used_memory", 0)),
        memory_max_bytes=int(info.get("maxmemory", 0)),
        replicas=int(info.get("connected_slaves", 0)),
        is_held_back=_is_held_back(info),
        warnings=_warnings(software, version, info),
    )


async def probe_server(store: ScriptStore) -> ServerFacts:
    """Check a server. Raises ConfigError if it may lose limit state or cannot run the scripts, StoreError if it does not answer."""
    facts = await server_facts(store)
    problems = []
    if facts.version < VERSION_MIN:
        problems.append(f"Redis {_version_text(facts.version)} is too old: use Redis 6.2, Valkey 7.2 or later")
    if facts.policy != "noeviction":
        problems.append(
            f"Redis maxmemory-policy is {facts.policy}, which may evict the spend that limits rest on: "
            "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
        )
    try:
        await check_scripts(store)
    except StoreError as error:
        problems.append(f"Redis does not run scripts ({error}): allow EVAL and EVALSHA for this user, and on any proxy in between")
    if problems:
        raise ConfigError(tuple(problems))
    return facts


async def check_scripts(store: ScriptStore) -> None:
    """Run a script that does nothing. Raises StoreError."""
    await store.run_script(new_script("probe", _PROBE), (), ())


def _warnings(software: str, version: tuple[int, ...], info: dict[str, str]) -> tuple[str, ...]:
    warnings = []
    patched = _PATCHED[software]
    major, minor, patch = (*version, 0, 0, 0)[:3]
    series = (major, minor)
    if patch < patched.get(series, 0) or (series not in patched and series < max(patched)):
        warnings.append(f"{software} {_version_text(version)} lacks the fix of CVE-2025-49844 in its Lua engine: upgrade")
    if info.get("aof_enabled") == "0":
        warnings.append(
            "the append-only file is off: a restart of Redis loses open reservations, and spend until it is rebuilt from the ledger"
        )
    if int(info.get("connected_slaves", 0)) and not _is_held_back(info):
        warnings.append(UNHELD_MASTER)
    return tuple(warnings)


def _version_text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version)) or "of unknown version"


def _is_held_back(info: dict[str, str]) -> bool:
    return "min_slaves_good_slaves" in info  # stated only with both options on (server.c, genRedisInfoString)


def _fields(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))
