"""compose.yaml: what it names exists, and the same wiring, started on this machine, counts a request from end to end."""

import asyncio
import json
import re
import subprocess
import urllib.error
import urllib.request
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from compose_file import ROOT, Role, load_compose, role
from postgres_process import PostgresProcess, binaries, running_postgres
from prometheus_server import Prometheus, running_alertmanager, running_prometheus
from stack import eventually
from valkey_process import ValkeyProcess, free_port, running_valkey

from tallygate.config.settings import Settings, variable_name
from tallygate.simulator.server import running_simulator

TOKEN = "tga_of_this_test"
METRICS_TOKEN = "metrics_of_this_test"
SECRETS = {
    "TALLYGATE_UPSTREAM_URL": "http://simulator:9000",
    "TALLYGATE_ADMIN_TOKEN": TOKEN,
    "TALLYGATE_METRICS_TOKEN": METRICS_TOKEN,
    "POSTGRES_PASSWORD": "pgsecret",
    "GRAFANA_PASSWORD": "grafanasecret",
    "GRAFANA_READER_PASSWORD": "readersecret",
}
ROLES = ("gateway", "console", "ledger")
HOST = "127.0.0.2"  # not the loopback address that needs no admin token, so that it is asked for as between containers


def settings_names() -> set[str]:
    names = {variable_name(field) for field in Settings.model_fields}
    return names | {f"{name}_FILE" for name in names}


def test_what_the_file_names_exists() -> None:
    compose = load_compose(SECRETS)
    services, volumes = compose["services"], compose["volumes"]

    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", service["image"]), f"{name}: an image of no fixed version"
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in volumes, f"{name}: {mount}"
        for variable in service.get("environment", {}):
            if variable.startswith("TALLYGATE_") and name in ROLES:
                assert variable in settings_names(), f"{name}: {variable}"


def test_the_example_has_every_variable_that_must_be_set() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    example = (ROOT / "compose.env.example").read_text()

    for variable in {*re.findall(r"\$\{(\w+):\?", compose), *re.findall(r"environment: (\w+)\}", compose)}:
        assert re.search(rf"^{variable}=", example, re.MULTILINE), variable
    for variable in re.findall(r"\$\{(\w+):-", compose):
        assert variable == "TALLYGATE_LOG_LEVEL" or re.search(rf"^#?{variable}=", example, re.MULTILINE), variable


def test_each_container_has_the_secrets_that_it_needs_and_no_others() -> None:
    compose = load_compose(SECRETS | {"TALLYGATE_UPSTREAM_API_KEY": "sk-upstream"})
    needs = {
        "gateway": {"sk-upstream", "pgsecret"},
        "console": {"pgsecret"},
        "ledger": {"pgsecret"},
        "postgres": {"pgsecret"},
        "reader": {"pgsecret", "readersecret"},
        "grafana": {"grafanasecret", "readersecret"},
    }
    for name, service in compose["services"].items():
        environment = " ".join(map(str, service.get("environment", {}).values()))
        secrets = ("sk-upstream", TOKEN, METRICS_TOKEN, "pgsecret", "grafanasecret", "readersecret")
        assert {secret for secret in secrets if secret in environment} == needs.get(name, set()), name
    files = {name: service["secrets"] for name, service in compose["services"].items() if service.get("secrets")}
    assert files == {
        "gateway": ["metrics_token"],
        "console": ["admin_token", "metrics_token"],
        "ledger": ["metrics_token"],
        "prometheus": ["metrics_token"],
    }


def test_only_the_roles_reach_the_store() -> None:
    services = load_compose(SECRETS)["services"]
    assert {name for name, service in services.items() if "store" in service.get("networks", ())} == {*ROLES, "valkey"}
    assert services["valkey"]["networks"] == ["store"]


def test_only_the_gateway_is_meant_for_others() -> None:
    for name, service in load_compose(SECRETS)["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_what_is_missing_is_told() -> None:
    with pytest.raises(KeyError, match=r"POSTGRES_PASSWORD: set it in \.env"):
        load_compose(SECRETS | {"POSTGRES_PASSWORD": ""})


def roles_here(directory: Path, *, valkey: ValkeyProcess, postgres: PostgresProcess, upstream: str) -> dict[str, Role]:
    for name, token in (("admin_token", TOKEN), ("metrics_token", METRICS_TOKEN)):
        (directory / name).write_text(token)
    addresses = {
        "valkey:6379": f"127.0.0.1:{valkey.port}",
        "postgres:5432": f"127.0.0.1:{postgres.port}",
        "http://simulator:9000": upstream,
        **{f"/run/secrets/{name}": str(directory / name) for name in ("admin_token", "metrics_token")},
    }
    services = load_compose(SECRETS)["services"]
    return {
        name: role(
            services[name],
            name=name,
            directory=directory,
            addresses=addresses,
            listens={
                "TALLYGATE_LISTEN": f"127.0.0.1:{free_port()}",
                "TALLYGATE_CONSOLE_LISTEN": f"{HOST}:{free_port()}",
            },
        )
        for name in ROLES
    }


def prometheus_config(directory: Path, roles: dict[str, Role], alertmanager: str) -> dict[str, Any]:
    """compose.yml with the addresses that its names stand for."""
    shipped = ROOT / "config" / "prometheus"
    config = yaml.safe_load((shipped / "compose.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    config["rule_files"] = [str(shipped / name) for name in config["rule_files"]]
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager.removeprefix("http://")]}]
    for job in config["scrape_configs"]:
        [service] = job.pop("dns_sd_configs")[0]["names"]
        job["static_configs"] = [{"targets": [roles[service].console]}]
        assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
        job["authorization"]["credentials_file"] = str(directory / "metrics_token")
    return config


