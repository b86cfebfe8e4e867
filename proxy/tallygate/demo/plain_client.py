"""The demo's client where the openai SDK is not installed: of that SDK, the few calls that some kinds of traffic make.

It sends the same JSON to the same paths over aiohttp.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urljoin

from aiohttp import ClientSession, ClientTimeout

_WAIT: Final = ClientTimeout(total=60)


class PlainStatusError(Exception):
    """An answer that is no 2xx, with the SDK's names. body: the error object."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("message", status)))
        self.status_code, self.body = status, body
        self.code: str | None = body.get("code")


class PlainAnswer:
    """A whole answer; as a stream, its lines."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self.content.splitlines():
            yield line


class _Resource:
    def __init__(self, client: "PlainClient", path: str) -> None:
        self._client, self._path = client, path

    async def create(self, **body: Any) -> PlainAnswer:
        return await self._client.post(self._path, body=body)


class _Chat:
    def __init__(self, client: "PlainClient") -> None:
        self.completions = _Resource(client, "/chat/completions")


class _BaseUrl(str):
    __slots__ = ()

    def join(self, path: str) -> str:  # type: ignore[override]  # httpx.URL.join, which the SDK's address has
        return urljoin(self, path)


class PlainClient:
    """One caller. Close it at the end."""

    def __init__(self, *, base_url: str, api_key: str) -> None:
        self.base_url = _BaseUrl(base_url)
        self.chat = _Chat(self)
        self.responses = _Resource(self, "/responses")
        self.embeddings = _Resource(self, "/embeddings")
        self.moderations = _Resource(self, "/moderations")
        self._session = ClientSession(headers={"Authorization": f"Bearer {api_key}"}, timeout=_WAIT)

    async def post(self, path: str, *, body: object, cast_to: object = None) -> PlainAnswer:  # noqa: ARG002  # the SDK's signature
        """Send a body. path: below the base URL, or whole. Raises PlainStatusError."""
        async with self._session.post(path if "://" in path else f"{self.base_url}{path}", json=body) as answer:
            content = await answer.read()
        if not answer.ok:
            raise PlainStatusError(answer.status, _error_of(content))
        return PlainAnswer(content)

    async def close(self) -> None:
        await self._session.close()


def _error_of(content: bytes) -> dict[str, Any]:
    try:
        error = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    return error if isinstance(error, dict) else {"message": content.decode(errors="replace")}
