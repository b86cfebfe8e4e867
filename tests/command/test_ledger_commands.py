"""`tallygate usage`, `audit`, `reprice`, `assumed` and `correct`, on a ledger of their own."""

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result
from new_ledger import new_ledger
from sqlalchemy import update

from tallygate.cli import main
from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome, UsageEvent
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import entry_of_stream
from tallygate.ledger.rollups import Level
from tallygate.ledger.schema import ROLLUPS
from tallygate.ledger.series import Detail
from tallygate.ledger.time_buckets import HOUR_MS

NOW_MS = time.time_ns() // 1_000_000
COST = 500_000
CORRECT = 400_000  # 100 tokens in at 2 USD, 20 out at 10 USD, a million each


def an_event(number: int, **changes: Any) -> dict[bytes, bytes]:
    """As the limiter's script appends it."""
    fields: dict[str, Any] = {
        "event_id": f"{NOW_MS:012x}{number:020x}",
        "org": "acme",
        "credential": "acme-prod",
        "capability": "chat",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "request_model": "house-model",
        "response_model": "house-model",
        "upstream": "default",
        "status": 200,
        "outcome": Outcome.SUCCESS,
        "stream": False,
        "started_at_ms": NOW_MS - 60_000,
        "duration_ms": 812,
        "first_byte_ms": 210,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "usage_source": UsageSource.UPSTREAM,
        "price_version": "house-model@2020-01-01",
        "cost_nano_usd": COST,
        "request_bytes": 321,
        "response_bytes": 654,
        "client_request_id": None,
        "flags": (),
    }
    event = UsageEvent(**{**fields, **changes})
    words = {
        "event_id": event.event_id,
        "kind": "settled",
        "event": msgspec.json.encode(event).decode(),
        "settled_at_ms": NOW_MS - 50_000,
        "cost_nano_usd": event.cost_nano_usd,
        "posted_nano_usd": event.cost_nano_usd,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "flags": "",
    }
    return {name.encode(): str(word).encode() for name, word in words.items()}


class Kept:
    """A ledger of three exchanges, and the commands on it."""

    def __init__(self, directory: Path) -> None:
        self.data, self.config = directory / "data", directory / "config"
        self.data.mkdir()
        self.config.mkdir()
        organizations = [{"id": org, "plan": "enterprise", "time_zone": "Europe/Berlin"} for org in ("acme", "beta")]
        self._write("organizations", {"organizations": organizations})
        self.price(input="2", output="10")
        self.change(self._record)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.config / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def price(self, **rates: str) -> None:
        self._write("prices", {"prices": [{"model": "house-model", "effective": "2020-01-01", **rates}]})

    def change(self, work: Any) -> None:
        async def run() -> None:
            database = await new_ledger(self.data)
            try:
                await work(database)
            finally:
                await database.close()

        asyncio.run(run())

    async def _record(self, database: Database) -> None:
        await self.record(
            database, an_event(1), an_event(2), an_event(3, org="beta", credential="beta-prod", cost_nano_usd=CORRECT)
        )

    async def record(self, database: Database, *events: dict[bytes, bytes]) -> None:
        await Book(database).record([entry_of_stream(event[b"event"], event) for event in events])

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        places = ("--data-dir", str(self.data), "--config-dir", str(self.config))
        result = CliRunner().invoke(
            main, [*arguments, *places], env={"TALLYGATE_UPSTREAM_URL": "https://up.example", "COLUMNS": "60"}
        )
        assert result.exit_code == code, result.output
        return result

    def usage(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self("usage", *arguments, "--json").stdout.splitlines()]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_usage_adds_up_by_organization_in_nano_usd(kept: Kept) -> None:
    found = {row["org"]: (row["requests"], row["prompt_tokens"], row["cost_nano_usd"]) for row in kept.usage()}

    assert found == {"acme": (2, 200, 2 * COST), "beta": (1, 100, CORRECT)}


def test_usage_is_divided_and_narrowed_as_asked(kept: Kept) -> None:
    [row] = kept.usage("--org", "beta", "--by", "credential", "--by", "model", "--each", "day")

    assert (row["credential"], row["model"], row["requests"]) == ("beta-prod", "house-model", 1)
    assert datetime.fromtimestamp(row["start_ms"] / 1000, ZoneInfo("Europe/Berlin")).time() == datetime.min.time()


def test_usage_is_shown_as_a_table_in_usd(kept: Kept) -> None:
    shown = kept("usage").stdout

    assert [line.split() for line in shown.splitlines() if line.startswith("acme")] == [["acme", "2", "0", "200", "40", "0.001"]]
    assert "no usage" in kept("usage", "--from", "2020-01-01", "--to", "2020-01-02").stdout