def make_reader(postgres: PostgresProcess) -> None:
    """What the container `reader` does, with this machine's psql."""
    [script] = load_compose(SECRETS)["services"]["reader"]["command"]
    script = script.replace("--host postgres", f"--host 127.0.0.1 --port {postgres.port} --dbname tallygate")
    script = script.replace("/reader.sql", str(ROOT / "grafana" / "provisioning" / "reader.sql"))
    subprocess.run(
        ["sh", "-ec", script],
        check=True,
        capture_output=True,
        env={"PATH": f"{binaries()}:/usr/bin:/bin", "READER_PASSWORD": "readersecret", "PGPASSWORD": "pgsecret"},
    )


def status_of(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def ask(gateway: str, key: str) -> int:
    body = {"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "[tokens=7] hello"}]}
    request = urllib.request.Request(
        f"http://{gateway}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return int(answer.status)


async def read_as_grafana(postgres: PostgresProcess) -> int:
    """Entries that the reader finds; it must not be able to change one."""
    connection = await asyncpg.connect(f"postgresql://tallygate_reader:readersecret@127.0.0.1:{postgres.port}/tallygate")
    try:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("DELETE FROM entries")
        return int(await connection.fetchval("SELECT count(*) FROM entries WHERE org = 'acme'"))
    finally:
        await connection.close()


def all_up(prometheus: Prometheus) -> bool:
    targets = prometheus.targets()
    return len(targets) == len(ROLES) and set(targets.values()) == {"up"}


@pytest.mark.timeout(300)
async def test_the_same_wiring_on_this_machine_counts_a_request(tmp_path: Path) -> None:
    with ExitStack() as servers:
        valkey = servers.enter_context(running_valkey(append_only=True))
        postgres = servers.enter_context(running_postgres())
        admin = await asyncpg.connect(postgres.url())
        await admin.execute("CREATE DATABASE tallygate")
        await admin.close()
        async with AsyncExitStack() as started:
            simulator = await started.enter_async_context(running_simulator())
            roles = roles_here(tmp_path, valkey=valkey, postgres=postgres, upstream=simulator.url)
            alertmanager = await started.enter_async_context(
                running_alertmanager(
                    tmp_path / "alertmanager", yaml.safe_load((ROOT / "config/prometheus/alertmanager.yml").read_text())
                )
            )
            for one in roles.values():
                servers.enter_context(one.running())
            for name, one in roles.items():
                await eventually(lambda one=one: status_of(f"http://{one.console}/readyz") == 200, f"{name} is ready", 60)
            prometheus = await started.enter_async_context(
                running_prometheus(tmp_path / "prometheus", prometheus_config(tmp_path, roles, alertmanager.url))
            )

            console = roles["console"]
            await asyncio.to_thread(console.run, "orgs", "create", "acme", "--plan", "enterprise")
            made = json.loads(await asyncio.to_thread(console.run, "credentials", "create", "acme", "acme-prod", "--json"))
            gateway = roles["gateway"].environment["TALLYGATE_LISTEN"]
            is_known = partial(status_of, f"http://{gateway}/v1/models", Authorization=f"Bearer {made['api_key']}")
            while await asyncio.to_thread(is_known) != 200:  # the simulator answers in this process
                await asyncio.sleep(0.1)
            assert await asyncio.to_thread(ask, gateway, made["api_key"]) == 200

            served = simulator.ledger.totals
            prompt = ("acme", "acme-prod", "chat", "prompt")
            labels = ("org", "credential", "capability", "kind")
            await eventually(
                lambda: prometheus.values("tallygate_tokens_total", *labels).get(prompt) == served.prompt_tokens, "it is counted"
            )
            await eventually(lambda: all_up(prometheus), "each role is scraped, with the token for metrics")
            assert {rule["health"] for rule in prometheus.rules()} <= {"ok", "unknown"}
            assert len(prometheus.get("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]) == 1
            for one in roles.values():
                assert status_of(f"http://{one.console}/metrics") == 401
            await asyncio.to_thread(make_reader, postgres)
            assert await read_as_grafana(postgres) == 2
