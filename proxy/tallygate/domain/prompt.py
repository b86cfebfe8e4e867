"""The prompt of a request, reduced to what decides its token count."""

from typing import Final

import msgspec


class ImageInput(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a prompt. Its size is unknown (0) unless the request shows it: the gateway never fetches or decodes images."""

    detail: str = "auto"  # OpenAI's low | high | auto
    width: int = 0
    height: int = 0


CHARS_PER_TOKEN_MAX: Final = 128  # the longest tokens of the vocabularies in use are runs of as many blanks


class PromptShape(msgspec.Struct, frozen=True, kw_only=True):
    """The countable parts of a prompt.

    texts          text that the model reads, one entry per part, in order
    messages       chat messages with framing tokens of their own, for their role too; 0 for plain completions and embeddings
    names          messages with a name, which costs one more token; its text is one of the texts
    calls          tool calls of earlier answers whose framing is not among the texts
    tools          tool definitions, each as its JSON text
    schemas        schemas that the answer must follow, each as its JSON text; some providers bill them and some do not
    images         images
    opaque_bytes   decoded bytes of files and audio, which no tokenizer here can count
    tokens         tokens whose number is known without a text: given as ids (embeddings accept them), or added by the provider
    """

    texts: tuple[str, ...] = ()
    messages: int = 0
    names: int = 0
    calls: int = 0
    tools: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    images: tuple[ImageInput, ...] = ()
    opaque_bytes: int = 0
    tokens: int = 0


def tokens_at_least(shape: PromptShape) -> int:
    """The least number of tokens in the prompt's texts, without counting them."""
    return sum(map(len, shape.texts)) // CHARS_PER_TOKEN_MAX
