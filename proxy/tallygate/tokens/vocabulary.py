"""The vocabularies shipped in this package, as tiktoken encodings. Nothing here opens a socket or a cache directory."""

import gzip
import hashlib
import zlib
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import tiktoken

VOCABULARY_MAX_BYTES: Final = 8 << 20  # decompressed; the larger of the two is 3.6 MB


class EncodingName(StrEnum):
    """The encodings we have."""

    O200K = "o200k_base"
    CL100K = "cl100k_base"


class VocabularyError(Exception):
    """A shipped vocabulary is missing or is not the published one: the installation is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """The facts of an encoding, as in tiktoken's `openai_public.py`."""

    sha256: str
    pattern: str
    special_tokens: Mapping[str, int]


_PUBLISHED: Final[Mapping[EncodingName, _Published]] = {
    EncodingName.O200K: _Published(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(  # noqa: FLY002 - one alternative a line
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    EncodingName.CL100K: _Published(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}


def load_encoding(name: EncodingName, *, folder: Traversable | None = None) -> tiktoken.Encoding:
    """Read, check and build one encoding: about 0.2 s of CPU and 40 MB, so once per process and off the event loop.

    folder    the folder of the vocabulary files; None: this package
    Raises VocabularyError if the file is missing, unreadable or not the published one.
    """
    published = _PUBLISHED[name]
    file = (folder if folder is not None else files(__package__) / "vocab") / f"{name}.tiktoken.gz"
    try:
        with file.open("rb") as packed, gzip.open(packed) as unpacked:
            content = unpacked.read(VOCABULARY_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise VocabularyError(f"{file}: cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != published.sha256:
        raise VocabularyError(f"{file}: SHA-256 is {digest}, must be {published.sha256}: reinstall tallygate")
    words = content.split()  # a token in base64 and its rank, in turn
    ranks = dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
    words.clear()
    encoding = tiktoken.Encoding(
        str(name), pat_str=published.pattern, mergeable_ranks=ranks, special_tokens=dict(published.special_tokens)
    )
    ranks.clear()  # the encoder has its own copy; ours would waste 20 MB in every worker
    return encoding
