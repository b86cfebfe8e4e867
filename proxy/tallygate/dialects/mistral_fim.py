"""Mistral's fill-in-the-middle: OpenAI's completion with a prompt and a suffix, answered as a chat completion.

Sources: Mistral's API reference, "Fim Completion" (https://docs.mistral.ai/api/endpoint/fim): the members of the request, and an
answer with its usage. Streams report it in their last chunk, unasked: release note of 2024-01-16, "Token usage information in
streaming responses" (https://docs.mistral.ai/resources/release-note/2024-01-16-token-usage-in-streaming-requests). No
`stream_options` is documented, and undocumented members are refused ("Extra inputs are not permitted"; for `include_usage`:
https://github.com/BerriAI/litellm/issues/8978), so usage is never asked for.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.dialect import RequestFacts, UsageReporting
from tallygate.dialects.openai_completions import CompletionRequest, OpenAiCompletions
from tallygate.dialects.request_members import RequestMembers
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.usage import TOKENS_MAX

# The model reads `<s>[SUFFIX]suffix[PREFIX]prompt` (https://huggingface.co/mistralai/Codestral-22B-v0.1/discussions/5): the example
# of the API reference, `def` and `return a+b`, has 8 prompt tokens.
ADDED_TOKENS: Final = 3


class Minimum(msgspec.Struct, gc=False):
    """The fields acted on beside those of a completion."""

    min_tokens: Any = None


class MistralFim(OpenAiCompletions):
    """POST /v1/fim/completions."""

    name = "mistral_fim"
    usage_reporting = UsageReporting.ALWAYS
    members = RequestMembers(CompletionRequest, inside=("include_usage", *Minimum.__struct_fields__))

    def __init__(self) -> None:
        super().__init__()
        self._minima = msgspec.json.Decoder(Minimum)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a completion; in addition, `min_tokens` may be generated whatever else bounds the output.

        OpenAI's members that Mistral refuses (`n`, a list of prompts) are read too, since other services may obey them.
        """
        facts = super().read_request(body, path=path, query=query)
        least = self._minimum(body)
        return replace(
            facts,
            max_output_tokens=None if facts.max_output_tokens is None else max(facts.max_output_tokens, least),
            output_min_tokens=max(least, facts.output_min_tokens),
            added_tokens=ADDED_TOKENS,
        )

    def _minimum(self, body: bytes) -> int:
        least = self._minima.decode(body).min_tokens
        if least is None:
            return 0
        if type(least) is not int or not 0 <= least <= TOKENS_MAX:
            raise RequestRejectedError(f"'min_tokens' must be an integer from 0 to {TOKENS_MAX}.", param="min_tokens")
        return least
