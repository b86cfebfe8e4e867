"""Organizations out of rows, and the copy of the directory that follows them."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from directory_world import DirectoryWorld, load

from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.rules import Rules

OWN = {"spend_limit": {"usd": "25"}}
DIGEST = "0123456789abcdef" * 4
OTHER_DIGEST = "fedcba9876543210" * 4
OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EXPIRES_MS = 1_800_000_000_123


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    config = load(tmp_path / "config")
    return Rules(lambda: config)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> DirectoryWorld:
    return DirectoryWorld(database, load(tmp_path / "config"))


def an_organization(number: int, **changes: Any) -> StoredOrganization:
    return replace(StoredOrganization(id=f"org-{number}", name=f"Name {number}", plan="pay_as_you_go"), **changes)


def a_credential(number: int, **changes: Any) -> StoredCredential:
    found = StoredCredential(id=f"org-{number}-key", org=f"org-{number}", key_sha256=f"{number + 1:064x}")
    return replace(found, **changes)


def as_in_file(rules: Rules, organization: StoredOrganization, credentials: list[StoredCredential]) -> Organization:
    """What organizations.yaml with the same entry comes to. Raises InvalidChangeError."""
    document = organization.document() | {"credentials": [credential.document() for credential in credentials]}
    return rules.parse(document, lowers=True)


def test_organizations_without_limits_of_their_own_share_their_plan(rules: Rules) -> None:
    found = [rules.effective(an_organization(number), [a_credential(number)]) for number in range(3)]

    assert len({id(organization.plan) for organization in found}) == 1


@pytest.mark.parametrize(
    "credential",
    [
        {},
        {"key_sha256": None},
        {"name": "Robot", "environment": "staging"},
        {"enabled": False},
        {"revoked_at_ms": 1, "key_sha256": None},
        {"expires_at_ms": EXPIRES_MS},
        {"old_key_sha256": OTHER_DIGEST, "old_key_until_ms": EXPIRES_MS},
        {"old_key_sha256": OTHER_DIGEST},
        {"old_key_until_ms": EXPIRES_MS},
        {"capabilities": frozenset({"chat"}), "models": ()},
        {"limits": OWN},
        {"limits": {"rate_limits": [{"requests": 5, "window": "1m"}]}},
    ],
)
@pytest.mark.parametrize(
    "organization", [{}, {"limits": OWN}, {"plan": "enterprise", "time_zone": "America/New_York", "billing_day": 15}]
)
def test_rows_come_to_what_the_same_entry_of_the_file_comes_to(
    rules: Rules, organization: dict[str, Any], credential: dict[str, Any]
) -> None:
    other = a_credential(1, id="other", **credential | {"key_sha256": None, "old_key_sha256": None, "is_self_made": True})
    rows = an_organization(2, **organization), [a_credential(2, **{"key_sha256": DIGEST} | credential), other]
    found, expected = rules.effective(*rows), as_in_file(rules, *rows)

    assert found.credentials[1].is_self_made
    assert replace(found, credentials=(found.credentials[0], replace(found.credentials[1], is_self_made=False))) == expected


@pytest.mark.parametrize(
    ("organization", "credentials"),
    [
        ({"id": "no id"}, [{}]),
        ({"name": "\x00"}, [{}]),
        ({"name": "x" * 257}, [{}]),
        ({}, [{"id": "no id"}]),
        ({}, [{"name": "\x00"}]),
        ({}, [{"key_sha256": "not a digest"}]),
        ({}, [{"key_sha256": DIGEST.upper()}]),
        ({}, [{"key_sha256": OF_NOTHING}]),
        ({}, [{"key_sha256": DIGEST, "old_key_sha256": DIGEST, "old_key_until_ms": 5}]),
        ({}, [{"key_sha256": DIGEST}, {"id": "two", "key_sha256": DIGEST}]),
        ({}, [{"expires_at_ms": -1}]),
        ({}, [{"key_sha256": None}, {"key_sha256": DIGEST}]),
        ({}, [{"key_sha256": DIGEST, "old_key_sha256": OF_NOTHING, "old_key_until_ms": 5}]),
        ({}, [{"environment": "x" * 65}]),
        ({}, [{"models": ("gpt-4o",) * 1_001}]),
        ({"time_zone": "Mars"}, [{}]),
        ({"billing_day": 32}, [{}]),
        ({"name": ""}, [{}]),
        ({"plan": "gone"}, [{}]),
        ({"limits": {"spend_limit": {"usd": "-1"}}}, [{}]),
        ({}, [{"limits": {"spend_limit": {"usd": "-1"}}}]),
        ({}, [{"capabilities": frozenset({"telepathy"})}, {"id": "two", "key_sha256": DIGEST, "models": ("no model",)}]),
    ],
)
def test_rows_with_anything_wrong_are_refused_with_every_problem(
    rules: Rules, organization: dict[str, Any], credentials: list[dict[str, Any]]
) -> None:
    rows = an_organization(2, **organization), [a_credential(2, **credential) for credential in credentials]
    with pytest.raises(InvalidChangeError) as expected:
        as_in_file(rules, *rows)
    with pytest.raises(InvalidChangeError) as refused:
        rules.effective(*rows)

    assert refused.value.problems == expected.value.problems


async def test_new_rules_are_asked_anew_and_only_what_they_change_is_told(world: DirectoryWorld) -> None:
    await world.acme()
    await world.organizations.create("test", {"id": "big", "plan": "enterprise"})
    await world.replica.refresh()
    before = world.replica.organizations
    world.without_plan("pay_as_you_go")

    assert await world.replica.refresh() == {"acme"}
    assert not world.replica.organizations["acme"].plan.api_access
    assert world.replica.organizations["big"] == before["big"]


async def test_many_changes_are_told_of_a_few_at_a_time(world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.replica.ANNOUNCED_MAX", 2)
    await world.replica.refresh()
    for org in "abcde":
        await world.organizations.create("test", {"id": org, "plan": "enterprise"})
    told: list[frozenset[str]] = []
    all_told = asyncio.Event()

    def tell(changed: frozenset[str]) -> None:
        told.append(changed)
        if sum(map(len, told)) == 5:
            all_told.set()

    following = asyncio.get_running_loop().create_task(world.replica.follow_forever(tell))
    world.replica.wake()
    await asyncio.wait_for(all_told.wait(), 30)
    following.cancel()

    assert frozenset().union(*told) == set("abcde")
    assert max(map(len, told)) == 2


async def test_a_change_reads_one_organization(world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for org in "abc":
        await world.organizations.create("test", {"id": org, "plan": "enterprise"})
    await world.replica.refresh()
    read: list[str] = []
    of_row = StoredOrganization.of_row

    def note(row: Mapping[Any, Any]) -> StoredOrganization:
        read.append(row["id"])
        return of_row(row)

    monkeypatch.setattr(StoredOrganization, "of_row", note)
    await world.organizations.change("test", "b", {"name": "Bee"})
    read.clear()
    before = world.replica.organizations

    assert await world.replica.refresh() == {"b"}
    assert before["b"].name != "Bee", "whoever keeps what was made of a mapping finds another after a change"
    assert read == ["b"]
    assert await world.replica.refresh() == frozenset()
    assert read == ["b"]
