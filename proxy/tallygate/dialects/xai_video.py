"""xAI's videos (Imagine): a request is answered with its id, under which the video is asked for until it is done.

Sources: docs.x.ai, "Video Generation" and the REST reference of `/v1/videos/generations` and `/v1/videos/{request_id}`: `duration`
of 1 to 15 seconds, 8 where none is given; `resolution`, 480p where none is; the status `pending`, `done`, `expired` or `failed`;
`video.duration`. "Cost tracking": `usage.cost_in_usd_ticks`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.billed_members import read_billed
from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import JobKind, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.lenient import lenient_decode, member, name_or_none
from tallygate.dialects.meters import JsonMeter, UnreadMeter
from tallygate.dialects.openai_required import required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import stored_references
from tallygate.dialects.video import SECONDS_MAX, VIDEOS_MAX, generated, number_up_to, video_facts, video_unit
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import RequestRejectedError

DEFAULT_SECONDS: Final = 8
DEFAULT_RESOLUTION: Final = "480p"
_IMAGES: Final = ("image", "last_frame", "reference_images", "keyframes")
_KNOWN: Final = ("model", "duration", "resolution", "n", "video", *_IMAGES)
_RUNNING: Final = frozenset({"pending", "queued", "processing", "in_progress"})
_OVER: Final = frozenset({"expired", "failed"})
_ANYTHING: Final = msgspec.json.Decoder()


class XaiVideo(OpenAiShape):
    """POST /v1/videos/generations."""

    name = "xai_video"
    generates = False
    usage_reporting = UsageReporting.NOT_PROMISED

    def __init__(self) -> None:
        self._requests = msgspec.json.Decoder(dict[str, Any])
        self._vocabulary = Vocabulary(_KNOWN)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        parsed = parse_body(body, self._requests)
        self._vocabulary.check(parsed)
        request = parsed.fields
        model = required_model(name_or_none(request.get("model")))
        if request.get("video") is not None:
            raise RequestRejectedError("'video' names one whose length is not known here: leave it out.", param="video")
        return video_facts(
            model=model,
            unit=video_unit(request.get("resolution")),
            seconds=number_up_to(SECONDS_MAX, request.get("duration"), "duration") or DEFAULT_SECONDS,
            videos=number_up_to(VIDEOS_MAX, request.get("n"), "n") or 1,
            images_in=sum([_count(request.get(name)) for name in _IMAGES]),
            job_kind=JobKind.XAI_VIDEO,
            references=stored_references(request),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(content_type, stream=False, events=UnreadMeter, whole=lambda: XaiVideoMeter(facts))


class XaiVideoMeter(JsonMeter):
    """Reads the id of a request that was accepted, or what has become of it."""

    __slots__ = ("_facts",)

    def __init__(self, facts: RequestFacts) -> None:
        super().__init__()
        self._facts = facts

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, _ANYTHING)
        if not isinstance(answer, dict):
            return False
        reading, asked, status = self.reading, name_or_none(answer.get("request_id")), answer.get("status")
        video, usage = answer.get("video"), answer.get("usage")
        if isinstance(video, dict) and status in (None, "done"):
            seconds = member(video, "duration")
            whole = -int(-seconds // 1) if isinstance(seconds, int | float) and 0 < seconds <= SECONDS_MAX else None
            reading.usage = generated(self._facts, self._facts.choices, resolution=DEFAULT_RESOLUTION, seconds=whole)
            reading.ended = True
        elif status in _OVER or answer.get("error"):
            reading.failed = reading.ended = True
            reading.usage = generated(self._facts, 0, resolution=DEFAULT_RESOLUTION)
        elif asked is not None or status in _RUNNING:
            reading.ended = reading.awaits_final_usage = True
        reading.job_id = asked
        reading.response_model = name_or_none(answer.get("model"))
        if isinstance(usage, dict):
            read_billed(reading, usage)
        return True


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else int(value is not None)
