"""The shipped price list beside the pinned genai-prices, which it was compared with, and what the list must not lack."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.document import read_document
from tallygate.config.model import GatewayConfig
from tallygate.config.price_differences import Reviewed, ReviewedNames, differences, read_reviewed, unknown_there
from tallygate.config.price_source import SourceModel, models_of, packaged
from tallygate.config.price_updates import updates_of
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.config.section import instant_ms
from tallygate.config.shipped import shipped_directory
from tallygate.domain.model_patterns import matches, matches_any
from tallygate.domain.price import UNDATED_MS, Price
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Conditions, Usage, usage_of_totals

AT_MS = 1_796_000_000_000  # 2026-11-30
# Whose models the list has under the names that they sell them by.
PROVIDERS = (
    *("openai", "anthropic", "google", "x-ai", "mistral", "deepseek"),
    *("groq", "cerebras", "moonshotai", "zai", "cohere", "voyageai", "perplexity", "together", "fireworks"),
)
DAYS = ("2026-11-30", "2027-01-02")  # what is in force, and what is announced
MILLION = 10**6


def starts_ms(model: SourceModel) -> list[int]:
    """When the prices of the source change."""
    return [instant_ms(row["effective"]) for row in model.rows if "effective" in row]


def at_ms(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def prices(source) -> PriceCatalogue:
    config: GatewayConfig = source.load()
    return config.prices


@pytest.fixture(scope="module")
def theirs() -> tuple[SourceModel, ...]:
    return models_of(packaged())


@pytest.fixture(scope="module")
def reviewed() -> tuple[tuple[Reviewed, ...], tuple[ReviewedNames, ...]]:
    problems = Problems()
    document = read_document("price_differences.yaml", (shipped_directory() / "price_differences.yaml").read_bytes(), problems)
    assert document is not None
    read = read_reviewed(document)
    assert problems.texts() == ()
    return read


def test_every_difference_from_genai_prices_is_reviewed_and_every_review_is_of_a_difference(prices, theirs, reviewed) -> None:
    ours = [model for model in theirs if model.provider in PROVIDERS]
    found = [each for day in DAYS for each in differences(prices, ours, at_ms(day))]
    found += [
        each
        for model in ours
        for start in starts_ms(model)
        for at in (start - 1, start)
        for each in differences(prices, [model], at)
    ]

    assert [each for each in found if not any(entry.covers(each) for entry in reviewed[0])] == []
    assert [entry.place.line for entry in reviewed[0] if not any(entry.covers(each) for each in found)] == []
    for entry in reviewed[0]:
        for pattern in entry.models:
            alone = Reviewed((pattern,), entry.what, entry.figures, entry.reason, entry.place)
            assert any(alone.covers(each) for each in found), f"line {entry.place.line}: {pattern} has no such difference"
        for what, figures in entry.figures.items():
            alone = Reviewed(entry.models, (), {what: figures}, entry.reason, entry.place)
            assert any(alone.covers(each) for each in found), f"line {entry.place.line}: {what} no longer differs so"


@pytest.mark.parametrize("hour", [2, 8, 17, 23])
def test_a_comparison_and_an_update_are_the_same_at_every_hour(prices, theirs, reviewed, hour: int) -> None:
    deepseek = [model for model in theirs if model.provider == "deepseek"]
    at = at_ms("2026-11-30") + (hour - 12) * 3_600_000
    assert set(differences(prices, deepseek, at)) == set(differences(prices, deepseek, at_ms("2026-11-30")))
    assert prices.listed is not None
    assert updates_of(prices.listed, deepseek, reviewed[0], now_ms=at) == ()
    (pro,) = [model for model in deepseek if model.names[0] == "deepseek-v4-pro"]
    dearer = replace(pro, rows=({"input": "9", "output": "9"},))
    ((row,),) = [update.rows for update in updates_of(prices.listed, [dearer], (), now_ms=at)]
    assert "when" not in row, "hours that the source does not state are none of its price"


def test_every_name_that_genai_prices_does_not_have_is_reviewed(prices, theirs, reviewed) -> None:
    names = unknown_there(prices, theirs)
    patterns = [pattern for entry in reviewed[1] for pattern in entry.models]

    assert [name for name in names if not matches_any(name, patterns)] == []
    assert [pattern for pattern in patterns if not any(matches(name, pattern) for name in names)] == []


def test_the_comparison_sees_a_changed_figure_a_tier_a_condition_an_hour_and_a_date(theirs) -> None:
    problems = Problems()
    text = (shipped_directory() / "prices.yaml").read_text()
    for old, new in (
        ('input_above_100k: "0.5"', 'input_above_100k: "0.4"'),
        ('{speed: fast, times: "2"}', '{speed: fast, times: "3"}'),
        ('utc_hours: "06:00-10:00"', 'utc_hours: "07:00-10:00"'),
        ("{model: gpt-4o, ", "{model: gpt-4o-other, "),
    ):
        assert old in text
        text = text.replace(old, new)
    document = read_document("prices.yaml", text.replace("effective: 2026-12-01", "effective: 2028-12-01").encode(), problems)
    assert document is not None
    found = {
        (each.model, each.what)
        for day in DAYS
        for each in differences(read_prices(document), [m for m in theirs if m.provider in PROVIDERS], at_ms(day))
    }
    assert ("claude-haiku-5-5", "input from 100001") in found
    assert ("claude-opus-5-5", "output, speed: fast") in found
    assert ("deepseek-v4-pro", "output") in found
    assert ("gpt-4o", "model") in found
    assert ("gemini-4-argon", "input") in found


def test_the_pinned_version_is_the_one_of_the_extras() -> None:
    text = (shipped_directory().parent / "pyproject.toml").read_text()
    assert text.count('"genai-prices==0.2.3') == 1
    assert "genai-prices 0.2.3" in (shipped_directory() / "prices.yaml").read_text()


@pytest.mark.parametrize("name", ["lyria-3.5", "mistral-ocr-latest", "whisper-large-v3"])
def test_a_model_whose_unit_nothing_counts_is_unknown_rather_than_free(prices: PriceCatalogue, name: str) -> None:
    assert prices.find(name, AT_MS) is None


def test_moderation_alone_is_free_of_charge(prices: PriceCatalogue) -> None:
    assert {price.model for price in prices.rows() if not price.has_token_rates and not price.bills_no_tokens} == {
        *("omni-moderation-latest", "omni-moderation-2024-09-26"),
        *("text-moderation-latest", "text-moderation-stable", "text-moderation-007"),
    }
    assert len(list(prices.models())) > 900


def cost(prices: PriceCatalogue, model: str, usage: Usage, conditions: Conditions | None = None, at: int = AT_MS) -> float:
    price = prices.find(model, at)
    assert isinstance(price, Price), model
    return price.cost_nano_usd(usage, conditions or Conditions()) / 10**9


def test_hand_computed_costs_of_long_prompts_tiers_and_conditions(prices: PriceCatalogue) -> None:
    long = usage_of_totals(prompt=300_000, cached=100_000, completion=2_000)
    assert cost(prices, "gpt-5.5", long) == 2.19  # 200,000 * $10 + 100,000 * $1 + 2,000 * $45
    short = usage_of_totals(prompt=10_000, completion=1_000)
    assert cost(prices, "gpt-5.5", short, Conditions(service_tier="priority")) == 0.2  # 12.5 and 75
    assert cost(prices, "claude-haiku-5-5", usage_of_totals(prompt=150_000, completion=1_000)) == 0.0775  # 0.5 and 2.5
    assert cost(prices, "claude-opus-5-5", short, Conditions(speed="fast")) == 0.12  # 8 and 40
    assert cost(prices, "claude-opus-5-5", short, Conditions(geography="us")) == 0.066  # 4.4 and 22
    assert cost(prices, "grok-4.7", usage_of_totals(prompt=200_000)) == 0.8  # from 200,000 on: 4
    assert cost(prices, "grok-4.7", usage_of_totals(prompt=199_999)) == 0.399998
    assert cost(prices, "grok-4.7", short, Conditions(service_tier="priority")) == 0.052
    assert cost(prices, "gemini-2.5-pro", short, Conditions(service_tier="priority")) == 0.0405  # 2.25 and 18
    assert cost(prices, "gpt-6-astra", short, Conditions(service_tier="ultrafast")) == 0.9  # 60 and 300
    twelve_hours = Usage({Unit.CACHE_WRITE_12H: 10_000})
    assert cost(prices, "gpt-5.6-sol", twelve_hours) == 0.1
    assert cost(prices, "gpt-5.6-sol", Usage({Unit.CACHE_WRITE_12H: 300_000})) == 6.0
    assert cost(prices, "gemini-2.5-flash", Usage({Unit.CACHED_INPUT_AUDIO: 10_000})) == 0.001
    assert cost(prices, "gemini-3-pro-image", Usage({Unit.OUTPUT_IMAGE: 1_120})) == 0.1344
    anthropic = usage_of_totals(prompt=10_000, cached=6_000, cache_write_5m=1_000, cache_write_1h=500, completion=200)
    # 2,500 * $3 + 6,000 * $0.30 + 1,000 * $3.75 + 500 * $6 + 200 * $15, per million
    assert cost(prices, "claude-sonnet-4-5", anthropic) == 0.01905


@pytest.mark.parametrize(
    ("model", "day", "usd"),
    [  # a million of input
        ("gpt-5.6-luna", "2026-07-29", 1.0 * 2),  # above 272,000
        ("gpt-5.6-luna", "2026-07-30", 0.2 * 2),
        ("o3", "2025-06-09", 10.0),
        ("o3", "2025-06-10", 2.0),
        ("grok-4.20", "2026-04-29", 4.0),
        ("grok-4.20", "2026-04-30", 2.5),
        ("mistral-large-4", "2026-10-19", 0.68),
        ("mistral-large-4", "2026-10-20", 1.36),
        ("mistral-large-4", "2026-10-29", 0.7),
        ("claude-sonnet-4-6", "2026-03-12", 6.0),
        ("claude-sonnet-4-6", "2026-03-13", 3.0),
        ("gpt-3.5-turbo", "2023-06-12", 2.0),
        ("gpt-3.5-turbo", "2024-02-15", 1.5),
        ("gpt-3.5-turbo", "2024-02-16", 0.5),
        ("gpt-4o", "2024-10-01", 5.0),
        ("gpt-4o", "2024-10-02", 2.5),
        ("gpt-4o-2024-08-06", "2024-10-01", 2.5),
        ("text-embedding-ada-002", "2023-06-12", 0.4),
        ("text-embedding-ada-002", "2023-06-13", 0.1),
        ("gemini-3.6-flash", "2026-08-12", 1.5),
        ("gemini-3.6-flash", "2026-08-13", 0.75),
        ("deepseek-v4-pro", "2026-04-25", 1.74),
        ("deepseek-v4-pro", "2026-04-26", 0.435),
        ("deepseek-reasoner", "2025-09-05", 0.55),
        ("deepseek-reasoner", "2025-09-06", 0.56),
        ("deepseek-reasoner", "2025-09-29", 0.28),
        ("grok-code-fast-1", "2026-05-15", 0.2),
        ("grok-code-fast-1", "2026-05-16", 2.0),  # from 200,000 on
        ("mistral-large-latest", "2025-12-01", 2.0),
        ("mistral-large-latest", "2025-12-02", 0.5),
        ("gemini-4-argon", "2026-11-30", 2.0),
        ("gemini-4-argon", "2026-12-01", 4.0),
        ("gemini-3.8-flash", "2026-12-31", 0.75),
        ("gemini-3.8-flash", "2027-01-01", 1.5),
    ],
)
def test_rows_are_dated_by_when_a_price_changed(prices: PriceCatalogue, model: str, day: str, usd: float) -> None:
    assert cost(prices, model, usage_of_totals(prompt=MILLION), at=at_ms(day)) == usd


@pytest.mark.parametrize(
    ("model", "days", "rates"),
    [
        ("claude-sonnet-5-5", ("2026-10-06", "2026-10-07"), (0.2, 0.1)),
        ("grok-4.5", ("2026-07-18", "2026-07-19"), (0.5, 0.3)),
        ("deepseek-v4-flash", ("2026-04-25", "2026-04-26"), (0.028, 0.0028)),
    ],
)
def test_cached_input_that_became_cheaper_is_dated_too(
    prices: PriceCatalogue, model: str, days: tuple[str, str], rates: tuple[float, float]
) -> None:
    cached = usage_of_totals(prompt=100_000, cached=100_000)
    assert tuple(round(cost(prices, model, cached, at=at_ms(day)) * 10, 9) for day in days) == rates


# When the first model came out that somebody could call.
FIRST_MODELS = {
    "openai": "2020-06-11",
    "anthropic": "2023-03-14",
    "google": "2023-12-06",
    "x-ai": "2023-11-03",
    "mistral": "2023-12-11",
}
BY_NAME = {
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "claude-": "anthropic",
    "gemini-": "google",
    "grok-": "x-ai",
    "mistral-": "mistral",
}
# Their price has changed on a day that no page states.
UNDATED_THOUGH_THE_NAME_HAS_A_DAY = {"o1-mini-2024-09-12"}


def day_in(name: str) -> str | None:
    """The day in a model's name, such as gpt-4o-2024-08-06 or claude-haiku-4-5-20251001."""
    match = re.search(r"(20\d\d)-?([01]\d)-?([0-3]\d)$", name)
    return "-".join(match.groups()) if match else None


