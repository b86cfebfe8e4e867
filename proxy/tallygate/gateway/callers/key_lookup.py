"""Look-up of keys without a credential here, at a service: OAuth 2.0 Token Introspection, RFC 7662.

What the service does not confirm admits nobody: an error, a late or a strange answer is 503. It is asked about a key once at a
time, however many callers bring it, and then no more until the answer has aged. Nothing of a key is logged or kept but its digest.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

from tallygate.config.directory import ISSUED_PREFIXES, KEY_CHARS_MAX, Identity
from tallygate.config.key_lookup import KeyLookup, Sends
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.clients import Clients, VerifiedClient
from tallygate.gateway.callers.key_answers import KeyAnswers, KnownKey
from tallygate.gateway.callers.keys import UNKNOWN_KEY, unauthorized
from tallygate.http1.networks import network_of
from tallygate.outbound.session import FetchError, fetch
from tallygate.shares.fair_places import FairPlaces
from tallygate.shares.fair_shares import FairShares
from tallygate.shares.seldom import Seldom

OPEN_MAX: Final = 32  # questions that are put to the service at once, of known keys, and again as many of new ones
WAITING_MAX: Final = 1_000  # those that wait or are put, of each kind
NEW_BURST: Final = 200  # new keys of a network that may be wrong one after the other
NEW_PER_SECOND: Final = 20  # then so many a second
NETWORKS_MAX: Final = 10_000  # with counted wrong keys; the least recent is dropped
FAILED_MS: Final = 1_000  # how long a key is not asked about again after the service failed
ANSWER_BYTES_MAX: Final = 65_536
_EVER_MS: Final = 2**53
_log: Final = logging.getLogger(__name__)


def _unavailable(message: str, *, retry_after_ms: int) -> Refusal:
    return Refusal(
        code=ErrorCode.AUTHENTICATION_UNAVAILABLE,
        message=message,
        retry_after_ms=retry_after_ms,
        should_retry=True,
    )


LOOKUP_FAILED: Final = _unavailable(
    "Whose this API key is cannot be found out at the moment. Try again shortly.", retry_after_ms=FAILED_MS
)
LOOKUPS_BUSY: Final = _unavailable(
    "Too many unknown API keys are being looked up at the moment. Try again shortly.", retry_after_ms=1_000
)


@dataclass(slots=True)
class _Kind:
    """Look-ups of one kind, with room of their own in fair shares of organizations, or of networks."""

    places: FairPlaces = field(default_factory=lambda: FairPlaces(OPEN_MAX))
    waiting: FairShares = field(default_factory=lambda: FairShares(WAITING_MAX))


class _NewKeys:
    """A token bucket for each network: how many unknown keys it may still try."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._left: dict[str, tuple[int, int]] = {}  # thousandths of a key, and when

    def acquire(self, network: str) -> bool:
        now_ms = self._now_ms()
        left, at_ms = self._left.pop(network, (NEW_BURST * 1_000, now_ms))
        left = min(NEW_BURST * 1_000, left + (now_ms - at_ms) * NEW_PER_SECOND)
        is_taken = left >= 1_000
        if len(self._left) >= NETWORKS_MAX:
            del self._left[next(iter(self._left))]
        self._left[network] = left - 1_000 if is_taken else left, now_ms
        return is_taken

    def release(self, network: str) -> None:
        if network in self._left:
            left, at_ms = self._left[network]
            self._left[network] = left + 1_000, at_ms


