"""/docs: the OpenAPI document as a page, with every endpoint and shape, and nothing that runs or is loaded from elsewhere."""

import re
from collections import Counter
from html.parser import HTMLParser

from api_world import World

from tallygate.console.api_document import document
from tallygate.console.document_page import document_page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert not {name for name in given if name.startswith("on") or name == "style"}
        self.ids.update([given["id"] or ""] if given.get("id") else [])
        self.links += [given[name] or "" for name in ("href", "src") if name in given]
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def test_the_page_has_every_endpoint_parameter_and_shape_of_the_document(world: World) -> None:
    described = document(world.routes, version="1")
    page = Page(document_page(described))
    text = "".join(page.texts)

    assert page.open == []
    assert set(page.ids.values()) == {1}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in text
            assert operation["summary"].replace("`", "") in text
            assert all(parameter["name"] in text for parameter in operation["parameters"])
    for name, schema in described["components"]["schemas"].items():
        assert page.ids[f"shape-{name}"] == 1
        assert all(member in text for member in schema.get("properties", ()))
    assert {link for link in page.links if link.startswith("#")} <= {f"#{found}" for found in page.ids}
    assert "None" not in text
    assert "{'" not in text


async def test_the_page_is_served_without_a_token_under_a_policy_under_which_nothing_runs(world: World) -> None:
    assert world.session is not None
    async with world.session.get("/docs") as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = Page(text)
    assert not page.tags & {"script", "style", "iframe", "img"}
    assert not [link for link in page.links if re.match(r"[a-z]+:|//", link)]
    for sheet in ("/page/style.css", "/page/docs.css"):
        assert sheet in page.links
        async with world.session.get(sheet) as answer:
            assert answer.status == 200
