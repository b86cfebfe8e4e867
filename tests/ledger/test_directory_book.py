"""Organizations, credentials and admin tokens in SQL, on SQLite and PostgreSQL."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from directory_world import ACME, DAY_MS, ME, DirectoryWorld, load
from sqlalchemy import Connection, text

from tallygate.config.directory import EVERYWHERE, Directory
from tallygate.config.model import GatewayConfig
from tallygate.domain.instants import instant_text
from tallygate.domain.money import nano_usd_from_usd, usd_text
from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import UnstorableError
from tallygate.ledger.directory import admin_tokens
from tallygate.ledger.directory.changes import read_audit_log
from tallygate.ledger.directory.errors import ConflictError, InvalidChangeError, ManagedByFileError, NotFoundError
from tallygate.ledger.directory.records import Access, CredentialStatus
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.migrations.versions import v0010_retired_by_whom


@pytest.fixture
def world(database: Database, tmp_path: Path) -> DirectoryWorld:
    return DirectoryWorld(database, load(tmp_path / "config"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_new_organization_comes_back_with_its_limits_in_effect(world: DirectoryWorld) -> None:
    state = await world.organizations.create(ME, ACME | {"time_zone": "Europe/Paris"})

    assert (state.effective.id, state.effective.time_zone, state.effective.plan.id) == ("acme", "Europe/Paris", "pay_as_you_go")
    (spend,) = state.effective.plan.spend_limits
    assert (spend.name, spend.limit_nano_usd) == ("spend_7d", nano_usd_from_usd("25"))
    assert "requests_per_1m" in {limit.name for limit in state.effective.plan.rate_limits}
    assert await world.organizations.get("acme") == state
    assert world.told == 1


async def test_an_organization_has_a_billing_day(world: DirectoryWorld) -> None:
    await world.acme(billing_day=31)
    assert (await world.organizations.get("acme")).effective.billing_day == 31
    await world.replica.refresh()
    assert world.replica.organizations["acme"].billing_day == 31

    state = await world.organizations.change(ME, "acme", {"billing_day": 15})
    assert (state.stored.document()["billing_day"], state.effective.billing_day) == (15, 15)
    assert (await world.organizations.change(ME, "acme", {"name": "Other"})).effective.billing_day == 15
    assert await world.replica.refresh() == {"acme"}
    assert world.replica.organizations["acme"].billing_day == 15
    assert (await world.organizations.change(ME, "acme", {"billing_day": None})).effective.billing_day == 1


@pytest.mark.parametrize(
    ("document", "param", "says"),
    [
        ({"id": "acme", "plan": "pro", "billing_day": 0}, "billing_day", "must be at least 1, got 0"),
        ({"id": "acme", "plan": "pro", "billing_day": 32}, "billing_day", "must be at most 31, got 32"),
        ({"id": "acme", "plan": "pro", "billing_day": "15"}, "billing_day", "must be"),
        ({"id": "acme", "plan": "pro", "billing_day": True}, "billing_day", "must be"),
        ({"id": "acme", "plan": "pro", "billing_day": 1.5}, "billing_day", "must be"),
        (
            {"id": "acme", "plan": "pro", "spend_limit": {"usd": "800.01", "window": "month"}},
            "spend_limit",
            "maximum of 800.00 USD",
        ),
        ({"id": "acme", "plan": "pro", "spend_limits": [{"usd": "801", "window": "month"}]}, "spend_limits[0]", "of 800.00 USD"),
        ({}, "id", "has no `id`"),
        ({"id": "acme"}, "plan", "has no `plan`"),
        ({"id": "a b", "plan": "enterprise"}, "id", "must be 1 to 64"),
        ({"id": "acme", "plan": "gold"}, "plan", "is not a plan"),
        ({"id": "acme", "plan": 7}, "plan", "must be text"),
        ({"id": "acme", "plan": "enterprise", "time_zone": "Mars/Base"}, "time_zone", "must be a time zone"),
        ({"id": "acme", "plan": "enterprise", "colour": "red"}, "colour", "not a known key"),
        ({"id": "acme", "plan": "enterprise", "credentials": []}, "credentials", "not a known key"),
        ({"id": "acme", "plan": "pay_as_you_go", "spend_limit": {"usd": "250"}}, "spend_limit", "may only tighten"),
        ({"id": "acme", "plan": "pay_as_you_go", "spend_limit": {"usd": 25}}, "spend_limit.usd", "must be quoted"),
        (
            {"id": "acme", "plan": "enterprise", "rate_limits": [{"requests": 0, "window": "1m"}]},
            "rate_limits[0].requests",
            "at least 1",
        ),
        (
            {"id": "acme", "plan": "enterprise", "rate_limits": [{"requests": 1.5, "window": "1m"}]},
            "rate_limits[0].requests",
            "an integer",
        ),
        ({"id": "acme", "plan": "enterprise", "rate_limits": {}}, "rate_limits", "must be a list"),
        ({"id": "acme", "plan": "enterprise", "name": None}, "name", "must be text"),
        ({"id": "acme", "plan": "enterprise", "name": "x" * 257}, "name", "must be 1 to 256"),
        ({"id": "acme", "plan": "enterprise", "rate_limits": eval("[" * 40 + "]" * 40)}, None, "nested deeper"),  # noqa: S307
    ],
)
async def test_what_the_file_would_refuse_is_refused_with_the_field_at_fault(
    world: DirectoryWorld, document: dict[str, Any], param: str | None, says: str
) -> None:
    with pytest.raises(InvalidChangeError) as caught:
        await world.organizations.create(ME, document)

    assert says in caught.value.message
    assert caught.value.param == param
    assert await world.organizations.list() == []
    assert await read_audit_log(world.database) == []
    assert world.told == 0


async def test_a_change_replaces_what_it_names_and_keeps_the_rest(world: DirectoryWorld) -> None:
    await world.acme(rate_limits=[{"requests": 5, "window": "1m"}])
    state = await world.organizations.change(ME, "acme", {"spend_limits": [{"usd": "10"}, {"usd": "30", "window": "month"}]})
    assert [limit.name for limit in state.effective.plan.spend_limits] == ["spend_7d", "spend_month"]
    assert next(limit for limit in state.effective.plan.rate_limits if limit.name == "requests_per_1m").capacity == 5

    state = await world.organizations.change(ME, "acme", {"rate_limits": None, "spend_limits": None, "name": None})
    assert (state.effective.name, state.stored.limits) == ("acme", {})
    assert state.effective.plan.spend_limits[0].limit_nano_usd == nano_usd_from_usd("100")


async def test_a_limit_above_a_maximum_that_was_lowered_is_held_at_the_maximum(
    world: DirectoryWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The organization stays in service, spends no more than its plan lets it, and can be changed as ever."""

    def plans(maximum: str, *, shadow: bool = False) -> GatewayConfig:
        week = {"usd": "10", "max_usd": maximum, "shadow": shadow}
        month = {"usd": "50", "max_usd": "60", "window": "month"}
        return load(tmp_path / "config", plans={"plans": {"p": {"spend_limits": [week, month]}}})

    def limits(organization: Organization) -> dict[str, str]:
        return {limit.name: usd_text(limit.limit_nano_usd) for limit in organization.plan.spend_limits}

    world.config = plans("100", shadow=True)
    own = [{"usd": "90", "warn_at": [0.7], "shadow": True}, {"usd": "60", "window": "month"}]
    await world.organizations.create(ME, {"id": "acme", "plan": "p", "spend_limits": own})
    await world.organizations.create(ME, {"id": "beta", "plan": "p", "spend_limit": {"usd": "30"}})
    await world.credentials.create(ME, "acme", {"id": "prod"})
    await world.replica.refresh()
    assert limits(world.replica.organizations["acme"]) == {"spend_7d": "90.00", "spend_month": "60.00"}

    world.config = plans("40")
    assert await world.replica.refresh() == {"acme"}
    acme, beta = (world.replica.organizations[org] for org in ("acme", "beta"))
    assert (limits(acme), acme.plan.lowered) == ({"spend_7d": "40.00", "spend_month": "60.00"}, ("spend_7d",))
    assert (acme.plan.spend_limits[0].shadow, acme.plan.spend_limits[0].warn_at_permille) == (False, (700,))
    assert acme.credentials[0].enabled
    assert (limits(beta), beta.plan.lowered) == ({"spend_7d": "30.00", "spend_month": "50.00"}, ())
    assert "held at that maximum, of 1: acme" in caplog.text

    shown = (await world.organizations.get("acme")).effective
    assert (limits(shown), shown.plan.lowered) == (limits(acme), ("spend_7d",))
    assert (await world.organizations.change(ME, "acme", {"name": "Renamed"})).effective.plan == shown.plan
    assert (await world.credentials.create(ME, "acme", {"id": "more"})).organization.plan == shown.plan
    assert (await world.credentials.change(ME, "acme", "more", {"name": "x"})).organization.plan == shown.plan
    with pytest.raises(InvalidChangeError, match=r"plan's maximum of 40\.00 USD, got 41\.00"):
        await world.organizations.change(ME, "acme", {"spend_limit": {"usd": "41"}})
    with pytest.raises(InvalidChangeError, match=r"plan's maximum of 40\.00 USD, got 90\.00"):
        await world.organizations.change(ME, "acme", {"plan": "p"})

    world.config = plans("100")
    await world.replica.refresh()
    assert world.replica.organizations["acme"].plan.spend_limits[0].limit_nano_usd == nano_usd_from_usd("90")


