"""The key of a request, and checks of its plan, credential and route. No answer repeats the key."""

from functools import lru_cache
from typing import Final

from aiohttp import web

from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.domain.model_patterns import matches_any
from tallygate.domain.organization import Credential, Organization
from tallygate.http1.header import Names, names_of

KEY_HEADERS: Final = ("Authorization", "x-api-key", "x-goog-api-key", "api-key")
_BEARER: Final = "bearer "
_NAMES_READ_MAX: Final = 256  # sequences of names: a client sends the same ones again and again
_MODEL_CHARS_SHOWN: Final = 200


def presented_key(request: web.BaseRequest) -> str:
    """The one key of a request. Raises Refused where there is none, or more than one.

    The key is read from `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, Azure's `api-key` and, as Gemini's clients send it,
    `?key=`. The same key in several of them is one key; different keys are refused: whichever was taken, someone else might
    take the other. An empty header counts as absent: some SDKs send one beside the key they use.
    """
    found = ""
    for key in query_keys(request):
        if found:
            raise Refused(_TWO_KEYS)
        found = key
    headers = request.raw_headers
    for place, is_authorization in _key_places(names_of(headers)):
        key = headers[place][1].decode("utf-8", "surrogateescape").strip()
        if is_authorization:
            if key[: len(_BEARER)].lower() != _BEARER:
                if not key or key.lower() == _BEARER.strip():
                    continue
                raise Refused(unauthorized("The Authorization header must be `Bearer <API key>`."))
            key = key[len(_BEARER) :].strip()
        if not key or key == found:
            continue
        if found:
            raise Refused(_TWO_KEYS)
        found = key
    if not found:
        raise Refused(_NO_KEY)
    return found


@lru_cache(_NAMES_READ_MAX)
def _key_places(names: Names) -> tuple[tuple[int, bool], ...]:
    """The places of the headers with keys, in the order of KEY_HEADERS, and whether each is `Authorization`."""
    lower = [name.lower() for name in names]
    return tuple(
        (place, key_header == "Authorization")
        for key_header in KEY_HEADERS
        for place, name in enumerate(lower)
        if name == key_header.lower().encode()
    )


def check_caller(organization: Organization, credential: Credential, now_ms: int) -> None:
    """Refuse a credential that does not hold, and a plan without API access."""
    if not credential.enabled:
        raise Refused(unauthorized(f"The API key of credential {credential.id!r} is disabled. Ask your administrator."))
    if credential.expires_at_ms is not None and now_ms >= credential.expires_at_ms:
        message = f"The API key of credential {credential.id!r} has expired. Ask your administrator for a new one."
        raise Refused(unauthorized(message))
    if not organization.plan.api_access:
        message = (
            f"The plan {organization.plan.id!r} of organization {organization.name!r} has no API access. "
            "An administrator of the organization can get it by moving to a plan that has, such as pay as you go."
        )
        raise Refused(Refusal(code=ErrorCode.PLAN_WITHOUT_API_ACCESS, message=message, should_retry=False))


def query_keys(request: web.BaseRequest) -> frozenset[str]:
    """The different keys in `?key=`, of which there should be one at most."""
    if "key=" not in request.raw_path:  # the common case, without parsing the URL
        return frozenset()
    return frozenset(key for key in request.query.getall("key", ()) if key)


def query_key(request: web.BaseRequest) -> str:
    """The key in `?key=` of a request that was authenticated, "" if there is none."""
    return next(iter(query_keys(request)), "") if "key=" in request.raw_path else ""


def check_capability(organization: Organization, credential: Credential, capability: str) -> None:
    """Refuse a route whose capability the plan does not include, or the credential was not granted."""
    plan = organization.plan
    if plan.capabilities is not None and capability not in plan.capabilities:
        message = (
            f"The plan {plan.id!r} of organization {organization.name!r} does not include {capability!r}; "
            f"it includes: {', '.join(sorted(plan.capabilities))}. "
            "An administrator of the organization can get it by moving to a plan that does."
        )
        raise Refused(Refusal(code=ErrorCode.CAPABILITY_NOT_IN_PLAN, message=message, should_retry=False))
    granted = credential.capabilities
    if granted is None or capability in granted:
        return
    message = (
        f"Credential {credential.id!r} may not use {capability!r}; it may use: {', '.join(sorted(granted)) or 'nothing'}. "
        "Ask your administrator to allow it."
    )
    raise Refused(Refusal(code=ErrorCode.CAPABILITY_NOT_ALLOWED, message=message, should_retry=False))


def check_model(credential: Credential, model: str | None) -> None:
    """Refuse a model that the credential may not use. One that is limited to some models must name its model."""
    if credential.models is None or (model is not None and matches_any(model, credential.models)):
        return
    allowed = ", ".join(credential.models) or "none"
    if model is None:
        message = f"Credential {credential.id!r} is limited to certain models, so its requests must name one of them: {allowed}."
    else:
        message = f"Credential {credential.id!r} may not use the model {model[:_MODEL_CHARS_SHOWN]!r}; it may use: {allowed}."
    raise Refused(Refusal(code=ErrorCode.MODEL_NOT_ALLOWED, message=message, param="model", should_retry=False))


def check_models(credential: Credential, facts: RequestFacts) -> None:
    """Refuse a request for a model that the credential may not use, also for one that works beside."""
    check_model(credential, facts.model)
    for other in facts.other_models:
        check_model(credential, other.model)


def unauthorized(message: str) -> Refusal:
    return Refusal(code=ErrorCode.INVALID_API_KEY, message=message, should_retry=False)


_NO_KEY: Final = unauthorized("No API key was sent. Send it as `Authorization: Bearer <API key>`, `x-api-key` or `x-goog-api-key`.")
_TWO_KEYS: Final = unauthorized("The request carries two different API keys. Send one, in one header.")
DIRECTORY_UNREAD: Final = Refusal(
    code=ErrorCode.AUTHENTICATION_UNAVAILABLE,
    message="The key is not known here yet: the database of organizations and keys does not answer. Try again shortly.",
    retry_after_ms=5_000,
    should_retry=True,
)
UNKNOWN_KEY: Final = unauthorized(
    "The API key is not known here. Check that it is complete, and that it is a key for this gateway."
)
