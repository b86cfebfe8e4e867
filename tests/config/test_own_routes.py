from pathlib import Path

from proxy.config.load import load_config
from proxy.config.shipped import shipped_directory
from proxy.dialects.registry import dialects

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
        known_dialects=frozenset(dialects()),
        environ={},
        default_url="http://upstream.invalid",
    )

    (organization,) = config.organizations
    assert organization.credentials[0].capabilities == {"chat", "embeddings"}
