"""People's sign-ins at the console: sessions of browsers, and links that begin one, once. Only digests of secrets are stored.

Sessions lie in the database, so that several consoles share them, and none outlives what it began with.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import Table

from tallygate.config.sign_in_link import new_link_secret
from tallygate.domain.instants import instant_text
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import Access
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.directory.schema import CONSOLE_SESSIONS, ORGANIZATIONS, SIGN_IN_LINKS

SESSION_PREFIX: Final = "tgs_"
LIFETIME_MS: Final = 12 * 3_600_000  # of a session, whatever is done in it
IDLE_MS: Final = 3_600_000  # after its last request it ends
LINK_MS: Final = 600_000  # in which a link must be opened
SESSIONS_MAX: Final = 10_000  # beyond it, the one that was idle for the longest ends
SESSIONS_OF_ONE_MAX: Final = 100  # the same, of one actor
LINKS_MAX: Final = 1_000  # unused; beyond it, the oldest ends
SEEN_EVERY_MS: Final = 60_000  # a session's last request is noted so often
CLOCK_STEP_MS: Final = 300_000  # a session seen this far in the future was seen by a clock that was wrong
PURGE_EVERY_SECONDS: Final = 3_600.0
NAME_CHARS_MAX: Final = 128


class Method(StrEnum):
    """How somebody signed in."""

    TOKEN = "token"  # noqa: S105 - a name
    LINK = "link"
    OPENID = "openid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Somebody who has signed in.

    actor    as the log of changes names them; the number of sessions of one is bounded
    source   what a session ends with: a token, or the provider that vouched for them; "" if with nothing
    access   with orgs (None: all): as at the sign-in. With a token, that of the token is in force instead.
    """

    method: Method
    actor: str
    source: str
    name: str
    access: Access
    orgs: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(SignedIn):
    """A browser in which somebody has signed in."""

    created_at_ms: int
    seen_at_ms: int
    expires_at_ms: int

    def shown(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "name": self.name,
            "by": self.method.value,
            "access": self.access.value,
            "organizations": None if self.orgs is None else list(self.orgs),
            "signed_in_at": instant_text(self.created_at_ms),
            "seen_at": instant_text(self.seen_at_ms),
            "expires_at": instant_text(self.expires_at_ms),
        }

    def is_valid(self, now_ms: int) -> bool:
        """Return whether it may be used. One that a clock set back would prolong has ended."""
        return now_ms < self.expires_at_ms and -CLOCK_STEP_MS <= now_ms - self.seen_at_ms < IDLE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSession:
    """A new session. secret: the value of its cookie, which is stored nowhere."""

    session: Session
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLink:
    """A new link. secret: the end of its URL, which is stored nowhere."""

    expires_at_ms: int
    secret: str = field(repr=False)