def test_every_date_is_one_that_can_be(prices: PriceCatalogue) -> None:
    """A row that has no date says so; none has one that only fills the place."""
    text = (shipped_directory() / "prices.yaml").read_text()
    assert "2020-01-01" not in text
    firsts: dict[str, Price] = {}
    for price in prices.rows():
        first = firsts.setdefault(price.model, price)
        firsts[price.model] = min(first, price, key=lambda each: each.effective_ms)
    reviewed_ms = prices.reviewed_ms
    assert reviewed_ms is not None
    late = [price.version for price in firsts.values() if price.effective_ms > reviewed_ms]
    early = [
        price.version
        for price in firsts.values()
        for start, provider in BY_NAME.items()
        if price.model.startswith(start) and UNDATED_MS < price.effective_ms < instant_ms(FIRST_MODELS[provider])
    ]
    assert (late, early) == ([], []), "a model is listed once it is out; its changes may be announced"
    assert sum(price.effective_ms > UNDATED_MS for price in firsts.values()) > 400


def test_a_row_begins_with_the_first_of_the_days_in_its_names(prices: PriceCatalogue) -> None:
    rows: dict[str, list[Price]] = {}
    for price in prices.rows():
        rows.setdefault(price.model, []).append(price)
    known = {name: instant_ms(day) for name in rows if (day := day_in(name)) is not None}
    undated = {name for name in known if rows[name][0].effective_ms == UNDATED_MS}
    later = {name: rows[name][0].version for name, day in known.items() if rows[name][0].effective_ms > day + 86_400_000}
    # The first of several snapshots at one price is never much older than the next.
    absurd = {
        name: rows[name][0].version
        for name in known.keys() - undated
        if rows[name][0].effective_ms < known[name] - 365 * 86_400_000
    }
    assert (undated, later, absurd) == (UNDATED_THOUGH_THE_NAME_HAS_A_DAY, {}, {})
    assert len(known) > 40


