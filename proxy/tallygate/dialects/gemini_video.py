"""Google's video models (Veo): `:predictLongRunning` answers with an operation, which names the videos once it is done.

Sources: Google, "Generate videos with Veo" (ai.google.dev/gemini-api/docs/video): `parameters.durationSeconds`, 8 where none is
given, `resolution`, 720p where none is; `response.generateVideoResponse.generatedSamples[].video.uri`. Google Cloud, "Veo on Vertex
AI API": `sampleCount`, `generateAudio`, `storageUri`; `:fetchPredictOperation`; `response.videos`; `raiMediaFilteredCount`. "Gemini
Developer API pricing", Veo: "You will only be charged if your video is successfully generated."
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import JobKind, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.gemini_generate import GeminiDialect
from tallygate.dialects.gemini_request import Json, check_body_model, path_model
from tallygate.dialects.lenient import items_of, lenient_decode, member
from tallygate.dialects.long_strings import WithoutLongStrings
from tallygate.dialects.meters import JsonMeter, UnreadMeter
from tallygate.dialects.references import folded, google_file, stored_references
from tallygate.dialects.video import SECONDS_MAX, VIDEOS_MAX, generated, number_up_to, video_facts, video_unit
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.stored_object import StoredKind, StoredReference

DEFAULT_SECONDS: Final = 8
DEFAULT_RESOLUTION: Final = "720p"
# What would be written, or told, under the operator's account, or read from its buckets.
_ELSEWHERE: Final = {"storageUri", "storage_uri", "pubsubTopic", "pubsub_topic"}
_BUCKETS: Final = {"gcsUri", "gcs_uri"}
_SECONDS: Final = ("durationSeconds", "duration_seconds")
_NUMBER: Final = ("sampleCount", "sample_count", "numberOfVideos", "number_of_videos")
_AUDIO: Final = ("generateAudio", "generate_audio")
_SPELLED: Final = frozenset({*_SECONDS, *_NUMBER, *_AUDIO, *_ELSEWHERE, *_BUCKETS, "resolution", "instances", "parameters", "uri"})
_BY_FOLD: Final = {folded(name): name for name in _SPELLED}
_LISTS: Final = ("generatedSamples", "generatedVideos", "videos")
_ANYTHING: Final = msgspec.json.Decoder()
_NAME: Final = re.compile(r"(?:(?!\.\.?/)[A-Za-z0-9._@:-]{1,128}/){1,12}operations/(?!\.\.?$)[A-Za-z0-9._@-]{1,128}", re.ASCII)


class GeminiVideo(GeminiDialect):
    """POST /v1beta/models/{model}:predictLongRunning, of the Gemini API."""

    name = "gemini_video"
    generates = False
    usage_reporting = UsageReporting.NOT_PROMISED

    __slots__ = ()

    _kind = JobKind.GEMINI_VIDEO
    _may_be_silent = False  # there every video has sound, or none does

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del query
        request = parse_body(body, self._requests).fields
        check_body_model(request, path)
        found = dict.fromkeys(stored_references(request))
        _read_names(request, "", found)
        parameters = request.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise RequestRejectedError("'parameters' must be an object.", param="parameters")
        for name in _ELSEWHERE & parameters.keys():
            message = f"'{name}' has to do with the account of this service: leave it out, and the answer has the videos."
            raise RequestRejectedError(message, param=f"parameters.{name}")
        silent = [parameters[name] is False for name in _AUDIO if name in parameters]
        return video_facts(
            model=path_model(path),
            unit=video_unit(parameters.get("resolution"), is_silent=self._may_be_silent and bool(silent) and all(silent)),
            seconds=_largest(parameters, _SECONDS, SECONDS_MAX) or DEFAULT_SECONDS,
            videos=(_largest(parameters, _NUMBER, VIDEOS_MAX) or 1) * max(len(items_of(request.get("instances"))), 1),
            job_kind=self._kind,
            references=tuple(found),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        whole = lambda: WithoutLongStrings(OperationMeter(facts))  # noqa: E731 - videos may stand in the answer, in base64
        return FirstBytes(content_type, stream=False, events=UnreadMeter, whole=whole)


class VertexVideo(GeminiVideo):
    """The same at Vertex AI, whose operations are asked for with `:fetchPredictOperation`, and whose videos may be silent."""

    name = "vertex_video"

    __slots__ = ()

    _kind = JobKind.VERTEX_VIDEO
    _may_be_silent = True


class OperationMeter(JsonMeter):
    """Reads an operation: its name, and once it is done the number of its videos."""

    __slots__ = ("_facts",)

    def __init__(self, facts: RequestFacts) -> None:
        super().__init__()
        self._facts = facts

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, _ANYTHING)
        if not isinstance(answer, dict):
            return False
        reading, name, error = self.reading, answer.get("name"), answer.get("error")
        if isinstance(name, str) and _NAME.fullmatch(name) is not None:
            reading.job_id = name
        reading.ended = True
        if answer.get("done") is not True:
            reading.awaits_final_usage = reading.job_id is not None
            return True
        number = 0 if error else _videos_in(answer.get("response"))
        reading.failed = bool(error)
        if number is not None:
            reading.usage = generated(self._facts, number, resolution=DEFAULT_RESOLUTION)
        return True


def _videos_in(response: object) -> int | None:
    """How many videos came; None where the answer does not tell. Those that were filtered out are not charged."""
    inner = member(response, "generateVideoResponse")
    holder = inner if isinstance(inner, dict) else response
    listed = [member(holder, name) for name in _LISTS]
    found = [each for each in listed if isinstance(each, list)]
    if found:
        return max(map(len, found))
    filtered = member(holder, "raiMediaFilteredCount")
    return 0 if isinstance(filtered, int) and filtered > 0 else None


def _largest(parameters: Json, names: Iterable[str], most: int) -> int:
    """The largest number that is given under any of these names; 0 for none. Raises RequestRejectedError."""
    return max([number_up_to(most, parameters.get(name), f"parameters.{name}") or 0 for name in names])


def _read_names(value: object, place: str, found: dict[StoredReference, None]) -> None:
    """Add the files that are named by URI. Raises RequestRejectedError.

    Refused are names that some servers would read as one of those that decide the price, and what lies in a bucket, which only the
    operator's account can read.
    """
    if isinstance(value, list):
        for each in value:
            _read_names(each, place, found)
    elif isinstance(value, dict):
        for name, inner in value.items():
            shown = f"{place}{name}"[:100]
            known = _BY_FOLD.get(folded(name))
            if known is not None and name not in _SPELLED:
                raise RequestRejectedError(f"Unknown member '{shown}': some servers would read it as '{known}'.", param=shown)
            is_bucket = isinstance(inner, str) and name != "prompt" and inner[:5].lower() == "gs://"
            if name in _BUCKETS or (is_bucket and name not in _ELSEWHERE):
                message = f"'{shown}' names an object of the account of this service: send the image or the video itself."
                raise RequestRejectedError(message, param=shown)
            if name == "uri" and isinstance(inner, str) and (file := google_file(inner)):
                found[StoredReference(StoredKind.FILE, file)] = None
            _read_names(inner, f"{shown}.", found)
