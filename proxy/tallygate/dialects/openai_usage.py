"""OpenAI's two usage objects, as compatible services send them too, in the normal form. None of the functions raises.

Names beside OpenAI's own that a service was seen to use for the same count:
- read from a cache: Gloo `cache_tokens`, DeepSeek `prompt_cache_hit_tokens`, Moonshot `cached_tokens`; Anthropic's
  `cache_read_input_tokens`, which LiteLLM repeats beside OpenAI's detail and others put outside of the prompt (of Bedrock:
  https://github.com/Portkey-AI/gateway/issues/1210)
- written to it: Anthropic's `cache_creation_input_tokens` with its split `cache_creation`; LiteLLM's details
  `cache_creation_tokens` and `cache_creation_token_details`
- cached audio and images: `cached_tokens_details` of OpenAI's Realtime and Images APIs, with `cached_…_tokens` in `tool_usage`
- reasoning beside the completion: xAI, Google's models behind gateways (https://github.com/vectorize-io/hindsight/issues/3851),
  Perplexity's `reasoning_tokens`
"""

from typing import Final

from tallygate.dialects.counts import INCONSISTENT, CachePlace, cache_writes, lenient_count, token_counts
from tallygate.dialects.lenient import is_positive, member
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

# Of parts of the prompt, in its details; of parts of it, beside it; and of what may stand beside it, as Anthropic's do.
_READ_DETAILS: Final = ("cached_tokens", "cache_read_tokens", "cached_read_tokens", "cache_read_input_tokens", "cache_read")
_WRITE_DETAILS: Final = ("cache_write_tokens", "cache_creation_tokens", "cached_write_tokens", "cache_creation_input_tokens")
_READS_INSIDE: Final = ("prompt_cache_hit_tokens", "cached_tokens", "cached_input_tokens")
_READS: Final = ("cache_read_input_tokens", "cache_read_tokens", "cached_read_tokens")
_WRITES: Final = ("cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens", "cached_write_tokens")
_CACHE_NAMES: Final = frozenset({"cache_tokens", *_READS_INSIDE, *_READS})
_WRITE_NAMES: Final = frozenset({"cache_creation", *_WRITES})
_IN_DETAILS: Final = (*_READ_DETAILS[1:], *_WRITE_DETAILS, "cache_creation_token_details")
_MEDIA_DETAILS: Final = frozenset({"image_tokens", "cached_tokens_details"})

Members = dict[str, object]


def chat_counts(usage: Members, flags: set[str]) -> Usage:
    """Counts of a chat or completion usage object. Cached tokens are part of the prompt, unless the counts tell otherwise."""
    get = usage.get
    completion = get("completion_tokens")
    return _counts(
        usage,
        flags,
        prompt=get("prompt_tokens"),
        completion=get("output_tokens") if completion is None else completion,
        details_in=get("prompt_tokens_details"),
        details_out=get("completion_tokens_details"),
        anthropic_place=CachePlace.EITHER,
    )


def responses_counts(usage: Members, flags: set[str]) -> Usage:
    """Counts of a Responses usage object; of one with Anthropic's names, whose cached tokens stand beside the input.

    Of cache writes, those kept for 12 hours count as long ones, the rest as short.
    """
    get = usage.get
    completion = get("output_tokens")
    details_in = get("input_tokens_details") or get("input_token_details")
    return _counts(
        usage,
        flags,
        prompt=get("input_tokens"),
        completion=get("completion_tokens") if completion is None else completion,
        details_in=details_in,
        details_out=get("output_tokens_details") or get("output_token_details"),
        anthropic_place=CachePlace.EITHER if isinstance(details_in, dict) else CachePlace.BESIDE,
    )


def embedding_counts(usage: object, flags: set[str]) -> Usage | None:
    """Counts of an embeddings usage object: everything is input, under whichever name. None if it holds no count at all."""
    if not isinstance(usage, dict):
        return None
    prompt = _first_positive(usage, ("prompt_tokens", "input_tokens", "promptTokenCount"))
    total = _first_positive(usage, ("total_tokens", "totalTokenCount"))
    if prompt is None and total is None:
        return None
    if not is_positive(prompt):
        if is_positive(total):
            flags.add(INCONSISTENT)
        return token_counts(flags, prompt=total if prompt is None or is_positive(total) else prompt)
    counts = token_counts(flags, prompt=prompt, total=total)
    return token_counts(flags, prompt=counts.total) if counts.completion else counts


