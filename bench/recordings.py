"""Recorded answers of providers, read from a directory of cassettes, so that our own counts can be held against theirs.

Known forms, whoever wrote them: VCR cassettes of Python, Ruby, R and Go (YAML or JSON, `interactions` or `http_interactions`), one
`{"request", "response"}` object a file, HTTP archives (`log.entries`), and bare answers: a JSON object, events, or one JSON
object a line. What cannot be read is passed over and counted; nothing is fetched.
"""

import base64
import binascii
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
import yaml

FILE_BYTES_MAX: Final = 16 << 20
BODY_BYTES_MAX: Final = 32 << 20  # decompressed
DEPTH_MAX: Final = 6  # below the top of a file; pairs of request and response lie not deeper
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json", ".jsonl", ".sse", ".txt", ".gz"})

# The end of a request's path, and the dialect that reads it.
_PATHS: Final = tuple(
    (re.compile(pattern), dialect)
    for pattern, dialect in (
        (r"/chat/completions$", "openai_chat"),
        (r"/responses$", "openai_responses"),
        (r"/fim/completions$", "mistral_fim"),
        (r"/completions$", "openai_completions"),
        (r"/embeddings$", "openai_embeddings"),
        (r"/v\d+/messages$", "anthropic_messages"),
        (r"/models/(?P<model>[^/:]+):generateContent$", "gemini_generate"),
        (r"/models/(?P<model>[^/:]+):streamGenerateContent$", "gemini_stream_generate"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One exchange as it went over the wire, bodies decompressed.

    source         the file, and the number of the exchange in it
    dialect        the name under which the registry of dialects has it
    host           of the provider; empty where only an answer was kept
    path, query    as a dialect's `read_request` takes them
    request        None where only an answer was kept
    content_type   of the answer; empty where it is not told
    """

    source: str
    dialect: str
    host: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    request: bytes | None
    status: int
    content_type: str
    answer: bytes


@dataclass(slots=True)
class Passed:
    """What was passed over, by reason."""

    reasons: Counter[str] = field(default_factory=Counter)


class _Loader(yaml.CSafeLoader):
    """YAML with other languages' tags: Ruby's binary strings are read, what else they name is read as the plain value it is."""


def _plain(loader: yaml.CSafeLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


_Loader.add_constructor("!binary", yaml.CSafeLoader.construct_yaml_binary)
_Loader.add_multi_constructor("!", _plain)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def read_recordings(directory: Path, passed: Passed | None = None) -> Iterator[Recording]:
    """Every recording below `directory` that a dialect can read, in the order of file names."""
    counts = (passed or Passed()).reasons
    for file in sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix.lower() in _SUFFIXES):
        content = _content(file)
        if content is None:
            counts["file too large or broken"] += 1
            continue
        name = str(file.relative_to(directory))
        found = False
        for number, pair in enumerate(_pairs(content, file)):
            found = True
            recording = _recording(pair, f"{name}#{number}")
            if recording is None:
                counts["exchange of no dialect"] += 1
            else:
                yield recording
        if not found:
            bare = _bare(content, name)
            if bare is None:
                counts["file without an exchange"] += 1
            else:
                yield bare


def _content(file: Path) -> bytes | None:
    if file.stat().st_size > FILE_BYTES_MAX:
        return None
    content = file.read_bytes()
    return _unpacked(content) if file.suffix.lower() == ".gz" else content


def _unpacked(content: bytes) -> bytes | None:
    """Gzip, deflate or plain bytes made plain; None past the maximum or where they are broken."""
    try:
        if content[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(BODY_BYTES_MAX + 1)
        elif content[:2] in (b"\x78\x9c", b"\x78\x01", b"\x78\xda"):
            content = zlib.decompressobj().decompress(content, BODY_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return content if len(content) <= BODY_BYTES_MAX else None


def _pairs(content: bytes, file: Path) -> Iterator[dict[str, Any]]:
    """Objects with a request and a response, wherever in the file they stand."""
    is_yaml = any(suffix.lower() in {".yaml", ".yml"} for suffix in file.suffixes)
    try:
        document = yaml.load(content, _Loader) if is_yaml else json.loads(content)  # a child of the safe one
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    yield from _pairs_in(document, DEPTH_MAX)


def _pairs_in(value: object, depth: int) -> Iterator[dict[str, Any]]:
    if not depth:
        return
    if isinstance(value, dict):
        if isinstance(value.get("request"), dict) and isinstance(value.get("response"), dict):
            yield value
            return
        for inner in value.values():
            yield from _pairs_in(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs_in(inner, depth - 1)


def _recording(pair: dict[str, Any], source: str) -> Recording | None:
    request, response = pair["request"], pair["response"]
    address = request.get("uri") or request.get("url")
    if not isinstance(address, str):
        return None
    try:
        place = urlsplit(address)
        host = place.hostname or ""
    except ValueError:
        return None
    asked, answer = _body(request), _body(response)
    if asked is None or answer is None:
        return None
    for pattern, dialect in _PATHS:
        found = pattern.search(place.path)
        if found is not None:
            return Recording(
                source=source,
                dialect=dialect,
                host=host,
                path=found.groupdict(),
                query=dict(parse_qsl(place.query)),
                request=asked,
                status=_status(response),
                content_type=_content_type(response, answer),
                answer=answer,
            )
    return None


def _body(message: dict[str, Any]) -> bytes | None:
    """A body in any of the forms in which recorders keep it; None if it has none."""
    for name in ("parsed_body", "body", "postData", "content"):
        value = message.get(name)
        if value is None:
            continue
        if name == "parsed_body" and not isinstance(value, str):
            return msgspec.json.encode(value)
        body = _body_bytes(value)
        if body is not None:
            return _unpacked(body)
    return None


def _body_bytes(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    if not isinstance(value, dict):
        return None
    packed = value.get("base64_string") or value.get("raw_gzip")
    if isinstance(packed, str) or (value.get("encoding") == "base64" and isinstance(packed := value.get("text"), str)):
        try:
            return base64.b64decode(packed)
        except (binascii.Error, ValueError):
            return None
    for name in ("string", "text"):
        if name in value:
            return _body_bytes(value[name])
    return None


def _status(response: dict[str, Any]) -> int:
    for name in ("status", "code", "status_code"):
        status = response.get(name)
        if isinstance(status, dict):
            status = status.get("code")
        if isinstance(status, int):
            return status
    return 0


def _content_type(response: dict[str, Any], answer: bytes) -> str:
    headers = response.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ((each.get("name"), each.get("value")) for each in headers or ())
    for name, value in pairs:
        if isinstance(name, str) and name.lower() == "content-type":
            told = value[0] if isinstance(value, list) and value else value
            return told if isinstance(told, str) else ""
    return _likely_type(answer)


def _likely_type(answer: bytes) -> str:
    start = answer.lstrip()[:6]
    if start.startswith((b"data:", b"event:", b":")):
        return "text/event-stream"
    return "application/json" if start.startswith((b"{", b"[")) else ""


def _bare(content: bytes, name: str) -> Recording | None:
    """An answer without its request: one JSON object, an event stream, or one JSON object a line, which become events."""
    content_type = _likely_type(content)
    if content_type == "application/json":
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) > 1 and all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
            content = b"".join(b"data: " + line + b"\n\n" for line in lines)
            content_type = "text/event-stream"
    dialect = _likely_dialect(content, is_stream=content_type == "text/event-stream")
    if dialect is None:
        return None
    return Recording(
        source=name,
        dialect=dialect,
        host="",
        path={},
        query={},
        request=None,
        status=200,
        content_type=content_type,
        answer=content,
    )


def _likely_dialect(content: bytes, *, is_stream: bool) -> str | None:
    """By members that only one API's answers have."""
    if b'"candidates"' in content and b'"usageMetadata"' in content:
        return "gemini_stream_generate" if is_stream else "gemini_generate"
    if b'"response.created"' in content or re.search(rb'"object"\s*:\s*"response"', content[:4096]):
        return "openai_responses"
    if b'"message_start"' in content or re.search(rb'"type"\s*:\s*"message"\s*,\s*"role"', content[:4096]):
        return "anthropic_messages"
    if b'"choices"' in content and (b'"delta"' in content or b'"message"' in content):
        return "openai_chat"
    return None
