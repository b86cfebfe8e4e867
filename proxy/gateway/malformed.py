"""The gateway's answers to what is no valid HTTP: constant, since no dialect is known and nothing of the input may come back."""

from http import HTTPStatus
from typing import Final

from aiohttp import web


def _constant_answer(status: HTTPStatus, message: str) -> bytes:
    return (
        f'{{"type":"about:blank","title":"{status.phrase}","status":{status.value},"detail":"{message}",'
        f'"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":"invalid_request"}}}}'
    ).encode()


_MALFORMED: Final = _constant_answer(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")
_HEAD_TOO_LARGE: Final = _constant_answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.")


def malformed_answer(status: int) -> web.Response:
    """For a head that is too large (431), and for anything else."""
    status, body = (431, _HEAD_TOO_LARGE) if status == 431 else (400, _MALFORMED)
    return web.Response(status=status, body=body, content_type="application/problem+json")
