"""The Helm chart: linted, rendered by helm itself, and each role's settings read by tallygate as its pod would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tallygate.config.settings import load_settings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "tallygate"
ROLES = ("gateway", "console", "ledger")
SECRETS = {
    "redis_url": "redis://valkey:6379/0",
    "database_url": "postgresql://tallygate:secret@postgres/tallygate",
    "database_read_url": "postgresql://tallygate:secret@standby/tallygate",
    "admin_token": "tga_" + "a" * 40,
    "metrics_token": "m" * 40,
    "upstream_api_key": "sk-upstream",
}
Documents = dict[tuple[str, str], dict[str, Any]]


def helm(*arguments: str | Path) -> str:
    program = Path(sys.executable).parent / "helm"
    if not program.exists():  # `pytest` run by hand
        subprocess.run([sys.executable, CHART.parents[2] / ".ci" / "helm", program], check=True)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(tmp_path: Path, values: dict[str, Any]) -> Documents:
    """The documents of a release named `tg`, by kind and name. Names are not given twice."""
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    found = [
        document for document in yaml.safe_load_all(helm("template", "tg", CHART, "--values", tmp_path / "values.yaml")) if document
    ]
    documents = {(document["kind"], document["metadata"]["name"]): document for document in found}
    assert len(documents) == len(found)
    return documents


def pod_of(documents: Documents, role: str) -> dict[str, Any]:
    kind = "StatefulSet" if role == "gateway" else "Deployment"
    return documents[kind, f"tg-{role}"]["spec"]["template"]


def environment_of(documents: Documents, role: str, tmp_path: Path) -> dict[str, str]:
    """The variables of a role's container, with its mounted directories moved below tmp_path."""
    pod = pod_of(documents, role)["spec"]
    (container,) = pod["containers"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    mounted = tmp_path / f"{role}-secrets"
    mounted.mkdir()
    for item in secret["items"]:
        (mounted / item["path"]).write_text(SECRETS[item["key"]] + "\n")
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert len(variables) == len(container["env"])
    return {name: value.replace("/secrets/", f"{mounted}/") for name, value in variables.items()}


def test_without_a_read_replica_no_secret_of_it_is_needed(tmp_path: Path) -> None:
    assert "TALLYGATE_DATABASE_READ_URL_FILE" not in environment_of(rendered(tmp_path, {}), "console", tmp_path)


def test_helm_finds_nothing_wrong() -> None:
    helm("lint", "--strict", "--quiet", CHART)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_configured_as_its_pod_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    values = {
        "gateway": {"upstreamUrl": "https://api.example.com/v1", "settings": {"WORKERS": 4}},
        "console": {"url": "https://usage.example.com", "readReplica": True},
        "settings": {"LOG_LEVEL": "warning"},
    }
    documents = rendered(tmp_path, values)
    environment = environment_of(documents, role, tmp_path)
    for name in [name for name in os.environ if name.startswith("TALLYGATE_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == SECRETS["redis_url"]
    assert settings.database_url.get_secret_value() == SECRETS["database_url"]
    assert settings.metrics_token.get_secret_value() == SECRETS["metrics_token"]
    assert settings.log_level == "warning"
    is_console, is_gateway = role == "console", role == "gateway"
    assert bool(settings.admin_token.get_secret_value()) == is_console  # nobody else is given it
    assert settings.database_read_url.get_secret_value() == (SECRETS["database_read_url"] if is_console else "")
    assert bool(settings.upstream_api_key.get_secret_value()) == is_gateway
    assert (settings.upstream_url == "https://api.example.com/v1") == is_gateway
    assert (settings.console_url == "https://usage.example.com") != is_gateway  # the ledger's digests have links
    if is_gateway:
        grace = pod_of(documents, role)["spec"]["terminationGracePeriodSeconds"]
        assert settings.workers == 4
        assert grace > settings.drain_delay_seconds + settings.drain_seconds + 10
    unknown = {name.removesuffix("_FILE").removeprefix("TALLYGATE_").lower() for name in environment} - set(
        type(settings).model_fields
    )
    assert unknown == set()


def test_services_policies_and_monitors_select_the_pods_of_their_role(tmp_path: Path) -> None:
    peers = {name: [{"namespaceSelector": {"matchLabels": {"name": name}}}] for name in ("clients", "people", "monitoring")}
    documents = rendered(tmp_path, {"networkPolicy": peers, "serviceMonitor": {"enabled": True}})
    for role in ROLES:
        labels = pod_of(documents, role)["metadata"]["labels"]
        selectors = [
            documents["Service", f"tg-{role}"]["spec"]["selector"],
            documents["NetworkPolicy", f"tg-{role}"]["spec"]["podSelector"]["matchLabels"],
        ]
        for selector in selectors:
            assert selector.items() <= labels.items()
            others = [pod_of(documents, other)["metadata"]["labels"] for other in ROLES if other != role]
            assert not any(selector.items() <= other.items() for other in others)
    ports = {port["name"] for port in pod_of(documents, "gateway")["spec"]["containers"][0]["ports"]}
    ingress = documents["NetworkPolicy", "tg-gateway"]["spec"]["ingress"]
    assert {rule["from"][0]["namespaceSelector"]["matchLabels"]["name"]: rule["ports"][0]["port"] for rule in ingress} == {
        "clients": "http",
        "monitoring": "status",
    }
    assert ports == {"http", "status"}
    monitor = documents["ServiceMonitor", "tg"]["spec"]
    matched = [
        service["metadata"]["labels"]["app.kubernetes.io/component"]
        for (kind, _), service in documents.items()
        if kind == "Service"
        and monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and "status" in {port["name"] for port in service["spec"]["ports"]}
    ]
    assert sorted(matched) == sorted(ROLES)  # each pod is scraped once


def test_pods_may_do_no_more_than_they_need(tmp_path: Path) -> None:
    documents = rendered(tmp_path, {})
    for role in ROLES:
        pod = pod_of(documents, role)["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert container["args"] == [role]


def test_own_files_are_the_configuration_and_values_are_checked(tmp_path: Path) -> None:
    plans = "plans:\n  free: {api_access: false}\n"
    documents = rendered(tmp_path, {"config": {"plans.yaml": plans}})
    assert documents["ConfigMap", "tg-config"]["data"] == {"plans.yaml": plans}
    assert environment_of(documents, "ledger", tmp_path)["TALLYGATE_CONFIG_DIR"] == "/config"
    for wrong in (
        {"gatway": {}},
        {"settings": {"TALLYGATE_LOG_LEVEL": "info"}},
        {"config": {"plans.yml": plans}},
        {"gateway": {"replicas": 0}},
    ):
        with pytest.raises(AssertionError, match="values don't meet"):
            rendered(tmp_path, wrong)


def test_storage_lasts_where_settlements_may_wait(tmp_path: Path) -> None:
    documents = rendered(tmp_path, {"gateway": {"storage": {"size": "5Gi", "className": "fast"}}})
    (claim,) = documents["StatefulSet", "tg-gateway"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["metadata"]["name"] in {
        mount["name"] for mount in pod_of(documents, "gateway")["spec"]["containers"][0]["volumeMounts"]
    }
