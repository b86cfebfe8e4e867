"""sign_in.yaml: what a right file becomes, and what claims then let somebody see."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.config.sign_in import OpenIdProvider
from tallygate.domain.errors import ConfigError

LEAST = """openid:
  issuer: https://login.example.com/
  client_id: tallygate
  organizations_claim: groups
  organizations: {acme-finance: acme, both: [acme, globex], "7": seven}
"""

LoadSignIn = Callable[[str], OpenIdProvider | None]


@pytest.fixture
def load_sign_in(source: ConfigSource, tmp_path: Path) -> LoadSignIn:
    def write_and_load(text: str) -> OpenIdProvider | None:
        (tmp_path / "sign_in.yaml").write_text(text)
        return replace(source, environ={"OPENID_CLIENT_SECRET": "s3cret"}).load().openid

    return write_and_load


def test_without_the_file_there_is_no_provider(source: ConfigSource) -> None:
    assert source.load().openid is None


def test_the_least_is_a_public_client_whose_users_read(load_sign_in: LoadSignIn) -> None:
    assert load_sign_in(LEAST) == OpenIdProvider(
        name="your organization's account",
        issuer="https://login.example.com/",
        client_id="tallygate",
        organizations_claim="groups",
        organizations={"acme-finance": ("acme",), "both": ("acme", "globex"), "7": ("seven",)},
        access_claim="groups",
    )


def test_the_example_is_right(load_sign_in: LoadSignIn, source: ConfigSource, tmp_path: Path) -> None:
    found = load_sign_in((shipped_directory() / "sign_in.example.yaml").read_text())
    assert found is not None
    assert (found.client_secret, found.name) == ("s3cret", "Example SSO")
    assert found.sees({"groups": ["holding", "other"]}) == ("acme", "globex")
    assert found.sees({"groups": ["platform-team"]}) is None
    assert found.may_write({"groups": "platform-admins"})
    with pytest.raises(ConfigError, match="OPENID_CLIENT_SECRET', which is not set"):
        source.load()
    without = replace(source, signs_in=False).load().openid
    assert without is not None
    assert without.client_secret == ""


@pytest.mark.parametrize("claims", [{}, {"groups": None}, {"groups": 7}, {"groups": {"acme-finance": 1}}, {"groups": [["both"]]}])
def test_a_claim_of_another_kind_lets_nobody_see_anything(load_sign_in: LoadSignIn, claims: dict[str, object]) -> None:
    found = load_sign_in(LEAST)
    assert found is not None
    assert found.sees(claims) == ()
    assert not found.may_write(claims)


def test_a_change_of_anything_but_name_and_secret_is_another_provider(load_sign_in: LoadSignIn) -> None:
    found = load_sign_in(LEAST)
    assert found is not None
    assert replace(found, name="Other", client_secret="x").fingerprint == found.fingerprint
    for change in (
        {"issuer": "https://login.example.com"},
        {"client_id": "other"},
        {"organizations": {"both": ("acme", "globex")}},
        {"organizations": None},
        {"all_organizations": frozenset({"both"})},
        {"write": frozenset({"both"})},
        {"session_ms": 300_000},
    ):
        assert replace(found, **change).fingerprint != found.fingerprint