class SignIns:
    """The stored sessions and links. random_bytes: `secrets.token_bytes`. Everything raises LedgerUnavailableError."""

    def __init__(self, changes: Changes, rules: Rules, *, random_bytes: Callable[[int], bytes]) -> None:
        self._changes = changes
        self._rules = rules
        self._database = changes.database
        self._random_bytes = random_bytes

    async def begin(self, who: SignedIn, *, instead_of: str = "", lifetime_ms: int = LIFETIME_MS) -> MadeSession:
        """Begin a session. instead_of: the secret of the session that this browser had, which ends."""
        async with self._database.write() as connection:
            await wait_for_sign_ins(self._database, connection)
            return await self._begin(connection, who, instead_of, lifetime_ms)

    async def begin_by_link(self, secret: str, *, instead_of: str = "") -> MadeSession | None:
        """Use a link up and begin its session. None if it was used, has expired, or never was; of several at once, one begins."""
        async with self._database.write() as connection:
            await wait_for_sign_ins(self._database, connection)
            used = delete(SIGN_IN_LINKS).where(SIGN_IN_LINKS.c.secret_sha256 == digest_of(secret)).returning(*SIGN_IN_LINKS.c)
            row = (await connection.execute(used)).mappings().first()
            now_ms = self._changes.now_ms()
            if row is None or not row["created_at_ms"] - CLOCK_STEP_MS <= now_ms < row["expires_at_ms"]:
                return None
            who = SignedIn(
                method=Method.LINK,
                actor=row["actor"],
                source="",
                name=row["name"],
                access=Access(row["access"]),
                orgs=_orgs_of(row["orgs"]),
            )
            return await self._begin(connection, who, instead_of, LIFETIME_MS)

    async def create_link(self, actor: str, *, name: str, access: Access, orgs: Sequence[str] | None) -> MadeLink:
        """Create a link, which signs in once as `name`. orgs: ids of organizations that exist; None: all of them."""
        secret = new_link_secret(self._random_bytes)
        expires_at_ms = await self.keep_link(actor, digest_of(secret), name=name, access=access, orgs=orgs)
        return MadeLink(secret=secret, expires_at_ms=expires_at_ms)

    async def keep_link(self, actor: str, digest: str, *, name: str, access: Access, orgs: Sequence[str] | None) -> int:
        """Store the link whose secret has this digest; return when it expires. See create_link."""
        if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise InvalidChangeError(f"name must be 1 to {NAME_CHARS_MAX} printable characters", param="name")
        if access is Access.METRICS:
            raise InvalidChangeError("access must be read or write: /metrics alone needs no session", param="access")
        async with self._changes.begin(actor) as change:
            known = await self._existing(change.connection, orgs or ())
            for org in orgs or ():
                if org not in known:
                    raise InvalidChangeError(f"there is no organization {org!r}", param="organizations")
            await change.log(
                "link.created", name, org=None, after={"access": access.value, "organizations": None if orgs is None else [*orgs]}
            )
            await _purge(change.connection, change.at_ms)
            await _make_room(change.connection, SIGN_IN_LINKS, LINKS_MAX, by="created_at_ms")
            row = {
                "secret_sha256": digest,
                "actor": actor,
                "name": name,
                "access": access.value,
                "orgs": None if orgs is None else json.dumps([*dict.fromkeys(orgs)]),
                "created_at_ms": change.at_ms,
                "expires_at_ms": change.at_ms + LINK_MS,
            }
            await change.connection.execute(SIGN_IN_LINKS.insert().values(row))
        return change.at_ms + LINK_MS

    async def find(self, secret: str) -> Session | None:
        """Find the valid session with this secret, and note about once a minute that it was used."""
        if not secret.startswith(SESSION_PREFIX):
            return None
        digest, now_ms = digest_of(secret), self._changes.now_ms()
        async with self._database.read() as connection:
            query = select(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.secret_sha256 == digest)
            row = (await connection.execute(query)).mappings().first()
        session = None if row is None else _session_of(row)
        if session is None or not session.is_valid(now_ms):
            return None
        if now_ms - session.seen_at_ms >= SEEN_EVERY_MS:
            with contextlib.suppress(LedgerUnavailableError):  # who only reads should not need a database that takes writes
                async with self._database.write() as connection:
                    seen = update(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.secret_sha256 == digest)
                    await connection.execute(seen.values(seen_at_ms=now_ms))
        return session

    async def end(self, secret: str) -> None:
        """End the session with this secret, if there is one."""
        async with self._database.write() as connection:
            await _end(connection, secret)

    async def end_of(self, actor: str) -> None:
        """End the sessions of an actor, as they ask themselves: that is no change of the directory, and not in its log."""
        async with self._database.write() as connection:
            await connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.actor == actor))

    async def end_all(self, by: str, actor: str | None = None) -> int:
        """End the sessions and links of an actor, or of all; return how many sessions ended. by: who does, for the log."""
        async with self._changes.begin(by) as change:
            await _purge(change.connection, change.at_ms)
            found = [
                await change.connection.execute(delete(table).where(*([] if actor is None else [table.c.actor == actor])))
                for table in (CONSOLE_SESSIONS, SIGN_IN_LINKS)
            ]
            ended = found[0].rowcount
            await change.log("sessions.ended", actor or "all", org=None, after={"sessions": ended})
        return ended

    async def list(self) -> tuple[Session, ...]:
        """All valid sessions, the newest first."""
        query = select(CONSOLE_SESSIONS).order_by(CONSOLE_SESSIONS.c.created_at_ms.desc())
        async with self._database.read() as connection:
            found = [_session_of(row) for row in (await connection.execute(query)).mappings()]
        now_ms = self._changes.now_ms()
        return tuple(session for session in found if session.is_valid(now_ms))

    async def purge(self) -> None:
        """Delete sessions and links that have ended."""
        async with self._database.write() as connection:
            await _purge(connection, self._changes.now_ms())

    async def _begin(self, connection: AsyncConnection, who: SignedIn, instead_of: str, lifetime_ms: int) -> MadeSession:
        now_ms = self._changes.now_ms()
        secret = SESSION_PREFIX + base64.b32encode(self._random_bytes(30)).decode().lower()
        session = Session(
            method=who.method,
            actor=who.actor,
            source=who.source,
            name=who.name,
            access=who.access,
            orgs=who.orgs,
            created_at_ms=now_ms,
            seen_at_ms=now_ms,
            expires_at_ms=now_ms + lifetime_ms,
        )
        await _purge(connection, now_ms)
        if instead_of:
            await _end(connection, instead_of)
        await _make_room(connection, CONSOLE_SESSIONS, SESSIONS_OF_ONE_MAX, by="seen_at_ms", actor=who.actor)
        await _make_room(connection, CONSOLE_SESSIONS, SESSIONS_MAX, by="seen_at_ms")
        await connection.execute(CONSOLE_SESSIONS.insert().values(_row_of(session) | {"secret_sha256": digest_of(secret)}))
        return MadeSession(session=session, secret=secret)

    async def existing(self, orgs: Sequence[str]) -> tuple[str, ...]:
        """Those of some ids that are organizations, of the file or of the database."""
        async with self._database.read() as connection:
            return await self._existing(connection, orgs)

    async def _existing(self, connection: AsyncConnection, orgs: Sequence[str]) -> tuple[str, ...]:
        stored = select(ORGANIZATIONS.c.id).where(ORGANIZATIONS.c.id.in_(orgs))
        known = self._rules.orgs_in_file() | set((await connection.execute(stored)).scalars())
        return tuple(org for org in orgs if org in known)


