"""A worker that has not read the organizations of the database yet: nobody's key is called wrong."""

from pathlib import Path

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway

from tallygate.config.directory import StoredSource
from tallygate.gateway.stored_directory import NoStoredDirectory
from tallygate.telemetry.metrics import DIRECTORY_UNREAD

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


async def ask(gateway: Harness, key: str) -> tuple[int, str, str | None]:
    """Status, code of the error, and when to try again."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=CHAT) as answer,
    ):
        return answer.status, (await answer.json()).get("error", {}).get("code", ""), answer.headers.get("retry-after")


async def test_keys_that_are_in_no_file_get_503_until_the_database_was_read(tmp_path: Path) -> None:
    stored = NoStoredDirectory()
    stored.source = StoredSource.NOTHING
    async with running_gateway(tmp_path, stored=stored) as gateway:
        assert gateway.metrics.levels[DIRECTORY_UNREAD] == 1
        assert (await ask(gateway, ACME_KEY))[0] == 200
        for key in ("tg_globex-prod_aaaa", "brought-along"):
            assert await ask(gateway, key) == (503, "authentication_unavailable", "5")

        stored.source = StoredSource.DATABASE
        gateway.gateway.follow_directory(frozenset())

        assert await ask(gateway, "tg_globex-prod_aaaa") == (401, "invalid_api_key", None)
        assert gateway.metrics.levels[DIRECTORY_UNREAD] == 0
