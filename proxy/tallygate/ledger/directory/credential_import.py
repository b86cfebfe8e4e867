"""Import of keys that callers already have, by the thousand. All rows are checked first, then entered in steps.

A step is one transaction of `STEP_ROWS`: a single one for all would block the ledger's writes. Each step checks its
rows again under the lock. An existing row is no change, so running an interrupted import again completes it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.config.problems import Problems
from tallygate.domain.organization import Credential
from tallygate.ledger.directory.changes import Change, Changes
from tallygate.ledger.directory.credential_rows import IMPORTED_FIELDS, ImportedKey
from tallygate.ledger.directory.errors import ConflictError, InvalidChangeError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.rules import CREDENTIALS_OF_ONE_MAX, Rules
from tallygate.ledger.directory.schema import CREDENTIALS, ORGANIZATIONS, RETIRED_CLIENT_IDS

STEP_ROWS: Final = 1_000
_COMPARED: Final = tuple(declared.attribute for declared in IMPORTED_FIELDS)
_REVOKED: Final = "its id was revoked, for ever: Client IDs are never given twice"


@dataclass(slots=True, kw_only=True)
class ImportPlan:
    """The plan of an import. fresh: rows to be entered; other: lines of existing credentials with the same key and other fields,
    which an import does not change.
    """

    fresh: list[ImportedKey] = field(default_factory=list)
    other: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Existing data that rows could conflict with. holders: by digest, the owner of a key, and whether it was before a rotation."""

    organizations: Mapping[str, StoredOrganization]
    credentials: Mapping[str, StoredCredential]
    retired: Mapping[str, frozenset[str]]
    holders: Mapping[str, tuple[str, bool]]
    counts: Mapping[str, int]


class CredentialImport:
    """Imports into one database. Raises LedgerUnavailableError."""

    def __init__(self, changes: Changes, rules: Rules) -> None:
        self._changes = changes
        self._rules = rules

    async def plan(
        self, keys: Sequence[ImportedKey], problems: Problems, *, named: str, on_done: Callable[[int], None]
    ) -> ImportPlan:
        """Check every row without changing anything. on_done: called with the number of further rows checked."""
        plan, judge, added = ImportPlan(), _Judge(self._rules), Counter[str]()
        for step in _steps(keys):
            async with self._changes.database.read() as connection:
                found = await _found(connection, step)
            for key in step:
                verdict = judge.verdict(key.credential, found, added)
                if isinstance(verdict, str):
                    problems.add(named, key.line, verdict)
                elif verdict is None:
                    plan.fresh.append(key)
                    added[key.credential.org] += 1
                elif not _is_alike(verdict, key.credential):
                    plan.other.append(key.line)
            on_done(len(step))
        return plan

    async def enter(self, actor: str, plan: ImportPlan, *, named: str, on_done: Callable[[int], None]) -> int:
        """Create credentials from the plan's fresh rows, one organization after another; return their number.

        Raises ConflictError if a row conflicts since it was checked; earlier steps stay in effect.
        """
        made = 0
        for step in _steps(sorted(plan.fresh, key=lambda key: (key.credential.org, key.credential.id))):
            async with self._changes.begin(actor) as change:
                made += await self._enter(change, step, named)
            on_done(len(step))
        return made

    async def _enter(self, change: Change, step: Sequence[ImportedKey], named: str) -> int:
        found, judge, added = await _found(change.connection, step), _Judge(self._rules), Counter[str]()
        by_org: dict[str, list[StoredCredential]] = {}
        for key in step:
            verdict = judge.verdict(key.credential, found, added)
            if isinstance(verdict, str):
                raise ConflictError(f"{named}:{key.line}: {verdict}. It changed meanwhile; what was entered before it stands.")
            if verdict is None:
                stored = replace(key.credential, created_at_ms=change.at_ms, changed_at_ms=change.at_ms)
                by_org.setdefault(stored.org, []).append(stored)
                added[stored.org] += 1
        rows = [stored.row() for entered in by_org.values() for stored in entered]
        if rows:
            await change.connection.execute(CREDENTIALS.insert(), rows)
        for org, entered in by_org.items():
            # One entry for all: the organization's credentials from the first id to the last, created at its time.
            after = {"credentials": len(entered), "first": entered[0].id, "last": entered[-1].id}
            await change.log("credentials.imported", org, org=org, after=after)
        return len(rows)


