"""Targets that different servers read differently reach no endpoint, and a key in the query goes nowhere."""

import asyncio
from pathlib import Path

from gateway_harness import ACME_KEY, BIG_KEY, running_gateway
from log_recorder import LogRecorder
from raw_client import CHAT, KEY, RawClient, chat, connected, converse

REFUSED = [
    *("http://evil.example@gateway/v1/models", "http:///v1/models", "http://gateway:x/v1/models", "ftp://gateway/v1/models"),
    *("http://gateway//v1/models", "http://gateway/v1/../v1/models", "http://gateway/v1/models#CANARY", "http:/v1/models"),
    *("http://gateway", "http://gateway?/v1/models", "http://gateway,evil.example/v1/models", "http://http://gateway/v1/models"),
    *("gateway:443", "evil.example", "*", "//evil.example/v1/models", "/", "", "?", "#", "/v1/models#CANARY"),
    *("/v1/%2e%2e/v1/models", "/v1/%2E%2E/v1/models", "/x/../v1/models", "/./v1/models", "/v1/./models", "/v1/models/.."),
    *("/v1/models/%2e", "/v1/models/..", "/v1/models/.%2e/x", "/v1/models/..;a=b", "/..%2fv1/models", "/v1%2fmodels"),
    *("/v1%2Fmodels", "/v1%5cmodels", "/v1\\models", "/v1/models%00", "/v1/models%0d%0aX:%20y", "/v1/models%252e%252e"),
    *("//v1/models", "/v1//models", "/v1/models/", "/V1/models", "/v1/Models", "/v1/models;a=b", "/v1;a/models", "/v1/models%20"),
    *("/%76%31/models", "/v1/model%73", "/metrics", "/admin", "/_sim/ledger", "/_sim/reset", "/v1/models//x", "/oauth2/token"),
    *("/v1/models/%68%74%74%70%3a%2f%2fevil", "/v1/models/" + "a" * 201, "/v1/models/a b", "/v1/models/%zz", "/v1/models/caf\xe9"),
    *(
        "/v1/models/a/../b",
        "/v1/models/a%2f..%2fb",
        "/v1/models/a%2F%2e",
        "/v1/models/a%2f%2fb",
        "/v1/models/a%2F",
        "/v1/models/%2fa",
    ),
    *("/v1/responses/a%2Finput_items", "/v1/responses/a/b", "/v1%2fmodels/a", "/v1/files/a%2Fb", "/v1/models/a%255cb/c"),
    *("/v1/chat/completions", "/v1/chat/completions/x/../../../models", "/v1/models|x", "/v1/models<x>", "/v1/{models}"),
]


def get(target: str, headers: bytes = KEY) -> bytes:
    return b"GET " + target.encode("latin-1") + b" HTTP/1.1\r\nHost: gateway\r\n" + headers + b"\r\n"


