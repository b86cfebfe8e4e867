"""Spend alerts from end to end: serve, a real Prometheus with the shipped rules, a real Alertmanager, a receiver of each route."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from prometheus_server import PROMETHEUS_CONFIG, running_alertmanager, running_prometheus, shipped_config
from stack import Stack, eventually, running_stack
from system_traffic import ask, callers, chat, three_organizations

LIMIT_USD = "0.01"
WARNING, PAUSE = "TallygateSpendAbove80Percent", "TallygateOrganizationPaused"


def impatient_rules(directory: Path) -> list[Path]:
    """The shipped rules, with every `for` of an alert about an organization taken to one second; nothing else is changed."""
    written = []
    for name in ("recording.yml", "alerts.yml"):
        rules = yaml.safe_load((PROMETHEUS_CONFIG / name).read_text(encoding="utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                if group["name"] == "tallygate-organizations":
                    rule["for"] = "1s"
        written.append(directory / name)
        written[-1].write_text(yaml.safe_dump(rules, sort_keys=False), encoding="utf-8")
    return written


def impatient_routes(receiver_url: str) -> dict[str, Any]:
    """The shipped routes and inhibitions; messages leave after a second, each receiver has its own path at the local one."""
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS_CONFIG / "alertmanager.yml").read_text(encoding="utf-8"))
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    config["receivers"] = [
        {"name": receiver["name"], "webhook_configs": [{"url": f"{receiver_url}/{receiver['name']}"}]}
        for receiver in config["receivers"]
    ]
    return config


class Received:
    """What has arrived: (receiver, status, alert's name, organization), in order."""

    def __init__(self) -> None:
        self.url = ""
        self.told: list[tuple[str, str, str, str]] = []
        self.texts: dict[tuple[str, str], str] = {}

    async def take(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            name, org = alert["labels"]["alertname"], alert["labels"].get("org", "")
            self.told.append((request.match_info["receiver"], alert["status"], name, org))
            self.texts[name, org] = alert["annotations"]["description"]
        return web.Response()

    def times(self, receiver: str, name: str, org: str) -> int:
        return self.told.count((receiver, "firing", name, org))

    def is_told(self, name: str, org: str) -> bool:
        """The organization has heard of it, and so has the platform team."""
        return all(self.times(receiver, name, org) for receiver in (org, "platform-team"))


@asynccontextmanager
async def receiving() -> AsyncIterator[Received]:
    received = Received()
    app = web.Application()
    app.router.add_post("/{receiver}", received.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        received.url = f"http://{host}:{port}"
        yield received
    finally:
        await runner.cleanup()


async def spend_until(stack: Stack, credential: str, is_enough: Callable[[int], bool]) -> int:
    """Ask until it is enough, or until a request is refused; the status of the last one."""
    status = 0
    async with callers() as session:
        while not is_enough(stack.window(credential.partition("-")[0])["spent"]):
            status = (
                await ask(stack=stack, session=session, credential=credential, body=chat("tokens=400", tokens_max=400))
            ).status
            if status != 200:
                break
    return status


@pytest.mark.timeout(300)
async def test_an_organization_hears_once_of_eighty_percent_and_once_of_its_pause(tmp_path: Path) -> None:
    organizations = three_organizations(acme_usd=LIMIT_USD)
    organizations["organizations"][1]["spend_limit"] = {"usd": LIMIT_USD}
    limit = 10_000_000  # nano-USD
    async with (
        receiving() as received,
        running_stack(tmp_path / "stack", config={"organizations": organizations}, workers="2") as stack,
        running_alertmanager(tmp_path / "alertmanager", impatient_routes(received.url)) as alertmanager,
        running_prometheus(
            tmp_path / "prometheus",
            shipped_config({"tallygate": [stack.console]}, rule_files=impatient_rules(tmp_path), alertmanager=alertmanager.url),
        ) as prometheus,
    ):
        await eventually(lambda: prometheus.values("tallygate_spend_limit_usd", "org"), "the console is scraped")
        assert not [alert for alert in prometheus.alerts() if "org" in alert["labels"]]

        assert await spend_until(stack, "acme-prod", lambda spent: spent >= 0.8 * limit) == 200
        assert stack.window("acme")["spent"] < 0.9 * limit
        await eventually(lambda: received.is_told(WARNING, "acme"), "the warning at 80 % arrives")
        assert not received.times("acme", PAUSE, "acme")

        assert await spend_until(stack, "acme-prod", lambda _: False) == 429
        await eventually(lambda: received.is_told(PAUSE, "acme"), "the pause arrives")

        # another organization's warning takes the same way afterwards: what was to come of acme's has come
        await spend_until(stack, "globex-prod", lambda spent: spent >= 0.8 * limit)
        await eventually(lambda: received.is_told(WARNING, "globex"), "the other organization's warning arrives")

    for receiver in ("acme", "platform-team"):
        assert (received.times(receiver, WARNING, "acme"), received.times(receiver, PAUSE, "acme")) == (1, 1)
    assert received.times("globex", WARNING, "globex") == 1
    assert {org for receiver, _, _, org in received.told if receiver == "acme"} == {"acme"}
    assert {org for receiver, _, _, org in received.told if receiver == "globex"} == {"globex"}
    assert not [told for told in received.told if told[0] == "on-call"]
    assert "of $0.01 in the window of its limit spend_7d:" in received.texts[PAUSE, "acme"]
    assert "access resumes by itself at" in received.texts[PAUSE, "acme"]
