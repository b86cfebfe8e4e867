"""Other APIs' fields for the maximum output and the model, which some services obey beside, or instead of, the dialect's own.

A request with such a field, in any spelling, is refused: it could cost more than its hold. Anthropic's `fallbacks` is held for in
its own dialect alone ("Refusals and fallback").
"""

from collections.abc import Iterable
from typing import Final

from tallygate.dialects.references import folded
from tallygate.dialects.vocabulary import KEY_BYTES_MAX, folded_key
from tallygate.domain.errors import RequestRejectedError

MAXIMA: Final = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_gen_len", "max_length", "num_predict"}
    | {"max_tokens_to_sample"}
)
MODELS: Final = frozenset({"models", "fallbacks", "fallback_models"})


class OtherApiFields:
    """The fields that a dialect refuses: those of all APIs except its own."""

    __slots__ = ("_refused",)

    def __init__(self, own: Iterable[str]) -> None:
        self._refused = {folded(name): name for name in (MAXIMA | MODELS).difference(own)}

    def check(self, keys: frozenset[bytes]) -> None:
        """Raise RequestRejectedError if any of them is among `ParsedBody.keys`."""
        for key in keys:
            name = self._refused.get(folded_key(key)) if len(key) <= KEY_BYTES_MAX else None
            if name is not None:
                given = key[1:-2].decode()
                reason = "would name other models than 'model'" if name in MODELS else "is not the maximum of this API"
                raise RequestRejectedError(f"'{given}' {reason}: leave it out.", param=given)
