"""Which tokenizer a model has, as far as we have it, and how far off ours may be where we do not."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from proxy.tokens.vocabulary import EncodingName


class Family(StrEnum):
    """Models that count alike."""

    OPENAI = "openai"
    OPENAI_LEGACY = "openai_legacy"  # completions models: p50k_base and r50k_base, approximated
    GPT_OSS = "gpt_oss"
    CLAUDE = "claude"
    GEMINI = "gemini"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenization:
    """How to count for one model.

    upper_permille    thousandths of our count that the model's own tokenizer will not exceed; 1000: ours is the model's own
    """

    family: Family
    encoding: EncodingName
    upper_permille: int


# What a foreign tokenizer may make of a text, in thousandths of o200k_base. No provider promises such a figure: these are
# bounds with room to spare over what is commonly measured on English, code and JSON (Claude 1.1 to 1.35, Gemini 0.9 to 1.1).
UPPER_PERMILLE: Final = {
    Family.OPENAI: 1000,
    Family.OPENAI_LEGACY: 1400,
    Family.GPT_OSS: 1250,
    Family.CLAUDE: 1500,
    Family.GEMINI: 1250,
    Family.OTHER: 1500,
}

# In the order in which they are tried. Names come bare, with a provider before them ("openai/gpt-4o", "gloo-openai-gpt-5.2",
# "us.anthropic.claude-3-5-sonnet"), or fine-tuned ("ft:gpt-4o-mini:acme").
_START: Final = r"(?:^|[-/:.])"
_PATTERNS: Final = tuple(
    (re.compile(pattern), family, encoding)
    for pattern, family, encoding in (
        (r"claude", Family.CLAUDE, EncodingName.O200K),
        (r"gemini|gemma|learnlm", Family.GEMINI, EncodingName.O200K),
        (_START + r"gpt-oss", Family.GPT_OSS, EncodingName.O200K),
        (_START + r"(?:gpt-4o|gpt-4\.1|gpt-4\.5|chatgpt-|o[1-9](?:-|$|:))", Family.OPENAI, EncodingName.O200K),
        (_START + r"(?:gpt-4|gpt-3\.5|gpt-35)(?:-|$|:)", Family.OPENAI, EncodingName.CL100K),
        (_START + r"gpt-[5-9]", Family.OPENAI, EncodingName.O200K),
        (_START + r"text-embedding-(?:3|ada)", Family.OPENAI, EncodingName.CL100K),
        (
            _START + r"(?:davinci|babbage|(?:text|code)-(?:davinci|curie|babbage|ada)|curie|ada)\b",
            Family.OPENAI_LEGACY,
            EncodingName.CL100K,
        ),
    )
)


def tokenization(model: str | None) -> Tokenization:
    """How to count for `model`; None and names that are not known count as OTHER."""
    name = (model or "").lower()
    for pattern, family, encoding in _PATTERNS:
        if pattern.search(name):
            return Tokenization(family=family, encoding=encoding, upper_permille=UPPER_PERMILLE[family])
    return Tokenization(family=Family.OTHER, encoding=EncodingName.O200K, upper_permille=UPPER_PERMILLE[Family.OTHER])


def encoding_name(model: str | None) -> EncodingName:
    """The encoding that counts for `model`: its own, or the nearest we have."""
    return tokenization(model).encoding
