"""Sends the ledger's due deliveries to webhook endpoints. Any number of dispatchers share one ledger.

Each sends one message at a time to an endpoint, SENDING_MAX to all: a slow receiver delays only itself. Dispatchers do not
wait for each other: a killed one would otherwise keep its endpoints silent until its leases end.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.ledger.database_errors import LedgerUnavailableError, UnstorableError
from tallygate.ledger.notices.deliveries import Claimed, Deliveries
from tallygate.ledger.notices.notice import Notice
from tallygate.shares.ticks import tick
from tallygate.webhooks.answer import Answer
from tallygate.webhooks.message import message_of
from tallygate.webhooks.sender import Sender

POLL_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0  # the same without endpoints: the first one that is configured waits so long
TIDY_EVERY_SECONDS: Final = 30.0
SENDING_MAX: Final = 16
LEASE_MS: Final = 30_000  # longer than an attempt takes with its two transactions
QUEUE_MAX: Final = 10_000  # waiting for one endpoint; beyond it the oldest are given up, since the newest show the current state
KEPT_MS: Final = 30 * 86_400_000  # notices and their deliveries
UNCONFIGURED_MS: Final = 86_400_000  # a delivery to an endpoint that is no longer configured, overdue by this, is given up
BACKOFF_MAX_SECONDS: Final = 30.0
# The schedule of retries that Standard Webhooks recommends ("Deliverability and reliability").
_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
# After the first, second ... attempt; the first is made at once. Ten attempts in three days and four hours.
DELAYS_MS: Final = (
    5_000,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
ATTEMPTS_MAX: Final = len(DELAYS_MS) + 1
JITTER: Final = 0.1  # a delay is up to this fraction longer, so that deliveries that failed together spread out
RETRY_AFTER_MAX_MS: Final = 24 * _HOUR
_log = logging.getLogger(__name__)


def endpoints_of(endpoints: Callable[[], Sequence[WebhookEndpoint]], notice: Notice) -> list[str]:
    """The names of the configured endpoints that subscribe to a notice."""
    return [endpoint.name for endpoint in endpoints() if endpoint.wants(notice.type, notice.org)]


class Dispatcher:
    """One per process.

    endpoints   those of the configuration in force
    now_ms      Unix time
    loop_time   the event loop's clock, for when to tidy
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        *,
        endpoints: Callable[[], Sequence[WebhookEndpoint]],
        now_ms: Callable[[], int],
        loop_time: Callable[[], float],
        random: Random,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._endpoints = endpoints
        self._now_ms = now_ms
        self._loop_time = loop_time
        self._random = random
        self._queue_max = queue_max
        self._slots = asyncio.Semaphore(SENDING_MAX)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._tidied_at: float | None = None

    async def send_forever(self) -> None:
        """Send until cancelled. Messages under way are then abandoned, and another dispatcher sends them again."""
        pause = POLL_SECONDS
        try:
            while True:
                try:
                    await self.begin_due()
                    await self._tidy_at_times()
                    pause = POLL_SECONDS
                except (LedgerUnavailableError, UnstorableError) as error:
                    _log.warning("webhooks wait for the ledger", extra={"fields": {"reason": str(error)}})
                    pause = min(pause * 2, BACKOFF_MAX_SECONDS)
                except Exception:  # noqa: BLE001 - the outermost handler: a fault must not end what sends
                    _log.exception("sending webhooks failed and is tried again")
                    pause = BACKOFF_MAX_SECONDS
                await tick(pause if self._endpoints() else max(pause, IDLE_SECONDS))
        finally:
            tasks = list(self._busy.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sender.close()

    async def begin_due(self) -> None:
        """Start sending to every idle endpoint with a due delivery. Raises LedgerUnavailableError."""
        idle = {one.name: one for one in self._endpoints() if one.is_enabled and one.name not in self._busy}
        for name in await self._deliveries.due(idle, self._now_ms()):
            self._busy[name] = asyncio.get_running_loop().create_task(self._send_all(idle[name]))
            self._busy[name].add_done_callback(partial(self._is_free, name))

    def _is_free(self, name: str, _task: asyncio.Task[None]) -> None:
        del self._busy[name]

    async def settled(self) -> None:
        """Return when nothing is being sent."""
        while self._busy:
            await asyncio.gather(*self._busy.values())

    async def _send_all(self, endpoint: WebhookEndpoint) -> None:
        try:
            if await self._is_gone(endpoint):
                await self._deliveries.give_up_gone(endpoint.name, now_ms=self._now_ms())
                return
            while endpoint in self._endpoints():  # a changed endpoint starts afresh with the next check
                async with self._slots:
                    claimed = await self._deliveries.claim(endpoint.name, now_ms=self._now_ms(), lease_ms=LEASE_MS)
                    if claimed is None or not await self._attempt(endpoint, claimed):
                        return
        except (LedgerUnavailableError, UnstorableError) as error:
            _log.warning("a webhook waits for the ledger", extra={"fields": {"endpoint": endpoint.name, "reason": str(error)}})
        except Exception:  # noqa: BLE001 - the outermost handler of this endpoint's task
            _log.exception("sending to a webhook failed and is tried again", extra={"fields": {"endpoint": endpoint.name}})

    async def _is_gone(self, endpoint: WebhookEndpoint) -> bool:
        """Return whether it answered 410 under its current configuration; after a change it is tried again."""
        marked = (await self._deliveries.gone()).get(endpoint.name)
        if marked is not None and marked != endpoint.fingerprint:
            await self._deliveries.clear_gone(endpoint.name)
        return marked == endpoint.fingerprint

    async def _attempt(self, endpoint: WebhookEndpoint, claimed: Claimed) -> bool:
        """Send one delivery and record the result; return whether to continue with this endpoint."""
        try:
            answer = await self._sender.send(endpoint, message_of(claimed.notice))
        except asyncio.CancelledError:
            await self._deliveries.let_go(claimed)
            raise
        if answer.is_delivered and answer.status is not None:
            await self._deliveries.delivered(claimed, status=answer.status, now_ms=self._now_ms())
            return True
        await self._failed(endpoint, claimed, answer)
        return not answer.is_gone

    async def _failed(self, endpoint: WebhookEndpoint, claimed: Claimed, answer: Answer) -> None:
        now_ms, attempts = self._now_ms(), claimed.attempts + 1
        next_at_ms = next_attempt_ms(attempts, now_ms=now_ms, random=self._random, retry_after_ms=answer.retry_after_ms)
        if answer.is_gone:
            next_at_ms = None
            await self._deliveries.mark_gone(endpoint.name, endpoint.fingerprint, now_ms=now_ms)
        await self._deliveries.failed(claimed, status=answer.status, error=answer.error, next_at_ms=next_at_ms, now_ms=now_ms)
        fields = {"endpoint": endpoint.name, "notice": claimed.notice.event_id, "attempts": attempts, "reason": answer.error}
        if next_at_ms is None:
            _log.error("a webhook is given up", extra={"fields": fields})
        else:
            _log.warning("a webhook failed", extra={"fields": {**fields, "again_in_seconds": (next_at_ms - now_ms) // 1000}})
        if answer.is_gone:
            await self._deliveries.give_up_gone(endpoint.name, now_ms=now_ms)
            _log.error(
                "a webhook endpoint is gone: nothing is sent to it until its configuration changes", extra={"fields": fields}
            )

    async def tidy(self) -> None:
        """Keep every queue within its bound, and delete old notices and deliveries. Raises LedgerUnavailableError."""
        now_ms = self._now_ms()
        endpoints = [endpoint.name for endpoint in self._endpoints() if endpoint.is_enabled]
        for name in endpoints:
            self._log_given_up(await self._deliveries.give_up_beyond(name, self._queue_max, now_ms=now_ms), "queue full", name)
        overdue = await self._deliveries.give_up_overdue(endpoints, before_ms=now_ms - UNCONFIGURED_MS, now_ms=now_ms)
        self._log_given_up(overdue, "endpoint not configured", None)
        await self._deliveries.purge(now_ms - KEPT_MS)

    async def _tidy_at_times(self) -> None:
        if self._tidied_at is None or self._loop_time() - self._tidied_at >= TIDY_EVERY_SECONDS:
            self._tidied_at = self._loop_time()
            await self.tidy()

    def _log_given_up(self, count: int, reason: str, endpoint: str | None) -> None:
        if count:
            _log.error("webhooks are given up", extra={"fields": {"endpoint": endpoint, "count": count, "reason": reason}})


def next_attempt_ms(attempts: int, *, now_ms: int, random: Random, retry_after_ms: int | None = None) -> int | None:
    """The time of the next attempt after so many; None if that was the last. Not before the receiver's own Retry-After."""
    if attempts >= ATTEMPTS_MAX:
        return None
    delay = DELAYS_MS[attempts - 1]
    delay += round(random.uniform(0, JITTER) * delay)
    return now_ms + max(delay, min(retry_after_ms or 0, RETRY_AFTER_MAX_MS))
