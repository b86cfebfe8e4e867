"""OpenAI's older text completions: a prompt in, text out."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from tallygate.dialects.body import TOKEN_IDS_ENTRIES_MAX, with_member
from tallygate.dialects.dialect import RequestFacts, ResponseMeter, units_of
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.openai_chat import CHOICES_MAX, Choices, OutputTokens, StreamOptions
from tallygate.dialects.openai_choices import ChoicesBody, ChoicesJsonMeter, ChoicesStreamMeter
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.service_tiers import tier_conditions

InputEntry = str | int | list[int]
TextInput = str | list[InputEntry]


class CompletionRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    model: str | None = None
    prompt: TextInput | None = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: OutputTokens | None = None
    n: Choices | None = None
    best_of: Annotated[int, msgspec.Meta(ge=0, le=CHOICES_MAX)] | None = (
        None  # OpenAI, "Create completion": at least 0, which means none
    )
    echo: Any = None
    service_tier: Any = None


class OpenAiCompletions(OpenAiShape):
    """POST /v1/completions."""

    name = "openai_completions"
    members = RequestMembers(CompletionRequest, inside=("include_usage",))

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(ChoicesBody)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a completion request. Each prompt of a list is answered n times; best_of answers are generated and billed."""
        del path, query
        parsed = self.members.parse(body, entries_max=TOKEN_IDS_ENTRIES_MAX)
        request = parsed.fields
        draft = OpenAiPrompt()
        prompts = add_input(draft, request.prompt)
        draft.add_text(request.suffix)
        self.members.add_unknown(parsed, draft)
        references = body_references(parsed)
        return RequestFacts(
            model=required_model(request.model),
            prompt=draft.shape(),
            stream=request.stream is True,
            max_output_tokens=request.max_tokens or None,  # 0 is none
            choices=max(request.n or 1, request.best_of or 1) * max(prompts, 1),
            client_asks_usage=request.stream_options is not None and request.stream_options.include_usage is True,
            units=units_of(cache_write_5m=True),
            conditions=tier_conditions(request.service_tier),
            has_unknown_input=draft.has_unknown_input(references),
            references=references,
        )

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        if ask_usage and facts.stream and not facts.client_asks_usage:
            body = with_member(body, ("stream_options", "include_usage"), b"true")
        if max_output_tokens is not None:
            body = with_member(body, ("max_tokens",), b"%d" % max_output_tokens)
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: ChoicesStreamMeter(self._answers, facts, hides=hide_usage_chunk),
            whole=lambda: ChoicesJsonMeter(self._answers, facts),
        )


def add_input(draft: OpenAiPrompt, text: str | Sequence[InputEntry] | None) -> int:
    """Add a text, texts, token ids or lists of token ids; return the number of inputs (token ids in one list are one)."""
    if text is None or isinstance(text, str):
        draft.add_text(text)
        return 1
    inputs = 0
    has_ids = False
    for entry in text:
        if isinstance(entry, int):
            draft.tokens += 1
            has_ids = True
        else:
            inputs += 1
            if isinstance(entry, str):
                draft.add_text(entry)
            else:
                draft.tokens += len(entry)
    return inputs + has_ids
