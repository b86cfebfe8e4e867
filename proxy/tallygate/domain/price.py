"""Prices per token and the cost of one exchange, in integers."""

from dataclasses import dataclass
from typing import Final

from tallygate.domain.money import PICO_PER_NANO, nano_usd_from_pico
from tallygate.domain.token_counts import TokenCounts

# Of each case: pico-USD of the whole prompt, pico-USD of an output token, and the most output tokens that there can be.
WorstRates = tuple[tuple[int, int, int], ...]
NO_MAXIMUM: Final = 1 << 62
# The rates of a price by name: those that fall back to `input`, to `output`, and all of them.
INPUT_KINDS: Final = ("cached_input", "cache_write_5m", "cache_write_1h", "audio_input")
OUTPUT_KINDS: Final = ("reasoning", "audio_output")
RATES: Final = ("input", "output", *INPUT_KINDS, *OUTPUT_KINDS, "long_input", "long_output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one model from `effective_ms` on, each rate in pico-USD per token.

    A rate that is None falls back: cached_input, cache_write_* and audio_input to input; reasoning and audio_output to output.
    Above `long_context_tokens` prompt tokens the long rates replace input and output for the whole request, and the
    other rates scale in the same proportion if the provider states none (as Gemini and xAI price).
    reasons     False: known to generate nothing that its answers do not show
    generates   False: the price of its output is unknown, so it prices only requests without output (embeddings); output is then 0
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
    reasons: bool = True
    generates: bool = True

    def cost_nano_usd(self, counts: TokenCounts) -> int:
        """The cost of `counts`, rounded up once. A token is charged at exactly one rate."""
        rate_in, rate_out = self._base_rates(is_long=self._is_long(counts.prompt))
        plain = counts.prompt
        uncached = counts.prompt - counts.cached - counts.cache_write_5m - counts.cache_write_1h
        cost = 0
        for tokens, rate in (
            (counts.cached, self.cached_input),
            (counts.cache_write_5m, self.cache_write_5m),
            (counts.cache_write_1h, self.cache_write_1h),
            (min(counts.audio_prompt, uncached), self.audio_input),  # audio that was read from the cache is charged as cached
        ):
            if tokens:
                cost += tokens * _scaled(rate, self.input, rate_in)
                plain -= tokens
        cost += plain * rate_in
        plain = counts.completion
        audio = counts.audio_completion
        for tokens, rate in ((audio, self.audio_output), (min(counts.reasoning, counts.completion - audio), self.reasoning)):
            if tokens:
                cost += tokens * _scaled(rate, self.output, rate_out)
                plain -= tokens
        return nano_usd_from_pico(cost + plain * rate_out)

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
        """The most that up to `prompt_tokens` in and `output_tokens` out can cost; the flags name kinds that the request can use.

        Cached input and reasoning need no flag: any request can have them.
        """
        rates = self.worst_rates(
            prompt_tokens,
            cache_write_5m=cache_write_5m,
            cache_write_1h=cache_write_1h,
            audio_input=audio_input,
            audio_output=audio_output,
        )
        return worst_cost_nano_usd(rates, output_tokens)

    def worst_rates(
        self,
        prompt_tokens: int,
        *,
        cache_write_5m: bool = False,
        cache_write_1h: bool = False,
        audio_input: bool = False,
        audio_output: bool = False,
        output_max: int = NO_MAXIMUM,
    ) -> WorstRates:
        """For `worst_cost_nano_usd`: in each case, the most that a prompt of up to that size costs, and the dearest output rate."""
        kinds_in = (
            self.cached_input,
            self.cache_write_5m if cache_write_5m else None,
            self.cache_write_1h if cache_write_1h else None,
            self.audio_input if audio_input else None,
        )
        kinds_out = (self.reasoning, self.audio_output if audio_output else None)
        threshold = self.long_context_tokens
        if threshold is None or prompt_tokens <= threshold:
            return ((*self._worst(prompt_tokens, kinds_in, kinds_out, is_long=False), output_max),)
        # The prompt may turn out below the threshold, where rates are not necessarily lower.
        return (
            (*self._worst(prompt_tokens, kinds_in, kinds_out, is_long=True), output_max),
            (*self._worst(threshold, kinds_in, kinds_out, is_long=False), output_max),
        )

    def _worst(
        self, prompt_tokens: int, kinds_in: tuple[int | None, ...], kinds_out: tuple[int | None, ...], *, is_long: bool
    ) -> tuple[int, int]:
        rate_in, rate_out = dearest_in, dearest_out = self._base_rates(is_long=is_long)
        for rate in kinds_in:
            if rate is not None:
                dearest_in = max(dearest_in, _scaled(rate, self.input, rate_in))
        for rate in kinds_out:
            if rate is not None:
                dearest_out = max(dearest_out, _scaled(rate, self.output, rate_out))
        return prompt_tokens * dearest_in, dearest_out

    def _is_long(self, prompt_tokens: int) -> bool:
        return self.long_context_tokens is not None and prompt_tokens > self.long_context_tokens

    def _base_rates(self, *, is_long: bool) -> tuple[int, int]:
        if not is_long:
            return self.input, self.output
        return (
            self.input if self.long_input is None else self.long_input,
            self.output if self.long_output is None else self.long_output,
        )


def with_fee(rates: WorstRates | None, fee_nano_usd: int) -> WorstRates | None:
    """`rates` with a flat fee on top of each case; None if there is neither."""
    if not fee_nano_usd:
        return rates
    fee_pico = fee_nano_usd * PICO_PER_NANO
    return tuple([(fee_pico + prompt_pico, rate, most) for prompt_pico, rate, most in rates or ((0, 0, NO_MAXIMUM),)])


def worst_cost_nano_usd(rates: WorstRates, output_tokens: int) -> int:
    """The most that `output_tokens` and the prompt of `rates` can cost."""
    return max([nano_usd_from_pico(prompt_pico + min(output_tokens, most) * rate) for prompt_pico, rate, most in rates])


def _scaled(rate: int | None, base: int, base_now: int) -> int:
    """`rate` scaled in the proportion base → base_now, rounded up; base_now if there is no rate.

    A base of 0 has no proportion: the rate stays as it is.
    """
    if rate is None:
        return base_now
    return rate if base in (base_now, 0) else -(-rate * base_now // base)
