"""OpenAI's compaction of a conversation, `/v1/responses/compact`: one answer over a prompt, billed like a response.

Source: OpenAI's API reference, "Compact a response": the model is required, the maximum output cannot be stated, and the answer
(`response.compaction`) has the usage of the pass.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_required import required_model
from tallygate.dialects.openai_responses import OpenAiResponses, ResponsesRequest
from tallygate.domain.usage import TOKENS_MAX


class OpenAiCompact(OpenAiResponses):
    """POST /v1/responses/compact."""

    name = "openai_compact"
    has_background = False

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a response, with the model's own maximum, which nothing can lower."""
        facts = super().read_request(body, path=path, query=query)
        return replace(facts, max_output_tokens=None, output_min_tokens=TOKENS_MAX, is_cut_upstream=True)

    def _model(self, request: ResponsesRequest) -> tuple[str | None, str | None]:
        return required_model(request.model), None

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        del facts, ask_usage, max_output_tokens  # the API has no maximum
        return body
