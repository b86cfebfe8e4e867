"""The page at `/`: its files, and the headers under which nothing of anybody else's runs in it."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from api_world import World
from multidict import CIMultiDict

from tallygate.console.page_files import PageFiles

NAMES = sorted(file.name for file in (files("tallygate.console") / "page").iterdir() if file.is_file())
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


async def answer_of(world: World, path: str, method: str = "GET", **headers: str) -> tuple[int, CIMultiDict[str], str]:
    assert world.session is not None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.session.request(method, path, headers=given) as answer:
        return answer.status, answer.headers.copy(), await answer.text()


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in NAMES)])
async def test_every_file_is_served_under_a_policy_that_lets_nothing_else_run(world: World, path: str) -> None:
    status, headers, text = await answer_of(world, path)

    text = re.sub('="/page/[0-9a-f]{16}/', '="/page/', text)  # the version
    assert (status, text) == (200, (files("tallygate.console") / "page" / (path.rpartition("/")[2] or "index.html")).read_text())
    assert headers["Content-Type"].partition(";")[0] == TYPES[(path.rpartition(".")[2]) if path != "/" else "html"]
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "geolocation=()" in headers["Permissions-Policy"]
    assert "Server" not in headers


async def test_the_page_names_its_files_with_a_version_under_which_they_are_kept(world: World) -> None:
    _, _, page = await answer_of(world, "/")
    named = re.findall('="(/page/[^"]+)"', page)
    assert len(named) > 10
    for path in named:
        status, headers, text = await answer_of(world, path)
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert text == (files("tallygate.console") / "page" / path.rpartition("/")[2]).read_text()
    other = re.sub("[0-9a-f]{16}", "0" * 16, named[0])  # of a page that was opened before an update
    assert (await answer_of(world, other))[1]["Cache-Control"] == "no-cache"


def test_another_file_is_another_version() -> None:
    contents = {"index.html": b'<script src="/page/main.js">', "main.js": b"1"}
    assert PageFiles(contents).version == PageFiles(dict(contents)).version
    assert PageFiles(contents).version != PageFiles(contents | {"main.js": b"2"}).version


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
async def test_a_copy_is_good_until_the_file_changes(world: World, path: str) -> None:
    _, headers, text = await answer_of(world, path)

    for tag in (headers["ETag"], f'"old", W/{headers["ETag"]}', "*"):
        status, again, body = await answer_of(world, path, If_None_Match=tag)
        assert (status, body, again["ETag"], again["Cache-Control"]) == (304, "", headers["ETag"], "no-cache")
    assert (await answer_of(world, path, If_None_Match='"old"'))[::2] == (200, text)


async def test_a_file_is_packed_for_who_can_unpack_it(world: World) -> None:
    _, plain, text = await answer_of(world, "/page/main.js", Accept_Encoding="identity")
    _, packed, unpacked = await answer_of(world, "/page/main.js", Accept_Encoding="gzip")

    assert text == unpacked
    assert (plain.get("Content-Encoding"), packed["Content-Encoding"]) == (None, "gzip")
    assert int(packed["Content-Length"]) < int(plain["Content-Length"])
    assert plain["ETag"] != packed["ETag"]
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"


async def test_a_long_answer_of_the_api_is_packed_too(world: World) -> None:
    token = {"Authorization": "Bearer platform"}
    _, plain, text = await answer_of(world, "/api/openapi.json", Accept_Encoding="identity", **token)
    _, packed, unpacked = await answer_of(world, "/api/openapi.json", Accept_Encoding="gzip", **token)

    assert text == unpacked
    assert (plain.get("Content-Encoding"), packed["Content-Encoding"]) == (None, "gzip")
    assert int(packed["Content-Length"]) < int(plain["Content-Length"]) / 5
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"
    _, short, _ = await answer_of(world, "/api/sign-in", Accept_Encoding="gzip")
    assert "Content-Encoding" not in short


async def test_a_browser_under_a_foreign_name_is_told_what_to_set(world: World) -> None:
    status, headers, text = await answer_of(world, "/", Host="evil.example", Accept="text/html")
    assert (status, headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "TALLYGATE_CONSOLE_HOSTS" in text


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
async def test_head_has_the_head_alone(world: World, path: str) -> None:
    _, headers, _ = await answer_of(world, path)
    status, of_head, body = await answer_of(world, path, "HEAD")

    assert (status, body, of_head["Content-Length"], of_head["ETag"]) == (200, "", headers["Content-Length"], headers["ETag"])
    assert (await answer_of(world, path, "POST"))[0] == 405


PATHS = [
    "/page/nothing.js",
    "/page/",
    "/page/..%2fserver.py",
    "/page/%2e%2e/server.py",
    "/page/../server.py",
    "/index.html",
    "/page/__init__.py",
]


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_path_is_a_page_for_browsers_and_json_for_others(world: World, path: str) -> None:
    status, headers, text = await answer_of(world, path, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at this address" in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert json.loads((await answer_of(world, path))[2])["error"]["code"] == "unknown_path"


@pytest.mark.parametrize("path", ["/api/nothing", "/v1/nothing", "/api/session/nothing"])
async def test_an_unknown_path_of_the_api_has_the_shape_of_its_errors(world: World, path: str) -> None:
    status, body = await world.get(path)
    assert (status, body["error"]["code"], body["error"]["type"]) == (404, "unknown_path", "not_found_error")
    assert (await answer_of(world, path, Accept="text/html"))[1]["Content-Type"].startswith("application/json")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".html")])
def test_pages_have_nothing_inline_and_nothing_from_elsewhere(name: str) -> None:
    """The policy would not run it: what is written must not depend on it."""
    parser = _Elements()
    parser.feed((files("tallygate.console") / "page" / name).read_text())

    for tag, attributes in parser.found:
        assert tag != "style"
        assert tag != "script" or (attributes.get("src") or "").startswith("/page/")
        assert not [each for each in attributes if each == "style" or each.startswith("on")]
        assert not re.match(r"(?:\w+:)?//", attributes.get("src") or attributes.get("href") or "")
