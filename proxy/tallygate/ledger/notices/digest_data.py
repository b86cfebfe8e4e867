"""A weekly digest as programs get it, by webhooks and the API: money in USD as exact decimal text, times in RFC 3339, in UTC."""

from typing import Any

import msgspec

from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.notices.digest import Digest, Share, Sums


class SumsData(msgspec.Struct, frozen=True, kw_only=True):
    """requests: served ones."""

    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    spent_usd: str


class LimitData(msgspec.Struct, frozen=True, kw_only=True):
    """A spend limit of the organization at the end of the week. spent_usd: in its own window."""

    limit: str
    spent_usd: str
    limit_usd: str
    shadow: bool


class ModelData(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    requests: int
    spent_usd: str


class CredentialData(msgspec.Struct, frozen=True, kw_only=True):
    credential: str
    requests: int
    spent_usd: str


class DigestData(msgspec.Struct, frozen=True, kw_only=True):
    """first_day, last_day: Monday and Sunday in time_zone. See `ledger.notices.digest.Digest`."""

    organization: str
    first_day: str
    last_day: str
    time_zone: str
    from_: str = msgspec.field(name="from")
    to: str
    history_from: str | None
    week: SumsData
    week_before: SumsData | None
    limits: list[LimitData]
    top_models: list[ModelData]
    top_credentials: list[CredentialData]
    pauses: int
    url: str | None


def digest_data(org: str, digest: Digest) -> DigestData:
    history = digest.history_from_ms
    return DigestData(
        organization=org,
        first_day=digest.first_day,
        last_day=digest.last_day,
        time_zone=digest.time_zone,
        from_=millisecond_text(digest.from_ms),
        to=millisecond_text(digest.to_ms),
        history_from=None if history is None else millisecond_text(history),
        week=_sums_data(digest.week),
        week_before=None if digest.before is None else _sums_data(digest.before),
        limits=[
            LimitData(
                limit=one.limit_key,
                spent_usd=usd_text(one.spent_nano_usd),
                limit_usd=usd_text(one.limit_nano_usd),
                shadow=one.shadow,
            )
            for one in digest.limits
        ],
        top_models=[ModelData(model=one.name, **_share(one)) for one in digest.models],
        top_credentials=[CredentialData(credential=one.name, **_share(one)) for one in digest.credentials],
        pauses=digest.pauses,
        url=digest.url or None,
    )


def _sums_data(sums: Sums) -> SumsData:
    return SumsData(
        requests=sums.requests,
        refused=sums.refused,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        spent_usd=usd_text(sums.spent_nano_usd),
    )


def _share(share: Share) -> dict[str, Any]:
    return {"requests": share.requests, "spent_usd": usd_text(share.spent_nano_usd)}