def test_a_request_before_the_first_price_costs_as_much_as_that(prices: PriceCatalogue) -> None:
    """Previews and clocks that are behind: no listed model lacks a price at any time."""
    assert [model for model in prices.models() if prices.find(model, 0) is None] == []
    found = prices.find("gpt-6.1-terra", at_ms("2026-10-25"))
    assert found is not None
    assert found.version.startswith("gpt-6.1-terra@2026-10-26.")
    undated = prices.find("voyage-4", AT_MS)
    assert undated is not None
    assert undated.version.startswith("voyage-4@undated.")


@pytest.mark.parametrize(("hour", "usd"), [(0, 0.66), (1, 1.32), (4, 0.66), (6, 1.32), (9, 1.32), (10, 0.66)])
def test_deepseek_costs_twice_as_much_in_its_busy_hours(prices: PriceCatalogue, hour: int, usd: float) -> None:
    at = at_ms("2026-11-30") + (hour - 12) * 3_600_000
    assert cost(prices, "deepseek-v4-pro", usage_of_totals(prompt=MILLION), at=at) == usd


@pytest.mark.parametrize(
    ("model", "usd"),
    [  # a million of input
        ("openai/gpt-oss-120b", 0.15),  # Groq
        ("gpt-oss-120b", 0.35),  # Cerebras
        ("llama-3.3-70b-versatile", 0.59),
        ("kimi-k3", 3.0),
        ("glm-5.3", 1.4),
        ("command-a-03-2025", 2.5),
        ("voyage-4-large", 0.12),
        ("sonar-pro", 3.0),
        ("MiniMaxAI/MiniMax-M3", 0.3),
        ("accounts/fireworks/models/kimi-k3", 3.0),
        ("amazon.nova-pro-v1:0", 0.8),
        ("anthropic/claude-haiku-4.5", 1.0),  # OpenRouter's dots
        ("anthropic/claude-opus-5.5", 4.0),
        ("x-ai/grok-4.7", 4.0),
        ("ft:gpt-4o-2024-08-06:org::id", 3.75),
        ("ft:gpt-4.1-mini-2025-04-14:org:suffix:id", 0.8),
        ("global.anthropic.claude-sonnet-5-5", 2.0),
        ("us.anthropic.claude-sonnet-5-5", 2.2),
        ("jp.anthropic.claude-haiku-4-5-20251001-v1:0", 1.1),
        ("us-gov.anthropic.claude-haiku-4-5-20251001-v1:0", 1.2),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", 3.0),  # from Claude 4.5 on only
        ("claude-haiku-4-5@20251001", 1.0),  # Vertex
        ("claude-opus-5-5@default", 4.0),
        ("eu/gpt-4o-mini", 0.165),  # Azure's data zones
    ],
)
def test_names_of_hosts_and_resellers_have_a_price(prices: PriceCatalogue, model: str, usd: float) -> None:
    assert cost(prices, model, usage_of_totals(prompt=MILLION)) == pytest.approx(usd, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "unit", "usd"),
    [  # a thousand of each
        ("gpt-5.5", "web_search", 10),
        ("gpt-4o", "web_search:preview", 25),
        ("gpt-5.5", "web_search:preview", 10),
        ("gpt-5.5", "file_search", 2.5),
        ("gpt-5.5", "code_container:4g", 120),
        ("claude-sonnet-5-5", "web_search", 10),
        ("gemini-3.8-flash", "grounding_query", 14),
        ("gemini-2.5-flash", "grounded_prompt", 35),
        ("gemini-2.5-flash", "grounding_query", 0),
        ("grok-4.7", "web_search", 5),
        ("grok-4.7", "search_source:x_user", 10),
        ("kimi-k3", "web_search", 5),
    ],
)
def test_calls_of_tools_have_the_prices_of_their_provider(prices: PriceCatalogue, model: str, unit: str, usd: float) -> None:
    price = prices.find(model, AT_MS)
    assert price is not None
    assert price.lacks([unit]) == []
    assert price.pico_usd([{unit: 1_000}]) == usd * 10**12


