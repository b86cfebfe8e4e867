"""Whose key goes up, and what that means for what callers see of each other: the table of docs/gloo.md, tried."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from fake_gloo import API_KEY
from gateway_harness import digest, running_gateway
from gloo_world import running_gloo, running_world, write_directory
from request_forms import FORMS, upload

ITEM = next(form for form in FORMS if form.name == "an item")
PARTNERS_OWN = "eyJ.partners-own"  # the fake takes it for a token of the partner's


async def test_behind_one_key_of_the_operators_items_have_owners_here(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        assert (await world.ask(ITEM, "partner")).status == 200
        others = await world.ask(ITEM, "parish")
        assert (others.status, others.served) == (404, None)
        assert {served.headers["authorization"] for served in world.gloo.served if served.path == ITEM.path} == {
            f"Bearer {API_KEY}"
        }


async def test_with_passthrough_what_is_stored_is_left_to_gloos_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acme's key is known by its digest, the partner's is looked up; both go up as they came."""
    monkeypatch.setenv("GLOO_API_KEY", API_KEY)
    asked: list[Any] = []

    async def introspect(request: web.Request) -> web.Response:
        asked.append((await request.post())["token"])
        return web.json_response({"active": asked[-1] == digest(PARTNERS_OWN), "client_id": "partner-prod", "org_id": "uuid"})

    service = web.Application()
    service.router.add_post("/introspect", introspect)
    async with running_gloo() as (gloo, url), TestServer(service) as looking_up:
        policy = {"org_claim": "org_id", "org_claim_optional": True, "org_ids": {"uuid": "partner"}}
        lookup = {"url": str(looking_up.make_url("/introspect")), **policy}
        directory = tmp_path / "config"
        write_directory(directory, url, authentication={"key_lookup": lookup})
        for name, change in (
            ("upstreams", lambda found: found["upstreams"]["default"].update(auth={"kind": "passthrough"})),
            ("organizations", lambda found: found["organizations"][0]["credentials"][0].update(key_sha256=digest(API_KEY))),
            ("organizations", lambda found: found["organizations"][0].update(plan="pro")),  # which has the data engine
        ):
            file = directory / f"{name}.yaml"
            found = yaml.safe_load(file.read_text())
            change(found)
            file.write_text(yaml.safe_dump(found))
        form = upload("items", "here", "a.txt")
        async with running_gateway(tmp_path, config_dir=directory, upstream_url=url) as harness, ClientSession() as session:
            statuses = []
            for sent, key in ((form, PARTNERS_OWN), (ITEM, API_KEY), (ITEM, PARTNERS_OWN)):
                headers = {"Authorization": f"Bearer {key}", "Content-Type": sent.content_type, **sent.headers}
                async with session.request(
                    sent.method, harness.url + sent.target, data=sent.body_bytes or None, headers=headers
                ) as answer:
                    statuses.append(answer.status)
            await harness.at_rest()
            assert statuses == [200, 200, 200]
            assert [served.headers["authorization"] for served in gloo.served if served.path == ITEM.path] == [
                f"Bearer {API_KEY}",
                f"Bearer {PARTNERS_OWN}",
            ]
            assert [event["org"] for event in harness.events()] == ["partner", "acme", "partner"]
            assert asked == [digest(PARTNERS_OWN)]
