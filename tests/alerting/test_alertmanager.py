"""The shipped Alertmanager configuration: who is told what, and what is not told beside something worse."""

import asyncio
import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from mail_server import Mailbox, running_mailbox
from prometheus_server import PROMETHEUS_CONFIG, Alertmanager, program, running_alertmanager
from stack import eventually

CONFIG = PROMETHEUS_CONFIG / "alertmanager.yml"
EXAMPLE = PROMETHEUS_CONFIG / "receivers.example.yml"
ALERTS = {
    rule["alert"]: rule["labels"]["severity"]
    for group in yaml.safe_load((PROMETHEUS_CONFIG / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}


def receivers(**labels: str) -> list[str]:
    done = subprocess.run(
        [
            program("amtool"),
            "config",
            "routes",
            "test",
            f"--config.file={CONFIG}",
            *(f"{name}={value}" for name, value in labels.items()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip().split(",")


def test_amtool_accepts_the_configuration() -> None:
    subprocess.run([program("amtool"), "check-config", str(CONFIG)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("alert", "org", "told"),
    [
        ("TallygateSpendAbove80Percent", "acme", ["acme", "platform-team"]),
        ("TallygateSpendAbove95Percent", "globex", ["globex", "platform-team"]),
        ("TallygateOrganizationPaused", "acme", ["acme", "platform-team"]),
        ("TallygateSpendAnomaly", "acme", ["acme", "platform-team"]),
        ("TallygateCredentialPaused", "acme", ["acme", "platform-team"]),
        ("TallygateOrganizationPaused", "unrouted", ["platform-team"]),
        ("TallygateSpendAbove80Percent", "unrouted", ["platform-team"]),
        ("TallygateLedgerDrift", "", ["platform-team"]),
        ("TallygateUpstreamErrorsHigh", "", ["on-call"]),
        ("TallygateAbsent", "", ["on-call"]),
    ],
)
def test_an_organization_is_told_of_its_own_money_and_access_and_on_call_of_what_wakes(
    alert: str, org: str, told: list[str]
) -> None:
    labels = {"alertname": alert, "severity": ALERTS[alert]} | ({"org": org} if org else {})

    assert receivers(**labels) == told


def test_no_alert_of_the_gateway_itself_goes_to_an_organization() -> None:
    for alert, severity in ALERTS.items():
        if severity == "page":
            assert receivers(alertname=alert, severity=severity, org="acme") == ["on-call"]


def test_every_alert_that_the_configuration_names_exists() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    for pattern in re.findall(r'alertname=~?"([^"]+)"', text):
        for name in pattern.split("|"):
            assert any(re.fullmatch(name, alert) for alert in ALERTS), name


def post(server: Alertmanager, *alerts: dict[str, str], annotations: dict[str, str] | None = None) -> None:
    body = json.dumps([{"labels": labels, "annotations": annotations or {}} for labels in alerts]).encode()
    request = urllib.request.Request(f"{server.url}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def with_example_receivers(changes: dict[str, str] | None = None) -> dict[str, Any]:
    """The shipped routes with the receivers of the example, as its first lines say. changes: of its text."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return yaml.safe_load(CONFIG.read_text(encoding="utf-8")) | yaml.safe_load(text)


def test_amtool_accepts_the_receivers_of_the_example(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(with_example_receivers()), encoding="utf-8")
    subprocess.run([program("amtool"), "check-config", str(tmp_path / "alertmanager.yml")], check=True, capture_output=True)


async def test_slack_and_mail_get_the_alerts_words_and_links(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/slack", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    for name in ("slack-url", "globex-slack-url"):
        (tmp_path / name).write_text(f"http://127.0.0.1:{runner.addresses[0][1]}/slack", encoding="utf-8")
    async with running_mailbox(Mailbox()) as mailbox:
        here = {
            "/etc/alertmanager/": f"{tmp_path}/",
            "smtp.example.com:587": f"127.0.0.1:{mailbox.port}",
            "  smtp_auth_username: tallygate@example.com\n": "  smtp_require_tls: false\n",
            f"  smtp_auth_password_file: {tmp_path}/smtp-password\n": "",
        }
        config = with_example_receivers(here)
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        async with running_alertmanager(tmp_path / "alertmanager", config) as server:
            labels = {"alertname": "TallygateOrganizationPaused", "severity": "ticket", "org": "acme"}
            annotations = {"summary": "acme is paused", "description": "acme has spent $25.00.", "runbook_url": "https://r/#paused"}
            annotations["dashboard_url"] = "https://g/d/tallygate-spend?var-organization=acme"
            await asyncio.to_thread(post, server, labels, annotations=annotations)
            await eventually(lambda: told and mailbox.got, "both arrive")
    await runner.cleanup()
    (message,) = told[0]["attachments"]
    assert (told[0]["channel"], message["title"], message["text"].strip()) == (
        "#tallygate",
        "acme is paused",
        "acme has spent $25.00.",
    )
    assert {action["text"]: action["url"] for action in message["actions"]} == {
        "Runbook": annotations["runbook_url"],
        "Dashboard": annotations["dashboard_url"],
    }
    mail = mailbox.got[0]
    assert (mail["Subject"], mailbox.recipients[0]) == ("acme is paused", ["api-admins@acme.example"])
    body = mail.get_body(("plain",))
    assert body is not None
    assert "acme has spent $25.00." in body.get_content()


async def test_what_follows_from_something_worse_is_not_told_beside_it(tmp_path: Path) -> None:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    worse_and_not_told = {
        ("TallygateSpendAbove95Percent", "TallygateSpendAbove80Percent"): {"org": "acme"},
        ("TallygateOrganizationPaused", "TallygateSpendAbove80Percent"): {"org": "globex"},
        ("TallygateOrganizationPaused", "TallygateSpendAbove95Percent"): {"org": "hooli"},
        ("TallygateOrganizationPaused", "TallygateSpendReachesLimitWithin24h"): {"org": "initech"},
        ("TallygateCredentialPaused", "TallygateCredentialSpendAbove80Percent"): {"org": "acme", "credential": "acme-prod"},
        ("TallygateAbsent", "TallygateTargetDown"): {},
        ("TallygateAbsent", "TallygateWebhooksDelayed"): {},
        ("TallygateStoreAway", "TallygateFailOpen"): {},
        ("TallygateStoreAway", "TallygateRefusingByOwnFault"): {},
        ("TallygateLedgerDatabaseAway", "TallygateLedgerLagging"): {},
        ("TallygateLedgerLagging", "TallygateRefusalRateHigh"): {},
        ("TallygateWorkersDown", "TallygateWorkerCrashLoop"): {"instance": "a:9090"},
    }
    async with running_alertmanager(tmp_path, config) as server:
        # about another organization or machine, and with nothing worse beside them
        post(
            server,
            {"alertname": "TallygateSpendAbove80Percent", "org": "alone"},
            {"alertname": "TallygateWorkerCrashLoop", "instance": "b"},
        )
        for (worse, lesser), shared in worse_and_not_told.items():
            post(server, {"alertname": worse, **shared}, {"alertname": lesser, **shared})
        by_labels = {tuple(sorted(alert["labels"].items())): alert for alert in server.alerts()}

    def worse_of(**labels: str) -> list[str]:
        silenced_by = by_labels[tuple(sorted(labels.items()))]["status"]["inhibitedBy"]
        return [
            next(alert["labels"]["alertname"] for alert in by_labels.values() if alert["fingerprint"] == id_) for id_ in silenced_by
        ]

    for (worse, lesser), shared in worse_and_not_told.items():
        assert worse_of(alertname=lesser, **shared), f"{lesser} is told beside {worse}"
    assert worse_of(alertname="TallygateSpendAbove80Percent", org="acme") == ["TallygateSpendAbove95Percent"]
    assert not worse_of(alertname="TallygateSpendAbove80Percent", org="alone")
    assert not worse_of(alertname="TallygateWorkerCrashLoop", instance="b")
    assert not worse_of(alertname="TallygateOrganizationPaused", org="globex")
    assert not worse_of(alertname="TallygateStoreAway") or worse_of(alertname="TallygateStoreAway") == ["TallygateAbsent"]
