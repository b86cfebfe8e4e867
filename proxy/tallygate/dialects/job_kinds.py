"""What there is to know of work that an upstream goes on with: where it is asked for, how long it lasts, how often to ask.

Sources: OpenAI, "Background mode"; Azure OpenAI, "Responses API": `GET …/responses/{response_id}`, at Azure without a deployment.
OpenAI, "Batch API": `GET …/batches/{batch_id}`, a batch ends within a day; Microsoft, "Azure OpenAI batch": "we do not expire the
jobs that take longer". Anthropic, "Retrieve a Message Batch": it expires after 24 hours. Google, "Batch API": a job that has been
pending or running for more than 48 hours expires. Google, "Generate videos with Veo": `GET …/{operation.name}`, up to six minutes;
Google Cloud, "Veo on Vertex AI API": `POST …:fetchPredictOperation` with the operation's name. docs.x.ai, "Video Generation":
`GET /v1/videos/{request_id}`, up to several minutes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from tallygate.dialects.dialect import JobKind

_DAY_MS: Final = 86_400_000
_DEPLOYMENT: Final = re.compile(r"/deployments/[^/]+(?=/responses)")
_VERTEX_RESOURCE: Final = re.compile(r"/(?:projects|publishers)/")
VIDEOS: Final = frozenset({JobKind.GEMINI_VIDEO, JobKind.VERTEX_VIDEO, JobKind.XAI_VIDEO})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """target_of: path and query at which an upstream tells of it, from those of the request that began it, and its id.

    body_of      what is sent there, from its id; None: nothing, and it is a GET
    is_named     its answers bear its id; else they are known by their place alone
    lasts_ms     the longest that the upstream can take
    first_ms     between the first two polls, growing to `most_ms`
    """

    target_of: Callable[[str, str], str]
    lasts_ms: int
    first_ms: int
    most_ms: int
    body_of: Callable[[str], bytes] | None = None
    is_named: bool = True


def batch_target(created_at: str, batch_id: str) -> str:
    """The path and query of a batch, from those at which it was created."""
    path, mark, query = created_at.partition("?")
    return f"{path}/{quote(batch_id, safe='')}{mark}{query}"


def google_batch_target(created_at: str, name: str) -> str:
    """The path and query of a batch of the Gemini API, which is beside the models, from those at which it was created."""
    path, mark, query = created_at.partition("?")
    return f"{path.partition('/models/')[0]}/batches/{quote(name.removeprefix('batches/'), safe='')}{mark}{query}"


def response_target(created_at: str, response_id: str) -> str:
    """The path and query of a response, from those at which it was created."""
    path, mark, query = created_at.partition("?")
    return f"{_DEPLOYMENT.sub('', path)}/{quote(response_id, safe='')}{mark}{query}"


def operation_target(created_at: str, name: str) -> str:
    """The path and query of an operation of the Gemini API, whose name is a path below the version."""
    path, mark, query = created_at.partition("?")
    return f"{path.partition('/models/')[0]}/{name}{mark}{query}"


def fetched_operation_target(created_at: str, name: str) -> str:
    """The path and query at which Vertex AI is asked for an operation, which are those of its model."""
    path, mark, query = created_at.partition("?")
    return f"{_VERTEX_RESOURCE.split(path)[0]}/{name.rpartition('/operations/')[0]}:fetchPredictOperation{mark}{query}"


def fetched_operation(name: str) -> bytes:
    """What is sent there."""
    return msgspec.json.encode({"operationName": name})


def video_target(created_at: str, request_id: str) -> str:
    """The path and query of a video of xAI's, from those at which it was asked for."""
    path, mark, query = created_at.partition("?")
    return f"{path.rpartition('/')[0]}/{quote(request_id, safe='')}{mark}{query}"


JOB_FACTS: Final = {
    JobKind.RESPONSE: JobFacts(target_of=response_target, lasts_ms=_DAY_MS, first_ms=1_000, most_ms=30_000),
    JobKind.OPENAI_BATCH: JobFacts(target_of=batch_target, lasts_ms=7 * _DAY_MS, first_ms=10_000, most_ms=60_000),
    JobKind.ANTHROPIC_BATCH: JobFacts(target_of=batch_target, lasts_ms=2 * _DAY_MS, first_ms=10_000, most_ms=60_000),
    JobKind.GEMINI_BATCH: JobFacts(target_of=google_batch_target, lasts_ms=3 * _DAY_MS, first_ms=10_000, most_ms=60_000),
    JobKind.GEMINI_VIDEO: JobFacts(target_of=operation_target, lasts_ms=_DAY_MS, first_ms=5_000, most_ms=30_000),
    JobKind.VERTEX_VIDEO: JobFacts(
        target_of=fetched_operation_target, body_of=fetched_operation, lasts_ms=_DAY_MS, first_ms=5_000, most_ms=30_000
    ),
    JobKind.XAI_VIDEO: JobFacts(target_of=video_target, is_named=False, lasts_ms=_DAY_MS, first_ms=5_000, most_ms=30_000),
}