def _counts(
    usage: Members,
    flags: set[str],
    *,
    prompt: object,
    completion: object,
    details_in: object,
    details_out: object,
    anthropic_place: CachePlace,
) -> Usage:
    get, total = usage.get, usage.get("total_tokens")
    place = CachePlace.INSIDE
    cached = audio_in = reasoning = audio_out = short = long = of_cached = None
    images_in = images_out = None
    kept_12h = 0
    if isinstance(details_in, dict):
        cached, audio_in = details_in.get("cached_tokens"), details_in.get("audio_tokens")
        if any(map(details_in.get, _IN_DETAILS)):
            cached = _first_positive(details_in, _READ_DETAILS)
            written = _first_positive(details_in, _WRITE_DETAILS)
            short, long = _split_writes(written, details_in.get("cache_creation_token_details") or get("cache_creation"), flags)
            kept_12h = lenient_count(member(details_in.get("cache_write_tokens_details"), "ttl_12h_tokens"), flags) or 0
            short = max(short - kept_12h, 0)
        if not _MEDIA_DETAILS.isdisjoint(details_in):
            images_in, of_cached = details_in.get("image_tokens"), details_in.get("cached_tokens_details")
    if not _CACHE_NAMES.isdisjoint(usage):
        cached = cached if is_positive(cached) else _first_positive(usage, _READS_INSIDE)
        if is_positive(read := _first_positive(usage, _READS)):
            cached, place = cached if is_positive(cached) else read, anthropic_place
        if (own := get("cache_tokens")) is not None:  # Gloo's, which is a value where it is 0
            cached, place = own, CachePlace.INSIDE
    if not (short or long) and not _WRITE_NAMES.isdisjoint(usage):
        short, long = _split_writes(_first_positive(usage, _WRITES), get("cache_creation"), flags)
        place = anthropic_place if short or long else place
    if isinstance(details_out, dict):
        reasoning, audio_out = details_out.get("reasoning_tokens"), details_out.get("audio_tokens")
        images_out = details_out.get("image_tokens")
    if reasoning is None:
        reasoning = get("reasoning_tokens")
    if reasoning:
        completion = _with_reasoning(completion, reasoning, prompt, total, flags)
    counts = token_counts(
        flags,
        prompt=prompt,
        completion=completion,
        total=total,
        cached=cached,
        cache_write_5m=short,
        cache_write_1h=long,
        cache_write_12h=kept_12h or None,
        audio_prompt=audio_in,
        cached_audio=member(of_cached, "audio_tokens"),
        reasoning=reasoning,
        audio_completion=audio_out,
        cache_place=place,
    )
    return counts if not images_in and not images_out else _with_images(counts, images_in, of_cached, images_out, flags)


def _with_images(counts: Usage, images_in: object, of_cached: object, images_out: object, flags: set[str]) -> Usage:
    """`counts` with the tokens of images in units of their own. Those that were not read from the cache come first."""
    tokens_in = lenient_count(images_in, flags) or 0
    cached = min(lenient_count(member(of_cached, "image_tokens"), flags) or 0, tokens_in)
    fresh = min(tokens_in - cached, counts.of(Unit.INPUT))
    return (
        counts.with_moved(Unit.INPUT, Unit.INPUT_IMAGE, fresh)
        .with_moved(Unit.CACHED_INPUT, Unit.CACHED_INPUT_IMAGE, tokens_in - fresh)
        .with_moved(Unit.OUTPUT, Unit.OUTPUT_IMAGE, lenient_count(images_out, flags) or 0)
    )


def _split_writes(written: object, split: object, flags: set[str]) -> tuple[int, int]:
    """Tokens written for minutes and for an hour, by Anthropic's split where there is one."""
    short, long = member(split, "ephemeral_5m_input_tokens"), member(split, "ephemeral_1h_input_tokens")
    return cache_writes(written, short, long, flags)


def _with_reasoning(completion: object, reasoning: object, prompt: object, total: object, flags: set[str]) -> object:
    """The completion, with reasoning that it cannot contain as there is more of it; the total may tell how much is beside it."""
    tokens_out, thought = lenient_count(completion, flags) or 0, lenient_count(reasoning, flags) or 0
    if thought <= tokens_out or (lenient_count(total, flags) or 0) > (lenient_count(prompt, flags) or 0) + tokens_out:
        return completion
    flags.add(INCONSISTENT)
    return tokens_out + thought


def _first_positive(members: Members, names: tuple[str, ...]) -> object:
    """The first count above zero under these names, else the first that is there."""
    stated = [value for name in names if (value := members.get(name)) is not None]
    return next(filter(is_positive, stated), stated[0] if stated else None)
