"""OpenAI's usage objects in the normal form. No function raises; None means that the object has no count at all."""

from tallygate.dialects.counts import lenient_count, token_counts
from tallygate.dialects.lenient import member
from tallygate.domain.token_counts import TokenCounts


def chat_counts(usage: object, flags: set[str]) -> TokenCounts | None:
    """Counts of a chat or completion usage object.

    Cached tokens are part of the prompt, under any of their names: Gloo's `cache_tokens`, DeepSeek's
    `prompt_cache_hit_tokens`, Moonshot's `cached_tokens`, else OpenAI's detail.
    """
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens")
    if prompt is None and completion is None and total is None:
        return None
    details_in, details_out = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return token_counts(
        flags,
        prompt=prompt,
        completion=completion,
        total=total,
        cached=_first(
            usage.get("cache_tokens"),
            member(details_in, "cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
            usage.get("cached_tokens"),
        ),
        cache_write_5m=member(details_in, "cache_write_tokens"),
        audio_prompt=member(details_in, "audio_tokens"),
        reasoning=member(details_out, "reasoning_tokens"),
        audio_completion=member(details_out, "audio_tokens"),
    )


def responses_counts(usage: object, flags: set[str]) -> TokenCounts | None:
    """Counts of a Responses usage object. Cache writes kept for 12 hours count as long ones, all others as short."""
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = usage.get("input_tokens"), usage.get("output_tokens"), usage.get("total_tokens")
    if prompt is None and completion is None and total is None:
        return None
    details_in, details_out = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    written = lenient_count(member(details_in, "cache_write_tokens"), flags) or 0
    written_long = lenient_count(member(member(details_in, "cache_write_tokens_details"), "ttl_12h_tokens"), flags) or 0
    return token_counts(
        flags,
        prompt=prompt,
        completion=completion,
        total=total,
        cached=_first(usage.get("cache_tokens"), member(details_in, "cached_tokens")),
        cache_write_5m=max(written - written_long, 0),
        cache_write_1h=written_long,
        audio_prompt=member(details_in, "audio_tokens"),
        reasoning=member(details_out, "reasoning_tokens"),
        audio_completion=member(details_out, "audio_tokens"),
    )


def embedding_counts(usage: object, flags: set[str]) -> TokenCounts | None:
    """Counts of an embeddings usage object: everything is input, even if only the total shows it."""
    if not isinstance(usage, dict):
        return None
    prompt, total = usage.get("prompt_tokens"), usage.get("total_tokens")
    if prompt is None and total is None:
        return None
    counts = token_counts(flags, prompt=prompt, total=prompt if total is None else total)
    return TokenCounts(prompt=counts.total) if counts.completion else counts


def _first(*values: object) -> object:
    """The first value that is present; an explicit zero counts as present."""
    return next((value for value in values if value is not None), None)
