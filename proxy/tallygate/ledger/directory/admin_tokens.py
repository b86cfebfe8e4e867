"""Admin tokens, with access to all or some organizations. A token is shown by the call that creates it, and never again."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select, update

from tallygate.config.section import is_identifier, show
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.directory.errors import ConflictError, InvalidChangeError, NotFoundError
from tallygate.ledger.directory.records import Access, AdminToken
from tallygate.ledger.directory.schema import ADMIN_TOKENS, CONSOLE_SESSIONS

TOKEN_PREFIX: Final = "tga_"  # noqa: S105 - the beginning of all of them
TOKENS_MAX: Final = 10_000
ORGS_OF_ONE_MAX: Final = 1_000
_NAME_CHARS_MAX: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A new token. secret: the text that its holder sends; it is stored nowhere."""

    token: AdminToken
    secret: str = field(repr=False)


class AdminTokens:
    """The stored admin tokens. random_bytes: `secrets.token_bytes`. Raises like Organizations."""

    def __init__(self, changes: Changes, *, random_bytes: Callable[[int], bytes]) -> None:
        self._changes = changes
        self._random_bytes = random_bytes

    async def create(
        self, actor: str, *, name: str, access: Access, orgs: Sequence[str] | None, expires_at_ms: int | None = None
    ) -> MadeToken:
        """Create a token. orgs: ids of organizations, which need not exist yet; None: all of them."""
        if not name or len(name) > _NAME_CHARS_MAX or not name.isprintable():
            raise InvalidChangeError(f"name must be 1 to {_NAME_CHARS_MAX} printable characters", param="name")
        if orgs is not None and not 1 <= len(orgs) <= ORGS_OF_ONE_MAX:
            raise InvalidChangeError(f"organizations must be 1 to {ORGS_OF_ONE_MAX} ids", param="organizations")
        if orgs is not None and access is Access.METRICS:
            raise InvalidChangeError("organizations must be left out: /metrics names all of them", param="organizations")
        for org in orgs or ():
            if not is_identifier(org):
                raise InvalidChangeError(f"organizations must be ids, got {show(org)}", param="organizations")
        secret = TOKEN_PREFIX + base64.b32encode(self._random_bytes(30)).decode().lower()
        token_id = "tok_" + base64.b32encode(self._random_bytes(10)).decode().lower()
        async with self._changes.begin(actor) as change:
            if (await change.connection.execute(select(func.count()).select_from(ADMIN_TOKENS))).scalar_one() >= TOKENS_MAX:
                raise ConflictError(f"There are {TOKENS_MAX} admin tokens, the most that there may be.")
            token = AdminToken(
                id=token_id,
                name=name,
                orgs=None if orgs is None else tuple(dict.fromkeys(orgs)),
                access=access,
                expires_at_ms=expires_at_ms,
                created_at_ms=change.at_ms,
            )
            row = {
                "id": token.id,
                "name": token.name,
                "token_sha256": _digest(secret),
                "orgs": None if token.orgs is None else json.dumps(token.orgs),
                "access": token.access.value,
                "expires_at_ms": token.expires_at_ms,
                "created_at_ms": token.created_at_ms,
            }
            await change.connection.execute(ADMIN_TOKENS.insert().values(row))
            await change.log("token.created", token.id, org=None, after=token.shown())
        return MadeToken(token=token, secret=secret)

    async def revoke(self, actor: str, token_id: str) -> AdminToken:
        """Revoke a token permanently. Revoking it again changes nothing."""
        async with self._changes.begin(actor) as change:
            query = select(ADMIN_TOKENS).where(ADMIN_TOKENS.c.id == token_id)
            row = (await change.connection.execute(query)).mappings().first()
            if row is None:
                raise NotFoundError(f"There is no admin token {token_id!r}.")
            before = AdminToken.of_row(row)
            if before.revoked_at_ms is not None:
                return before
            after = replace(before, revoked_at_ms=change.at_ms)
            ended = update(ADMIN_TOKENS).where(ADMIN_TOKENS.c.id == token_id).values(revoked_at_ms=change.at_ms)
            await change.connection.execute(ended)
            await change.connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.source == token_id))
            await change.log("token.revoked", token_id, org=None, before=before.shown(), after=after.shown())
        return after

    async def list(self) -> tuple[AdminToken, ...]:
        """All tokens, oldest first, including expired and revoked ones."""
        query = select(ADMIN_TOKENS).order_by(ADMIN_TOKENS.c.created_at_ms, ADMIN_TOKENS.c.id)
        async with self._changes.database.read() as connection:
            return tuple(AdminToken.of_row(row) for row in (await connection.execute(query)).mappings())

    async def find(self, secret: str) -> AdminToken | None:
        """Find the valid token with this text, by its digest, so that the timing reveals nothing about others."""
        if not secret.startswith(TOKEN_PREFIX):
            return None
        return await self._valid(ADMIN_TOKENS.c.token_sha256 == _digest(secret))

    async def get(self, token_id: str) -> AdminToken | None:
        """Read a token by its id; None if it is not valid any more."""
        return await self._valid(ADMIN_TOKENS.c.id == token_id)

    async def _valid(self, which: ColumnElement[bool]) -> AdminToken | None:
        query = select(ADMIN_TOKENS).where(which)
        async with self._changes.database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        token = None if row is None else AdminToken.of_row(row)
        return token if token is not None and token.is_valid(self._changes.now_ms()) else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
