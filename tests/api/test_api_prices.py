"""GET /api/prices: what models cost here, exactly, with its conditions, its source and what routes add."""

from dataclasses import replace
from pathlib import Path

import pytest
from api_values import DAY_MS, ENTERPRISE, NOW_MS, ROUTES, an_organization
from api_world import World, shipped_config
from prices import price_of

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.price import Rule

OWN = """
prices:
  - {model: gpt-5.5, effective: 2026-01-01, input: "1", output: "2"}
  - model: own-model
    effective: 2026-01-01
    input: "0.15"
    output: "0.6"
    input_above_200k: "0.3"
    output_above_200k: "1.2"
    image: "0.04"
    web_search: "10"
    max_output_tokens: 8192
    when: [{service_tier: flex, times: "0.5"}, {utc_hours: "16:30-00:30", utc_days: mon-fri, input: "1", output: "3"}]
"""


@pytest.fixture
def priced(world: World, tmp_path: Path) -> World:
    (tmp_path / "prices.yaml").write_text(OWN)
    config = load_config(
        tmp_path,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="https://up.example",
    )
    world.prices = config.prices
    return world


async def test_rows_of_an_upstreams_catalogue_say_so_in_their_place(priced: World) -> None:
    stated = [price_of(model, input=3, output=4) for model in ("own-model", "gloo-openai-gpt-5.5")]
    priced.prices = priced.prices.with_upstream(stated, {})

    async def layers(name: str) -> list[tuple[str, bool]]:
        [model] = (await priced.ok("/api/prices", model=name))["models"]
        return [(row["layer"], row["applies"]) for row in model["rows"]]

    assert (await layers("own-model"))[:2] == [("prices.yaml", True), ("upstream's catalogue", False)]
    first, second, *rest = await layers("gloo-openai-gpt-5.5")
    assert (first, second) == (("upstream's catalogue", True), ("prices.yaml", False))  # then its plainer name's
    assert {layer for layer, _ in rest} == {"shipped list"}


async def test_a_row_has_its_rates_by_unit_exactly_with_its_conditions(priced: World) -> None:
    [model] = (await priced.ok("/api/prices", model="own-model"))["models"]
    [row] = model["rows"]

    assert (row["layer"], row["applies"], row["max_output_tokens"], row["max_input_tokens"]) == ("prices.yaml", True, 8192, None)
    assert (row["effective_from"], row["effective_until"]) == ("2026-01-01T00:00:00Z", None)
    assert row["version"].startswith("own-model@2026-01-01.")
    of_unit = {(rate["unit"], rate["from_tokens"]): rate for rate in row["rates"]}
    assert of_unit["input", 0] == {
        "unit": "input",
        "name": "input tokens",
        "quantity": 1_000_000,
        "per": "million tokens",
        "usd": "0.15",
        "nano_usd": 150_000_000,
        "from_tokens": 0,
    }
    assert of_unit["output", 200_001]["usd"] == "1.2"
    assert [of_unit["image", 0][name] for name in ("name", "quantity", "usd")] == ["generated images", 1, "0.04"]
    assert [of_unit["web_search", 0][name] for name in ("per", "usd")] == ["thousand", "10"]
    flex, hours = row["conditions"]
    assert (flex["service_tier"], flex["times"], flex["rates"]) == ("flex", "0.5", [])
    assert (hours["utc_hours"], hours["utc_days"], hours["times"]) == ("16:30-00:30", "mon-fri", None)
    assert [(rate["unit"], rate["usd"]) for rate in hours["rates"]] == [("input", "1"), ("output", "3")]


async def test_every_row_that_may_price_a_model_is_there_and_the_one_that_does_is_marked(priced: World) -> None:
    [model] = (await priced.ok("/api/prices", model="gpt-5.5"))["models"]
    assert [(row["layer"], row["applies"]) for row in model["rows"]] == [("prices.yaml", True), ("shipped list", False)]

    body = await priced.ok("/api/prices", model="openai/gpt-5.5-2026-04-23")  # as a request may name it
    assert (body["models"][0]["rows"][0]["model"], body["reviewed_at"] is not None) == ("gpt-5.5", True)
    assert (await priced.ok("/api/prices", model="nobody-s"))["models"] == []


async def test_pages_go_through_all_models_with_the_row_in_force(priced: World) -> None:
    found, cursor = [], {}
    for _ in range(50):
        body = await priced.ok("/api/prices", limit=200, **cursor)
        found += body["models"]
        if body["next_cursor"] is None:
            break
        cursor = {"cursor": body["next_cursor"]}
    names = [model["model"] for model in found]
    assert names == sorted(set(priced.prices.models()))
    assert {len(model["rows"]) for model in found} == {1}
    claude = await priced.ok("/api/prices", model="claude-*", limit=1_000)
    assert [model["model"] for model in claude["models"]] == [name for name in names if name.startswith("claude-")] != []
    other = await priced.get("/api/prices", model="claude-*", cursor=body["next_cursor"] or cursor["cursor"])
    assert (other[0], other[1]["error"]["param"]) == (400, "cursor")


async def test_a_price_that_has_ended_says_until_when(world: World) -> None:
    former = price_of("m", version="1", effective_ms=NOW_MS - 2 * DAY_MS, input=1, output=1)
    world.prices = PriceCatalogue((former, replace(former, version="2", effective_ms=NOW_MS - DAY_MS, rules=(Rule(speed="fast"),))))
    [model] = (await world.ok("/api/prices", model="m"))["models"]
    found = [(row["version"], row["applies"], row["effective_until"]) for row in model["rows"]]
    assert found == [("2", True, None), ("1", False, "2026-08-31T12:00:00Z")]
    assert model["rows"][0]["rates"][0]["usd"] == "0.000001"


async def test_routes_that_add_something_are_named_as_far_as_the_plan_includes_them(world: World) -> None:
    chat, embeddings, models = ROUTES
    world.routes_in_force = (replace(chat, fee_nano_usd=2_000_000), replace(embeddings, markup=65_000), models)
    world.organizations["narrow"] = an_organization("narrow", replace(ENTERPRISE, capabilities=frozenset({"chat"})))

    routes = (await world.ok("/api/prices"))["routes"]
    assert [(route["path"], route["fee"]["usd"], route["markup_percent"]) for route in routes] == [
        ("/v1/chat/completions", "0.002", "0"),
        ("/v1/embeddings", "0.00", "6.5"),
    ]
    assert [route["capability"] for route in (await world.ok("/api/prices", org="narrow"))["routes"]] == ["chat"]
    assert (await world.get("/api/prices", token="one", org="globex"))[0] == 404
    assert shipped_config().upstreams["default"].markup == 0