def test_a_piped_table_is_not_cut_to_the_width_of_a_terminal(kept: Kept) -> None:
    client = "c" * 64
    kept.change(lambda database: kept.record(database, an_event(9, credential=client)))

    assert client in kept("usage", "--by", "credential", "--by", "model", "--each", "day").stdout


def test_usage_of_an_organization_that_is_not_there_is_refused(kept: Kept) -> None:
    assert "no organization 'nobody'" in kept("usage", "--org", "nobody", code=1).output


def test_usage_without_the_configuration_that_names_the_organizations_is_not_no_usage(kept: Kept) -> None:
    kept.config /= "elsewhere"
    kept.config.mkdir()

    assert "no organization is known" in kept("usage", code=1).output


@pytest.mark.parametrize("command", [["usage"], ["audit"], ["reprice", "house-model"]])
def test_without_a_ledger_commands_say_where_they_looked(kept: Kept, command: list[str]) -> None:
    kept.data = kept.data / "elsewhere"

    assert f"no ledger is kept in {kept.data}" in "".join(kept(*command, code=1).output.split("\n"))


def test_an_audit_of_a_sound_ledger_finds_no_drift(kept: Kept) -> None:
    assert "no drift" in kept("audit").stdout


def test_an_audit_tells_each_sum_that_differs_and_fails(kept: Kept) -> None:
    async def spoil(database: Database) -> None:
        await Book(database).fold()
        async with database.write() as connection:
            sums = {"cost_nano_usd": ROLLUPS.c.cost_nano_usd + 7}
            hours = Level(Detail.SERIES, HOUR_MS).rows()
            await connection.execute(update(ROLLUPS).where(hours, ROLLUPS.c.org == "beta").values(sums))

    kept.change(spoil)
    told = kept("audit", code=1).stdout

    assert "rollups.series.60m" in told
    assert f"{CORRECT:,}" in told
    assert "1 sums differ, 7 nano-USD in all" in told
    assert "no drift" in kept("audit", "--org", "acme").stdout


def test_a_correction_is_shown_first_and_entered_when_asked(kept: Kept) -> None:
    shown = kept("reprice", "house-model").stdout
    assert [line.split() for line in shown.splitlines() if line.startswith("acme")] == [["acme", "2", "-0.0002"]]
    assert "nothing was changed" in shown
    assert {row["org"]: row["cost_nano_usd"] for row in kept.usage()}["acme"] == 2 * COST

    assert "entered" in kept("reprice", "house-model", "--apply").stdout
    assert {row["org"]: row["cost_nano_usd"] for row in kept.usage()} == {"acme": 2 * CORRECT, "beta": CORRECT}
    assert "every event is charged as the price says" in kept("reprice", "house-model").stdout
    assert "no drift" in kept("audit").stdout


def test_a_correction_keeps_to_the_organizations_that_are_named(kept: Kept) -> None:
    kept.price(input="0", output="0")
    kept("reprice", "house-model", "--org", "beta", "--apply")

    assert {row["org"]: row["cost_nano_usd"] for row in kept.usage()} == {"acme": 2 * COST, "beta": 0}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no-such-model"], "prices.yaml has no price for no-such-model"),
        (["house-model", "--org", "nobody"], "there is no organization nobody"),
    ],
)
def test_a_correction_of_what_is_not_there_is_refused(kept: Kept, arguments: list[str], problem: str) -> None:
    assert problem in kept("reprice", *arguments, code=1).output


@pytest.fixture
def guessed(kept: Kept) -> list[str]:
    """Two events of acme whose usage was assumed; their ids."""
    assumed = {"usage_source": UsageSource.ASSUMED, "flags": ("assumed",), "outcome": Outcome.CLIENT_GONE}
    events = [an_event(number, **assumed, completion_tokens=1_000, cost_nano_usd=10_200_000) for number in (11, 12)]
    kept.change(lambda database: kept.record(database, *events))
    return [event[b"event_id"].decode() for event in events]


