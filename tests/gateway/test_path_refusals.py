"""What a client and the log are told of a path that is refused: what was asked, and which endpoint is nearest; never a secret."""

import logging
import string
from pathlib import Path

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, running_gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from search import cases
from yarl import URL

from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.nearest_route import CHARS_MAX, Mistake, NearestRoutes
from tallygate.gateway.path_refusals import KINDS_KEPT_MAX, LOGGED_EVERY_MS, SHOWN_CHARS_MAX, PathRefusals, shown_path
from tallygate.gateway.routes import RouteTable
from tallygate.telemetry.metrics import OPEN_REQUESTS, REFUSED

UNKNOWN = Refusal(status=404, code=ErrorCode.UNKNOWN_ENDPOINT, message="No.")


@pytest.fixture(scope="module")
def table() -> RouteTable:
    shipped = shipped_directory()
    config = load_config(
        shipped, shipped_dir=shipped, known_dialects=dialects().traits, environ={}, default_url="http://up.invalid"
    )
    return RouteTable(config.routes, {"default": ""})


@pytest.mark.parametrize(
    ("method", "path", "nearest", "mistake"),
    [
        ("POST", "/v1/v1/chat/completions", "POST /v1/chat/completions", Mistake.VERSION_TWICE),
        ("POST", "/v1/v1/v1/responses", "POST /v1/responses", Mistake.VERSION_TWICE),
        ("POST", "/v1/v1beta/models/g:generateContent", "POST /v1beta/models/{model}:generateContent", Mistake.VERSION_TWICE),
        ("POST", "/v1/v1/messages", "POST /v1/messages", Mistake.VERSION_TWICE),
        ("POST", "//v1/chat/completions", "POST /v1/chat/completions", Mistake.SLASHES),
        ("POST", "/v1//chat/completions", "POST /v1/chat/completions", Mistake.SLASHES),
        ("POST", "/v1/chat/completions/", "POST /v1/chat/completions", Mistake.SLASHES),
        ("GET", "/v1/models/", "GET /v1/models", Mistake.SLASHES),
        ("GET", "/v1/./models", "GET /v1/models", Mistake.SLASHES),
        ("GET", "/v1/mode%6cs", "GET /v1/models", Mistake.SLASHES),
        ("POST", "/V1/Chat/Completions", "POST /v1/chat/completions", Mistake.CASE),
        ("POST", "/chat/completions", "POST /v1/chat/completions", Mistake.NO_VERSION),
        ("POST", "/api/v1/chat/completions", "POST /v1/chat/completions", Mistake.BASE),
        ("POST", "/proxy/openai/v9/v1/embeddings", "POST /v1/embeddings", Mistake.BASE),
        ("POST", "/anthropic/v1/messages", "POST /v1/messages", Mistake.BASE),
        ("POST", "/messages", "POST /v1/messages", Mistake.NO_VERSION),
        ("POST", "/proxy/models/g:generateContent", "POST /v1/models/{model}:generateContent", Mistake.NO_VERSION),
        ("POST", "/v1/interactions", "POST /v1beta/interactions", Mistake.OTHER_VERSION),
        ("POST", "/v1beta/chat/completions", "POST /v1/chat/completions", Mistake.OTHER_VERSION),
        ("POST", "/upload/v1/files", "POST /v1/files", Mistake.WORDS),
        ("GET", "/v1/embeddings", "POST /v1/embeddings", Mistake.METHOD),
        ("PUT", "/v1/files/file-1", "GET /v1/files/{file_id}", Mistake.METHOD),  # never the one that deletes
        ("POST", "/v1/models/../chat/completions", "POST /v1/chat/completions", Mistake.SLASHES),
        ("PUT", "/v1/responses", "POST /v1/responses", Mistake.METHOD),
        ("POST", "/v1/chat/completion", "POST /v1/chat/completions", Mistake.WORDS),
        ("POST", "/v1/embedding", "POST /v1/embeddings", Mistake.WORDS),
        ("POST", "/v1/response", "POST /v1/responses", Mistake.WORDS),
        # Gloo's own, and never what is left of the path at another API
        ("POST", "/ai/v2/grounded/responses", "POST /ai/v2/responses", Mistake.WORDS),
        ("POST", "/ai/v9/chat/completions", "POST /ai/v2/chat/completions", Mistake.WORDS),
        ("POST", "/ai/v2/images/generations", "POST /ai/v2/responses", Mistake.WORDS),
        ("GET", "/engine/v3/files", "GET /engine/v1/files/{file_id}/snippets", Mistake.WORDS),
        ("GET", "/ingestion/v1/models", "POST /ingestion/v1/real_time_upload", Mistake.WORDS),
        ("GET", "/platform/v1/models", "GET /platform/v2/models", Mistake.WORDS),
        ("PUT", "/engine/v2/item", "PATCH /engine/v2/item", Mistake.METHOD),
        ("POST", "/v1/ai/v2/chat/completions", "POST /ai/v2/chat/completions", Mistake.BASE),
    ],
)
def test_the_nearest_endpoint_is_the_one_that_was_meant(
    table: RouteTable, method: str, path: str, nearest: str, mistake: Mistake
) -> None:
    found = NearestRoutes(table, dialects()).find(method, path)
    assert found is not None
    assert (str(found), found.mistake) == (nearest, mistake)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/v1/v1/chat/completions", "http(s)://host/v1"),
        ("/api/v1/chat/completions", "http(s)://host/v1"),
        ("/api/v1/messages", "http(s)://host"),
        ("/v1/v1/messages", "http(s)://host"),
        # A client that requested this adds no version itself: told the bare host, it would request the same again.
        ("/messages", "http(s)://host/v1"),
        ("/anthropic/messages", "http(s)://host/v1"),
        ("/models/g:generateContent", "http(s)://host/v1"),
        ("/chat/completions", "http(s)://host/v1"),
    ],
)
def test_the_base_that_is_told_makes_the_request_right(table: RouteTable, path: str, base: str) -> None:
    found = NearestRoutes(table, dialects()).find("POST", path)
    assert found is not None
    assert (found.base, base in found.advice) == (base, True)