class _Judge:
    """Checks a row against the database, organizations.yaml and the rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._orgs_in_file = rules.orgs_in_file()
        in_file = rules.credentials_in_file()
        self._ids_in_file = {credential.id for credential in in_file}
        self._digests_in_file = {digest: credential.id for credential in in_file for digest in _digests(credential)}

    def verdict(self, wanted: StoredCredential, found: _Found, added: Counter[str]) -> StoredCredential | str | None:
        """The existing credential; None if the row can be entered; or the reason why it cannot."""
        if wanted.org in self._orgs_in_file:
            return "its organization stands in organizations.yaml: add its credentials there"
        organization = found.organizations.get(wanted.org)
        if organization is None:
            return "its organization is not in the database: `tallygate orgs create` makes one"
        if wanted.id in self._ids_in_file:
            return "its id stands in organizations.yaml"
        digest = wanted.key_sha256 or ""
        if digest in self._digests_in_file:
            return f"its key is that of credential {self._digests_in_file[digest]!r} in organizations.yaml"
        there = found.credentials.get(wanted.id)
        if there is not None:
            return _conflict(there, wanted) or there
        if found.retired.get(wanted.id, frozenset()) & {wanted.org, ""}:
            return _REVOKED
        if digest in found.holders:
            holder, is_old = found.holders[digest]
            return f"its key {'was, before a rotation,' if is_old else 'is'} that of credential {holder}"
        if found.counts.get(wanted.org, 0) + added[wanted.org] >= CREDENTIALS_OF_ONE_MAX:
            return f"its organization would have more than {CREDENTIALS_OF_ONE_MAX:,} credentials, the most that one may have"
        try:
            self._rules.effective(organization, (wanted,))
        except InvalidChangeError:  # whose text may quote the row
            return "it, or its organization, breaks a rule of the configuration in force"
        return None


def _conflict(there: StoredCredential, wanted: StoredCredential) -> str:
    """The reason why a row differs from the credential with its Client ID; "" if it does not."""
    if there.org != wanted.org:
        return f"its id is a Client ID of organization {there.org!r}"
    if there.revoked_at_ms is not None:
        return _REVOKED
    if there.key_sha256 == wanted.key_sha256:
        return ""
    if there.old_key_sha256 == wanted.key_sha256:
        return "its id has another key since a rotation; this is the one before"
    if there.key_sha256 is None:
        return "its id is here without a key: `tallygate credentials rotate --key-sha256` gives it one"
    return "its id is here with another key: `tallygate credentials rotate --key-sha256` replaces it"


def _is_alike(one: StoredCredential, other: StoredCredential) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _COMPARED)


def _digests(credential: Credential) -> Iterator[str]:
    return (digest.hex() for digest in (credential.key_sha256, credential.old_key_sha256) if digest)


def _steps(keys: Sequence[ImportedKey]) -> Iterator[Sequence[ImportedKey]]:
    return (keys[start : start + STEP_ROWS] for start in range(0, len(keys), STEP_ROWS))


async def _found(connection: AsyncConnection, step: Sequence[ImportedKey]) -> _Found:
    ids = [key.credential.id for key in step]
    orgs = list({key.credential.org for key in step})
    digests = [key.credential.key_sha256 for key in step]
    kept, retirements = CREDENTIALS.c, RETIRED_CLIENT_IDS.c

    async def mappings(query: Any) -> Sequence[Mapping[Any, Any]]:
        return (await connection.execute(query)).mappings().all()

    organizations = await mappings(select(ORGANIZATIONS).where(ORGANIZATIONS.c.id.in_(orgs)))
    credentials = await mappings(select(CREDENTIALS).where(kept.id.in_(ids)))
    retired: dict[str, frozenset[str]] = {}
    for row in await mappings(select(RETIRED_CLIENT_IDS).where(retirements.id.in_(ids))):
        retired[row["id"]] = retired.get(row["id"], frozenset()) | {row["org"] if row["is_self_made"] else ""}
    holders: dict[str, tuple[str, bool]] = {}
    whose = select(kept.id, kept.org, kept.key_sha256, kept.old_key_sha256)
    for row in await mappings(whose.where(or_(kept.key_sha256.in_(digests), kept.old_key_sha256.in_(digests)))):
        for digest, is_old in ((row["old_key_sha256"], True), (row["key_sha256"], False)):
            if digest is not None:
                holders[digest] = f"{row['id']!r} of organization {row['org']!r}", is_old
    counted = select(kept.org, func.count()).where(kept.org.in_(orgs)).group_by(kept.org)
    counts = [(org, count) for org, count in await connection.execute(counted)]
    return _Found(
        organizations={row["id"]: StoredOrganization.of_row(row) for row in organizations},
        credentials={row["id"]: StoredCredential.of_row(row) for row in credentials},
        retired=retired,
        holders=holders,
        counts=dict(counts),
    )
