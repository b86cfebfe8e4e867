"""The OpenAPI document as a page to read: HTML without script, in the style of the usage page."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>The API · tallygate</title>
<link rel="stylesheet" href="/page/style.css">
<link rel="stylesheet" href="/page/docs.css">
</head>
<body class="docs">
"""
_TAGS: Final = {
    "usage": "Usage, spend and limits",
    "openai": "In OpenAI's shape",
    "export": "Exports and invoices",
    "directory": "What queries can name",
    "organizations": "Organizations",
    "credentials": "Credentials",
    "objects": "Stored objects",
    "tokens": "Admin tokens",
    "audit": "The log of changes",
    "session": "Signing in",
    "document": "This document",
}
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": "at least {:,}",
    "maximum": "at most {:,}",
    "maxLength": "at most {:,} characters",
    "maxItems": "at most {:,}",
}


def document_page(document: Mapping[str, Any]) -> str:
    """A section for each endpoint, by kind, then one for each shape of a body or an answer."""
    operations = [
        (method.upper(), path, operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    ]
    tags = [*dict.fromkeys([*_TAGS, *(operation["tags"][0] for _, _, operation in operations)])]
    grouped = [(tag, [each for each in operations if each[2]["tags"][0] == tag]) for tag in tags]
    parts = [
        _HEAD,
        f"<header><h1>The API of {escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        f"<p>{_text(document['info']['description'])}</p>",
        '<p>Also as <a href="/api/openapi.json">OpenAPI</a>, for programs. <a href="/">To the usage page</a></p></header>',
        '<nav aria-label="Endpoints">',
    ]
    for tag, listed in grouped:
        if listed:
            links = "".join(
                f'<li><a href="#{_anchor(method, path)}"><code>{method}</code> {escape(path)}</a></li>'
                for method, path, _ in listed
            )
            parts.append(f"<h2>{escape(_TAGS.get(tag, tag))}</h2><ul>{links}</ul>")
    parts.append("</nav><main>")
    for _, listed in grouped:
        parts += [_operation(method, path, operation) for method, path, operation in listed]
    parts += [_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f'<section id="{_anchor(method, path)}"><h2><code>{method}</code> {escape(path)}</h2><p>{_text(operation["summary"])}</p>'
    ]
    if operation.get("security") == []:
        parts.append("<p>It needs no token.</p>")
    if operation["parameters"]:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>{' (in the path)' if each['in'] == 'path' else ''}",
                _type(each["schema"]),
                _text(each["description"]) + _default(each),
            )
            for each in operation["parameters"]
        ]
        parts.append(_table(("Parameter", "Value", ""), rows))
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body: {_content(body['content'])}</p>")
    rows = [
        (f"<code>{escape(status)}</code>", _content(answer["content"]), _text(answer["description"]))
        for status, answer in operation["responses"].items()
    ]
    parts.append(_table(("Status", "Answer", ""), rows))
    return "".join([*parts, "</section>"])


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    parts = [f'<section id="{_shape_anchor(name)}"><h2>{escape(name)}</h2>']
    if description := schema.get("description"):
        parts.append(f"<p class=about>{_text(description)}</p>")
    if properties := schema.get("properties"):
        required = set(schema.get("required", ()))
        rows = [
            (
                f"<code>{escape(key)}</code>{'' if key in required else ' (may be left out)'}",
                _type(of_key),
                _text(of_key.get("description", "")),
            )
            for key, of_key in properties.items()
        ]
        parts.append(_table(("Member", "Value", ""), rows))
    elif "properties" not in schema:
        parts.append(f"<p>{_type(schema)}</p>")
    return "".join([*parts, "</section>"])


def _content(content: Mapping[str, Any]) -> str:
    found = []
    for media, described in content.items():
        shape = _type(described["schema"]) if described["schema"] else ""
        found.append(shape if shape and media == "application/json" else f"<code>{escape(media)}</code>")
    return ", ".join(found)


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in words, with links to shapes."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f'<a href="#{_shape_anchor(name)}">{escape(name)}</a>'
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(map(_type, options)))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_bounds(schema)}"
    if kind == "object":
        return f"object of {_type(schema['additionalProperties'])}" if schema.get("additionalProperties") else "object"
    return escape(schema.get("format", str(kind))) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    found = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    return f" ({', '.join(found)})" if found else ""


def _default(parameter: Mapping[str, Any]) -> str:
    default = parameter["schema"].get("default")
    needed = " Required." if parameter["required"] and parameter["in"] != "path" else ""
    return needed if default in {None, ""} else f"{needed} Default: <code>{escape(str(default))}</code>."


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(["<table><thead>", _row("th", head), "</thead><tbody>", *(_row("td", row) for row in rows), "</tbody></table>"])


def _row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{text}</{cell}>' for text in texts)}</tr>"


def _text(text: str) -> str:
    """Prose: what stands between backticks is code."""
    return "".join(_pieces(escape(text)))


def _pieces(text: str) -> Iterator[str]:
    for index, piece in enumerate(text.split("`")):
        yield f"<code>{piece}</code>" if index % 2 else piece


def _anchor(method: str, path: str) -> str:
    return f"{method.lower()}{path.replace('/', '-').replace('{', '').replace('}', '')}"


def _shape_anchor(name: str) -> str:
    return f"shape-{name}"
