"""The model tokens that one exchange used, in one normal form for every provider, and the source of the figure."""

from enum import StrEnum
from typing import Final

import msgspec

TOKENS_MAX: Final = 10**9  # above any context window; a larger count in a provider's answer is absurd and clamped


class UsageSource(StrEnum):
    """Where the counts of a usage event come from, best first."""

    UPSTREAM = "upstream"  # the provider's own usage object
    COUNTED = "counted"  # our tokenizer over the text that was relayed
    ESTIMATED = "estimated"  # from the request alone
    ASSUMED = "assumed"  # what was counted, plus the most that was generated unseen: the exact count is unavailable
    CHECKPOINT = "checkpoint"  # the last checkpoint of a worker that died
    NONE = "none"  # an endpoint whose tokens are not metered


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one exchange. Totals include their parts, whatever the provider's convention.

    prompt       all input tokens, cached and cache-written ones included
    completion   all output tokens, reasoning included
    cached, cache_write_5m, cache_write_1h, audio_prompt       parts of prompt
    reasoning, audio_completion                                parts of completion
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_prompt: int = 0
    reasoning: int = 0
    audio_completion: int = 0

    def __post_init__(self) -> None:
        if (
            min(
                self.prompt,
                self.completion,
                self.cached,
                self.cache_write_5m,
                self.cache_write_1h,
                self.audio_prompt,
                self.reasoning,
                self.audio_completion,
            )
            < 0
        ):
            raise ValueError(f"token counts cannot be negative: {self}")
        if self.cached + self.cache_write_5m + self.cache_write_1h > self.prompt or self.audio_prompt > self.prompt:
            raise ValueError(f"parts exceed the prompt: {self}")
        if self.reasoning > self.completion or self.audio_completion > self.completion:
            raise ValueError(f"parts exceed the completion: {self}")

    @property
    def total(self) -> int:
        return self.prompt + self.completion


NO_TOKENS: Final = TokenCounts()