@given(st.text(st.sampled_from("/v1.%:{}acehlmpost-" + string.printable), max_size=400), st.sampled_from(["GET", "POST", "BREW"]))
@settings(max_examples=cases(short=50, steady=200, deep=1_000), deadline=None)
def test_something_is_near_to_every_path(table: RouteTable, path: str, method: str) -> None:
    assert NearestRoutes(table, dialects()).find(method, "/" + path) is not None


def test_no_more_of_a_long_path_is_looked_at_than_of_a_short_one(table: RouteTable) -> None:
    nearest = NearestRoutes(table, dialects())
    for hostile in ("/" + "a" * 8000, "/v1" * 2700, "/" + "%41" * 2700, "/a" * 4000, "/" + "chat/completion/" * 500):
        assert nearest.find("POST", hostile) == nearest.find("POST", hostile[:CHARS_MAX])


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/v1/chat/completions", "/v1/v1/chat/completions"),
        ("/v1/nonsense/", "/v1/nonsense/"),
        ("//v1/chat", "//v1/chat"),
        ("//evil.example/v1/chat", "//[...]/v1/chat"),
        ("//user:pw@evil.example/v1", "//[...]/v1"),
        ("/user:pw@host/v1", "/[...]/v1"),
        ("/v1/../models", "/v1/../models"),
        ("/v1/models%0d%0aX:%20y", "/v1/[...]"),
        ("/v1/%3cscript%3e", "/v1/[...]"),
        ("/v1/sk-abc/chat", "/v1/[...]/chat"),
        ("/tg_acme_acmesecret0000/v1", "/[...]/v1"),
        ("/%74g_acme_acmesecret0000/v1", "/[...]/v1"),
        ("/v1/AIzaSyA-1234/x", "/v1/[...]/x"),
        ("/0123456789abcdef0123456789abcdef/chat", "/[...]/chat"),
        ("/0f8fad5b-d9cb-469f-a165-70867728950e/chat", "/[...]/chat"),
        ("/my-own-word/chat", "/[...]/chat"),  # the caller's key
        ("/own-wor/chat", "/[...]/chat"),  # a part of it
        ("/v1/api_key=hunter2", "/v1/[...]"),
        ("/" + "a" * 300, "/[...]"),
        ("/a" * 90, "/a" * 9 + "/[...]"),
    ],
)
def test_a_path_is_shown_in_plain_words_without_what_could_be_a_key(path: str, shown: str) -> None:
    assert shown_path(path, [b"my-own-word"], {"v1", "chat", "completions", "models"}) == shown


