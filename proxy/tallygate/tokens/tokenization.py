"""The tokenizer of a model, if we have it, and otherwise the error of ours.

Figures that no provider publishes are measured on recorded answers of public test suites and their usage
(docs/performance.md, "How exact our own counts are").
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tallygate.tokens.framing import AnswerFraming, PromptFraming
from tallygate.tokens.vocabulary import EncodingName


class Family(StrEnum):
    """A family of models with the same counting rules."""

    OPENAI = "openai"
    OPENAI_LEGACY = "openai_legacy"  # completions models: p50k_base and r50k_base, approximated
    GPT_5 = "gpt_5"  # and the o-series
    GPT_5_1 = "gpt_5_1"  # and newer
    GPT_OSS = "gpt_oss"
    CLAUDE_3 = "claude_3"  # up to Opus 4.1
    CLAUDE_4_5 = "claude_4_5"  # 4.5 and 4.6
    CLAUDE = "claude"  # from Opus 4.7 on, and any that is not known to be older
    GEMINI = "gemini"
    GROK = "grok"
    GROK_PLAIN = "grok_plain"  # those that do not reason, to which xAI adds no prompt
    MISTRAL = "mistral"
    DEEPSEEK = "deepseek"
    KIMI = "kimi"
    LLAMA_4 = "llama_4"
    SONAR = "sonar"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenization:
    """A way of counting for one model.

    permille          the model's own count of a text, in thousandths of ours; 1000: ours is its own, or similar
    upper_permille    an upper bound, likewise
    """

    family: Family
    encoding: EncodingName
    permille: int
    upper_permille: int
    answer: AnswerFraming
    prompt: PromptFraming


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """The common rules of a family. permille and upper_permille as in Tokenization."""

    answer: AnswerFraming
    prompt: PromptFraming
    permille: int = 1000
    upper_permille: int = 1500


# OpenAI cookbook, "How to count tokens with tiktoken", num_tokens_from_messages: 3 tokens frame a message, one more spells its
# role, one more goes with a name, and 3 open the reply. 12 introduce tools (same source).
_OPENAI_PROMPT: Final = PromptFraming(
    reply=3,
    message=4,
    tools=12,
    is_namespace=True,
    schema=-8,
    schema_permille=870,
    tools_upper=512,
)
# Several calls are wrapped into one of `multi_tool_use.parallel`.
_OPENAI_ANSWER: Final = AnswerFraming(call=7, parallel=14)
# From GPT-5 on answers are written in channels (OpenAI, "harmony response format"); the text before them differs by model.
_HARMONY_PROMPT: Final = PromptFraming(
    reply=2,
    message=4,
    tools=15,
    is_namespace=True,
    schema=-8,
    schema_permille=870,
    upper=64,
    tools_upper=320,
)
# Anthropic, "Tool use with Claude", section "Pricing": with tools comes a system prompt, whose tokens are listed by model and by
# how a tool is chosen: 264 to 530 for Claude 3, 313 or 346 for Claude 4, at most 804 for Opus 4.7. Where we measure more, that
# counts.
_RULES: Final = {
    Family.OPENAI: _Rules(upper_permille=1000, answer=_OPENAI_ANSWER, prompt=_OPENAI_PROMPT),
    Family.OPENAI_LEGACY: _Rules(upper_permille=1400, answer=AnswerFraming(), prompt=_OPENAI_PROMPT),
    Family.GPT_5: _Rules(upper_permille=1000, answer=AnswerFraming(answer=9, call=7, parallel=14), prompt=_HARMONY_PROMPT),
    Family.GPT_5_1: _Rules(upper_permille=1000, answer=AnswerFraming(answer=4, call=7, parallel=14), prompt=_HARMONY_PROMPT),
    Family.GPT_OSS: _Rules(
        upper_permille=1250,
        answer=AnswerFraming(answer=4, call=10),
        prompt=PromptFraming(reply=63, message=4, tools=30, is_namespace=True, upper=64, tools_upper=64, schema_upper=128),
    ),
    # Anthropic, "Pricing": Opus 4.7 has a new tokenizer, which "may use up to 35 % more tokens for the same fixed text".
    Family.CLAUDE_3: _Rules(
        permille=1130,
        upper_permille=2000,
        answer=AnswerFraming(answer=3, call=40),
        prompt=PromptFraming(reply=5, message=2, call=40, tools=330, tool=10, upper=48, tools_upper=804),
    ),
    Family.CLAUDE_4_5: _Rules(
        permille=1110,
        upper_permille=2000,
        answer=AnswerFraming(answer=3, call=40),
        prompt=PromptFraming(
            reply=5,
            message=2,
            call=40,
            tools=470,
            tool=20,
            schema=100,
            schema_permille=1300,
            upper=48,
            tools_upper=804,
            schema_upper=640,
        ),
    ),
    Family.CLAUDE: _Rules(
        permille=1430,
        upper_permille=2600,
        answer=AnswerFraming(answer=3, call=36),
        prompt=PromptFraming(
            reply=5,
            message=2,
            call=36,
            tools=400,
            tool=40,
            schema=20,
            upper=48,
            tools_upper=804,
            schema_upper=640,
        ),
    ),
    Family.GEMINI: _Rules(
        permille=1030,
        upper_permille=1250,
        answer=AnswerFraming(call=7),
        prompt=PromptFraming(message=1, tool_permille=800, schema_permille=0, upper=24, tools_upper=320),
    ),
    Family.GROK: _Rules(
        answer=AnswerFraming(call=20),
        prompt=PromptFraming(reply=180, message=2, tools=100, upper=520, tools_upper=400, schema_upper=240),
    ),
    Family.GROK_PLAIN: _Rules(
        answer=AnswerFraming(call=20),
        prompt=PromptFraming(message=2, tools=140, upper=240, tools_upper=400, schema_upper=240),
    ),
    Family.MISTRAL: _Rules(
        permille=1050,
        answer=AnswerFraming(answer=1, call=2),
        prompt=PromptFraming(reply=3, message=2, tools=10, tool_permille=1200, schema_permille=0, upper=24),
    ),
    Family.DEEPSEEK: _Rules(
        answer=AnswerFraming(call=30),
        prompt=PromptFraming(reply=2, message=2, tools=225, tool_permille=1200, upper=80, tools_upper=300),
    ),
    Family.KIMI: _Rules(
        answer=AnswerFraming(answer=1, call=10),
        prompt=PromptFraming(reply=3, message=4, tool_permille=1300),
    ),
    Family.LLAMA_4: _Rules(
        answer=AnswerFraming(answer=1, call=20),
        prompt=PromptFraming(reply=5, message=4, tools=640, upper=48, tools_upper=804),
    ),
    Family.SONAR: _Rules(answer=AnswerFraming(), prompt=PromptFraming(message=1, upper=24)),
    Family.OTHER: _Rules(
        answer=AnswerFraming(answer=1, call=10),
        prompt=PromptFraming(reply=5, message=4, tools=90, tool_permille=1000, upper=48, tools_upper=804, schema_upper=240),
    ),
}

# Tried in this order. Names come bare, with a provider before them ("openai/gpt-4o", "gloo-openai-gpt-5.2",
# "us.anthropic.claude-3-5-sonnet"), or fine-tuned ("ft:gpt-4o-mini:acme").
_START: Final = r"(?:^|[-/:.])"
_PATTERNS: Final = tuple(
    (re.compile(pattern), family, encoding)
    for pattern, family, encoding in (
        (r"claude-(?:instant|[123](?!\d))", Family.CLAUDE_3, EncodingName.O200K),
        (r"claude-(?:(?:opus|sonnet|haiku)-)?4[-.][56](?!\d)", Family.CLAUDE_4_5, EncodingName.O200K),
        (r"claude-(?:(?:opus|sonnet|haiku)-)?4(?!\d|[-.](?:[7-9]|[1-9]\d)(?!\d))", Family.CLAUDE_3, EncodingName.O200K),
        (r"claude", Family.CLAUDE, EncodingName.O200K),
        (r"gemini|gemma|learnlm", Family.GEMINI, EncodingName.O200K),
        (_START + r"gpt-oss", Family.GPT_OSS, EncodingName.O200K),
        (_START + r"o[1-9](?:-|$|:)", Family.GPT_5, EncodingName.O200K),
        (_START + r"(?:gpt-4o|gpt-4\.1|gpt-4\.5|chatgpt-)", Family.OPENAI, EncodingName.O200K),
        (_START + r"(?:gpt-4|gpt-3\.5|gpt-35)(?:-|$|:)", Family.OPENAI, EncodingName.CL100K),
        (_START + r"gpt-5(?!\.)", Family.GPT_5, EncodingName.O200K),
        (_START + r"gpt-[5-9]", Family.GPT_5_1, EncodingName.O200K),
        (_START + r"text-embedding-(?:3|ada)", Family.OPENAI, EncodingName.CL100K),
        (
            _START + r"(?:davinci|babbage|(?:text|code)-(?:davinci|curie|babbage|ada)|curie|ada)\b",
            Family.OPENAI_LEGACY,
            EncodingName.CL100K,
        ),
        (r"grok-[12]|grok.*non-reasoning", Family.GROK_PLAIN, EncodingName.O200K),
        (r"grok", Family.GROK, EncodingName.O200K),
        (r"deepseek-(?!r1-distill)", Family.DEEPSEEK, EncodingName.O200K),
        (r"m(?:in|ag)?istral|mixtral|codestral|pixtral|devstral", Family.MISTRAL, EncodingName.O200K),
        (r"kimi|moonshot", Family.KIMI, EncodingName.O200K),
        (r"llama-?4(?![0-9a-z])", Family.LLAMA_4, EncodingName.O200K),
        (r"sonar", Family.SONAR, EncodingName.O200K),
    )
)


def tokenization(model: str | None) -> Tokenization:
    """The counting rules of `model`; None and unknown names are OTHER."""
    name = (model or "").lower()
    for pattern, family, encoding in _PATTERNS:
        if pattern.search(name):
            return _of(family, encoding)
    return _of(Family.OTHER, EncodingName.O200K)


def _of(family: Family, encoding: EncodingName) -> Tokenization:
    rules = _RULES[family]
    return Tokenization(
        family=family,
        encoding=encoding,
        permille=rules.permille,
        upper_permille=rules.upper_permille,
        answer=rules.answer,
        prompt=rules.prompt,
    )
