"""Answers about videos: operations of Google's, and what xAI says of a request. Split at any byte they are read the same."""

import json
from typing import Any

import pytest
from splits import assert_split_invariant

from tallygate.dialects.dialect import JobKind, RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.dialects.video import video_facts, video_unit
from tallygate.domain.usage import Usage

NAME = "projects/my.org:p-1/locations/us-central1/publishers/google/models/veo-3.1-generate-001/operations/0a-1"
URI = "https://generativelanguage.googleapis.com/v1beta/files/abc:download?alt=media"
DONE = {"name": NAME, "done": True}
SAMPLE = {"video": {"uri": URI}}
INLINE = {"bytesBase64Encoded": "AAAA" * 2_000, "mimeType": "video/mp4"}


def asked(resolution: str | None, *, images_in: int = 0, videos: int = 2) -> RequestFacts:
    return video_facts(
        model="m", unit=video_unit(resolution), seconds=6, videos=videos, job_kind=JobKind.GEMINI_VIDEO, images_in=images_in
    )


@pytest.mark.parametrize(
    ("dialect", "facts", "answer", "usage", "job_id", "awaits", "failed"),
    [
        ("gemini_video", asked("1080p"), {"name": "models/m/operations/a"}, None, "models/m/operations/a", True, False),
        (
            "gemini_video",
            asked(None),
            {"name": "models/m/operations/a", "done": True, "response": {"generateVideoResponse": {"generatedSamples": [SAMPLE]}}},
            {"video_second:720p": 6},
            "models/m/operations/a",
            False,
            False,
        ),
        ("vertex_video", asked("4k"), DONE | {"response": {"videos": [INLINE] * 2}}, {"video_second:4k": 12}, NAME, False, False),
        (
            "vertex_video",
            asked("4k"),
            DONE | {"response": {"raiMediaFilteredCount": 2}},
            {"video_second:4k": 0},
            NAME,
            False,
            False,
        ),
        ("vertex_video", asked("4k"), DONE | {"error": {"code": 3}}, {"video_second:4k": 0}, NAME, False, True),
        ("gemini_video", asked("4k"), {"name": "models/../operations/a"}, None, None, False, False),
        ("xai_video", asked(None), {"request_id": "r-1"}, None, "r-1", True, False),
        ("xai_video", asked(None), {"status": "pending"}, None, None, True, False),
        (
            "xai_video",
            asked(None, images_in=1, videos=1),
            {"status": "done", "video": {"duration": 5.2}, "model": "m", "usage": {"cost_in_usd_ticks": 5_000_000_001}},
            {"video_second:480p": 6, "source_image": 1},
            None,
            False,
            False,
        ),
        ("xai_video", asked("720p", videos=1), {"status": "expired"}, {"video_second:720p": 0}, None, False, True),
    ],
)
def test_an_answer_says_what_came(
    dialect: str, facts: RequestFacts, answer: Any, usage: Any, job_id: str | None, awaits: bool, failed: bool
) -> None:
    body = json.dumps(answer).encode()
    metered = assert_split_invariant(dialects()[dialect], facts, body, content_type="application/json")
    assert metered.usage == (None if usage is None else Usage(usage))
    assert metered.stated_cost_nano_usd == (500_000_001 if "usage" in answer else None)
    meter = dialects()[dialect].meter(facts, content_type="application/json", hide_usage_chunk=False)
    meter.feed(body)
    meter.end_body()
    reading = meter.reading
    assert (reading.job_id, reading.awaits_final_usage, reading.failed, reading.ended) == (job_id, awaits, failed, True)


@pytest.mark.parametrize(
    "path",
    [
        "/download/v1beta/files/a:download",
        "/v1beta/models/m/operations/a",
        "/v1beta1/projects/p/locations/l/publishers/google/models/m:fetchPredictOperation",
        "/v1/publishers/google/models/m:fetchPredictOperation",
    ],
)
def test_a_path_that_no_dialect_reads_is_google_s_by_its_beginning(path: str) -> None:
    """So that the operator's key goes up in Google's header, and refusals have Google's shape, whatever header the client sent."""
    assert dialects().unmetered(path, {}).key_header == "x-goog-api-key"
