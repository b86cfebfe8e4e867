"""Which versions of Redis and Valkey are refused at start, and which of them are named as unsafe."""

from typing import Any

import pytest

from tallygate.domain.errors import ConfigError
from tallygate.limiter.probe import ServerFacts, probe_server
from tallygate.limiter.script import Script


class Server:
    """Says of itself that it has a version. Implements `ScriptStore`, as far as the probe goes."""

    is_cluster, resent = False, 0

    def __init__(self, software: str, version: str) -> None:
        self._info = f"# Server\r\n{software}_version:{version}\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"

    async def command(self, *_parts: bytes) -> bytes:
        return self._info.encode()

    async def run_script(self, _script: Script, _keys: tuple[bytes, ...], _args: tuple[bytes, ...]) -> Any:
        return 1


async def probed(software: str, version: str) -> ServerFacts:
    return await probe_server(Server(software, version))


@pytest.mark.parametrize(("version", "named"), [("6.0.16", "Redis 6.0.16"), ("5.0", "Redis 5.0"), ("", "Redis of unknown version")])
async def test_a_version_that_lacks_commands_is_refused_by_name(version: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named} is too old: use Redis 6.2, Valkey 7.2 or later"):
        await probed("redis", version)


@pytest.mark.parametrize(
    ("software", "version"),
    [("redis", "6.2.19"), ("redis", "7.0.15"), ("redis", "8.2.1"), ("valkey", "7.2.10"), ("valkey", "8.1")],
)
async def test_a_version_without_the_fix_of_its_lua_engine_is_named(software: str, version: str) -> None:
    (warning,) = (await probed(software, version)).warnings
    assert warning.startswith(f"{software} {version} lacks the fix of CVE-2025-49844")


@pytest.mark.parametrize(
    ("software", "version"),
    [("redis", "6.2.20"), ("redis", "8.2.2"), ("redis", "8.4.0"), ("valkey", "7.2.11"), ("valkey", "8.1.4"), ("valkey", "9.0.0")],
)
async def test_a_version_with_it_is_not(software: str, version: str) -> None:
    assert (await probed(software, version)).warnings == ()
