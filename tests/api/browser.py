"""A browser at the console, as far as its cookies go."""

from http.cookies import SimpleCookie
from typing import Any

from aiohttp import ClientResponse, ClientSession
from api_world import World

SAME = {"Sec-Fetch-Site": "same-origin"}


class Browser:
    """One browser: its cookie, and what the last Set-Cookie said of it."""

    def __init__(self, world: World, http: ClientSession) -> None:
        self.world = world
        self._http = http
        self.cookie = ""  # name=value
        self.set: Any = None

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Headers by their names with _ for -; as a page of the console asks, unless they say otherwise."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.raw(method, path, SAME | given, json=body)

    async def raw(self, method: str, path: str, headers: dict[str, str], **options: Any) -> tuple[int, Any]:
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        async with self._http.request(method, path, headers=cookie | headers, **options) as answer:
            self._take(answer)
            is_json = answer.content_type == "application/json" and answer.status != 204
            return answer.status, await (answer.json() if is_json else answer.text())

    def _take(self, answer: ClientResponse) -> None:
        for text in answer.headers.getall("Set-Cookie", ()):
            ((name, self.set),) = SimpleCookie(text).items()
            self.cookie = f"{name}={self.set.value}"

    async def sign_in(self, token: str) -> dict[str, Any]:
        status, found = await self("POST", "/api/session", {"token": token})
        assert status == 201, found
        return found
