"""A reload that takes away, and what a reload says of what it changed."""

import base64
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import trustme

from tallygate.app.configuration import config_holder
from tallygate.config.holder import ConfigHolder
from tallygate.config.load import ConfigSource
from tallygate.config.settings import load_settings
from tallygate.console.console import Console
from tallygate.console.readiness import Readiness
from tallygate.console.server import ConsoleServer

PLANS = "plans:\n  free: {}\n"
SIGNING = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
UPSTREAMS = "upstreams:\n  default: {}\n"


def organizations(*names: str, plan: str = "free") -> str:
    rows = [
        f"  - {{id: {name}, plan: {plan}, credentials: [{{id: {name}-key, key_sha256: {number:064x}}}]}}\n"
        for number, name in enumerate(names, start=1)
    ]
    return "organizations:\n" + "".join(rows) if rows else "organizations: []\n"


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).write_text(text)


@pytest.fixture
def holder(source: ConfigSource, tmp_path: Path) -> ConfigHolder:
    write(tmp_path, {"plans.yaml": PLANS, "upstreams.yaml": UPSTREAMS, "organizations.yaml": organizations("acme", "globex")})
    return ConfigHolder(source.load(), source.load)


@pytest.mark.parametrize("name", ["organizations.yaml", "plans.yaml", "upstreams.yaml"])
async def test_a_file_that_vanished_is_missed_and_the_last_good_configuration_stays(
    holder: ConfigHolder, tmp_path: Path, name: str
) -> None:
    before = holder.current
    text = (tmp_path / name).read_text()
    (tmp_path / name).unlink()

    problems = await holder.reload()
    again = await holder.reload()
    assert problems == again == (f"{name}:1: is gone since the last reload; put it back, or restart tallygate if it is to go",)
    assert holder.current is before

    (tmp_path / name).write_text(text)
    assert await holder.reload() == ()


@pytest.mark.parametrize("text", ["", "organizations:\n", "organizations: []\n"])
async def test_organizations_do_not_go_all_at_once(holder: ConfigHolder, tmp_path: Path, text: str) -> None:
    (tmp_path / "organizations.yaml").write_text(text)

    (problem,) = await holder.reload()

    assert problem.startswith("organizations.yaml:1: ")
    assert [organization.id for organization in holder.current.organizations] == ["acme", "globex"]


async def test_a_start_accepts_what_a_reload_refuses(source: ConfigSource, tmp_path: Path) -> None:
    write(tmp_path, {"plans.yaml": PLANS, "organizations.yaml": organizations()})

    assert source.load().organizations == ()


async def test_organizations_that_are_taken_away_are_named_and_counted(source: ConfigSource, tmp_path: Path) -> None:
    many = [f"org-{number:02}" for number in range(20)]
    write(tmp_path, {"plans.yaml": PLANS, "organizations.yaml": organizations("acme", *many)})
    holder = ConfigHolder(source.load(), source.load)

    write(tmp_path, {"organizations.yaml": organizations("acme")})
    assert await holder.reload() == ()

    named = "org-00, org-01, org-02, org-03, org-04, org-05, org-06, org-07, org-08, org-09 and 10 more"
    assert holder.changes.organizations_removed == named
    assert holder.changes.by_kind["organizations"] == f"removed {named}"


async def test_the_console_logs_what_was_applied_and_warns_of_organizations_that_are_gone(
    holder: ConfigHolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    console = Console(server=cast("ConsoleServer", None), readiness=Readiness(()), holder=holder)
    write(tmp_path, {"organizations.yaml": organizations("acme", "initech")})

    with caplog.at_level(logging.INFO):
        await console.read_again()

    applied, warning = caplog.records
    assert (applied.getMessage(), applied.levelname) == ("configuration reloaded", "INFO")
    assert applied.__dict__["fields"]["organizations"] == "added initech; removed globex"
    assert warning.levelname == "WARNING"
    assert warning.__dict__["fields"] == {"organizations": "globex"}


async def test_a_reload_reads_the_authorities_again(tmp_path: Path) -> None:
    authorities = tmp_path / "authorities.pem"
    pems = [trustme.CA().cert_pem.bytes().decode() for _ in range(2)]
    authorities.write_text(pems[0])
    holder = config_holder(load_settings({"config_dir": str(tmp_path), "upstream_ca_file": str(authorities)}))

    authorities.write_text(pems[1])
    assert await holder.reload() == ()

    assert holder.current.upstreams["default"].ca_pem == pems[1]
    authorities.unlink()
    (problem,) = await holder.reload()
    assert problem.startswith("TALLYGATE_UPSTREAM_CA_FILE names the file")


async def test_a_reload_that_changes_nothing_says_nothing(holder: ConfigHolder) -> None:
    assert await holder.reload() == ()

    assert holder.changes.by_kind == {}
    assert holder.changes.organizations_removed == ""


async def test_every_kind_of_change_is_named_and_no_value_is_shown(holder: ConfigHolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SIGNING)
    write(
        tmp_path,
        {
            "plans.yaml": "plans:\n  free: {rate_limits: [{requests: 7, window: 1m}]}\n  gold: {}\n",
            "organizations.yaml": organizations("acme", "initech").replace("1}]", "f}]"),
            "upstreams.yaml": "upstreams:\n  default: {pool_max: 7}\n",
            "prices.yaml": "prices:\n" + "".join(f"  - {{model: {it}, input: '1', output: '1'}}\n" for it in ("gpt-4o", "own")),
            "routes.yaml": "routes:\n  - {method: POST, path: /v1/chat/completions, capability: chat, dialect: openai_chat}\n",
            "webhooks.yaml": f"webhooks: [{{name: ops, url: 'https://a.example/in', secret_file: {secret}}}]\n",
        },
    )

    assert await holder.reload() == ()

    told = holder.changes.by_kind
    assert told["organizations"] == "added initech; changed acme; removed globex"
    assert told["credentials"] == "added initech-key; changed acme-key; removed globex-key"
    assert told["plans"] == "added gold; changed free"
    assert told["upstreams"] == "changed default"
    assert told["prices"] == "added own; changed gpt-4o"
    assert told["routes"].startswith("removed ")
    assert told["webhooks"] == "added ops"
    assert told["files"] == (
        "added prices.yaml, routes.yaml, webhooks.yaml; changed organizations.yaml, plans.yaml, upstreams.yaml"
    )
    assert not any(secret in text for text in told.values() for secret in (SIGNING, "0f", "a.example"))
