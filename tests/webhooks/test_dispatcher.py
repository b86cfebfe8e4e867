"""Notices on their way to receivers: at least once, in time, each receiver by itself, and never for ever."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import web
from notice_values import PAUSED, a_notice
from post import Post
from receiver import KEY, Receiver, running_receiver

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.notices.deliveries import Deliveries, Result, count_results, count_waiting
from tallygate.ledger.notices.record import DeliveryState
from tallygate.webhooks.dispatcher import ATTEMPTS_MAX, DELAYS_MS, IDLE_SECONDS, KEPT_MS, LEASE_MS, POLL_SECONDS, UNCONFIGURED_MS


def endpoint_of(receiver: Receiver, name: str = "ops") -> WebhookEndpoint:
    return WebhookEndpoint(name=name, url=receiver.url, keys=(KEY,))


def states(rows: Sequence[object]) -> list[str]:
    return [str(row.state) for row in rows]


async def test_a_notice_arrives_signed_and_once(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1), a_notice(2, **PAUSED))
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        await post.send(dispatcher)

    warning, paused = receiver.verified()
    assert (warning["type"], paused["type"]) == ("spend.warning", "spend.paused")
    assert warning["data"]["spent_usd"] == "80.000000001"
    assert len(set(receiver.ids)) == 2
    assert states(await post.rows()) == ["delivered", "delivered"]
    assert [row.last_status for row in await post.rows()] == [204, 204]
    assert await post.database.ask(count_results(post.database)) == {Result.DELIVERED: 2, Result.RETRIED: 0, Result.GIVEN_UP: 0}
    assert await post.database.ask(count_waiting(post.database)) == 0


async def test_what_fails_is_tried_again_when_the_schedule_says_until_it_is_given_up(post: Post) -> None:
    async with running_receiver(Receiver(answer=lambda _number: 500)) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        dispatcher = post.dispatcher()
        for attempts, delay in enumerate(DELAYS_MS, start=1):
            await post.send(dispatcher)
            (row,) = await post.rows()
            assert (row.state, row.attempts, row.last_status) == (DeliveryState.WAITING, attempts, 500)
            assert delay <= row.due_at_ms - post.clock.now <= delay * 1.1
            post.clock.now = row.due_at_ms - 1
            await post.send(dispatcher)
            assert len(receiver.got) == attempts
            post.clock.now = row.due_at_ms
        await post.send(dispatcher)
        post.clock.now += 10 * DELAYS_MS[-1]
        await post.send(dispatcher)

    (row,) = await post.rows()
    assert (row.state, row.attempts) == (DeliveryState.GIVEN_UP, ATTEMPTS_MAX)
    assert len(receiver.got) == ATTEMPTS_MAX
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.got}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.got}) == ATTEMPTS_MAX
    assert await post.database.ask(count_results(post.database)) == {
        Result.DELIVERED: 0,
        Result.RETRIED: ATTEMPTS_MAX - 1,
        Result.GIVEN_UP: 1,
    }


async def test_a_receiver_that_was_down_gets_the_notice_when_it_is_back(post: Post) -> None:
    receiver = Receiver()
    async with running_receiver(receiver):
        pass
    post.endpoints.append(endpoint_of(receiver))
    await post.store(a_notice(1))
    dispatcher = post.dispatcher()
    await post.send(dispatcher)
    (row,) = await post.rows()
    assert (row.last_status, row.state) == (None, DeliveryState.WAITING)
    assert "Connect" in (row.last_error or "")

    post.clock.now = row.due_at_ms
    async with running_receiver(receiver, port=int(receiver.url.split(":")[2].partition("/")[0])):
        await post.send(dispatcher)
    assert states(await post.rows()) == ["delivered"]


async def cut_off(*_call: object, **_more: object) -> None:
    raise LedgerUnavailableError("killed here")


async def test_a_process_killed_between_sending_and_recording_sends_it_again_under_the_same_id(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        with monkeypatch.context() as patch:
            patch.setattr(Deliveries, "delivered", cut_off)
            await post.send(post.dispatcher())
        successor = post.dispatcher()
        await post.send(successor)
        assert len(receiver.got) == 1, "the lease of the one that died has not run out"
        post.clock.now += LEASE_MS
        await post.send(successor)

    assert len(receiver.got) == 2
    assert len(set(receiver.ids)) == 1
    assert states(await post.rows()) == ["delivered"]


async def test_a_dispatcher_that_is_stopped_lets_go_of_what_it_was_sending(post: Post) -> None:
    receiver = Receiver()
    receiver.answer = lambda number: receiver.never(number) if number == 0 else 204
    async with running_receiver(receiver):
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        running = asyncio.ensure_future(post.dispatcher().send_forever())
        async with asyncio.timeout(30):
            while not receiver.got:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await post.send(post.dispatcher())

    assert receiver.ids[0] == receiver.ids[1]
    assert states(await post.rows()) == ["delivered"]


async def test_two_processes_share_the_work_and_send_nothing_twice(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints += [endpoint_of(receiver, name) for name in ("one", "two")]
        await post.store(*(a_notice(number) for number in range(20)))
        await asyncio.gather(*(post.send(post.dispatcher()) for _ in range(3)))

    assert len(receiver.got) == 40
    assert all(receiver.ids.count(message_id) == 2 for message_id in receiver.ids)


async def test_a_slow_receiver_delays_no_other(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    look = Deliveries.due

    async def due(deliveries: Deliveries, endpoints: Collection[str], now_ms: int) -> frozenset[str]:
        asked.append(set(endpoints))
        return await look(deliveries, endpoints, now_ms)

    monkeypatch.setattr(Deliveries, "due", due)
    async with AsyncExitStack() as stack:
        stuck = await stack.enter_async_context(running_receiver(Receiver()))
        stuck.answer = stuck.never
        quick = await stack.enter_async_context(running_receiver(Receiver()))
        post.endpoints += [endpoint_of(stuck, "a_stuck"), endpoint_of(quick, "quick")]
        await post.store(a_notice(1), a_notice(2))
        dispatcher = post.dispatcher()
        await dispatcher.begin_due()
        async with asyncio.timeout(30):
            while len(quick.got) < 2 or not stuck.got:
                await asyncio.sleep(0.01)
        await post.store(a_notice(3))
        await dispatcher.begin_due()
        async with asyncio.timeout(30):
            while len(quick.got) < 3:
                await asyncio.sleep(0.01)
        assert len(stuck.got) == 1
        assert "a_stuck" in asked[0]
        assert "a_stuck" not in asked[1], "one message at a time"
        stuck.ended.set()
        await dispatcher.settled()
    assert len(stuck.got) == 3


async def test_an_answer_that_does_not_come_in_time_is_a_failure(post: Post) -> None:
    receiver = Receiver()
    receiver.answer = receiver.never
    async with running_receiver(receiver):
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        await post.send(post.dispatcher(timeout_seconds=0.05))

    (row,) = await post.rows()
    assert (row.state, row.last_status) == (DeliveryState.WAITING, None)
    assert row.last_error == "no answer within 0.05 seconds"


async def test_an_endpoint_that_is_gone_gets_nothing_until_its_configuration_changes(post: Post) -> None:
    async with running_receiver(Receiver(answer=lambda number: 410 if number == 0 else 204)) as receiver:
        endpoint = endpoint_of(receiver)
        post.endpoints.append(endpoint)
        await post.store(a_notice(1), a_notice(2))
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        await post.store(a_notice(3))
        await post.send(dispatcher)
        assert len(receiver.got) == 1
        assert states(await post.rows()) == ["given_up"] * 3

        post.endpoints[:] = [replace(endpoint, url=f"{receiver.url}/new")]
        await post.store(a_notice(4))
        await post.send(dispatcher)
        post.endpoints[:] = [endpoint]
        await post.store(a_notice(5))
        await post.send(dispatcher)
    assert len(receiver.got) == 3
    assert (await post.database.ask(count_results(post.database)))[Result.GIVEN_UP] == 3


async def test_given_up_deliveries_are_sent_again_when_an_operator_says_so(post: Post) -> None:
    async with running_receiver(Receiver(answer=lambda number: 410 if number == 0 else 204)) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1), a_notice(2))
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        first = (await post.rows())[0].event_id

        assert await post.deliveries.retry(now_ms=post.clock(), endpoint="other") == 0
        assert await post.deliveries.retry(now_ms=post.clock(), event_id=first) == 1
        await post.send(dispatcher)
        assert sorted(states(await post.rows())) == ["delivered", "given_up"]
        assert await post.deliveries.retry(now_ms=post.clock()) == 1
        await post.send(dispatcher)
    assert states(await post.rows()) == ["delivered", "delivered"]


@pytest.mark.parametrize(
    ("status", "given", "least_ms"), [(429, "3600", 3_600_000), (503, "3600", 3_600_000), (500, "3600", 5_000)]
)
async def test_a_receiver_that_names_a_time_is_not_asked_before(post: Post, status: int, given: str, least_ms: int) -> None:
    async def busy(_number: int) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": given})

    async with running_receiver(Receiver(answer=busy)) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        await post.send(post.dispatcher())
    (row,) = await post.rows()
    assert least_ms <= row.due_at_ms - post.clock.now <= least_ms * 1.1


async def test_of_a_queue_that_is_too_long_the_oldest_are_given_up(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        for number in range(6):
            post.clock.now += 1
            await post.store(a_notice(number))
        dispatcher = post.dispatcher(queue_max=4)
        await dispatcher.tidy()
        assert states(await post.rows()) == ["given_up"] * 2 + ["waiting"] * 4
        assert (await post.database.ask(count_results(post.database)))[Result.GIVEN_UP] == 2
        await dispatcher.tidy()
        assert await post.database.ask(count_waiting(post.database)) == 4


async def test_what_waits_for_an_endpoint_that_left_the_configuration_is_given_up_after_a_day(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        post.endpoints[:] = [replace(endpoint_of(receiver), is_enabled=False)]
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        post.clock.now += UNCONFIGURED_MS
        await dispatcher.tidy()
        assert states(await post.rows()) == ["waiting"]
        post.clock.now += 1
        await dispatcher.tidy()
        assert states(await post.rows()) == ["given_up"]
        assert receiver.got == []


async def test_a_notice_goes_to_the_endpoints_of_the_time_when_it_was_stored(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        await post.store(a_notice(1))
        post.endpoints.append(replace(endpoint_of(receiver), organizations=frozenset({"acme"})))
        await post.store(a_notice(2), a_notice(3, org="other"))
        await post.send(post.dispatcher())
    assert [row.event_id for row in await post.rows()] == [a_notice(2).event_id]
    assert len(receiver.got) == 1


async def test_notices_are_kept_for_a_month_and_longer_while_they_wait(post: Post) -> None:
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        post.endpoints.append(endpoint_of(receiver, "second"))
        await post.store(a_notice(2))
        post.clock.now += KEPT_MS
        await dispatcher.tidy()
        assert len(await post.rows()) == 3
        post.clock.now += 1
        await post.deliveries.purge(post.clock.now - KEPT_MS)
        assert {row.event_id for row in await post.rows()} == {a_notice(2).event_id}


async def test_a_dispatcher_looks_more_seldom_while_no_endpoint_is_configured(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            post.endpoints.append(endpoint_of(receiver))
        await asyncio.sleep(0)

    monkeypatch.setattr("tallygate.webhooks.dispatcher.tick", noted)
    async with running_receiver(Receiver()) as receiver:
        running = asyncio.ensure_future(post.dispatcher().send_forever())
        async with asyncio.timeout(30):
            while len(pauses) < 2:
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert pauses[:2] == [IDLE_SECONDS, POLL_SECONDS]


async def test_a_running_dispatcher_outlives_an_outage_of_the_ledger(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.webhooks.dispatcher.POLL_SECONDS", 0.01)
    is_away = True
    look = Deliveries.due

    async def due(deliveries: Deliveries, endpoints: Collection[str], now_ms: int) -> frozenset[str]:
        nonlocal is_away
        if is_away:
            is_away = False
            raise LedgerUnavailableError("no route to host")
        return await look(deliveries, endpoints, now_ms)

    monkeypatch.setattr(Deliveries, "due", due)
    async with running_receiver(Receiver()) as receiver:
        post.endpoints.append(endpoint_of(receiver))
        await post.store(a_notice(1))
        running = asyncio.ensure_future(post.dispatcher().send_forever())
        async with asyncio.timeout(30):
            while states(await post.rows()) != ["delivered"]:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not is_away
