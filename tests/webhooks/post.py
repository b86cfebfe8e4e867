"""What lies between the ledger and the receivers, with a clock that the test moves."""

import time
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.notices.deliveries import Deliveries, Delivery
from tallygate.ledger.notices.notice import Notice
from tallygate.webhooks.dispatcher import Dispatcher, endpoints_of
from tallygate.webhooks.sender import Sender


@dataclass(slots=True)
class Clock:
    """Unix time that only a test moves. It begins at the true one: receivers refuse messages of other times."""

    now: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def __call__(self) -> int:
        return self.now


@dataclass(slots=True, kw_only=True)
class Post:
    """Everything between the ledger and the receivers. endpoints: those in force."""

    database: Database
    clock: Clock
    endpoints: list[WebhookEndpoint] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)

    @property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.database)

    def dispatcher(self, *, queue_max: int = 10_000, timeout_seconds: float = 15.0) -> Dispatcher:
        """As of one more process."""
        sender = Sender(now_ms=self.clock, user_agent="tallygate/test", connections_max=16, timeout_seconds=timeout_seconds)
        self.senders.append(sender)
        return Dispatcher(
            self.deliveries,
            sender,
            endpoints=lambda: self.endpoints,
            now_ms=self.clock,
            loop_time=lambda: 0.0,
            random=Random(1),
            queue_max=queue_max,
        )

    async def store(self, *notices: Notice) -> None:
        """As the ledger's writer does, with the endpoints in force."""
        await Book(self.database, endpoints_of=partial(endpoints_of, lambda: self.endpoints)).record(
            [], notices=notices, now_ms=self.clock()
        )

    async def send(self, dispatcher: Dispatcher) -> None:
        """Everything that is due now."""
        await dispatcher.begin_due()
        await dispatcher.settled()

    async def rows(self) -> list[Delivery]:
        """The oldest first."""
        return (await self.deliveries.latest(most=1_000))[::-1]
