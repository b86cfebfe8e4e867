"""The fake Gloo behind a gateway with the configuration that `tallygate init gloo` writes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientPayloadError, ClientSession
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from fake_gloo import API_KEY, FakeGloo, Served
from gateway_harness import Harness, digest, running_gateway
from request_forms import Form, upload

from tallygate.cli import main

OTHERS = {"parish": "pro", "partner": "enterprise"}  # organizations beside the one that `init` writes, and their plans
# What recipes and SDKs send, and what has to stay here: a cookie, who a proxy says one is, and whose account pays at OpenAI.
SENT = {"Accept": "*/*", "Accept-Encoding": "gzip", "User-Agent": "gloo-recipe", "traceparent": "00-1-2-01"}
KEPT_BACK = {"Cookie": "a=b", "X-Forwarded-For": "10.0.0.1", "OpenAI-Organization": "org-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a client got, what Gloo had for it (None: nothing), and the usage event (None: there is none)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    served: Served | None
    event: dict[str, Any] | None


@dataclass(kw_only=True)
class World:
    """keys: of acme, on the plan that `init` gives (pay as you go), and of OTHERS."""

    gloo: FakeGloo
    harness: Harness
    session: ClientSession
    keys: Mapping[str, str]

    async def ask(self, form: Form, org: str, *, fails: str = "") -> Answered:
        """Ten seconds after the one before, so that no rate limit is met."""
        self.harness.clock.offset_ms += 10_000
        self.gloo.fails = fails
        served, events = len(self.gloo.served), {event["event_id"] for event in self.harness.events()}
        headers = {
            "Authorization": f"Bearer {self.keys[org]}",
            "Content-Type": form.content_type,
            **SENT,
            **KEPT_BACK,
            **form.headers,
        }
        if not form.body_bytes:
            del headers["Content-Type"]
        body = b""
        async with self.session.request(
            form.method, self.harness.url + form.target, data=form.body_bytes or None, headers=headers
        ) as response:
            with suppress(ClientPayloadError):  # a stream that breaks off
                async for piece in response.content.iter_any():
                    body += piece
        await self.harness.at_rest()
        new = [event for event in self.harness.events() if event["event_id"] not in events]
        assert len(new) <= 1
        assert len(self.gloo.served) <= served + 1
        return Answered(
            status=response.status,
            headers=response.headers,
            body=body,
            served=self.gloo.served[served] if len(self.gloo.served) > served else None,
            event=new[0] if new else None,
        )


@asynccontextmanager
async def running_gloo() -> AsyncIterator[tuple[FakeGloo, str]]:
    """The fake and its address."""
    gloo = FakeGloo()
    server = TestServer(gloo.app())
    await server.start_server()
    try:
        yield gloo, str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


def write_directory(directory: Path, url: str, **more: Any) -> dict[str, str]:
    """What `tallygate init gloo` writes, and OTHERS beside its organization; the key of each. more: further files."""
    shown = CliRunner().invoke(main, ["init", "gloo", "--base-url", url, "--config-dir", str(directory)])
    assert shown.exit_code == 0, shown.output
    key = next(line for line in shown.output.splitlines() if line.startswith("tg_"))
    file = directory / "organizations.yaml"
    organizations = yaml.safe_load(file.read_text())
    organizations["organizations"][0]["spend_limit"] = {"usd": "100"}  # Gloo's own limit
    for org, plan in OTHERS.items():
        credential = {"id": f"{org}-prod", "key_sha256": digest(f"{org}secret")}
        organizations["organizations"].append({"id": org, "name": org.title(), "plan": plan, "credentials": [credential]})
    file.write_text(yaml.safe_dump(organizations))
    for name, content in more.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return {"acme": key} | {org: f"tg_{org}-prod_{org}secret" for org in OTHERS}


@asynccontextmanager
async def running_world(tmp_path: Path, **more: Any) -> AsyncIterator[World]:
    """A gateway in this process, with three items of partner's at Gloo. more: further files of the configuration."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_API_KEY", API_KEY)
        async with running_gloo() as (gloo, url):
            keys = write_directory(tmp_path / "config", url, **more)
            async with (
                running_gateway(tmp_path, config_dir=tmp_path / "config", upstream_url=url) as harness,
                ClientSession() as session,
            ):
                world = World(gloo=gloo, harness=harness, session=session, keys=keys)
                assert (await world.ask(upload("three items", "here", "a.txt", "b.txt", "c.txt"), "partner")).status == 200
                yield world