class LookedUpKeys:
    """Identities by looked-up key.

    session   must read no proxy variables and verify certificates; not closed here
    now_ms    Unix time, for `exp`; clock_ms: monotonic
    count     told the result of each question: active, inactive, failed, or busy for one that was not put
    """

    def __init__(
        self,
        config: KeyLookup,
        session: aiohttp.ClientSession,
        *,
        now_ms: Callable[[], int],
        clock_ms: Callable[[], int],
        count: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.config = config
        self._session = session
        self._now_ms, self._clock_ms, self._count, self._loop = now_ms, clock_ms, count, loop
        self._answers = KeyAnswers(clock_ms)
        self._asking: dict[bytes, asyncio.Task[VerifiedClient | Refusal]] = {}
        self._renewals, self._firsts, self._new_keys = _Kind(), _Kind(), _NewKeys(clock_ms)
        self._seldom = Seldom(lambda: clock_ms() / 1_000)

    async def find(self, key: str, address: str, clients: Clients) -> Identity:
        """The caller whose key it is, enabled or not. A key with a fresh answer waits for nothing. Raises Refused.

        address   where the request comes from
        """
        if key.startswith(ISSUED_PREFIXES) or len(key) > KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
            raise Refused(UNKNOWN_KEY)
        digest = hashlib.sha256(key.encode()).digest()
        known = self._answers.known(digest)
        if known is not None and self._clock_ms() < known.until_ms and self._now_ms() < known.client.expires_at_ms:
            return clients.identity(known.client)
        refusal = self._answers.refusal(digest)
        if refusal is not None:
            raise Refused(refusal)
        asking = self._asking.get(digest) or self._begin(key, digest, known, network_of(address), clients)
        if asking is None:
            self._count("busy")
            raise Refused(LOOKUPS_BUSY)
        await asyncio.wait([asking])  # a caller who leaves does not end it for the others
        found = LOOKUP_FAILED if asking.cancelled() else asking.result()
        if isinstance(found, Refusal):
            raise Refused(found)
        return clients.identity(found)

    def forget(self) -> None:
        """Look every key up again at its next request. Look-ups under way started too early to count."""
        self._answers.expire()
        self._asking = {}

    def abandon(self) -> None:
        """Cancel the look-ups under way; callers that wait for one get 503."""
        for asking in self._asking.values():
            asking.cancel()

    def _begin(
        self, key: str, digest: bytes, known: KnownKey | None, network: str, clients: Clients
    ) -> asyncio.Task[VerifiedClient | Refusal] | None:
        """Begin to ask; None where there is no room: who has a known key is not in the way of strangers' keys, nor they in his."""
        kind, who = (self._firsts, network) if known is None else (self._renewals, known.org)
        if not kind.waiting.acquire(who, 1):
            return None
        if known is None and not self._new_keys.acquire(network):
            kind.waiting.release(who, 1)
            return None
        asking = self._loop.create_task(self._ask(key, digest, kind, who, clients))
        asking.add_done_callback(lambda _: self._ended(digest, asking, kind, who))
        self._asking[digest] = asking
        return asking

    def _ended(self, digest: bytes, asking: asyncio.Task[VerifiedClient | Refusal], kind: _Kind, who: str) -> None:
        kind.waiting.release(who, 1)
        if self._asking.get(digest) is asking:
            del self._asking[digest]

    async def _ask(self, key: str, digest: bytes, kind: _Kind, who: str, clients: Clients) -> VerifiedClient | Refusal:
        """The service's word on a key. A refusal is a value here: as many as bring the key wait for it."""
        asked_at_ms, own = self._clock_ms(), asyncio.current_task()
        found: VerifiedClient | Refusal
        try:
            found, result = (
                self._read(await self._put(key if self.config.sends is Sends.KEY else digest.hex(), kind, who)),
                "active",
            )
        except Refused as refused:
            found, result = refused.refusal, "inactive"
        except FetchError as error:
            self._log_now_and_then(error)
            found, result = LOOKUP_FAILED, "failed"
        if kind is self._firsts and result != "inactive":
            self._new_keys.release(who)
        self._count(result)
        if self._asking.get(digest) is own:  # else it was forgotten meanwhile
            self._remember(digest, found, asked_at_ms, clients)
        return found

    def _remember(self, digest: bytes, found: VerifiedClient | Refusal, asked_at_ms: int, clients: Clients) -> None:
        if found is LOOKUP_FAILED:
            self._answers.refuse(digest, LOOKUP_FAILED, until_ms=self._clock_ms() + FAILED_MS)
        elif isinstance(found, Refusal):
            self._answers.drop(digest)
            self._answers.refuse(digest, found, until_ms=asked_at_ms + self.config.refused_ttl_ms)
        else:
            try:
                org = clients.identity(found)[0].id
            except Refused:
                org = ""
            self._answers.admit(digest, KnownKey(client=found, org=org, until_ms=asked_at_ms + self.config.ttl_ms))

    async def _put(self, token: str, kind: _Kind, who: str) -> bytes:
        """The service's answer to one question (RFC 7662, section 2.1). Raises FetchError."""
        config = self.config
        if not await kind.places.acquire(who, seconds=config.timeout_ms / 1000):
            raise FetchError("no answer to those before it")
        headers = {"Accept": "application/json"}
        if config.secret:
            headers["Authorization"] = f"Bearer {config.secret}"
        try:
            return await fetch(
                self._session,
                "POST",
                config.url,
                whose="it",
                bytes_max=ANSWER_BYTES_MAX,
                timeout_s=config.timeout_ms / 1000,
                headers=headers,
                data={"token": token} if config.sends is Sends.KEY else {"token": token, "token_type_hint": Sends.DIGEST.value},
                may_repeat=True,
            )
        finally:
            kind.places.release(who)

    def _read(self, body: bytes) -> VerifiedClient:
        """The client of an active key (RFC 7662, section 2.2). Raises Refused of any other key, FetchError of a strange answer."""
        try:
            claims: Any = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            claims = None
        policy = self.config.clients
        if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
            raise FetchError("no JSON object with `active`, true or false")
        if not claims["active"]:
            raise Refused(UNKNOWN_KEY)
        expires_at_ms, begins_at_ms = _time_ms(claims, "exp", _EVER_MS), _time_ms(claims, "nbf", 0)
        if not begins_at_ms <= self._now_ms() < expires_at_ms:
            raise Refused(UNKNOWN_KEY)
        if not isinstance(claims.get(policy.client_claim), str):
            raise FetchError(f"an active key without the member {policy.client_claim!r}")
        try:
            client_id, org = policy.client_of(claims)
        except ValueError as error:
            raise Refused(unauthorized(f"The API key {error}.")) from None
        return VerifiedClient(policy=policy, client_id=client_id, org=org, expires_at_ms=expires_at_ms)

    def _log_now_and_then(self, error: FetchError) -> None:
        """Log a failure for the operator, at intervals."""
        if self._seldom.is_due():
            _log.warning("the service that looks keys up did not answer as it should: %s", error)


def _time_ms(claims: dict[str, Any], name: str, default: int) -> int:
    """A time in seconds, "integer timestamp" (RFC 7662, section 2.2). Raises FetchError."""
    value = claims.get(name)
    if value is None:
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise FetchError(f"`{name}` is no time")
    return int(value * 1000)
