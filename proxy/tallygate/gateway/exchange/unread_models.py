"""A credential's limit to some models, at routes that no dialect reads."""

from typing import Any, Final

import msgspec

from tallygate.dialects.body import parse_body
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import Refused, RequestRejectedError
from tallygate.domain.organization import Credential
from tallygate.gateway.callers.keys import check_model
from tallygate.gateway.exchange.call import Head
from tallygate.gateway.refusals import rejected

MODEL_PARAMETER: Final = "model"  # of a route's path
_UPLOADED: Final = frozenset({"file", "upload", "upload_part"})  # kinds whose forms name no model
_BATCH: Final = "batch"  # its models stand in a file
_ANYTHING: Final = msgspec.json.Decoder()
_VOCABULARY: Final = Vocabulary(("model", "models"))


def check_unread_model(head: Head, credential: Credential, body: bytes) -> None:
    """Refuse a model that the caller may not use, in the path or the body; and one that can be seen in neither.

    body   as far as it was read: a form is not
    """
    if credential.models is None:
        return
    request, makes = head.client.request, head.route.objects.makes
    if MODEL_PARAMETER in head.params:
        check_model(credential, head.params[MODEL_PARAMETER])
    elif makes == _BATCH:
        check_model(credential, None)
    elif not request.body_exists or makes in _UPLOADED:
        return
    elif request.content_type.startswith("multipart/"):
        check_model(credential, None)
    elif body:
        _check_body(credential, body)


def _check_body(credential: Credential, body: bytes) -> None:
    try:
        parsed = parse_body(body, _ANYTHING)
        _VOCABULARY.check(parsed)
    except RequestRejectedError as error:
        raise Refused(rejected(error)) from None
    fields: Any = parsed.fields
    named = fields.get("model") if isinstance(fields, dict) else None
    if named is not None:
        check_model(credential, named if isinstance(named, str) else None)
