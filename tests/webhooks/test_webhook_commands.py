"""`tallygate webhooks`: what an operator sees of endpoints and deliveries, and can do about them."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from new_ledger import new_ledger
from notice_values import a_notice
from receiver import SECRET, Receiver, running_receiver

from tallygate.cli import main
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.notices.deliveries import Deliveries

NOW = 1_788_000_100_000


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPS_SECRET", SECRET)
    return tmp_path


def command(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["webhooks", *arguments])
    assert result.exit_code == code, result.output
    return result


def shown(*arguments: str, code: int = 0) -> Any:
    return json.loads(command(*arguments, "--json", code=code).stdout)


def describe(directory: Path, url: str) -> tuple[str, str]:
    (directory / "webhooks.yaml").write_text(
        f"webhooks:\n  - name: ops\n    url: {url}\n    secret_env: OPS_SECRET\n    organizations: [acme]\n"
    )
    return "--config-dir", str(directory)


@contextmanager
def receiver_beside(receiver: Receiver) -> Iterator[Receiver]:
    """On a loop of its own thread: commands run loops of their own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def run() -> None:
        async with running_receiver(receiver):
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()


def test_endpoints_are_listed_without_their_secrets(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = describe(directory, "https://hooks.example.com/x?sig=5ecret")
    monkeypatch.delenv("OPS_SECRET")
    result = command("list", *where)
    assert "ops" in result.output
    assert "https://hooks.example.com/x" in result.output
    assert "5ecret" not in result.output
    (row,) = shown("list", *where)
    assert row == {
        "name": "ops",
        "url": "https://hooks.example.com/x",
        "enabled": True,
        "organizations": ["acme"],
        "events": ["spend.paused", "spend.resumed", "spend.warning"],
    }


def test_a_test_message_is_signed_and_its_answer_shown(directory: Path) -> None:
    with receiver_beside(Receiver(answer=lambda number: 204 if number < 2 else 500)) as receiver:
        where = describe(directory, receiver.url)
        assert "204" in command("test", "ops", *where).output
        answer = shown("test", "ops", *where)
        assert (answer["delivered"], answer["status"], answer["error"]) == (True, 204, None)
        assert "status 500" in command("test", "ops", *where, code=1).output
    assert [message["type"] for message in receiver.verified()] == ["webhook.test"] * 3
    assert len(set(receiver.ids)) == 3


def test_an_example_of_a_digest_can_be_sent(directory: Path) -> None:
    with receiver_beside(Receiver()) as receiver:
        assert shown("test", "ops", "--digest", *describe(directory, receiver.url))["delivered"]
    (message,) = receiver.verified()
    assert (message["type"], message["data"]["organization"]) == ("usage.digest", "example")


def test_a_test_of_an_endpoint_that_is_away_or_unknown_fails_with_a_line(directory: Path) -> None:
    where = describe(directory, "http://127.0.0.1:9/x")
    assert "Connect" in command("test", "ops", *where, code=1).output
    assert "no endpoint nobody" in command("test", "nobody", *where, code=1).output


@pytest.fixture
def in_ledger(directory: Path) -> Callable[[Callable[[Database], Any]], Any]:
    """Runs work on the ledger that the commands read."""
    (directory / "data").mkdir(exist_ok=True)

    def run(work: Callable[[Database], Any]) -> Any:
        async def opened() -> Any:
            database = await new_ledger(directory / "data")
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(opened())

    return run


def test_deliveries_are_listed_and_given_up_ones_queued_again(
    directory: Path, in_ledger: Callable[[Callable[[Database], Any]], Any]
) -> None:
    async def fill(database: Database) -> None:
        book = Book(database, endpoints_of=lambda _notice: ("billing", "ops"))
        await book.record([], notices=[a_notice(1), a_notice(2)], now_ms=NOW)
        deliveries = Deliveries(database)
        first = await deliveries.claim("ops", now_ms=NOW, lease_ms=1)
        assert first is not None
        await deliveries.failed(first, status=500, error="status 500", next_at_ms=None, now_ms=NOW)

    in_ledger(fill)
    where = ("--data-dir", str(directory / "data"))

    assert len(shown("deliveries", *where)) == 4
    assert len(shown("deliveries", "--endpoint", "billing", *where)) == 2
    assert len(shown("deliveries", "--notice", a_notice(2).event_id, *where)) == 2
    (row,) = shown("deliveries", "--state", "given_up", *where)
    assert (row["endpoint"], row["event_id"], row["last_status"], row["attempts"]) == ("ops", a_notice(1).event_id, 500, 1)
    assert "status 500" in command("deliveries", *where).output

    command("retry", *where, code=2)
    assert shown("retry", "--endpoint", "billing", *where) == {"queued": 0}
    assert shown("retry", "--all", *where) == {"queued": 1}
    assert shown("deliveries", "--state", "given_up", *where) == []
    assert "no deliveries" in command("deliveries", "--state", "given_up", *where).output
