"""A JSON object as the body of a change: bounded, and parsed more strictly than by most parsers."""

import json
from typing import Any, Final

from aiohttp import web

from tallygate.console.api_errors import ApiError

BODY_BYTES_MAX: Final = 262_144


async def read_object(request: web.Request, *, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Any]:
    """Parse the body. Raises ApiError 413 beyond the bound, 400 for anything but one JSON object, or a repeated key."""
    body = b""
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > bytes_max:
            raise ApiError(status=413, code="body_too_large", message=f"the body is larger than {bytes_max} bytes")
    try:
        found = json.loads(body or b"{}", object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, _RepeatedKeyError) else "the body is not JSON"
        raise ApiError(status=400, code="invalid_body", message=text) from None
    if not isinstance(found, dict):
        raise ApiError(status=400, code="invalid_body", message="the body must be a JSON object")
    return found


class _RepeatedKeyError(ValueError):
    pass


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError("the body has a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON
