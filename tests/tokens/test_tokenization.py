"""Which tokenizer counts for which model."""

import pytest

from tallygate.domain.prompt import ImageInput
from tallygate.tokens.images import image_rule
from tallygate.tokens.tokenization import Family, tokenization
from tallygate.tokens.vocabulary import EncodingName

O200K, CL100K = EncodingName.O200K, EncodingName.CL100K


@pytest.mark.parametrize(
    ("model", "family", "encoding"),
    [
        ("gpt-4o", Family.OPENAI, O200K),
        ("gpt-4o-mini-2024-07-18", Family.OPENAI, O200K),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", Family.OPENAI, O200K),
        ("openai/gpt-4.1-nano", Family.OPENAI, O200K),
        ("chatgpt-4o-latest", Family.OPENAI, O200K),
        ("gpt-5", Family.GPT_5, O200K),
        ("gpt-5.2-pro", Family.GPT_5_1, O200K),
        ("gloo-openai-gpt-5.2", Family.GPT_5_1, O200K),
        ("o1", Family.GPT_5, O200K),
        ("o3-mini", Family.GPT_5, O200K),
        ("o4-mini-2025-04-16", Family.GPT_5, O200K),
        ("gpt-4", Family.OPENAI, CL100K),
        ("gpt-4-turbo", Family.OPENAI, CL100K),
        ("GPT-4-0613", Family.OPENAI, CL100K),
        ("gpt-3.5-turbo", Family.OPENAI, CL100K),
        ("azure/gpt-35-turbo", Family.OPENAI, CL100K),
        ("text-embedding-3-large", Family.OPENAI, CL100K),
        ("text-embedding-ada-002", Family.OPENAI, CL100K),
        ("davinci-002", Family.OPENAI_LEGACY, CL100K),
        ("text-davinci-003", Family.OPENAI_LEGACY, CL100K),
        ("openai/gpt-oss-120b", Family.GPT_OSS, O200K),
        ("gloo-anthropic-claude-sonnet-4.5", Family.CLAUDE_4_5, O200K),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", Family.CLAUDE_3, O200K),
        ("anthropic/claude-3.7-sonnet:thinking", Family.CLAUDE_3, O200K),
        ("claude-2.1", Family.CLAUDE_3, O200K),
        ("claude-sonnet-4-20250514", Family.CLAUDE_3, O200K),
        ("claude-sonnet-4@20250514", Family.CLAUDE_3, O200K),
        ("claude-opus-4-1-20250805", Family.CLAUDE_3, O200K),
        ("claude-sonnet-4-0", Family.CLAUDE_3, O200K),
        ("claude-haiku-4-5-20251001", Family.CLAUDE_4_5, O200K),
        ("anthropic/claude-4.6-sonnet-20260217", Family.CLAUDE_4_5, O200K),
        ("claude-opus-4-6", Family.CLAUDE_4_5, O200K),
        ("claude-opus-4-7", Family.CLAUDE, O200K),
        ("claude-opus-4.8", Family.CLAUDE, O200K),
        ("claude-opus-4-10-20270101", Family.CLAUDE, O200K),
        ("claude-sonnet-5", Family.CLAUDE, O200K),
        ("claude-mythos-preview", Family.CLAUDE, O200K),
        ("models/gemini-2.5-flash", Family.GEMINI, O200K),
        ("gloo-deepseek-v3.2", Family.DEEPSEEK, O200K),
        ("x-ai/grok-4.3", Family.GROK, O200K),
        ("mistral-large-latest", Family.MISTRAL, O200K),
        ("open-mixtral-8x7b", Family.MISTRAL, O200K),
        ("moonshotai/kimi-k2-instruct", Family.KIMI, O200K),
        ("deepseek-r1-distill-llama-70b", Family.OTHER, O200K),
        ("llama-4o1", Family.OTHER, O200K),
        ("canada-llm", Family.OTHER, O200K),
        (None, Family.OTHER, O200K),
    ],
)
def test_a_model_counts_with_its_familys_encoding(model: str | None, family: Family, encoding: EncodingName) -> None:
    assert tokenization(model).family is family
    assert tokenization(model).encoding is encoding


@pytest.mark.parametrize(
    ("model", "image", "tokens"),
    [  # the first four are worked examples of OpenAI's guide
        ("gpt-4o", ImageInput(detail="high", width=1024, height=1024), 765),
        ("gpt-4o", ImageInput(detail="high", width=2048, height=4096), 1105),
        ("gpt-4o", ImageInput(detail="low", width=4096, height=8192), 85),
        ("gpt-4.1-mini", ImageInput(width=1024, height=1024), 1659),
        ("gpt-4o", ImageInput(width=1, height=1), 85 + 170),
        ("gpt-4o", ImageInput(width=768, height=100_000), 85 + 170 * 4),
        ("gpt-4o", ImageInput(), 85 + 170 * 8),
        ("gpt-4o-mini", ImageInput(detail="low"), 2833),
        ("gpt-4.1-mini", ImageInput(), 2489),
        ("o1", ImageInput(width=512, height=512), 225),
        ("gpt-5", ImageInput(width=512, height=512), 210),
        ("claude-opus-4-7", ImageInput(width=280, height=281), 110),
        ("claude-opus-4-7", ImageInput(width=8000, height=8000), 4784),
        ("gemini-2.5-flash", ImageInput(width=384, height=384), 258),
        ("gemini-2.5-flash", ImageInput(width=960, height=540), 258 * 6),  # the worked example of Google's guide
        ("gemini-2.5-flash", ImageInput(width=540, height=960), 258 * 6),
        ("gemini-2.5-flash", ImageInput(width=3072, height=384), 258 * 24),
        ("gemini-2.5-flash", ImageInput(width=100_000, height=1), 258 * 12),
        ("models/gemini-2.0-flash", ImageInput(width=30_000, height=30_000), 258 * 16),
        ("gemini-2.5-flash", ImageInput(), 258 * 24),
        ("gemini-3-pro-preview", ImageInput(width=10, height=10), 2240),
        ("gemini-flash-latest", ImageInput(), 2240),
        (None, ImageInput(), 4784),
    ],
)
def test_images_cost_what_the_published_rules_say(model: str | None, image: ImageInput, tokens: int) -> None:
    assert image_rule(tokenization(model).family, model).tokens(image) == tokens