def test_the_providers_figures_are_shown_first_and_entered_when_asked(kept: Kept, guessed: list[str]) -> None:
    assert all(event_id in kept("assumed").stdout for event_id in guessed)
    figures = (guessed[0], "--prompt", "100", "--completion", "20")
    before = kept.usage()

    assert "nothing was changed" in kept("correct", *figures).stdout
    assert "nothing was changed" in kept("correct", *figures, "--dry-run").stdout
    assert kept.usage() == before

    assert "entered" in kept("correct", *figures, "--apply").stdout
    assert {row["org"]: row["cost_nano_usd"] for row in kept.usage()}["acme"] == 2 * COST + CORRECT + 10_200_000
    assert "charged so already" in kept("correct", *figures, "--apply").stdout
    assert "no drift" in kept("audit").stdout
    assert [json.loads(line)["event_id"] for line in kept("assumed", "--json").stdout.splitlines()] == guessed[1:]
    changes = json.loads(kept("changes", "--json").stdout)
    assert [(change["action"], change["subject"]) for change in changes] == [("usage.correct", guessed[0])]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_providers_figures_come_from_a_file(kept: Kept, guessed: list[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"figures.{kind}"
    if kind == "csv":
        rows = ["event_id,prompt_tokens,completion_tokens,reasoning_tokens", *(f"{name},100,20," for name in guessed)]
        file.write_text("\r\n".join(rows), encoding="utf-8-sig")
    else:
        lines = [json.dumps({"event_id": name, "prompt_tokens": 100, "completion_tokens": 20}) for name in guessed]
        file.write_text("\n\n".join(lines))

    kept("correct", "--file", str(file), "--apply")
    assert {row["org"]: row["cost_nano_usd"] for row in kept.usage()}["acme"] == 2 * COST + 2 * CORRECT
    assert "no event's usage is assumed" in kept("assumed").stdout


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("event_id,prompt_tokens\n{0},1\n", ":2: Object missing required field `completion_tokens`"),
        ("event_id,prompt_tokens,completion_tokens\n{0},1,2\n{1},1,many\n", ":3: "),
        ("event_id,prompt_tokens,completion_tokens\n{0},1,2\n{0},1,2\n", "is there twice"),
        ("event_id,prompt_tokens,completion_tokens\n{0},1,2\nnobody,1,2\n", "there is no event nobody"),
        ("event_id,prompt_tokens,completion_tokens,reasoning_tokens\n{0},1,2,3\n", "parts exceed the completion"),
        ('{{"event_id": "{0}", "prompt_tokens": 1, "completion_tokens": 2}}\n{{\n', ":2: is not JSON"),
        (
            '{{"event_id": "{0}", "prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens": 0}}\n',
            ":1: is not JSON with each name once",
        ),
        ('{{"event_id": "{0}", "prompt_tokens": 1, "completion_tokens": 2}}\n[]\n', ":2: is not a JSON object"),
        ('{{"event_id": ' + "[" * 100_000 + "\n", ":1: is not JSON"),
        ("event_id,prompt_tokens,completion_tokens,prompt_tokens\n{0},1,2,0\n", ":1: 'prompt_tokens' is there twice"),
        ("event_id,prompt_tokens,completion_tokens\n{0},1,2,3\n", ":2: has 4 values, and there are 3 columns"),
        ("event_id,prompt_tokens,completion_tokens\n{0},1," + "2" * 200_000 + "\n", ":2: field larger"),
        ("event_id,prompt_tokens,completion_tokens,colour\n{0},1,2,red\n", "unknown field `colour`"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing(kept: Kept, guessed: list[str], tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "figures.csv"
    file.write_text(content.format(*guessed))
    before = kept.usage()

    assert problem in " ".join(kept("correct", "--file", str(file), "--apply", code=1).output.split())
    assert kept.usage() == before


def test_a_file_that_is_no_text_is_refused_by_name(kept: Kept, tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    file.write_text("event_id,prompt_tokens,completion_tokens\n", encoding="utf-16")

    assert "is not UTF-8 text" in " ".join(kept("correct", "--file", str(file), code=1).output.split())


@pytest.mark.parametrize("arguments", [[], ["some-event"], ["some-event", "--prompt", "1"]])
def test_figures_that_are_not_all_there_are_asked_for(kept: Kept, arguments: list[str]) -> None:
    kept("correct", *arguments, code=2)


def test_what_differs_is_json_too(kept: Kept) -> None:
    assert json.loads(kept("audit", "--json").stdout)["drifts"] == []
    told = json.loads(kept("reprice", "house-model", "--json").stdout)
    assert (told["entered"], [row["org"] for row in told["organizations"]]) == (False, ["acme"])
    assert told["organizations"][0]["difference_nano_usd"] == 2 * (CORRECT - COST)
    event = json.loads(kept("events", "--org", "beta", "--json").stdout)[0]["event_id"]
    corrected = json.loads(kept("correct", event, "--prompt", "10", "--completion", "2", "--json").stdout)
    assert [each["event_id"] for each in corrected["events"]] == [event]
    assert "Total" in kept("reprice", "house-model").stdout
