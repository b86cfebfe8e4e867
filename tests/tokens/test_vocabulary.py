"""The shipped vocabularies are the published ones."""

import gzip
from importlib.resources import files
from pathlib import Path

import pytest
import tiktoken
from tiktoken_ext import openai_public

from tallygate.tokens.vocabulary import EncodingName, VocabularyError, load_encoding


@pytest.mark.parametrize("name", list(EncodingName))
def test_patterns_and_special_tokens_are_those_that_tiktoken_states(
    name: EncodingName, encodings: dict[EncodingName, tiktoken.Encoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: dict[str, str] = {}

    def no_download(url: str, expected_hash: str) -> dict[bytes, int]:
        expected[url] = expected_hash
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", no_download)
    stated = getattr(openai_public, name.value)()

    assert encodings[name]._pat_str == stated["pat_str"]
    assert encodings[name]._special_tokens == stated["special_tokens"]
    assert next(iter(expected.values())) in (files("tallygate.tokens") / "vocab" / "README.md").read_text()


@pytest.mark.parametrize("name", list(EncodingName))
def test_every_token_decodes_to_what_encodes_to_it(name: EncodingName, encodings: dict[EncodingName, tiktoken.Encoding]) -> None:
    text = "The quick brown fox, 1234567 jumps\n\n\tüber the läzy dog's 犬 🐕 don't()[]{}"

    assert encodings[name].decode(encodings[name].encode_ordinary(text)) == text


def test_a_changed_vocabulary_is_refused_with_both_hashes(tmp_path: Path) -> None:
    shipped = files("tallygate.tokens") / "vocab" / "cl100k_base.tiktoken.gz"
    content = gzip.decompress(shipped.read_bytes())
    (tmp_path / "cl100k_base.tiktoken.gz").write_bytes(gzip.compress(content + b"eHh4 100300\n", 1))

    with pytest.raises(VocabularyError, match=r"SHA-256 is [0-9a-f]{64}, must be 223921b7.*reinstall"):
        load_encoding(EncodingName.CL100K, folder=tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
def test_a_missing_or_damaged_vocabulary_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "o200k_base.tiktoken.gz").write_bytes(content)

    with pytest.raises(VocabularyError, match="o200k_base"):
        load_encoding(EncodingName.O200K, folder=tmp_path)
