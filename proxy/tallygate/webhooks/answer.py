"""The result of one attempt to send a message."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import ClientResponseError

REASON_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result.

    status          of HTTP, or the reply code of SMTP; None if there was no answer
    error           why there was none, or the status
    retry_after_ms  of 429 and 503
    """

    status: int | None = None
    error: str = ""
    retry_after_ms: int | None = None
    body: bytes = b""

    @property
    def is_delivered(self) -> bool:
        """Return whether the answer is a 2xx. Redirects are not followed: the signature is for the reviewed endpoint."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        return self.status == HTTPStatus.GONE


def reason(error: Exception) -> str:
    """The reason, without the URL, whose query may be a secret, and without control characters."""
    text = error.message if isinstance(error, ClientResponseError) else str(error)
    return "".join(char if char.isprintable() else "\ufffd" for char in f"{type(error).__name__}: {text}"[:REASON_CHARS_MAX])
