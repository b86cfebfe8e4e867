"""Videos that a provider goes on to generate after its answer: charged by the second of what came, of its resolution.

They are held at the length that a request states, or at its default, at the dearest resolution that the request leaves open.
"""

import re
from typing import Final

from tallygate.dialects.dialect import JobKind, RequestFacts
from tallygate.dialects.gemini_request import whole_number
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.unit import AUTO, Unit
from tallygate.domain.usage import Usage

SECONDS_MAX: Final = 3_600  # of one video; no API generates more at once
VIDEOS_MAX: Final = 100  # of one request
_RESOLUTION: Final = re.compile(r"[0-9]{3,4}p|[0-9]k", re.ASCII)
_OTHER: Final = "other"  # a resolution that nobody knows


def number_up_to(most: int, value: object, param: str) -> int | None:
    """A number that a request states; None if it states none. Raises RequestRejectedError."""
    number = whole_number(value, param, most + 1)
    if number is not None and number > most:
        raise RequestRejectedError(f"'{param}' must be at most {most}.", param=param)
    return number


def video_unit(resolution: object, *, is_silent: bool = False) -> str:
    """The unit of a second of video. resolution: as it was asked for; None leaves it open."""
    word = resolution.lower() if isinstance(resolution, str) else ""
    narrowed = AUTO if resolution is None else word if _RESOLUTION.fullmatch(word) is not None else _OTHER
    return f"{Unit.VIDEO_SECOND}:{narrowed}{':silent' if is_silent else ''}"


def video_facts(
    *,
    model: str,
    unit: str,
    seconds: int,
    videos: int,
    job_kind: JobKind,
    images_in: int = 0,
    references: tuple[StoredReference, ...] = (),
) -> RequestFacts:
    """Facts of a request for so many videos of so many seconds each. images_in: that it is given for each."""
    calls: dict[str, int] = {unit: seconds * videos}
    if images_in:
        calls[Unit.SOURCE_IMAGE] = images_in * videos
    return RequestFacts(
        model=model,
        prompt=PromptShape(messages=1),
        has_output=False,
        choices=videos,
        calls_instead=calls,
        job_kind=job_kind,
        references=references,
    )


def generated(facts: RequestFacts, videos: int, *, resolution: str, seconds: int | None = None) -> Usage:
    """What so many videos are charged as.

    resolution  of those whose request left it open
    seconds     that each has; None: as many as were asked for
    """
    used: dict[str, int] = {}
    for unit, number in (facts.calls or facts.calls_instead).items():  # the latter while no price has been found yet
        each = number // max(facts.choices, 1)
        is_time = unit.partition(":")[0] == Unit.VIDEO_SECOND
        name = unit.replace(f":{AUTO}", f":{resolution}") if is_time else unit
        used[name] = (seconds if is_time and seconds is not None else each) * videos
    return Usage(used)
