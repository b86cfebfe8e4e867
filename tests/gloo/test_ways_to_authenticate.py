"""The three blocks of the `upstreams.yaml` that `tallygate init gloo` writes, each with what Gloo then sees."""

from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession
from fake_gloo import API_KEY, CLIENT_ID, CLIENT_SECRET, FakeGloo
from gateway_harness import digest, running_gateway
from gloo_world import running_gloo, write_directory
from request_forms import FORMS

from tallygate.config.shipped import shipped_directory

CHAT = next(form for form in FORMS if form.name == "model")
BLOCKS = (shipped_directory() / "starters" / "gloo" / "upstreams.yaml").read_text()


def write_block(directory: Path, url: str, kind: str) -> dict[str, str]:
    """The directory with another of the blocks that are commented out in it."""
    keys = write_directory(directory, url)
    _, _, after = BLOCKS.partition("# auth: {kind: passthrough}" if kind == "passthrough" else "# auth:\n")
    auth = {"kind": "passthrough"}
    if kind != "passthrough":
        lines = [line.strip().removeprefix("# ") for line in after.splitlines()[:5]]
        auth = yaml.safe_load("\n".join(line.strip() for line in lines)) | {"token_url": f"{url}/oauth2/token"}
    file = directory / "upstreams.yaml"
    upstreams = yaml.safe_load(file.read_text())
    upstreams["upstreams"]["default"]["auth"] = auth
    file.write_text(yaml.safe_dump(upstreams))
    return keys


@pytest.fixture(autouse=True)
def operators_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("GLOO_CLIENT_SECRET", CLIENT_SECRET)
    monkeypatch.setenv("GLOO_API_KEY", API_KEY)


async def ask(url: str, key: str, **headers: str) -> tuple[int, dict[str, str]]:
    headers = headers or {"Authorization": f"Bearer {key}"}
    async with ClientSession() as session, session.post(f"{url}{CHAT.path}", data=CHAT.body_bytes, headers=headers) as answer:
        return answer.status, await answer.json()


def authorizations(gloo: FakeGloo) -> list[str]:
    return [served.headers["authorization"] for served in gloo.served if served.path == CHAT.path]


async def test_client_credentials_get_one_token_and_another_where_that_was_revoked(tmp_path: Path) -> None:
    async with running_gloo() as (gloo, url):
        keys = write_block(tmp_path / "config", url, "oauth2_client_credentials")
        async with running_gateway(tmp_path, config_dir=tmp_path / "config", upstream_url=url) as harness:
            for org in ("acme", "partner"):
                assert (await ask(harness.url, keys[org]))[0] == 200
            gloo.tokens_revoked.add("eyJ.1")
            assert (await ask(harness.url, keys["acme"]))[0] == 200
            assert authorizations(gloo) == ["Bearer eyJ.1"] * 3 + ["Bearer eyJ.2"]
            await harness.at_rest()
            assert [event["cost_nano_usd"] for event in harness.events()] == [CHAT.cost] * 3


async def test_a_key_that_gloo_does_not_take_is_not_the_callers_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_API_KEY", "sk_revoked")
    async with running_gloo() as (_, url):
        keys = write_directory(tmp_path / "config", url)
        async with running_gateway(tmp_path, config_dir=tmp_path / "config", upstream_url=url) as harness:
            status, told = await ask(harness.url, keys["acme"])
            assert (status, told["error"]["name"]) == (502, "UPSTREAM_KEY_REFUSED")
            await harness.at_rest()
            assert [event["cost_nano_usd"] for event in harness.events()] == [0]


async def test_with_passthrough_gloo_sees_each_callers_own_key(tmp_path: Path) -> None:
    async with running_gloo() as (gloo, url):
        keys = write_block(tmp_path / "config", url, "passthrough")
        file = tmp_path / "config" / "organizations.yaml"
        organizations = yaml.safe_load(file.read_text())
        organizations["organizations"][0]["credentials"] = [{"id": "acme-own", "key_sha256": digest(API_KEY)}]
        file.write_text(yaml.safe_dump(organizations))
        async with running_gateway(tmp_path, config_dir=tmp_path / "config", upstream_url=url) as harness:
            assert (await ask(harness.url, API_KEY))[0] == 200
            assert (await ask(harness.url, keys["partner"]))[0] == 401  # a key of tallygate's never goes up
            assert [served.headers.get("authorization") for served in gloo.served if served.path == CHAT.path] == [
                f"Bearer {API_KEY}",
                None,
            ]
            await harness.at_rest()
            paid = {event["credential"]: event["cost_nano_usd"] for event in harness.events()}
            assert paid == {"acme-own": CHAT.cost, "partner-prod": 0}