async def purge_forever(sign_ins: SignIns) -> None:
    """Delete what has ended, once an hour, until cancelled. Several consoles may do so at once."""
    while True:
        await asyncio.sleep(PURGE_EVERY_SECONDS)
        with contextlib.suppress(LedgerUnavailableError):  # the next time does
            await sign_ins.purge()


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def wait_for_sign_ins(database: Database, connection: AsyncConnection) -> None:
    """Wait until nobody else is signing in: bounds hold, and nobody comes in for an organization that is being deleted."""
    await database.wait_for_turn(connection, "sign-ins")


async def narrow_sign_ins(connection: AsyncConnection, org: str) -> None:
    """Take a deleted organization from all sessions and links; one without another ends."""
    for table in (CONSOLE_SESSIONS, SIGN_IN_LINKS):
        query = select(table.c.secret_sha256, table.c.orgs).where(table.c.orgs.is_not(None))
        for digest, text in (await connection.execute(query)).all():
            orgs = _orgs_of(text) or ()
            left = [other for other in orgs if other != org]
            is_it = table.c.secret_sha256 == digest
            if not left:
                await connection.execute(delete(table).where(is_it))
            elif len(left) < len(orgs):
                await connection.execute(update(table).where(is_it).values(orgs=json.dumps(left)))


async def _end(connection: AsyncConnection, secret: str) -> None:
    await connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.secret_sha256 == digest_of(secret)))


async def _purge(connection: AsyncConnection, now_ms: int) -> None:
    sessions, links = CONSOLE_SESSIONS.c, SIGN_IN_LINKS.c
    has_ended = or_(
        sessions.expires_at_ms <= now_ms,
        sessions.seen_at_ms <= now_ms - IDLE_MS,
        sessions.seen_at_ms > now_ms + CLOCK_STEP_MS,
    )
    await connection.execute(delete(CONSOLE_SESSIONS).where(has_ended))
    await connection.execute(delete(SIGN_IN_LINKS).where(links.expires_at_ms <= now_ms))


async def _make_room(connection: AsyncConnection, table: Table, rows_max: int, *, by: str, actor: str | None = None) -> None:
    """Delete what is oldest by a time, so that there is room for one more. actor: among theirs."""
    beyond = select(table.c.secret_sha256).order_by(table.c[by].desc()).offset(rows_max - 1)
    if actor is not None:
        beyond = beyond.where(table.c.actor == actor)
    await connection.execute(delete(table).where(table.c.secret_sha256.in_(beyond)))


def _row_of(session: Session) -> dict[str, Any]:
    orgs = None if session.orgs is None else json.dumps(session.orgs)
    return {each.name: getattr(session, each.name) for each in fields(session)} | {"orgs": orgs}


def _session_of(row: Mapping[Any, Any]) -> Session:
    values = {key: value for key, value in row.items() if key != "secret_sha256"}
    return Session(**values | {"method": Method(row["method"]), "access": Access(row["access"]), "orgs": _orgs_of(row["orgs"])})


def _orgs_of(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