async def test_a_target_that_is_not_plainly_an_endpoint_reaches_none(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        found = await asyncio.gather(*[converse(harness.port, get(target)) for target in REFUSED])
        statuses = {target: [answer.status for answer in one.answers()] for target, one in zip(REFUSED, found, strict=True)}

        assert {target: got for target, got in statuses.items() if got not in ([400], [404], [405])} == {}
        assert not harness.ledger.records
        assert not any(b"evil" in one.data or b"CANARY" in one.data for one in found)


async def test_the_plain_target_is_served(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        answers = (await converse(harness.port, get("/v1/models"))).answers()

        assert [answer.status for answer in answers] == [200]
        assert harness.ledger.records[0].path == "/v1/models"


async def test_a_target_that_is_a_url_is_taken_for_its_path(tmp_path: Path) -> None:
    """RFC 9112 section 3.2.2: it must be accepted, and its authority counts instead of the Host."""
    urls = ["http://gateway/v1/models", "https://evil.example:444/v1/models", "HTTP://[::1]/v1/models?after=a/b://c"]
    async with running_gateway(tmp_path) as harness:
        requests = [get(url) for url in urls]
        requests += [get(urls[0]).replace(b"Host: gateway", b"Host:"), get(urls[0]).replace(b"1.1\r\nHost: gateway", b"1.0")]
        async with connected(harness.port) as client:
            await client.send(b"".join(requests[:2]) + requests[2].replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            together = await client.read_to_close(30)
        apart = [await converse(harness.port, request[:30], request[30:]) for request in requests[3:]]

        assert [answer.status for one in (together, *apart) for answer in one.answers()] == [200] * len(requests)
        assert {record.path for record in harness.ledger.records} == {"/v1/models"}
        assert len(harness.ledger.records) == len(requests)
        post = chat().replace(b"POST /", b"POST http://gateway/", 1)
        assert [answer.status for answer in (await converse(harness.port, post + post)).answers()] == [200, 200]
        for wrong in (b"Host: a b", b"Host: gateway\r\nHost: gateway", b"X: y"):
            (answer,) = (await converse(harness.port, get(urls[0]).replace(b"Host: gateway", wrong))).answers()
            assert (answer.status, answer.code) == (400, "invalid_request")
        assert len(harness.ledger.records) == len(requests) + 2


async def test_a_server_that_is_asked_about_nothing_says_that_it_is_there(tmp_path: Path) -> None:
    """RFC 9110 section 9.3.7, RFC 9112 section 3.2.4."""
    async with running_gateway(tmp_path) as harness:
        for target in ("*", "http://gateway"):
            (answer,) = (await converse(harness.port, get(target).replace(b"GET", b"OPTIONS", 1))).answers()
            assert (answer.status, answer.body) == (204, b"")
        assert not harness.ledger.records


async def test_a_host_of_the_clients_choice_goes_nowhere(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        request = b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n" + KEY + b"\r\n"
        assert (await converse(harness.port, request)).answers()[0].status == 200
        assert len(harness.ledger.records) == 1  # at the configured upstream


async def test_a_key_in_the_query_authenticates_and_is_neither_forwarded_nor_logged(tmp_path: Path, log: LogRecorder) -> None:
    async with running_gateway(tmp_path) as harness:
        path = f"/v1/chat/completions?key={ACME_KEY}"
        assert (await converse(harness.port, chat(CHAT, headers=b"", path=path))).only().status == 200
        (served,) = harness.ledger.records
        assert not served.has_gateway_key
        assert served.credential_headers == ()
        assert ACME_KEY not in str(harness.events())
        assert not any("acmesecret" in line for line in log.lines)


async def test_an_encoded_query_key_is_no_key_and_is_not_forwarded(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for name in ("%6bey", "ke%79", "KEY", "%4BEY", "api_key", "access_token", "x;key"):
            path = f"/v1/models?{name}={ACME_KEY}"
            found = await converse(harness.port, get(path, b""))
            assert found.answers()[0].status == 401, name
            found = await converse(harness.port, get(path.replace(ACME_KEY, BIG_KEY), KEY))
            assert found.answers()[0].status in {200, 401}, name
            assert BIG_KEY.encode() not in found.data
        assert not harness.ledger.totals.gateway_keys_seen


async def test_two_different_keys_are_refused_wherever_they_stand(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        big = BIG_KEY.encode()
        for request in (
            get(f"/v1/models?key={BIG_KEY}"),
            get(f"/v1/models?key={BIG_KEY}&key={ACME_KEY}", b""),
            get(f"/v1/models?key={BIG_KEY}&key={ACME_KEY}"),
            get("/v1/models", KEY + b"x-api-key: " + big + b"\r\n"),
            get("/v1/models", KEY + b"x-goog-api-key: " + big + b"\r\n"),
            get("/v1/models", KEY + b"api-key: " + big + b"\r\n"),
            get("/v1/models", b"x-api-key: " + big + b"\r\nx-goog-api-key: " + ACME_KEY.encode() + b"\r\n"),
        ):
            (answer,) = (await converse(harness.port, request)).answers()
            assert (answer.status, answer.code) == (401, "invalid_api_key"), request
        assert not harness.ledger.records


async def test_methods_that_are_no_endpoints_do_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for method, target, status in (
            ("HEAD", "/v1/embeddings", 405),
            ("OPTIONS", "/v1/models", 204),
            ("OPTIONS", "*", 204),
            ("TRACE", "/v1/models", 405),
            ("CONNECT", "gateway:443", 400),
            ("CONNECT", "/v1/models", 405),
            ("PUT", "/v1/models", 405),
            ("PATCH", "/v1/chat/completions", 405),
            ("BREW", "/v1/models", 501),
            ("PROPFIND", "/v1/models", 501),  # which the parser knows
            ("get", "/v1/models", 501),
            ("GET", "/v1/embeddings", 405),
            ("DELETE", "/v1/nothing", 404),
        ):
            request = get(target).replace(b"GET", method.encode(), 1)
            found = await converse(harness.port, request)
            (answer,) = found.answers(b"HEAD" if method == "HEAD" else b"GET")
            assert answer.status in {status, 400}, (method, target, answer.status)
            assert answer.header("access-control-allow-origin") is None
            if answer.status == 405:
                assert answer.header("allow")
            if method == "HEAD":
                assert found.data.endswith(b"\r\n\r\n")
        assert not harness.ledger.records


async def test_head_is_answered_as_get_without_its_body(tmp_path: Path) -> None:
    """RFC 9110 section 9.3.2: the same head, and a length only if GET has that one."""
    async with running_gateway(tmp_path) as harness:
        for path in ("/v1/models", "/v1/models/org/name", "/v1/models/org%2Fname"):
            read = (await converse(harness.port, get(path))).answers()[0]
            found = await converse(harness.port, get(path).replace(b"GET", b"HEAD", 1))
            (told,) = found.answers(b"HEAD")

            assert (told.status, told.body) == (200, b"")
            assert found.data.endswith(b"\r\n\r\n")
            assert told.header("content-type") == read.header("content-type")
            assert told.header("content-length") == read.header("content-length")
        assert [record.method for record in harness.ledger.records] == ["GET", "HEAD"] * 3
        assert harness.ledger.records[-1].path == "/v1/models/org%2Fname"
        assert [event["method"] for event in harness.events()] == ["GET", "HEAD"] * 3


async def test_a_connection_serves_on_after_a_head_request(tmp_path: Path) -> None:
    """HEAD has no body in its answer: were there one, it would be taken for the next answer."""
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        for path, status in (("/v1/models", b"200"), ("/v1/nothing", b"404"), ("/v1/chat/completions", b"405")):
            await client.send(get(path).replace(b"GET", b"HEAD", 1))
            assert status in (await client.read_until(b"\r\n\r\n")).partition(b"\r\n")[0]
        await client.send(get("/v1/models"))
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_client_that_expects_100_continue_gets_it_once_it_is_welcome(tmp_path: Path) -> None:
    head, _, body = chat(headers=KEY + b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(head + b"\r\n\r\n")
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(body)
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")
        async with connected(harness.port) as client:
            await client.send(head.replace(b"acmesecret", b"wrong") + b"\r\n\r\n")
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 401")
        async with connected(harness.port) as client:
            await client.send(head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n" + body)
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")
        async with connected(harness.port) as client:
            await client.send(head.replace(b"100-continue", b"a miracle") + b"\r\n\r\n")
            assert (await status_of(client)) == 417


async def status_of(client: RawClient) -> int:
    return int((await client.read_until(b"\r\n")).split()[1])
