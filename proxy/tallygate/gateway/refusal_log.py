"""What a worker keeps of refused requests, for who asks later why: a sample that a flood of refusals cannot fill.

Of each organization, credential, capability, status, code and limit, the first WHOLE_A_MINUTE refusals of a minute are kept as
they were, of an organization at most ORG_WHOLE_A_MINUTE; one line says how many more there were. Counts of refusals are
kept elsewhere, and exactly.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from tallygate.domain.errors import Refused
from tallygate.domain.money import nano_usd_from_usd
from tallygate.domain.rate_limit import RateLimit
from tallygate.domain.refused_request import RefusedRequest
from tallygate.gateway.exchange.call import Caller, Head
from tallygate.gateway.exchange.understanding import MODEL_PARAMETER
from tallygate.gateway.refusals import rate_state, refused_by, spend_state
from tallygate.telemetry.log import without_secrets
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import REFUSAL_DETAILS_DROPPED

WHOLE_A_MINUTE: Final = 10
ORG_WHOLE_A_MINUTE: Final = 60
FURTHER_KEYS_MAX: Final = 500  # that are counted at once
HAND_OVER_SECONDS: Final = 5.0  # for which further ones are added up; as much of them is lost with a killed worker
TEXT_BYTES_MAX: Final = 512  # of the message and other texts that callers choose parts of: a line has to fit its slot
_MINUTE_MS: Final = 60_000
_encode: Final = msgspec.json.Encoder().encode

# organization, credential, capability, status, code, limit or code
Key = tuple[str, str, str, int, str, str]


class Lines(Protocol):
    """Where lines are written. False: there is no room."""

    def write(self, line: bytes) -> bool: ...

    def close(self) -> None: ...


class RefusalLog:
    """The log of one worker."""

    def __init__(
        self,
        lines: Lines,
        metrics: Metrics,
        *,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._lines = lines
        self._metrics = metrics
        self._now_ms = now_ms
        self._new_id = new_id
        self._loop = loop
        self._minute_ms = 0
        self._kept: dict[Key, int] = {}
        self._kept_of: dict[str, int] = {}
        self._further: dict[tuple[int, Key], int] = {}
        self._handing_over: asyncio.TimerHandle | None = None

    def note(self, refused: Refused, head: Head, caller: Caller) -> None:
        """Keep or count a refusal."""
        refusal, now_ms = refused.refusal, self._now_ms()
        minute_ms = now_ms - now_ms % _MINUTE_MS
        if minute_ms != self._minute_ms:
            self._minute_ms = minute_ms
            self._kept.clear()
            self._kept_of.clear()
        org = caller.organization.id
        key = (org, caller.credential.id, head.route.capability, refusal.status, str(refusal.code), refused_by(refusal))
        kept, of_org = self._kept.get(key, 0), self._kept_of.get(org, 0)
        if kept < WHOLE_A_MINUTE and of_org < ORG_WHOLE_A_MINUTE:
            if self._lines.write(_encode(self._line(key, refused, head, caller, now_ms))):
                self._kept[key], self._kept_of[org] = kept + 1, of_org + 1
                return
            self._metrics.inc(REFUSAL_DETAILS_DROPPED)
        self._count(minute_ms, key)

    def close(self) -> None:
        """Hand over what is counted, and write no more."""
        if self._handing_over is not None:
            self._handing_over.cancel()
            self._hand_over()
        if self._handing_over is not None:  # there was no room for all of it
            self._handing_over.cancel()
        self._lines.close()

    def _count(self, minute_ms: int, key: Key) -> None:
        place = (minute_ms, key)
        counted = self._further.get(place)
        if counted is None and len(self._further) >= FURTHER_KEYS_MAX:
            self._metrics.inc(REFUSAL_DETAILS_DROPPED)
            return
        self._further[place] = 1 if counted is None else counted + 1
        if self._handing_over is None:
            self._handing_over = self._loop.call_later(HAND_OVER_SECONDS, self._hand_over)

    def _hand_over(self) -> None:
        """Write how many further ones there were. Those for which there is no room wait."""
        self._handing_over = None
        for place, number in list(self._further.items()):
            minute_ms, labels = place
            if not self._lines.write(_encode(RefusedRequest(id="", at_ms=minute_ms, more=number, **_labels(labels)))):
                self._handing_over = self._loop.call_later(HAND_OVER_SECONDS, self._hand_over)
                return
            del self._further[place]

    def _line(self, key: Key, refused: Refused, head: Head, caller: Caller, now_ms: int) -> RefusedRequest:
        refusal, client = refused.refusal, head.client
        wait_ms, waits_for = refusal.retry_after_ms, refusal.details.get("waits_for")
        return RefusedRequest(
            id=self._new_id(),
            at_ms=now_ms,
            **_labels(key),
            request_id=client.id,
            client_request_id=caller.client_request_id,
            endpoint=head.route.endpoint,
            method=client.request.method,
            model=_text(refused.model or head.params.get(MODEL_PARAMETER)),
            message=_text(refusal.message) or "",
            param=_text(refusal.param),
            **_money(refused, caller),
            **_rate(refused, caller),
            resets_at_ms=None if wait_ms is None else now_ms + wait_ms,
            waits_for=None if waits_for is None else str(waits_for),
        )


def _labels(key: Key) -> dict[str, Any]:
    org, credential, capability, status, code, limit = key
    return {
        "org": org,
        "credential": credential,
        "capability": capability,
        "status": status,
        "code": code,
        "refused_by": limit,
    }


def _text(text: str | None) -> str | None:
    """The beginning of a text, as JSON can hold it, without keys: people paste theirs where a model belongs."""
    if text is None:
        return None
    return without_secrets(text[:TEXT_BYTES_MAX]).encode(errors="replace")[:TEXT_BYTES_MAX].decode(errors="ignore")


def _money(refused: Refused, caller: Caller) -> dict[str, Any]:
    """The amounts of the spend limit that refused; nothing if it was none."""
    decision, needed = refused.decision, refused.refusal.details.get("needed_usd")
    if decision is None or needed is None:
        return {}
    state = spend_state(decision, caller.limits)
    if state is None:
        return {}
    return {
        "spent_nano_usd": state.spent_nano_usd,
        "held_nano_usd": state.held_nano_usd,
        "needed_nano_usd": nano_usd_from_usd(str(needed)),
        "limit_nano_usd": state.limit_nano_usd,
    }


def _rate(refused: Refused, caller: Caller) -> dict[str, Any]:
    """The rate limit that refused, and what was left of it; nothing if it was none."""
    name, decision, limits = refused.refusal.details.get("limit"), refused.decision, caller.limits
    key = None if decision is None else decision.refused_by
    found: RateLimit | None = next(
        (limit for at, limit in (*limits.rate, *limits.gate) if (limit.name == name if key is None else at == key)), None
    )
    if found is None:
        return {}
    state = None if decision is None else rate_state(decision, limits)
    return {
        "quantity": str(found.quantity),
        "rate_limit": found.refill_units or found.capacity,
        "rate_window_ms": found.window_ms,
        "rate_remaining": None if state is None else state.remaining,
    }
