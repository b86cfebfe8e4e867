"""`tallygate prices` as an operator uses it, with made-up data of the source."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tallygate.cli import main
from tallygate.config.shipped import shipped_directory


def source(*models: dict[str, Any], provider: str = "openai") -> str:
    return json.dumps([{"id": provider, "models": [{"match": {"equals": model["id"]}, **model} for model in models]}])


NEW = {"id": "gpt-99", "prices": {"input_mtok": 1.5, "cache_read_mtok": 0.15, "output_mtok": 6}}
DEARER = {"id": "gpt-5.6-sol", "prices": {"input_mtok": 8, "cache_read_mtok": 0.8, "cache_write_mtok": 10, "output_mtok": 40}}
SECONDS = {"id": "gpt-hear-9", "prices": {"audio_hours": 0.36}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    own = '# mine\nprices: [{model: gpt-5.5, effective: 2026-01-01, input: "1", output: "2"}]\n'
    (directory / "prices.yaml").write_text(own)
    return directory


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["prices", *arguments, "--config-dir", str(config)])


def shown(config: Path, *arguments: str) -> list[dict[str, Any]]:
    result = run(config, "show", *arguments, "--json")
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.output)["rows"]
    return rows


def test_show_has_every_row_with_its_layer_and_marks_the_one_that_applies(config: Path) -> None:
    own, listed = shown(config, "gpt-5.5")
    assert (own["layer"], own["applies"], own["rates"]["input"]) == ("prices.yaml", True, "1 per million tokens")
    assert (listed["layer"], listed["applies"], listed["rates"]["input"]) == ("shipped list", False, "5 per million tokens")
    assert listed["rates"]["output from 272,001 prompt tokens"] == "45 per million tokens"
    assert listed["rates"]["web_search"] == "10 per thousand"
    assert {"service_tier": "flex", "times": "0.5"} in listed["when"]


def test_show_at_a_time_marks_the_row_that_was_in_force(config: Path) -> None:
    applied = {
        at: next(row["rates"]["input"] for row in shown(config, "gemini-4-argon", "--at", at) if row["applies"])
        for at in ("2026-11-30", "2026-12-01T00:00:00Z")
    }
    assert applied == {"2026-11-30": "2 per million tokens", "2026-12-01T00:00:00Z": "4 per million tokens"}
    table = run(config, "show", "deepseek-v4-pro", "--at", "2026-11-30").output
    assert "when utc_hours 01:00-04:00: times 2" in table


def test_show_says_where_no_start_is_known_and_what_a_request_before_the_first_price_costs(config: Path) -> None:
    [undated] = shown(config, "voyage-4")
    assert (undated["from"], undated["version"].startswith("voyage-4@undated.")) == (None, True)
    assert "not known" in run(config, "show", "voyage-4").output
    [early] = shown(config, "gpt-6.1-terra", "--at", "2026-10-01")
    assert (early["applies"], early["from"]) == (True, "2026-10-26T00:00:00Z")


def test_an_updated_price_begins_where_the_lists_did_and_older_ones_stay(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    mended = {"id": "gpt-4o", "prices": {"input_mtok": 2, "cache_read_mtok": 1, "output_mtok": 8}}
    dated = [
        {"prices": {"input_mtok": 1, "output_mtok": 5}},
        {"constraint": {"start_date": "2026-11-20"}, "prices": {"input_mtok": 3, "output_mtok": 9}},
    ]
    file.write_text(source(mended, {"id": "gpt-6.1-terra", "prices": dated}, NEW))
    assert run(config, "update", "--from", str(file)).exit_code == 0

    def begins(model: str) -> list[tuple[str, str | None, str]]:
        return [(row["layer"], row["from"] and row["from"][:10], row["rates"]["input"].split()[0]) for row in shown(config, model)]

    assert begins("gpt-4o") == [("listed_prices.yaml", "2024-10-02", "2"), ("shipped list", "2024-05-13", "5")]
    assert begins("gpt-6.1-terra") == [("listed_prices.yaml", "2026-11-20", "3"), ("listed_prices.yaml", "2026-10-26", "1")]
    assert begins("gpt-99") == [("listed_prices.yaml", None, "1.5")]
    assert "2020-01-01" not in (config / "listed_prices.yaml").read_text()


def test_a_surcharge_and_rates_of_calls_leave_a_list_price_where_it_is(config: Path) -> None:
    own = config / "prices.yaml"
    own.write_text(own.read_text() + 'calls: [{models: [claude-*], web_search: "4"}]\n')
    (row,) = [row for row in shown(config, "us.anthropic.claude-sonnet-4-5-20250929-v1:0") if row["applies"]]
    assert (row["layer"], row["rates"]["web_search"]) == ("shipped list", "4 per thousand")
    assert {"times": "1.1"} in row["when"]
    assert "by this name: times 1.1" in run(config, "show", "us.anthropic.claude-sonnet-4-5-20250929-v1:0").output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("no-such-model",), "no-such-model has no price at"), (("gpt-5.5", "--at", "yesterday"), "must be a date such as")],
)
def test_show_of_what_has_no_price_fails_with_a_sentence(config: Path, arguments: tuple[str, ...], text: str) -> None:
    result = run(config, "show", *arguments)
    assert result.exit_code != 0
    assert text in result.output


def test_update_writes_what_differs_in_a_layer_of_its_own_and_nothing_twice(config: Path, tmp_path: Path) -> None:
    file, mine = tmp_path / "data.json", (config / "prices.yaml").read_text()
    file.write_text(source(NEW, DEARER, SECONDS))
    first = run(config, "update", "--from", str(file))
    assert first.exit_code == 0, first.output
    assert "gpt-99" in first.output
    assert "2 models in" in first.output
    text = (config / "listed_prices.yaml").read_text()
    assert "gpt-hear-9" not in text  # would be free

    again = run(config, "update", "--from", str(file))
    assert "is up to date" in again.output
    assert (config / "listed_prices.yaml").read_text() == text
    assert (config / "prices.yaml").read_text() == mine

    [new] = shown(config, "gpt-99")
    assert (new["layer"], new["rates"]["output"]) == ("listed_prices.yaml", "6 per million tokens")
    assert new["rates"]["file_search"] == "2.5 per thousand"  # `calls` of the shipped list
    changed = next(row for row in shown(config, "gpt-5.6-sol") if row["applies"])
    assert (changed["layer"], changed["rates"]["input"]) == ("listed_prices.yaml", "8 per million tokens")
    assert changed["rates"]["cache_write_12h"] == "20 per million tokens"  # as much of input as before
    assert changed["max_output_tokens"] == 128_000
    assert {"service_tier": "priority", "times": "2"} in changed["when"]
    assert next(row for row in shown(config, "gpt-5.5") if row["applies"])["layer"] == "prices.yaml"


def test_hours_of_an_updated_price_stay_those_of_working_days(config: Path, tmp_path: Path) -> None:
    busy = {"start_time": "01:00:00Z", "end_time": "04:00:00Z"}
    figures = {"input_mtok": 1, "cache_read_mtok": 0.1, "output_mtok": 3}
    double = {"input_mtok": 2, "cache_read_mtok": 0.2, "output_mtok": 6}
    model = {"id": "deepseek-v4-pro", "prices": [{"prices": figures}, {"constraint": busy, "prices": double}]}
    (tmp_path / "data.json").write_text(source(model, provider="deepseek"))
    assert run(config, "update", "--from", str(tmp_path / "data.json")).exit_code == 0
    assert 'when: [{utc_hours: "01:00-04:00", times: "2", utc_days: "mon-fri"}]' in (config / "listed_prices.yaml").read_text()
    [row] = [row for row in shown(config, "deepseek-v4-pro", "--at", "2026-11-27T02:00:00Z") if row["applies"]]
    assert row["when"] == [{"utc_hours": "01:00-04:00", "utc_days": "mon-fri", "times": "2"}]


def test_what_was_written_is_valid_and_the_next_difference_is_none(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(source(NEW, DEARER))
    before = run(config, "diff", "--from", str(file), "--json").output.splitlines()
    assert {(json.loads(line)["model"], json.loads(line)["what"]) for line in before} >= {
        ("gpt-99", "model"),
        ("gpt-5.6-sol", "input"),
    }
    run(config, "update", "--from", str(file))
    after = [json.loads(line) for line in run(config, "diff", "--from", str(file), "--json").output.splitlines()]
    assert [each for each in after if each["source"]] == []
    checked = CliRunner().invoke(main, ["check", "--config-dir", str(config)])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no JSON"),
        ("{}", "must be a list of objects"),
        ('[{"id": "openai", "models": [{"id": "m", "prices": {"input_mtok": -1}}]}]', "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_read_changes_nothing(config: Path, tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "data.json"
    file.write_text(source(NEW))
    run(config, "update", "--from", str(file))
    before = {path.name: path.read_bytes() for path in config.iterdir()}
    file.write_text(content)
    result = run(config, "update", "--from", str(file))
    assert result.exit_code == 1
    assert text in result.output
    assert {path.name: path.read_bytes() for path in config.iterdir()} == before


def test_a_missing_file_and_a_missing_directory_are_named(config: Path, tmp_path: Path) -> None:
    assert "No such file" in run(config, "update", "--from", str(tmp_path / "none.json")).output
    assert "--config-dir" in run(tmp_path / "none", "update").output


def test_reviewed_differences_are_shown_with_their_reason_and_left_alone(config: Path, tmp_path: Path) -> None:
    old = {"id": "grok-code-fast", "prices": {"input_mtok": 0.2, "cache_read_mtok": 0.02, "output_mtok": 1.5}}
    file = tmp_path / "data.json"
    file.write_text(source(old, provider="x-ai"))
    lines = [json.loads(line) for line in run(config, "diff", "--from", str(file), "--json").output.splitlines()]
    assert {each["what"]: each["reviewed"] for each in lines}["input"].startswith("Served by grok-build-0.1")
    assert "0 models" in run(config, "update", "--from", str(file)).output


def test_the_installed_package_is_the_source_unless_another_is_named(config: Path) -> None:
    assert run(config, "update").exit_code == 0
    assert "genai-prices 0.2.3" in (config / "listed_prices.yaml").read_text()
    assert (shipped_directory() / "price_differences.yaml").exists()


def test_check_tells_when_list_prices_were_last_reviewed(config: Path, tmp_path: Path) -> None:
    def told() -> str:
        return " ".join(CliRunner().invoke(main, ["check", "--config-dir", str(config)]).output.split())

    assert "list prices were reviewed on 20" in told()
    (config / "listed_prices.yaml").write_text("reviewed: 2199-01-01\nprices: []")
    assert "list prices were reviewed on 2199-01-01" in told()
