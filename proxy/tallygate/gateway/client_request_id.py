"""The client's own id of an exchange, as events, refusals and logs keep it."""

from typing import Final

from tallygate.gateway.callers.key_traces import gives_away
from tallygate.telemetry.log import without_secrets

CHARS_MAX: Final = 200


def kept_request_id(sent: str) -> str | None:
    """The first CHARS_MAX characters; None unless all are printable and nothing looks like a key.

    sent   bytes that are not UTF-8 are lone surrogates in it, which are not printable
    """
    cut = sent[:CHARS_MAX]
    if not cut or not cut.isprintable() or gives_away(cut.encode(), ()) or without_secrets(cut) != cut:
        return None
    return cut
