"""What /metrics tells of webhooks: out of the ledger, so the same at every console and after every restart."""

from notice_values import a_notice
from post import Post
from receiver import KEY, Receiver, running_receiver

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.console.ledger_totals import LedgerTotals
from tallygate.telemetry.exposition import Renderer, Scraped


async def lines_of(post: Post) -> list[str]:
    totals = (await LedgerTotals(post.database).fetch([])).samples
    _, text = Renderer().render(Scraped(samples=totals), accept="")
    return sorted(line for line in text.decode().splitlines() if line.startswith("tallygate_webhook"))


async def test_deliveries_are_counted_by_how_they_ended_and_the_queue_is_what_waits(post: Post) -> None:
    assert await lines_of(post) == [
        'tallygate_webhook_deliveries_total{result="delivered"} 0.0',
        'tallygate_webhook_deliveries_total{result="given_up"} 0.0',
        'tallygate_webhook_deliveries_total{result="retried"} 0.0',
        "tallygate_webhook_queue 0.0",
    ]
    answers = [204, 500, 410]
    async with running_receiver(Receiver(answer=lambda number: answers[number])) as receiver:
        post.endpoints.append(WebhookEndpoint(name="ops", url=receiver.url, keys=(KEY,)))
        await post.store(*(a_notice(number) for number in range(3)))
        assert (await lines_of(post))[-1] == "tallygate_webhook_queue 3.0"
        await post.send(post.dispatcher())

    assert await lines_of(post) == [
        'tallygate_webhook_deliveries_total{result="delivered"} 1.0',
        'tallygate_webhook_deliveries_total{result="given_up"} 2.0',
        'tallygate_webhook_deliveries_total{result="retried"} 1.0',
        "tallygate_webhook_queue 0.0",
    ]
