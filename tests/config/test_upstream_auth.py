"""What authentication goes up."""

import pytest
from multidict import CIMultiDict

from tallygate.config.model import AuthKind, UpstreamAuth
from tallygate.dialects.registry import dialects
from tallygate.gateway.oauth2_token import OAuth2Token
from tallygate.gateway.upstream_auth import UpstreamAuthError, UpstreamCredentials
from tallygate.http1.upstream_failure import FailureKind
from tallygate.outbound.session import FetchError

DIALECTS = dialects()


async def sent(auth: UpstreamAuth, headers=(), dialect: str | None = "openai_chat", query_key: str = "", path: str = "/v1/files"):
    """What goes up at a route with a dialect, or at a path without one."""
    client = CIMultiDict(headers)
    spoken = DIALECTS.unmetered(path, client) if dialect is None else DIALECTS[dialect]
    return await UpstreamCredentials(auth).headers(client, spoken, query_key)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Authorization", "Bearer sk-own"), ("x-api-key", "sk-ant-own"), ("X-Goog-Api-Key", "AIza-own")],
)
async def test_the_clients_own_key_passes_through_in_its_own_header(name: str, value: str) -> None:
    assert await sent(UpstreamAuth(), [(name, value)]) == [(name.lower().encode(), value.encode())]


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer tg_acme_secret")],
        [("authorization", "bearer  tg_acme_secret ")],
        [("x-api-key", "tg_acme_secret")],
        [("x-goog-api-key", " tg_acme_secret")],
        [("Authorization", "Bearer tg_acme_secret trailing")],
        [],
    ],
)
async def test_a_key_that_tallygate_issued_never_goes_up(headers) -> None:
    assert await sent(UpstreamAuth(), headers) == []
    assert await sent(UpstreamAuth(), headers, query_key="tg_acme_secret") == []


async def test_one_secret_goes_up_in_the_header_of_each_requests_dialect() -> None:
    credentials = UpstreamCredentials(UpstreamAuth(kind=AuthKind.BEARER, secret="s3"))
    for dialect, header in [("openai_chat", (b"authorization", b"Bearer s3")), ("anthropic_messages", (b"x-api-key", b"s3"))] * 2:
        assert await credentials.headers(CIMultiDict(), DIALECTS[dialect]) == [header]


async def test_an_own_key_in_the_query_passes_through_in_a_header() -> None:
    assert await sent(UpstreamAuth(), query_key="AIza-own") == [(b"x-goog-api-key", b"AIza-own")]


@pytest.mark.parametrize(
    ("dialect", "header"),
    [
        ("openai_chat", b"authorization"),
        ("gloo_chat", b"authorization"),
        ("anthropic_messages", b"x-api-key"),
        ("gemini_stream_generate", b"x-goog-api-key"),
    ],
)
async def test_a_secret_goes_up_in_the_header_of_the_dialect_in_place_of_the_clients_key(dialect: str, header: bytes) -> None:
    auth = UpstreamAuth(kind=AuthKind.BEARER, secret="up")
    value = b"Bearer up" if header == b"authorization" else b"up"

    assert await sent(auth, [("Authorization", "Bearer sk-own"), ("x-api-key", "sk-own")], dialect) == [(header, value)]


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("x-api-key", (b"authorization", b"Bearer up")),  # Anthropic's clients say by a header that they are
        ("x-goog-api-key", (b"x-goog-api-key", b"up")),
        ("api-key", (b"api-key", b"up")),
        ("Authorization", (b"authorization", b"Bearer up")),
        ("cookie", (b"authorization", b"Bearer up")),
    ],
)
async def test_without_a_dialect_the_header_is_the_one_that_the_client_used(client: str, expected) -> None:
    assert await sent(UpstreamAuth(kind=AuthKind.BEARER, secret="up"), [(client, "tg_a_b")], None) == [expected]


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/engine/v2/items", b"authorization"),
        ("/openai/files", b"api-key"),
        ("/v1beta/files", b"x-goog-api-key"),
        ("/v1beta/openai/files", b"authorization"),  # Google's compatibility with OpenAI's API
    ],
)
async def test_the_api_of_a_path_without_a_dialect_says_the_header(path: str, header: bytes) -> None:
    for more in ([], [("anthropic-version", "2023-06-01")] if path != "/v1beta/openai/files" else []):
        client = [("x-api-key", "tg_a_b"), *more]
        ((name, _),) = await sent(UpstreamAuth(kind=AuthKind.BEARER, secret="up"), client, None, path=path)
        assert name == header


async def test_anthropics_clients_are_known_by_their_version() -> None:
    told = [("x-api-key", "tg_a_b"), ("anthropic-version", "2023-06-01")]
    assert await sent(UpstreamAuth(kind=AuthKind.BEARER, secret="up"), told, None) == [(b"x-api-key", b"up")]


async def test_a_configured_header_wins() -> None:
    auth = UpstreamAuth(kind=AuthKind.BEARER, secret="up", header="x-api-key")
    assert await sent(auth, dialect="gemini_generate") == [(b"x-api-key", b"up")]


class FakeToken(OAuth2Token):
    def __init__(self, token: str | None) -> None:
        self.token = token
        self.refused = self.accepted = ""

    async def get(self) -> str:
        if self.token is None:
            raise FetchError("the authorization server answered 500")
        return self.token

    def refuse(self, token: str) -> bool:
        self.refused = token
        return True

    def accept(self, token: str) -> None:
        self.accepted = token


OAUTH = UpstreamAuth(kind=AuthKind.OAUTH2_CLIENT_CREDENTIALS, token_url="https://x.example.com", client_id="c", secret="s")


async def test_a_fetched_token_goes_up_as_a_bearer_token_whatever_the_dialect() -> None:
    credentials = UpstreamCredentials(OAUTH, FakeToken("t0ken"))
    assert await credentials.headers(CIMultiDict(), DIALECTS["anthropic_messages"]) == [(b"authorization", b"Bearer t0ken")]


async def test_a_token_that_cannot_be_had_is_an_upstream_failure_that_tells_no_details() -> None:
    with pytest.raises(UpstreamAuthError) as caught:
        await UpstreamCredentials(OAUTH, FakeToken(None)).headers(CIMultiDict(), DIALECTS["openai_chat"])

    failure = caught.value.failure
    assert (failure.kind, failure.request_sent, failure.code.status) == (FailureKind.UNREACHABLE, False, 502)
    assert failure.message == "the gateway could not authenticate itself"  # it ends a sentence of the refusal


def test_a_401_from_the_upstream_gives_the_token_up_where_there_is_one() -> None:
    token = FakeToken("t")
    credentials = UpstreamCredentials(OAUTH, token)
    credentials.accepted([(b"authorization", b"Bearer t")])
    assert credentials.refused([(b"authorization", b"Bearer u")])
    assert (token.accepted, token.refused) == ("t", "u")
    assert not UpstreamCredentials(UpstreamAuth(kind=AuthKind.BEARER, secret="s")).refused([])


def test_oauth_needs_a_token_source() -> None:
    with pytest.raises(ValueError, match="token source"):
        UpstreamCredentials(OAUTH)
