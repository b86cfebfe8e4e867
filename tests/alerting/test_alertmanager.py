"""The shipped Alertmanager configuration: who is told what, and what is not told beside something worse."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import PROMETHEUS_CONFIG, Alertmanager, program, running_alertmanager

CONFIG = PROMETHEUS_CONFIG / "alertmanager.yml"
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


def post(server: Alertmanager, *alerts: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(f"{server.url}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


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
