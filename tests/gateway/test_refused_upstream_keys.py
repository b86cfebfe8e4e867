"""An upstream that answers 401 to the operator's own key: a revoked token is replaced, and nobody takes it for the caller's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData, web
from aiohttp.test_utils import TestServer
from gateway_harness import ACME_KEY, Harness, running_gateway

AUTH = {"Authorization": f"Bearer {ACME_KEY}"}
CHAT = {"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = {
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Amen"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
REFUSED_AS = {"WWW-Authenticate": 'Bearer realm="upstream"'}


@dataclass
class Revoking:
    """An authorization server and the API behind it, which takes the last token alone, or none."""

    issued: int = 0
    takes: bool = True
    large: bool = False
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    url: str = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/oauth2/token":
            self.issued += 1
            return web.json_response({"access_token": f"t{self.issued}", "expires_in": 3600})
        key = request.headers["Authorization"]
        self.seen.append((request.path, key, body))
        if not self.takes or key in self.revoked:
            text = "no such token" * (200_000 if self.large else 1)
            kind = "text/event-stream" if b'"stream": true' in body else "application/json"
            return web.Response(status=401, text=text, content_type=kind, headers=REFUSED_AS)
        return web.json_response(ANSWER)

    def revoke(self) -> None:
        self.revoked.add(f"Bearer t{self.issued}")


@asynccontextmanager
async def revoking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str = "oauth2_client_credentials"
) -> AsyncIterator[tuple[Harness, Revoking, ClientSession]]:
    monkeypatch.setenv("UPSTREAM_SECRET", "sk-operator")
    upstream = Revoking()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", upstream.serve)
    server = TestServer(app)
    await server.start_server()
    upstream.url = str(server.make_url("")).rstrip("/")
    auth: dict[str, Any] = {"kind": kind}
    if kind != "passthrough":
        auth["secret_env"] = "UPSTREAM_SECRET"
    if kind == "oauth2_client_credentials":
        auth |= {"token_url": f"{upstream.url}/oauth2/token", "client_id": "gloo-client"}
    config = {"upstreams": {"upstreams": {"default": {"base_url": upstream.url, "auth": auth}}}}
    try:
        async with (
            running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness,
            ClientSession(harness.url, headers=AUTH) as session,
        ):
            yield harness, upstream, session
    finally:
        await server.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("large", [False, True])
async def test_a_revoked_token_is_replaced_and_the_request_sent_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stream: bool, large: bool
) -> None:
    async with revoking(tmp_path, monkeypatch) as (harness, upstream, session):
        upstream.large = large
        for revocations in (1, 2):  # also right after one another: the token between them was a good one
            async with session.post("/v1/chat/completions", json=CHAT) as answer:
                assert answer.status == 200
            upstream.revoke()
            async with session.post("/v1/chat/completions", json=CHAT | {"stream": stream}) as answer:
                assert answer.status == 200
                assert (await answer.json())["choices"] == ANSWER["choices"]
            assert upstream.issued == revocations + 1
        *_, refused, served = upstream.seen
        assert (refused[1], served[1], refused[2]) == ("Bearer t2", "Bearer t3", served[2])
        async with session.get("/v1/models") as answer:
            assert answer.status == 200
        upstream.revoke()
        async with session.get("/v1/models") as answer:
            assert answer.status == 200
        await harness.at_rest()
        costs = [event["cost_nano_usd"] for event in harness.events() if event["method"] == "POST"]
        assert len(costs) == 4
        assert len(set(costs)) == 1  # what was refused costs nothing
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize("kind", ["oauth2_client_credentials", "bearer"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_401_to_the_operators_key_is_never_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, stream: bool
) -> None:
    async with revoking(tmp_path, monkeypatch, kind=kind) as (harness, upstream, session):
        upstream.takes, upstream.large = False, stream
        for count in (1, 2):
            async with session.post("/v1/chat/completions", json=CHAT | {"stream": stream}) as answer:
                assert answer.status == 502
                assert (await answer.json())["error"]["code"] == "upstream_key_refused"
                assert "WWW-Authenticate" not in answer.headers
                assert answer.headers["x-should-retry"] == "false"
                assert "no such token" not in await answer.text()
            assert len(upstream.seen) == count + (kind != "bearer")  # the new token was refused as well: it is kept for a minute
        async with session.head("/v1/models") as answer:
            assert answer.status == 502
        await harness.at_rest()
        assert {(event["status"], event["outcome"], event["cost_nano_usd"]) for event in harness.events()} == {
            (502, "upstream_error", 0)
        }
        assert (await harness.window()).held_nano_usd == 0


async def test_a_body_that_streams_through_is_never_sent_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with revoking(tmp_path, monkeypatch) as (_, upstream, session):

        async def upload() -> int:
            form = FormData()
            form.add_field("purpose", "user_data")
            form.add_field("file", b"text", filename="a.md")
            async with session.post("/v1/files", data=form) as answer:
                return answer.status

        assert await upload() == 200
        upstream.revoke()
        assert await upload() == 502
        assert [path for path, _, _ in upstream.seen] == ["/v1/files"] * 2
        assert await upload() == 200


async def test_the_clients_own_key_is_the_clients_own_401(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with revoking(tmp_path, monkeypatch, kind="passthrough") as (_, upstream, session):
        upstream.takes = False
        async with session.post("/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer own-key"}) as answer:
            assert answer.status == 401
