"""The token count of an answer's text as it comes, charged where the upstream reports no usage."""

import asyncio
from typing import Protocol

from tallygate.dialects.dialect import MeterReading
from tallygate.gateway.services import Tokenizer

_TAIL_CHARS_MAX = 4096  # a text without any space is counted in pieces of this size


class TextSource(Protocol):
    """The source of the text."""

    @property
    def reading(self) -> MeterReading:
        """The reading of the answer as far as it has come."""

    @property
    def model(self) -> str | None:
        """The model that answers, as far as that is known."""


class TextCount:
    """One count at a time: a half-done one would be missing from the account. tokens: of the text, without what is around it."""

    __slots__ = ("_counting", "_loop", "_org", "_tail", "_tokenizer", "tokens")

    def __init__(self, tokenizer: Tokenizer, loop: asyncio.AbstractEventLoop, org: str) -> None:
        self.tokens = 0
        self._tokenizer = tokenizer
        self._loop = loop
        self._org = org
        self._tail = ""
        self._counting: asyncio.Task[None] | None = None

    def count_soon(self, source: TextSource) -> None:
        """Count what has gathered, beside the relay, unless a count is under way already."""
        if self._counting is None or self._counting.done():
            self._begin(source, is_last=False)

    async def count(self, source: TextSource, *, is_last: bool) -> None:
        """Add the text generated since the last count."""
        while self._counting is not None and not self._counting.done():
            await asyncio.wait({self._counting})
        if (counting := self._begin(source, is_last=is_last)) is not None:
            await asyncio.shield(counting)  # it has the text: whoever waits may stop waiting

    def _begin(self, source: TextSource, *, is_last: bool) -> asyncio.Task[None] | None:
        """Add what has gathered, at once if that is short; else the task that adds it.

        Cut before spaces, pieces count like the whole: tokens start there.
        """
        text = self._tail + source.reading.drain_text()
        self._tail = ""
        if not is_last:
            cut = text.rfind(" ")
            if cut < 0 and len(text) < _TAIL_CHARS_MAX:
                cut = 0
            if cut >= 0:
                text, self._tail = text[:cut], text[cut:]
        if not text:
            return None
        model = source.model
        tokens = self._tokenizer.short_text(text, model)
        if tokens is not None:
            self.tokens += tokens
            return None
        self._counting = self._loop.create_task(self._add(text, model))
        return self._counting

    async def _add(self, text: str, model: str | None) -> None:
        self.tokens += await self._tokenizer.text(text, model, org=self._org)