@given(st.text(max_size=600))
@settings(max_examples=cases(short=50, steady=200, deep=1_000), deadline=None)
def test_what_is_shown_is_short_and_printable(path: str) -> None:
    shown = shown_path("/" + path)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= SHOWN_CHARS_MAX * 2


def test_the_log_has_one_line_a_minute_of_each_organization_and_kind(table: RouteTable, caplog: pytest.LogCaptureFixture) -> None:
    refusals = PathRefusals(dialects())

    def refuse(path: str, org: str, now_ms: int) -> None:
        refusals.explained(UNKNOWN, method="POST", target=path, table=table, keys=(), org=org, now_ms=now_ms)

    with caplog.at_level(logging.WARNING):
        for second in range(10):
            refuse("/v1/v1/responses?key=hidden", "acme", second * 1000)
        refuse("/v1/responses/", "acme", 10_000)
        refuse("/v1/v1/responses", "big", 10_000)
        assert len(caplog.messages) == 3
        assert caplog.messages[0] == (
            "refused for its path, 404: POST /v1/v1/responses (organization acme); the nearest endpoint is POST /v1/responses"
        )
        refuse("/v1/v1/responses", "acme", LOGGED_EVERY_MS)
        assert "9 more like it" in caplog.messages[-1]
        for number in range(KINDS_KEPT_MAX + 50):
            refuse("/v1/responses/", f"org-{number}", 0)
        assert len(refusals._logged) == KINDS_KEPT_MAX


async def test_a_refused_path_is_answered_in_the_shape_of_the_api_that_was_meant(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:

        async def ask(method: str, path: str, **headers: str) -> tuple[int, dict, dict]:
            url = URL(harness.url + path, encoded=True)
            async with session.request(method, url, headers={"authorization": f"Bearer {ACME_KEY}"} | headers) as response:
                return response.status, await response.json(), dict(response.headers)

        status, body, _ = await ask("POST", "/v1/v1/chat/completions?key=hunter2")
        assert (status, body["error"]["code"]) == (404, "unknown_endpoint")
        assert body["error"]["message"] == (
            "This gateway has no endpoint POST /v1/v1/chat/completions. Did you mean POST /v1/chat/completions? "
            "The version stands twice in the path: set the client's base URL to http(s)://host/v1."
        )
        assert body["error"]["nearest"] == "POST /v1/chat/completions"

        status, body, _ = await ask("POST", "/v1/v1/messages")
        assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
        assert "POST /v1/messages? " in body["error"]["message"]
        assert body["error"]["message"].endswith("set the client's base URL to http(s)://host.")

        status, body, _ = await ask("POST", "/v1/v1beta/models/gemini-2.5-pro:generateContent")
        assert (status, body["error"]["status"]) == (404, "NOT_FOUND")

        status, body, headers = await ask("GET", "/v1/embeddings")
        assert (status, headers["Allow"]) == (405, "POST")
        assert "GET /v1/embeddings: this path takes POST. Did you mean POST /v1/embeddings?" in body["error"]["message"]

        status, body, _ = await ask("POST", "/v1/chat/%2e%2e/chat/completions")
        assert status == 400
        assert "dot segment. Asked was POST /v1/chat/../chat/completions." in body["error"]["message"]

        status, body, _ = await ask("POST", "/v1/videos")
        assert (status, body["error"]["code"]) == (403, "endpoint_not_enabled")
        assert "POST /v1/videos" in body["error"]["message"]

        assert (await ask("POST", f"/v1/{ACME_KEY}/chat/completions"))[0] == 404
        assert "organization acme" in caplog.text
        assert ACME_KEY not in caplog.text
        assert "hunter2" not in caplog.text
        assert not harness.ledger.records


async def test_a_path_that_cannot_be_explained_is_refused_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault in the explanation")

    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        monkeypatch.setattr(PathRefusals, "explained", fail)
        async with session.post(f"{harness.url}/v1/v1/messages", headers={"anthropic-version": "2023-06-01"}) as response:
            body = await response.json()

        assert (response.status, body["error"]["code"]) == (404, "unknown_endpoint")
        assert body["type"] == "error", "not in the shape of the caller's API"
        assert harness.metrics.counted[REFUSED] == [("other", "other", "other", "unknown_endpoint")]
        assert harness.metrics.levels[OPEN_REQUESTS] == 0
    assert "could not be explained" in caplog.text
    assert "a fault" not in str(body)