def test_the_note_on_origin_is_kept() -> None:
    text = (shipped_directory() / "prices.yaml").read_text().replace("\n# ", " ")
    assert "MIT-licensed litellm price map" in text
    assert "A starting catalogue: check against the provider before billing." in text


@pytest.mark.parametrize(
    ("day", "usd"), [("2026-08-22", 1.32), ("2026-08-23", 0.66), ("2026-11-27", 1.32), ("2026-11-28", 0.66), ("2026-11-29", 0.66)]
)
def test_deepseek_has_no_busy_hours_at_weekends_since_they_are_excepted(prices: PriceCatalogue, day: str, usd: float) -> None:
    at = at_ms(day) - 10 * 3_600_000
    assert cost(prices, "deepseek-v4-pro", usage_of_totals(prompt=MILLION), at=at) == usd


@pytest.mark.parametrize("day", ["2026-11-28", "2026-11-29", "2026-11-30"])
def test_the_source_s_busy_hours_are_compared_with_those_of_working_days(
    prices: PriceCatalogue, theirs: tuple[SourceModel, ...], day: str
) -> None:
    models = [model for model in theirs if model.provider == "deepseek" and "deepseek-v4-pro" in model.names]
    assert [each for each in differences(prices, models, at_ms(day)) if each.model == "deepseek-v4-pro"] == []


def test_the_dearest_price_of_the_shipped_families_leaves_out_research_models(prices: PriceCatalogue) -> None:
    bound = prices.dearest(AT_MS)
    openai = prices.dearest(AT_MS, family="OpenAI")

    assert bound is not None
    assert openai is not None
    assert max(price.rates["output"] for price in bound.prices) <= 50 * 10**6
    assert {price.model for price in openai.prices} & {price.model for price in bound.prices}


def test_the_bound_of_a_family_knows_the_hour(prices: PriceCatalogue) -> None:
    night, busy = (prices.dearest(at_ms("2026-11-30") + (hour - 12) * 3_600_000, family="open source") for hour in (0, 1))
    assert night is not None
    assert busy is not None
    cost_of = {
        name: next(price for price in bound.prices if price.model == "deepseek-v4-pro").cost_nano_usd(
            usage_of_totals(prompt=MILLION)
        )
        for name, bound in (("night", night), ("busy", busy))
    }
    assert cost_of == {"night": 660_000_000, "busy": 1_320_000_000}
