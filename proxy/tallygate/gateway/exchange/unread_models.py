"""A credential's limit to some models, at routes that no dialect reads."""

from typing import Any, Final

import msgspec
from aiohttp import web

from tallygate.dialects.body import read_body
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import Refusal, RequestRejectedError
from tallygate.domain.organization import Credential
from tallygate.gateway.callers.keys import check_model
from tallygate.gateway.exchange.live_exchange import LiveExchange
from tallygate.gateway.refusals import rejected

MODEL_PARAMETER: Final = "model"  # of a route's path
_UPLOADED: Final = frozenset({"file", "upload", "upload_part"})  # kinds whose forms name no model
_BATCH: Final = "batch"  # its models stand in a file
_ANYTHING: Final = msgspec.json.Decoder()
_VOCABULARY: Final = Vocabulary(("model", "models"))


def check_unread_model(live: LiveExchange, request: web.BaseRequest, body: bytes) -> Refusal | None:
    """Whether the caller may use the model that the path or the body names; where neither can be seen, it may not.

    body   as far as it was read: a form is not
    """
    _, credential, _ = live.parties
    if credential.models is None:
        return None
    if MODEL_PARAMETER in live.path_params:
        return check_model(credential, live.path_params[MODEL_PARAMETER])
    makes = live.found_route.objects.makes
    if makes == _BATCH:
        return check_model(credential, None)
    if not request.body_exists or makes in _UPLOADED:
        return None
    if request.content_type.startswith("multipart/"):
        return check_model(credential, None)
    return _check_body(credential, body) if body else None


def _check_body(credential: Credential, body: bytes) -> Refusal | None:
    try:
        read = read_body(body, _ANYTHING)
        _VOCABULARY.check(read)
    except RequestRejectedError as error:
        return rejected(error)
    asked: Any = read.asked
    named = asked.get("model") if isinstance(asked, dict) else None
    if named is None:
        return None
    return check_model(credential, named if isinstance(named, str) else None)
