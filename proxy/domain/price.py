"""Prices per token and the cost of one exchange, in integers."""

from dataclasses import dataclass

from proxy.domain.money import nano_usd_from_pico
from proxy.domain.token_counts import TokenCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one model from `effective_ms` on, each rate in pico-USD per token.

    A rate that is None falls back: cached_input, cache_write_* and audio_input to input; reasoning and audio_output to output.
    Above `long_context_tokens` prompt tokens the long rates replace input and output for the whole request, and the
    other rates scale in the same proportion where the provider states none (Gemini and xAI price so).
    version     names this row in every usage event, so that a later correction can find what it priced
    """

    model: str
    version: str
    effective_ms: int
    input: int
    output: int
    cached_input: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    reasoning: int | None = None
    audio_output: int | None = None
    long_context_tokens: int | None = None
    long_input: int | None = None
    long_output: int | None = None
    max_output_tokens: int | None = None
    max_input_tokens: int | None = None

    def cost_nano_usd(self, counts: TokenCounts) -> int:
        """What `counts` cost, rounded up once. A token is charged at exactly one rate."""
        is_long = self.long_context_tokens is not None and counts.prompt > self.long_context_tokens
        rate_in = self.input if not is_long or self.long_input is None else self.long_input
        rate_out = self.output if not is_long or self.long_output is None else self.long_output
        cost = 0
        plain = counts.prompt
        for tokens, rate in (
            (counts.cached, self.cached_input),
            (counts.cache_write_5m, self.cache_write_5m),
            (counts.cache_write_1h, self.cache_write_1h),
            # audio that was read from the cache is already charged as cached
            (
                min(counts.audio_prompt, counts.prompt - counts.cached - counts.cache_write_5m - counts.cache_write_1h),
                self.audio_input,
            ),
        ):
            if tokens:
                cost += tokens * self._scaled(rate, self.input, rate_in)
                plain -= tokens
        cost += plain * rate_in
        plain = counts.completion
        audio = counts.audio_completion
        for tokens, rate in (
            (audio, self.audio_output),
            (min(counts.reasoning, counts.completion - audio), self.reasoning),
        ):
            if tokens:
                cost += tokens * self._scaled(rate, self.output, rate_out)
                plain -= tokens
        return nano_usd_from_pico(cost + plain * rate_out)

    @staticmethod
    def _scaled(rate: int | None, base: int, base_now: int) -> int:
        """`rate` moved in the proportion base → base_now, rounded up; the base itself where there is no rate."""
        if rate is None or base == 0:
            return base_now
        return rate if base == base_now else -(-rate * base_now // base)

    def worst_case_nano_usd(
        self,
        *,
        prompt_tokens: int,
        output_tokens: int,
        cache_write_5m: bool = False,
        cache_write_1h: bool = False,
        audio_input: bool = False,
        audio_output: bool = False,
    ) -> int:
        """The most that `prompt_tokens` in and `output_tokens` out can cost; the flags say which dearer kinds the request can use."""
        rate_in, rate_out = self.input, max(self.output, self.reasoning or 0)
        if audio_output:
            rate_out = max(rate_out, self.audio_output or 0)
        for asked, rate in (
            (cache_write_5m, self.cache_write_5m),
            (cache_write_1h, self.cache_write_1h),
            (audio_input, self.audio_input),
        ):
            if asked and rate is not None:
                rate_in = max(rate_in, rate)
        if self.long_context_tokens is not None and prompt_tokens > self.long_context_tokens:
            rate_in = self._scaled(rate_in, self.input, self.long_input or self.input)
            rate_out = self._scaled(rate_out, self.output, self.long_output or self.output)
        return nano_usd_from_pico(prompt_tokens * rate_in + output_tokens * rate_out)
