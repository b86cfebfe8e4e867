from pathlib import Path

import pytest

from tallygate.config.load import load_config
from tallygate.config.model import Route
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ConfigError

ROUTES = "routes:\n  - {method: POST, path: /v1/chat/completions, capability: chat, dialect: openai_chat}\n"
ORGANIZATIONS = f"""
organizations:
  - id: acme
    name: Acme
    plan: pay_as_you_go
    credentials:
      - {{id: acme-prod, key_sha256: {"0" * 64}, capabilities: [chat, embeddings]}}
"""


def test_a_grant_may_name_a_shipped_capability_that_own_routes_lack(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "organizations.yaml").write_text(ORGANIZATIONS)

    config = load_config(
        tmp_path,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="http://upstream.invalid",
    )

    (organization,) = config.organizations
    assert organization.credentials[0].capabilities == {"chat", "embeddings"}


def test_one_line_adds_a_route_to_the_shipped_table_or_changes_one_of_it(tmp_path: Path) -> None:
    own = """with_shipped: true
routes:
  - {method: POST, path: /ai/v3/chat/completions, capability: chat, dialect: gloo_chat}
  - {method: POST, path: /ai/v1/message, capability: chat}
"""
    shipped = {(route.method, route.path): route for route in routes_of(tmp_path / "none")}
    (tmp_path / "routes.yaml").write_text(own)
    found = {(route.method, route.path): route for route in routes_of(tmp_path)}

    assert found.keys() - shipped.keys() == {("POST", "/ai/v3/chat/completions")}
    assert not shipped.keys() - found.keys()
    assert {key for key in shipped if found[key] != shipped[key]} == {("POST", "/ai/v1/message")}
    assert found["POST", "/ai/v1/message"].enabled
    (tmp_path / "routes.yaml").write_text(ROUTES)
    assert len(routes_of(tmp_path)) == 1


def test_an_upstream_that_the_shipped_routes_need_is_missed_at_the_line_that_adds_them(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(f"with_shipped: true\n{ROUTES}")
    (tmp_path / "upstreams.yaml").write_text("upstreams: {gloo: {base_url: https://platform.ai.gloo.com}}\n")
    with pytest.raises(ConfigError, match=r"routes\.yaml:1: .*unknown upstream 'default'"):
        routes_of(tmp_path)


def routes_of(directory: Path) -> tuple[Route, ...]:
    return load_config(
        directory if directory.exists() else None,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="http://upstream.invalid",
    ).routes
