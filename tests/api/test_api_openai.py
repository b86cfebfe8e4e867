"""OpenAI's usage and costs endpoints, asked by OpenAI's own client."""

from itertools import pairwise

import pytest
from api_values import DAY_MS, HOUR_MS, MINUTE_MS, NOW_MS, USD, an_entry
from api_world import World
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError

MIDNIGHT_MS = NOW_MS - 12 * HOUR_MS


@pytest.fixture
async def openai(world: World):
    async with AsyncOpenAI(api_key="unused", admin_api_key="platform", base_url=f"{world.url}/v1", max_retries=0) as client:
        yield client


async def pages(ask, **query):
    data, token = [], {}
    while True:
        page = await ask(**query, **token)
        data += page.data
        if not page.has_more:
            assert page.next_page is None
            return data
        token = {"page": page.next_page}


async def test_completions_come_in_days_with_the_first_cut_to_the_range(world: World, openai: AsyncOpenAI) -> None:
    await world.record([an_entry(1), an_entry(2, settled_at_ms=NOW_MS - DAY_MS)])
    start = (NOW_MS - DAY_MS - HOUR_MS) // 1000

    page = await openai.admin.organization.usage.completions(start_time=start)

    assert [(bucket.start_time, bucket.end_time) for bucket in page.data] == [
        (start, MIDNIGHT_MS // 1000),
        (MIDNIGHT_MS // 1000, NOW_MS // 1000),
    ]
    (result,) = page.data[1].results
    assert result.object == "organization.usage.completions.result"
    assert (result.input_tokens, result.input_cached_tokens, result.input_cache_write_tokens) == (100, 40, 10)
    assert (result.input_uncached_tokens, result.output_tokens, result.num_model_requests) == (50, 20, 1)
    assert (result.project_id, result.api_key_id, result.model, result.batch) == (None, None, None, None)
    assert not page.has_more


async def test_completions_group_and_filter_by_project_key_and_model(world: World, openai: AsyncOpenAI) -> None:
    await world.record([an_entry(1), an_entry(2, credential="acme-dev", response_model="gpt-5"), an_entry(3, org="globex")])
    ask = openai.admin.organization.usage.completions
    start = MIDNIGHT_MS // 1000

    page = await ask(start_time=start, group_by=["project_id", "api_key_id", "model", "batch", "user_id", "api_source"])
    assert [(item.project_id, item.api_key_id, item.model) for item in page.data[0].results] == [
        ("acme", "acme-dev", "gpt-5"),
        ("acme", "acme-prod", "gpt-4o"),
        ("globex", "globex-prod", "gpt-4o"),
    ]
    assert {(item.batch, item.user_id, item.api_source) for item in page.data[0].results} == {(False, None, "unlabeled")}
    for narrowed, requests in [
        ({"project_ids": ["acme"]}, 2),
        ({"project_ids": ["acme", "globex"]}, 3),
        ({"api_key_ids": ["acme-dev"]}, 1),
        ({"models": ["gpt-4o"]}, 2),
        ({"models": ["never-used"]}, 0),
        ({"batch": False}, 3),
        ({"batch": True}, 0),
        ({"user_ids": ["user-1"]}, 0),
    ]:
        page = await ask(start_time=start, **narrowed)
        assert sum(item.num_model_requests for bucket in page.data for item in bucket.results) == requests, narrowed


async def test_results_of_batches_are_told_apart(world: World, openai: AsyncOpenAI) -> None:
    await world.record([an_entry(1), an_entry(2, capability="batches"), an_entry(3, capability="batches")])
    ask = openai.admin.organization.usage.completions
    start = MIDNIGHT_MS // 1000

    page = await ask(start_time=start, group_by=["model", "batch"])
    assert [(item.model, item.batch, item.num_model_requests) for item in page.data[0].results] == [
        ("gpt-4o", False, 1),
        ("gpt-4o", True, 2),
    ]
    for batch, requests in ((True, 2), (False, 1)):
        page = await ask(start_time=start, batch=batch)
        assert sum(item.num_model_requests for bucket in page.data for item in bucket.results) == requests


async def test_embeddings_and_unmetered_endpoints_are_no_completions(world: World, openai: AsyncOpenAI) -> None:
    await world.record(
        [
            an_entry(1),
            an_entry(2, endpoint="/v1/embeddings", capability="embeddings"),
            an_entry(3, endpoint="/v1/models", capability="models", prompt_tokens=0, completion_tokens=0),
            an_entry(4, endpoint="/v1/removed-since"),
        ]
    )

    page = await openai.admin.organization.usage.completions(start_time=MIDNIGHT_MS // 1000)
    assert [item.num_model_requests for item in page.data[0].results] == [2]


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
async def test_pages_of_each_width_together_are_the_range(world: World, openai: AsyncOpenAI, width: str) -> None:
    spacing = {"1m": 47 * 1000, "1h": 17 * MINUTE_MS, "1d": 11 * HOUR_MS}[width]
    length = {"1m": MINUTE_MS, "1h": HOUR_MS, "1d": DAY_MS}[width]
    await world.record([an_entry(number, settled_at_ms=NOW_MS - 1 - number * spacing) for number in range(30)])
    start = (NOW_MS - 30 * spacing) // 1000

    data = await pages(
        openai.admin.organization.usage.completions, start_time=start, bucket_width=width, limit=2, group_by=["model"]
    )

    assert sum(item.num_model_requests for bucket in data for item in bucket.results) == 30
    assert data[-1].end_time * 1000 >= NOW_MS
    for bucket, following in pairwise(data):
        assert bucket.end_time == following.start_time
        assert bucket.end_time * 1000 % length == 0


async def test_minutes_of_several_organizations_are_added_up(world: World, openai: AsyncOpenAI) -> None:
    await world.record([an_entry(1), an_entry(2, org="globex")])

    page = await openai.admin.organization.usage.completions(
        start_time=(NOW_MS - 2 * HOUR_MS) // 1000, bucket_width="1m", limit=100
    )
    assert [item.num_model_requests for bucket in page.data for item in bucket.results] == [2]
    assert (len(page.data), page.has_more) == (100, True)


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
async def test_a_page_ends_before_it_has_too_many_results(
    world: World, openai: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setattr("tallygate.console.api_openai_usage.RESULTS_MAX", 3)
    length = {"1m": MINUTE_MS, "1h": HOUR_MS, "1d": DAY_MS}[width]
    await world.record(
        [an_entry(number, settled_at_ms=NOW_MS - number // 2 * length - 1, response_model=f"m{number % 2}") for number in range(8)]
    )
    ask = openai.admin.organization.usage.completions
    query = {"start_time": (NOW_MS - 4 * length) // 1000, "bucket_width": width, "group_by": ["model"], "limit": 30}

    assert sum(len(bucket.results) for bucket in (await ask(**query)).data) == 2
    assert sum(item.num_model_requests for bucket in await pages(ask, **query) for item in bucket.results) == 8


async def test_a_future_end_adds_no_empty_buckets(openai: AsyncOpenAI) -> None:
    page = await openai.admin.organization.usage.completions(
        start_time=MIDNIGHT_MS // 1000, end_time=(NOW_MS + 30 * DAY_MS) // 1000
    )
    assert [bucket.end_time for bucket in page.data] == [(MIDNIGHT_MS + DAY_MS) // 1000]


async def test_costs_are_the_nearest_number_of_dollars(world: World, openai: AsyncOpenAI) -> None:
    await world.record(
        [
            an_entry(1, cost_nano_usd=USD // 10),
            an_entry(2, cost_nano_usd=USD // 5, response_model="gpt-5", credential="acme-dev"),
            an_entry(3, org="globex", cost_nano_usd=1),
        ]
    )
    ask, start = openai.admin.organization.usage.costs, MIDNIGHT_MS // 1000

    (bucket,) = (await ask(start_time=start)).data
    (result,) = bucket.results
    assert result.object == "organization.costs.result"
    assert (result.amount.value, result.amount.currency) == (0.300000001, "usd")
    assert (result.project_id, result.line_item, result.api_key_id) == (None, None, None)

    (bucket,) = (await ask(start_time=start, group_by=["line_item", "project_id", "api_key_id"])).data
    assert [(item.project_id, item.api_key_id, item.line_item, item.amount.value) for item in bucket.results] == [
        ("acme", "acme-dev", "gpt-5", 0.2),
        ("acme", "acme-prod", "gpt-4o", 0.1),
        ("globex", "globex-prod", "gpt-4o", 1e-09),
    ]
    (bucket,) = (await ask(start_time=start, line_items=["gpt-5"])).data
    assert [item.amount.value for item in bucket.results] == [0.2]


async def test_pages_of_costs_together_are_the_range(world: World, openai: AsyncOpenAI) -> None:
    await world.record(
        [an_entry(number, settled_at_ms=NOW_MS - number * 9 * HOUR_MS, cost_nano_usd=USD) for number in range(1, 41)]
    )
    start = (NOW_MS - 40 * 9 * HOUR_MS) // 1000

    data = await pages(openai.admin.organization.usage.costs, start_time=start, limit=3)
    assert sum(item.amount.value for bucket in data for item in bucket.results) == 40
    assert data == (await openai.admin.organization.usage.costs(start_time=start, limit=180)).data


async def test_wrong_use_reaches_the_client_as_its_own_exceptions(world: World, openai: AsyncOpenAI) -> None:
    ask, start = openai.admin.organization.usage.completions, MIDNIGHT_MS // 1000
    with pytest.raises(BadRequestError) as wrong:
        await ask(start_time=start, limit=32)
    assert wrong.value.body["param"] == "limit"
    with pytest.raises(NotFoundError) as unknown:
        await ask(start_time=start, project_ids=["nobody"])
    assert unknown.value.body["param"] == "project_ids"
    token = (await ask(start_time=start - 86_400 * 20)).next_page
    with pytest.raises(BadRequestError) as foreign:
        await ask(start_time=start, page=token)
    assert foreign.value.body["param"] == "page"
    with pytest.raises(AuthenticationError):
        await openai.with_options(admin_api_key="nobody").admin.organization.usage.costs(start_time=start)


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
async def test_embeddings_and_moderations_have_usage_of_their_own(world: World, openai: AsyncOpenAI, width: str) -> None:
    vectors = {"endpoint": "/v1/embeddings", "capability": "embeddings", "completion_tokens": 0}
    await world.record(
        [
            an_entry(1),
            an_entry(2, **vectors, response_model="text-embedding-3-small"),
            an_entry(3, **{**vectors, "capability": "batches"}, credential="acme-dev"),
            an_entry(4, **{**vectors, "endpoint": "/v1/removed-since"}, org="globex"),
            an_entry(5, endpoint="/v1/moderations", capability="moderations", prompt_tokens=7, completion_tokens=0),
        ]
    )
    asked = {"start_time": (NOW_MS - 2 * HOUR_MS) // 1000, "bucket_width": width}
    usage = openai.admin.organization.usage

    async def results(ask, **more):
        return [item for bucket in await pages(ask, **asked, **more) for item in bucket.results]

    (whole,) = await results(usage.embeddings)
    assert (whole.object, whole.input_tokens, whole.num_model_requests) == ("organization.usage.embeddings.result", 300, 3)
    by_all = await results(usage.embeddings, group_by=["project_id", "api_key_id", "model", "user_id"])
    assert [(item.project_id, item.api_key_id, item.model, item.user_id) for item in by_all] == [
        ("acme", "acme-dev", "gpt-4o", None),
        ("acme", "acme-prod", "text-embedding-3-small", None),
        ("globex", "globex-prod", "gpt-4o", None),
    ]
    assert [item.num_model_requests for item in await results(usage.embeddings, models=["gpt-4o"], project_ids=["acme"])] == [1]
    (moderated,) = await results(usage.moderations)
    assert (moderated.object, moderated.input_tokens) == ("organization.usage.moderations.result", 7)
    assert [item.num_model_requests for item in await results(usage.completions)] == [1]


async def test_tokens_of_media_are_told_apart_in_what_is_generated(world: World, openai: AsyncOpenAI) -> None:
    await world.record([an_entry(1, completion_tokens=20, audio_completion_tokens=3, image_completion_tokens=12)])

    page = await openai.admin.organization.usage.completions(start_time=MIDNIGHT_MS // 1000)
    (result,) = page.data[0].results
    assert (result.output_tokens, result.output_text_tokens, result.output_audio_tokens, result.output_image_tokens) == (
        20,
        5,
        3,
        12,
    )


async def test_projects_are_the_organizations_that_a_token_sees(world: World, openai: AsyncOpenAI) -> None:
    projects = openai.admin.organization.projects

    found = [project async for project in projects.list(limit=2)]  # in two pages
    assert [(project.id, project.name, project.status) for project in found] == [
        ("acme", "Acme", "active"),
        ("globex", "Globex", "active"),
        ("initech", "Initech", "active"),
    ]
    assert (await projects.retrieve("globex")).name == "Globex"
    one = openai.with_options(admin_api_key="one").admin.organization.projects
    assert [project.id async for project in one.list()] == ["acme"]
    with pytest.raises(NotFoundError):
        await one.retrieve("globex")