async def test_a_change_of_plan_is_checked_against_everything_that_hangs_on_it(world: DirectoryWorld) -> None:
    await world.organizations.create(ME, {"id": "acme", "plan": "enterprise", "spend_limit": {"usd": "5000"}})

    with pytest.raises(InvalidChangeError, match="may only tighten"):
        await world.organizations.change(ME, "acme", {"plan": "pay_as_you_go"})
    with pytest.raises(InvalidChangeError, match="plan must be text"):
        await world.organizations.change(ME, "acme", {"plan": None})
    assert (await world.organizations.get("acme")).stored.plan == "enterprise"


async def test_ids_are_given_once_and_what_is_not_there_is_not_found(world: DirectoryWorld) -> None:
    await world.acme()
    with pytest.raises(ConflictError, match="already"):
        await world.acme()
    for call in (
        world.organizations.get("gone"),
        world.organizations.change(ME, "gone", {}),
        world.organizations.delete(ME, "gone"),
        world.credentials.create(ME, "gone", {"id": "x"}),
        world.credentials.list("gone"),
        world.credentials.change(ME, "acme", "gone", {}),
        world.credentials.rotate(ME, "acme", "gone"),
        world.credentials.revoke(ME, "acme", "gone"),
        world.tokens.revoke(ME, "gone"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_a_key_is_told_once_and_never_kept(world: DirectoryWorld, database: Database) -> None:
    await world.acme()
    made = await world.credentials.create(ME, "acme", {"id": "acme-prod", "name": "Production", "capabilities": ["chat"]})

    assert made.api_key is not None
    assert made.api_key not in repr(made)
    found = Directory([made.organization]).find(made.api_key)
    assert found is not None
    assert found[1] == made.effective
    assert (await world.credentials.get("acme", "acme-prod")).api_key is None
    secret = made.api_key.rpartition("_")[2]
    async with database.read() as connection:
        for table in ("credentials", "audit_log", "organizations"):
            rows = (await connection.execute(text(f"SELECT * FROM {table}"))).all()  # noqa: S608
            assert rows
            assert secret not in repr(rows)
        assert digest(secret) not in repr((await connection.execute(text("SELECT * FROM audit_log"))).all())


async def test_own_keys_and_no_keys_are_possible(world: DirectoryWorld) -> None:
    await world.acme()
    own = await world.credentials.create(ME, "acme", {"id": "own", "key_sha256": digest("sk-mine")})
    none = await world.credentials.create(ME, "acme", {"id": "token-only", "has_key": False})
    directory = Directory([none.organization])

    assert own.api_key is none.api_key is None
    found = directory.find("sk-mine")
    assert found is not None
    assert found[1].id == "own"
    assert directory.credential("token-only") is not None
    assert none.stored.shown(world.now_ms)["has_key"] is False


@pytest.mark.parametrize(
    ("document", "param", "says"),
    [
        ({}, "id", "must be 1 to 64"),
        ({"id": "a b"}, "id", "must be 1 to 64"),
        ({"id": "x", "capabilities": ["flying"]}, "capabilities[0]", "not a capability"),
        ({"id": "x", "models": ["gpt 4"]}, "models[0]", "must be a model name"),
        ({"id": "x", "expires": "soon"}, "expires", "must be a date"),
        ({"id": "x", "rate_limits": [{"requests": 1}]}, "rate_limits[0].window", "has no `window`"),
        (
            {"id": "x", "rate_limits": [{"requests": 1, "window": "1m", "per": "credential"}]},
            "rate_limits[0].per",
            "not a known key",
        ),
        ({"id": "x", "key_sha256": "secret"}, "key_sha256", "must be the 64 lower-case hex"),
        ({"id": "x", "key_sha256": digest("")}, "key_sha256", "digest of nothing"),
        ({"id": "x", "old_key_sha256": digest("a")}, "old_key_sha256", "not a known key"),
        ({"id": "x", "has_key": "no"}, "has_key", "has_key must be"),
        ({"id": "x", "has_key": False, "key_sha256": digest("a")}, "has_key", "has_key must be"),
    ],
)
async def test_a_credential_keeps_to_the_rules_of_the_file(
    world: DirectoryWorld, document: dict[str, Any], param: str, says: str
) -> None:
    await world.acme()
    await world.credentials.create(ME, "acme", {"id": "another"})
    with pytest.raises(InvalidChangeError) as caught:
        await world.credentials.create(ME, "acme", document)

    assert says in caught.value.message
    assert "credentials[0]." not in caught.value.message
    assert caught.value.param == param
    assert len(await world.credentials.list("acme")) == 1


async def test_client_ids_and_keys_are_unique_over_all_organizations(world: DirectoryWorld) -> None:
    await world.acme()
    await world.organizations.create(ME, {"id": "big", "plan": "enterprise"})
    await world.credentials.create(ME, "acme", {"id": "prod", "key_sha256": digest("k")})
    await world.credentials.rotate(ME, "acme", "prod", key_sha256=digest("new"))

    with pytest.raises(ConflictError, match="taken"):
        await world.credentials.create(ME, "big", {"id": "prod"})
    for key in ("k", "new"):  # the one before a rotation too
        with pytest.raises(ConflictError, match="another credential's"):
            await world.credentials.create(ME, "big", {"id": "other", "key_sha256": digest(key)})
    with pytest.raises(NotFoundError):
        await world.credentials.get("big", "prod")


async def test_a_rotation_overlaps_for_as_long_as_asked(world: DirectoryWorld) -> None:
    await world.acme()
    first = (await world.credentials.create(ME, "acme", {"id": "prod"})).api_key
    rotated = await world.credentials.rotate(ME, "acme", "prod", overlap_ms=DAY_MS)
    directory = Directory([rotated.organization])

    assert first is not None
    assert rotated.api_key is not None
    old, new = directory.find(first), directory.find(rotated.api_key)
    assert old is not None
    assert old[1].expires_at_ms == world.now_ms + DAY_MS
    assert new is not None
    assert new[1].expires_at_ms is None
    assert rotated.stored.shown(world.now_ms)["old_key_until"] == instant_text(world.now_ms + DAY_MS)

    again = await world.credentials.rotate(ME, "acme", "prod", overlap_ms=0)
    directory = Directory([again.organization])
    assert directory.find(first) is None
    assert directory.find(rotated.api_key) is None
    for overlap_ms in (-1, 91 * DAY_MS):
        with pytest.raises(InvalidChangeError):
            await world.credentials.rotate(ME, "acme", "prod", overlap_ms=overlap_ms)


async def test_revoking_is_for_ever_and_keeps_the_id(world: DirectoryWorld) -> None:
    await world.acme()
    key = (await world.credentials.create(ME, "acme", {"id": "prod"})).api_key
    revoked = await world.credentials.revoke(ME, "acme", "prod")
    assert revoked.status(world.now_ms) is CredentialStatus.REVOKED
    assert await world.credentials.revoke(ME, "acme", "prod") == revoked

    directory = Directory([(await world.credentials.get("acme", "prod")).organization])
    assert key is not None
    assert directory.find(key) is None
    found = directory.credential("prod")  # a token that names it finds it disabled, rather than nobody
    assert found is not None
    assert not found[1].enabled
    for call in (
        world.credentials.rotate(ME, "acme", "prod"),
        world.credentials.change(ME, "acme", "prod", {"enabled": True}),
        world.credentials.create(ME, "acme", {"id": "prod"}),
    ):
        with pytest.raises(ConflictError):
            await call


async def test_a_credential_changes_field_by_field(world: DirectoryWorld) -> None:
    await world.acme()
    key = (await world.credentials.create(ME, "acme", {"id": "prod", "models": ["gpt-4o*"], "spend_limit": {"usd": "5"}})).api_key
    state = await world.credentials.change(ME, "acme", "prod", {"expires": "2030-01-31", "environment": "production"})
    assert (state.effective.models, state.effective.environment) == (("gpt-4o*",), "production")
    assert state.effective.spend_limits[0].limit_nano_usd == nano_usd_from_usd("5")
    assert key is not None
    assert Directory([state.organization]).find(key)

    state = await world.credentials.change(
        ME, "acme", "prod", {"models": None, "expires": None, "spend_limit": None, "enabled": False}
    )
    assert (state.effective.models, state.effective.expires_at_ms, state.effective.spend_limits) == (None, None, ())
    assert state.stored.status(world.now_ms) is CredentialStatus.DISABLED


async def test_deleting_an_organization_takes_its_credentials_and_frees_their_names(world: DirectoryWorld) -> None:
    await world.acme()
    await world.credentials.create(ME, "acme", {"id": "prod"})
    await world.organizations.delete(ME, "acme")

    assert await world.credentials.find("prod") is None
    await world.acme()
    assert await world.credentials.list("acme") == ()


async def test_what_was_revoked_stays_revoked_when_its_organization_is_deleted_and_made_again(world: DirectoryWorld) -> None:
    await world.acme()
    for client_id in ("revoked", "disabled", "used"):
        await world.credentials.create(ME, "acme", {"id": client_id, "has_key": False})
    await world.credentials.revoke(ME, "acme", "revoked")
    await world.credentials.change(ME, "acme", "disabled", {"enabled": False})
    await world.replica.refresh()
    await world.organizations.delete(ME, "acme")
    await world.replica.refresh()
    assert set(world.replica.retired) == {("revoked", EVERYWHERE), ("disabled", EVERYWHERE)}

    await world.acme()
    await world.organizations.create(ME, {"id": "big", "plan": "enterprise"})
    for org in ("acme", "big"):
        for client_id in ("revoked", "disabled"):
            with pytest.raises(ConflictError, match="for ever"):
                await world.credentials.create(ME, org, {"id": client_id})
    assert (await world.credentials.create(ME, "big", {"id": "used"})).stored.org == "big"
    fresh = DirectoryReplica(world.database, lambda: world.config)
    for replica in (world.replica, fresh):
        await replica.refresh()
        assert set(replica.retired) == {("revoked", EVERYWHERE), ("disabled", EVERYWHERE)}

    await world.credentials.release(ME, "disabled")
    await world.replica.refresh()
    assert set(world.replica.retired) == {("revoked", EVERYWHERE)}
    assert (await world.credentials.create(ME, "acme", {"id": "disabled"})).stored.org == "acme"
    with pytest.raises(NotFoundError):
        await world.credentials.release(ME, "used")


async def test_a_departing_organization_takes_no_client_id_that_it_chose_itself_from_the_others(world: DirectoryWorld) -> None:
    for org in ("evil", "big"):
        await world.organizations.create(ME, {"id": org, "plan": "enterprise"})
    await world.credentials.create(ME, "evil", {"id": "mobile"}, is_self_made=True)
    await world.credentials.change(ME, "evil", "mobile", {"enabled": False})
    await world.replica.refresh()
    await world.organizations.delete(ME, "evil")
    await world.organizations.create(ME, {"id": "evil", "plan": "enterprise"})
    fresh = DirectoryReplica(world.database, lambda: world.config)
    for replica in (world.replica, fresh):
        await replica.refresh()
        assert set(replica.retired) == {("mobile", "evil")}
    with pytest.raises(ConflictError, match="for ever"):
        await world.credentials.create(ME, "evil", {"id": "mobile"})
    assert await world.credentials.is_retired("mobile", org="evil")
    assert not await world.credentials.is_retired("mobile", org="big")

    await world.credentials.create(ME, "big", {"id": "mobile"})  # whose deletion retires it for everybody, beside evil's
    await world.credentials.revoke(ME, "big", "mobile")
    await world.organizations.delete(ME, "big")
    await world.organizations.delete(ME, "evil")
    await world.replica.refresh()
    assert set(world.replica.retired) == {("mobile", "evil"), ("mobile", EVERYWHERE)}
    await world.acme()
    with pytest.raises(ConflictError, match="for ever"):
        await world.credentials.create(ME, "acme", {"id": "mobile"})

    await world.credentials.release(ME, "mobile")
    await world.replica.refresh()
    assert not world.replica.retired


async def test_what_was_retired_before_it_was_kept_who_had_chosen_it_stays_retired_for_everybody(
    world: DirectoryWorld,
) -> None:
    await world.acme()
    await world.credentials.create(ME, "acme", {"id": "old"}, is_self_made=True)
    await world.credentials.revoke(ME, "acme", "old")
    await world.organizations.delete(ME, "acme")

    def upgrade(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            v0010_retired_by_whom.upgrade()

    async with world.database.write() as connection:
        await connection.run_sync(upgrade)

    await world.replica.refresh()
    assert set(world.replica.retired) == {("old", EVERYWHERE)}


async def test_what_was_revoked_stays_revoked_when_its_organization_moves_into_the_file(
    world: DirectoryWorld, tmp_path: Path
) -> None:
    await world.acme()
    for client_id in ("revoked", "used", "in-file"):
        await world.credentials.create(ME, "acme", {"id": client_id, "has_key": False})
    for client_id in ("revoked", "in-file"):
        await world.credentials.revoke(ME, "acme", client_id)
    await world.replica.refresh()
    in_file = {"id": "acme", "plan": "enterprise", "credentials": [{"id": "in-file", "key_sha256": "2c" * 32}]}
    world.config = load(tmp_path / "moved", organizations={"organizations": [in_file]})

    assert await world.replica.refresh() == {"acme"}
    assert set(world.replica.retired) == {("revoked", EVERYWHERE)}


async def test_who_could_see_a_deleted_organization_does_not_see_one_that_gets_its_id(world: DirectoryWorld) -> None:
    await world.acme()
    alone = await world.tokens.create(ME, name="portal", access=Access.WRITE, orgs=["acme"])
    both = await world.tokens.create(ME, name="group", access=Access.READ, orgs=["acme", "big"])
    every = await world.tokens.create(ME, name="every", access=Access.READ, orgs=None)
    await world.organizations.delete(ME, "acme")
    await world.acme()

    assert await world.tokens.find(alone.secret) is None
    narrowed, seen = await world.tokens.find(both.secret), await world.tokens.find(every.secret)
    assert narrowed is not None
    assert narrowed.orgs == ("big",)
    assert seen is not None
    assert seen.orgs is None
    entries = await read_audit_log(world.database, limit=20)
    assert {"token.narrowed", "token.revoked"} <= {entry.action for entry in entries}


async def test_the_name_under_which_the_rest_is_counted_is_nobodys(world: DirectoryWorld) -> None:
    with pytest.raises(InvalidChangeError, match="'other'"):
        await world.organizations.create(ME, {"id": "other", "plan": "enterprise"})


async def test_organizations_are_listed_in_pages(world: DirectoryWorld) -> None:
    for org in ("b", "a", "d", "c"):
        await world.organizations.create(ME, {"id": org, "plan": "enterprise"})
        await world.credentials.create(ME, org, {"id": f"{org}-prod"})
    first = await world.organizations.list(limit=2)
    rest = await world.organizations.list(limit=10, after=first[-1][0].id)

    assert [(stored.id, [item.id for item in theirs]) for stored, theirs in (*first, *rest)] == [
        (org, [f"{org}-prod"]) for org in "abcd"
    ]
    assert [stored.id for stored, _ in await world.organizations.list(ids=["d", "x"])] == ["d"]


async def test_the_file_wins_and_is_not_changed_from_here(database: Database, tmp_path: Path) -> None:
    in_file = {"id": "acme", "plan": "enterprise", "credentials": [{"id": "prod", "key_sha256": digest("k")}]}
    empty = DirectoryWorld(database, load(tmp_path / "empty"))
    world = DirectoryWorld(database, load(tmp_path / "config", organizations={"organizations": [in_file]}))
    for call in (
        world.organizations.create(ME, ACME),
        world.organizations.change(ME, "acme", {}),
        world.organizations.delete(ME, "acme"),
        world.credentials.create(ME, "acme", {"id": "x"}),
        world.credentials.rotate(ME, "acme", "prod"),
        world.credentials.revoke(ME, "acme", "prod"),
    ):
        with pytest.raises(ManagedByFileError):
            await call
    await world.organizations.create(ME, {"id": "big", "plan": "enterprise"})
    for document in ({"id": "prod"}, {"id": "x", "key_sha256": digest("k")}):
        with pytest.raises(ManagedByFileError):
            await world.credentials.create(ME, "big", document)

    await empty.acme()
    await empty.credentials.create(ME, "big", {"id": "prod"})
    await world.replica.refresh()
    assert list(world.replica.organizations) == ["big"]
    assert world.replica.organizations["big"].credentials == ()


async def test_admin_tokens_know_what_they_may(world: DirectoryWorld) -> None:
    made = await world.tokens.create(
        ME, name="CI", access=Access.READ, orgs=["acme", "big", "acme"], expires_at_ms=world.now_ms + 1
    )
    root = await world.tokens.create(ME, name="ops", access=Access.WRITE, orgs=None)

    assert await world.tokens.find(made.secret) == made.token
    assert (made.token.orgs, made.token.access) == (("acme", "big"), Access.READ)
    assert made.secret not in repr(made)
    assert await world.tokens.find(made.secret + "x") is None
    assert await world.tokens.find("") is None
    assert await world.tokens.list() == (made.token, root.token) or await world.tokens.list() == (root.token, made.token)
    world.now_ms += 1
    assert await world.tokens.find(made.secret) is None
    await world.tokens.revoke(ME, root.token.id)
    assert await world.tokens.find(root.secret) is None
    assert [entry.action for entry in await read_audit_log(world.database)] == ["token.revoked", "token.created", "token.created"]


@pytest.mark.parametrize("changes", [{"name": ""}, {"name": "x" * 257}, {"orgs": []}, {"orgs": ["a b"]}, {"orgs": ["a"] * 1001}])
async def test_a_token_of_nonsense_is_not_made(world: DirectoryWorld, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidChangeError):
        await world.tokens.create(ME, **{"name": "x", "access": Access.READ, "orgs": None} | changes)


async def test_admin_tokens_are_bounded(world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_tokens, "TOKENS_MAX", 1)
    await world.tokens.create(ME, name="x", access=Access.READ, orgs=None)
    with pytest.raises(ConflictError):
        await world.tokens.create(ME, name="x", access=Access.READ, orgs=None)


async def test_every_change_is_in_the_log_with_before_and_after(world: DirectoryWorld) -> None:
    await world.acme()
    world.now_ms += 5
    await world.organizations.change("someone else", "acme", {"name": "Acme Inc"})
    await world.credentials.create(ME, "acme", {"id": "prod"})
    await world.credentials.revoke(ME, "acme", "prod")
    entries = await read_audit_log(world.database)

    assert [(entry.actor, entry.action, entry.subject, entry.org) for entry in entries] == [
        (ME, "credential.revoked", "prod", "acme"),
        (ME, "credential.created", "prod", "acme"),
        ("someone else", "organization.changed", "acme", "acme"),
        (ME, "organization.created", "acme", "acme"),
    ]
    changed = entries[2]
    assert changed.at_ms == entries[3].at_ms + 5
    assert changed.before is not None
    assert changed.after is not None
    assert (changed.before["name"], changed.after["name"]) == ("Acme", "Acme Inc")
    assert entries[3].before is None
    assert await read_audit_log(world.database, orgs=["big"]) == []
    assert await read_audit_log(world.database, subject="prod", limit=1) == entries[:1]
    assert await read_audit_log(world.database, before_id=entries[1].id) == entries[2:]
    with pytest.raises(InvalidChangeError):
        await world.organizations.change("", "acme", {})


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"])
async def test_the_log_cannot_be_rewritten(world: DirectoryWorld, statement: str) -> None:
    await world.acme()
    with pytest.raises(UnstorableError, match="append-only"):
        async with world.database.write() as connection:
            await connection.execute(text(statement))
    assert len(await read_audit_log(world.database)) == 1


async def test_a_change_that_fails_leaves_nothing_behind(world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.acme()
    await world.replica.refresh()

    def fail(*_: object) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("tallygate.ledger.directory.changes.json.dumps", fail)
    with pytest.raises(RuntimeError):
        await world.organizations.change(ME, "acme", {"name": "Other"})
    monkeypatch.undo()
    assert (await world.organizations.get("acme")).stored.name == "Acme"
    assert await world.replica.refresh() == frozenset()


async def test_changes_of_many_at_once_are_all_made_and_all_seen(
    world: DirectoryWorld, open_another: Callable[[], Database]
) -> None:
    await world.acme()
    await world.replica.refresh()
    others = [DirectoryWorld(open_another(), world.config) for _ in range(3)]
    seen: set[str] = set()

    async def make(number: int) -> None:
        await others[number % 3].organizations.create(ME, {"id": f"org-{number}", "plan": "enterprise"})

    async def watch() -> None:
        while len(seen) < 12:
            seen.update(await world.replica.refresh())
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(watch(), *(make(number) for number in range(12))), 60)

    assert seen == {f"org-{number}" for number in range(12)}
    assert world.replica.version == 13


async def test_a_copy_follows_changes_one_by_one(world: DirectoryWorld) -> None:
    await world.acme()
    await world.organizations.create(ME, {"id": "big", "plan": "enterprise"})
    assert await world.replica.refresh() == {"acme", "big"}
    assert await world.replica.refresh() == frozenset()

    big = world.replica.organizations["big"]
    await world.credentials.create(ME, "acme", {"id": "prod"})
    assert await world.replica.refresh() == {"acme"}
    assert world.replica.organizations["acme"].credentials[0].id == "prod"
    assert world.replica.organizations["big"] is big
    await world.organizations.delete(ME, "acme")
    assert await world.replica.refresh() == {"acme"}
    assert list(world.replica.organizations) == ["big"]
    await world.tokens.create(ME, name="x", access=Access.READ, orgs=None)
    assert await world.replica.refresh() == frozenset()


async def test_a_copy_that_is_far_behind_reads_everything(world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.replica.CHANGED_MAX", 1)
    monkeypatch.setattr("tallygate.ledger.directory.replica.CHUNK", 2)
    await world.replica.refresh()
    for org in "abcde":
        await world.organizations.create(ME, {"id": org, "plan": "enterprise"})
    await world.organizations.delete(ME, "a")

    assert await world.replica.refresh() == set("bcde")
    assert list(world.replica.organizations) == list("bcde")


async def test_an_organization_that_new_plans_do_not_allow_is_locked_not_forgotten(
    world: DirectoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    await world.acme()
    key = (await world.credentials.create(ME, "acme", {"id": "prod"})).api_key
    await world.credentials.create(ME, "acme", {"id": "mobile"}, is_self_made=True)
    await world.replica.refresh()
    world.without_plan("pay_as_you_go")

    assert await world.replica.refresh() == {"acme"}
    assert "acme is locked" in caplog.text
    assert key is not None
    found = Directory(world.replica.organizations.values()).find(key)
    assert found is not None
    assert (found[1].enabled, found[0].plan.api_access) == (False, False)
    assert {item.id: item.is_self_made for item in found[0].credentials} == {"prod": False, "mobile": True}


async def test_a_poll_finds_a_change_without_being_told(world: DirectoryWorld) -> None:
    await world.replica.refresh()
    changed: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    following = asyncio.get_running_loop().create_task(world.replica.follow_forever(changed.put_nowait))
    await world.acme()
    while not (organizations := await asyncio.wait_for(changed.get(), 10)):
        continue  # a poll before the change tells that all was read
    following.cancel()

    assert organizations == {"acme"} == world.replica.organizations.keys()
