"""The simulator's own count of prompts, independent of the gateway's, so that each can expose errors of the other."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import tiktoken

from tallygate.tokens.vocabulary import EncodingName, load_encoding

PER_MESSAGE: Final = 3  # OpenAI cookbook, "How to count tokens with tiktoken": framing of each message ...
PER_NAME: Final = 1
REPLY: Final = 3  # ... and of the reply's opening
CL100K_MODELS: Final = ("gpt-4-", "gpt-3.5", "text-embedding", "davinci", "babbage")


def text_in(content: Any) -> str:
    """The text of a content value: a string, or a list of any provider's parts with text."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        inner = content.get("text", content.get("content", ""))
        return text_in(inner)
    if isinstance(content, list):
        return "".join(text_in(part) for part in content)
    return ""


class PromptTokens:
    """Counts with tiktoken. Encodings are loaded at their first use; a caching `load` may share them."""

    def __init__(self, load: Callable[[EncodingName], tiktoken.Encoding] = load_encoding) -> None:
        self._load = load
        self._encodings: dict[EncodingName, tiktoken.Encoding] = {}

    def of_text(self, text: str, model: str) -> int:
        name = EncodingName.CL100K if model == "gpt-4" or model.startswith(CL100K_MODELS) else EncodingName.O200K
        if name not in self._encodings:
            self._encodings[name] = self._load(name)
        return len(self._encodings[name].encode_ordinary(text))

    def of_texts(self, texts: Iterable[str], model: str) -> int:
        return sum(self.of_text(text, model) for text in texts)

    def of_chat(self, messages: Iterable[Mapping[str, Any]], model: str) -> int:
        """A chat prompt by OpenAI's published rule: per message its framing, role, content and name, then the reply's opening."""
        total = REPLY
        for message in messages:
            total += PER_MESSAGE + self.of_text(str(message.get("role", "")), model)
            total += self.of_text(text_in(message.get("content")), model)
            name = message.get("name")
            if isinstance(name, str):
                total += PER_NAME + self.of_text(name, model)
            for call in message.get("tool_calls") or ():
                function = call.get("function", {})
                total += self.of_texts((str(function.get("name", "")), str(function.get("arguments", ""))), model)
        return total
