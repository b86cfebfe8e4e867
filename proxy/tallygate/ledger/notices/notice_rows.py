"""Notices as rows of their table, and back."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import msgspec
from sqlalchemy.engine import RowMapping

from tallygate.config.webhook_endpoint import DIGEST
from tallygate.ledger.notices.digest import Digest, DigestNotice
from tallygate.ledger.notices.notice import Notice, NoticeType
from tallygate.ledger.notices.schema import NOTICES

_SPEND_FIELDS: Final = tuple(field.name for field in fields(Notice))
_EMPTY: Final[Mapping[str, Any]] = {column.name: None for column in NOTICES.columns}
_DIGEST: Final = msgspec.json.Decoder(Digest)


def row_of(notice: Notice | DigestNotice, *, stored_at_ms: int) -> dict[str, Any]:
    """The row. Of a digest it has the week's spend, and no limit."""
    if isinstance(notice, Notice):
        values = {**asdict(notice), "type": notice.type.value}
    else:
        values = {
            "event_id": notice.event_id,
            "type": DIGEST,
            "org": notice.org,
            "spent_nano_usd": notice.digest.week.spent_nano_usd,
            "digest": msgspec.json.encode(notice.digest).decode(),
            "at_ms": notice.at_ms,
        }
    return {**_EMPTY, **values, "stored_at_ms": stored_at_ms}


def notice_of_row(row: RowMapping) -> Notice | DigestNotice:
    if row["type"] == DIGEST:
        digest = _DIGEST.decode(row["digest"])
        return DigestNotice(event_id=row["event_id"], org=row["org"], digest=digest, at_ms=row["at_ms"])
    values = {name: row[name] for name in _SPEND_FIELDS}
    return Notice(**{**values, "type": NoticeType(values["type"])})
