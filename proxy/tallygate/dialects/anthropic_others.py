"""Other models that a request to the Messages API can cause to work: advisors, and fallbacks of a refusal.

Sources: Anthropic, "Advisor tool" (it reads the whole conversation; its `max_tokens` bounds each call, the request's does not), and
"Refusals and fallback" (an entry may have a `max_tokens` and a `speed` of its own; each attempt with output is billed).
"""

from typing import Any, Final, Protocol

from tallygate.dialects.anthropic_conditions import conditions_of
from tallygate.dialects.dialect import OtherModel, units_of
from tallygate.dialects.lenient import name_or_none
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

ADVISOR: Final = "advisor_"
# Without `max_uses`: the loop of tools at the provider ends after 10 iterations ("Handling stop reasons", section "pause_turn").
ADVICES: Final = 10
OTHERS_MAX: Final = 8  # Anthropic takes three fallbacks


class MessagesMembers(Protocol):
    """The members of a request that are read here."""

    max_tokens: int | None
    service_tier: Any
    speed: Any
    inference_geo: Any
    fallbacks: Any


def other_models(request: MessagesMembers, advisors: list[dict[str, Any]], units: frozenset[Unit]) -> tuple[OtherModel, ...]:
    """The other models of a request. advisors: tools; units: of the request. Raises RequestRejectedError."""
    fallbacks = request.fallbacks if request.fallbacks is not None else []
    if not isinstance(fallbacks, list):
        message = "'fallbacks' must list the models by name: what 'default' stands for is not known, so its cost cannot be held."
        raise RequestRejectedError(message, param="fallbacks")
    if len(fallbacks) + len(advisors) > OTHERS_MAX:
        param = "fallbacks" if fallbacks else "tools"
        raise RequestRejectedError(f"'{param}' names more than {OTHERS_MAX} other models.", param=param)
    return (*[_advisor(request, tool) for tool in advisors], *[_fallback(request, entry, units) for entry in fallbacks])


def uses_of(tool: dict[str, Any], most: int) -> int:
    """How often a tool may be used: `max_uses`; `most` where it is not stated."""
    uses = tool.get("max_uses")
    return min(max(uses, 0), TOKENS_MAX) if type(uses) is int else most


def _advisor(request: MessagesMembers, tool: dict[str, Any]) -> OtherModel:
    caching = tool.get("caching")
    ttl = caching.get("ttl") if isinstance(caching, dict) else None
    allowed, more = conditions_of(request.service_tier, request.speed, request.inference_geo)
    return OtherModel(
        model=_model(tool, "tools"),
        times=uses_of(tool, ADVICES),
        max_output_tokens=_maximum(tool.get("max_tokens")),
        feeds_answer=True,
        units=units_of(cache_write_5m=caching is not None, cache_write_1h=ttl == "1h"),
        conditions=allowed + more,
    )


def _fallback(request: MessagesMembers, entry: object, units: frozenset[Unit]) -> OtherModel:
    members = entry if isinstance(entry, dict) else {}
    speed = members.get("speed") or request.speed
    allowed, more = conditions_of(request.service_tier, speed, request.inference_geo)
    return OtherModel(
        model=_model(members, "fallbacks"),
        max_output_tokens=_maximum(members.get("max_tokens")) or _maximum(request.max_tokens),
        units=units,
        conditions=allowed + more,
    )


def _model(members: dict[str, Any], param: str) -> str:
    model = name_or_none(members.get("model"))
    if model is None:
        raise RequestRejectedError(f"An entry of '{param}' that runs another model names none.", param=param)
    return model


def _maximum(value: object) -> int | None:
    """A maximum; None for what is none, which the provider refuses."""
    return min(value, TOKENS_MAX) if type(value) is int and value > 0 else None
