"""What a request asks a model to read, reduced to what decides its token count."""

from typing import Final

import msgspec


class ImageInput(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a prompt. Sizes are unknown (0) unless the request tells them: the gateway never fetches or decodes images."""

    detail: str = "auto"  # OpenAI's low | high | auto
    width: int = 0
    height: int = 0


CHARS_PER_TOKEN_MAX: Final = 128  # the longest tokens of the vocabularies in use are runs of as many blanks


class PromptShape(msgspec.Struct, frozen=True, kw_only=True):
    """The countable parts of a prompt.

    texts          text the model reads, one entry per part, in order
    messages       chat messages that carry framing tokens of their own, their role included; 0 for plain completions and embeddings
    names          messages with a name, which costs one token more; its text is one of the texts
    calls          calls of tools that earlier answers made and whose framing is not among the texts
    tools          tool definitions, each as its JSON text
    schemas        the form that the answer must have, each as its JSON text; some providers bill it and some do not
    images         images
    opaque_bytes   decoded bytes of files and audio, which no tokenizer here can count
    tokens         tokens whose number is known without a text: given as ids (embeddings accept them), or put in by the provider
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
    """What the prompt's texts come to at least, known without counting."""
    return sum(map(len, shape.texts)) // CHARS_PER_TOKEN_MAX
