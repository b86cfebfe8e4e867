"""The reader of recorded answers, and the arithmetic of our counts beside the providers'."""

import base64
import gzip
import json
from pathlib import Path

import pytest

from bench.counting import compare, without_usage
from bench.recordings import Passed, Recording, read_recordings

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hi."}]}
ANSWER = {
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
CHAT = "https://api.openai.com/v1/chat/completions"
FORMS = {
    "python.yaml": f"""
interactions:
- request: {{method: POST, uri: '{CHAT}', body: '{json.dumps(REQUEST)}'}}
  response: {{status: {{code: 200}}, headers: {{Content-Type: [application/json]}}, body: {{string: '{json.dumps(ANSWER)}'}}}}
""",
    "parsed.yaml": f"""
interactions:
- request: {{method: POST, uri: '{CHAT}', parsed_body: {json.dumps(REQUEST)}}}
  response: {{status: {{code: 200}}, headers: {{content-type: [application/json]}}, parsed_body: {json.dumps(ANSWER)}}}
""",
    "ruby.yml": f"""
http_interactions:
- request: {{method: post, uri: '{CHAT}', body: {{encoding: UTF-8, string: '{json.dumps(REQUEST)}'}}}}
  response:
    status: {{code: 200, message: OK}}
    headers: {{Content-Type: [application/json]}}
    body: {{encoding: ASCII-8BIT, string: !binary '{base64.b64encode(json.dumps(ANSWER).encode()).decode()}'}}
recorded_at: 2026-01-01
""",
    "go.yaml": f"""
version: 2
interactions:
- id: 0
  request: {{method: POST, url: '{CHAT}', body: '{json.dumps(REQUEST)}'}}
  response: {{code: 200, status: 200 OK, headers: {{Content-Type: [application/json]}}, body: '{json.dumps(ANSWER)}'}}
""",
    "pair.json": json.dumps(
        {
            "request": {"url": CHAT, "body": json.dumps(REQUEST)},
            "response": {"status": {"code": 200}, "headers": {"Content-Type": "application/json"}, "body": json.dumps(ANSWER)},
        }
    ),
    "archive.json": json.dumps(
        {
            "log": {
                "entries": [
                    {
                        "request": {"url": CHAT, "postData": {"text": json.dumps(REQUEST)}},
                        "response": {
                            "status": 200,
                            "headers": [{"name": "content-type", "value": "application/json"}],
                            "content": {"encoding": "base64", "text": base64.b64encode(json.dumps(ANSWER).encode()).decode()},
                        },
                    }
                ]
            }
        }
    ),
}


def recording(answer: object, *, content_type: str = "application/json") -> Recording:
    return Recording(
        source="own",
        dialect="openai_chat",
        host="api.openai.com",
        path={},
        query={},
        request=json.dumps(REQUEST).encode(),
        status=200,
        content_type=content_type,
        answer=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
    )


@pytest.mark.parametrize("name", FORMS)
def test_every_recorder_s_form_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name])
    (found,) = read_recordings(tmp_path)
    assert (found.dialect, found.host, found.status, found.content_type) == (
        "openai_chat",
        "api.openai.com",
        200,
        "application/json",
    )
    assert found.request is not None
    assert json.loads(found.request) == REQUEST
    assert json.loads(found.answer) == ANSWER


def test_a_packed_answer_is_unpacked_and_gemini_s_model_is_in_the_path(tmp_path: Path) -> None:
    pair = {
        "request": {"url": "https://x.example/v1beta/models/gemini-2.5-pro:generateContent?key=k", "body": "{}"},
        "response": {"status": 200, "body": {"base64_string": base64.b64encode(gzip.compress(b'{"candidates":[]}')).decode()}},
    }
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps([pair]).encode()))
    (found,) = read_recordings(tmp_path)
    assert (found.dialect, found.path, found.query) == ("gemini_generate", {"model": "gemini-2.5-pro"}, {"key": "k"})
    assert found.answer == b'{"candidates":[]}'


def test_an_answer_alone_is_told_by_its_shape_and_lines_become_events(tmp_path: Path) -> None:
    (tmp_path / "chunks.txt").write_text('{"type":"message_start","message":{}}\n{"type":"message_stop"}\n')
    (tmp_path / "whole.json").write_text(json.dumps(ANSWER))
    stream, whole = read_recordings(tmp_path)
    assert (stream.dialect, stream.content_type, stream.request) == ("anthropic_messages", "text/event-stream", None)
    assert stream.answer.startswith(b'data: {"type":"message_start"')
    assert (whole.dialect, whole.content_type) == ("openai_chat", "application/json")


def test_what_cannot_be_read_is_counted_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("interactions: [")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnot gzip")
    (tmp_path / "other.json").write_text(
        json.dumps({"request": {"url": "https://x.example/v1/files", "body": ""}, "response": {"body": ""}})
    )
    passed = Passed()
    assert list(read_recordings(tmp_path, passed)) == []
    assert passed.reasons == {"file without an exchange": 1, "file too large or broken": 1, "exchange of no dialect": 1}


def test_usage_is_taken_out_of_an_answer_and_of_its_events() -> None:
    assert b"usage" not in without_usage(recording(ANSWER))
    stream = b'event: message_start\r\ndata: {"message":{"usage":{"input_tokens":1},"id":"m"}}\r\n\r\ndata: [DONE]\n\n'
    mute = without_usage(recording(stream, content_type="text/event-stream"))
    assert mute == b'event: message_start\ndata: {"message":{"id":"m"}}\n\ndata: [DONE]\n\n'


def test_a_count_stands_beside_what_the_provider_says() -> None:
    found = compare([recording(ANSWER), recording(ANSWER), recording({**ANSWER, "usage": None})])
    assert (found.read, found.without_truth) == (2, 1)
    (completion,), (prompt,) = found.completions, found.prompts
    assert (completion.vendor, completion.model, completion.kind) == ("OpenAI", "gpt-4o", "text")
    assert (completion.counted, completion.true, prompt.counted, prompt.true) == (2, 2, 10, 10)
