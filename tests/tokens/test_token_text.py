"""Texts of any size and content."""

import pytest
import tiktoken
from encodings_of_tests import load_once
from hypothesis import given
from hypothesis import strategies as st

from tallygate.tokens.text import EXACT_CHARS_MAX, SLICE_CHARS, count, slices, upper_bound
from tallygate.tokens.vocabulary import EncodingName

O200K = load_once(EncodingName.O200K)
CL100K = load_once(EncodingName.CL100K)
LOADED = (O200K, CL100K)

prose = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [
                " ",
                "  ",
                "\n",
                " \n",
                "\r\n",
                "\t",
                "don't",
                "I'LL",
                "Über",
                "犬",
                "🐕",
                "1234567",
                "(x)",
                "//\n",
                "...",
                "\x1c",
                "\x85",
            ]
        ),
    ),
    max_size=60,
).map("".join)


@given(text=prose, size=st.integers(1, 40))
def test_slices_are_the_text_in_order(text: str, size: int) -> None:
    pieces = list(slices(text, size))

    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)


@given(words=st.lists(prose.map(lambda text: text[:200]), min_size=1, max_size=12))
def test_a_cut_at_a_seam_changes_no_count(words: list[str]) -> None:
    text = " ".join(word + "x" for word in words)  # a blank after a visible character, at least every 201 characters

    for encoding in LOADED:
        whole = len(encoding.encode_ordinary(text))
        assert sum(len(encoding.encode_ordinary(piece)) for piece in slices(text, 402)) == whole


@given(text=prose)
def test_the_upper_bound_is_one(text: str) -> None:
    assert all(count(text, encoding) <= upper_bound(text) for encoding in LOADED)


@given(first=prose, second=prose)
def test_a_joined_text_costs_at_most_its_parts_apart(first: str, second: str) -> None:
    seam = first + "x"

    assert all(count(seam + " " + second, encoding) == count(seam, encoding) + count(" " + second, encoding) for encoding in LOADED)


@pytest.mark.parametrize(
    "unit", ["a", " ", "!", "\n", "\t", " \n", "犬", "🐕", "7", "A", "'s", "\u200d", "e\u0301", "\ud800", "\x00"]
)
@pytest.mark.parametrize("encoding", LOADED, ids=lambda encoding: encoding.name)
def test_a_long_run_of_anything_is_counted_slice_by_slice(unit: str, encoding: tiktoken.Encoding) -> None:
    text = unit * (3 * SLICE_CHARS // len(unit))

    tokens = count(text, encoding)

    assert 0 < tokens <= upper_bound(text)
    assert abs(tokens - 3 * count(text[:SLICE_CHARS], encoding)) <= 3


def test_a_million_blanks_are_counted() -> None:
    assert 0 < count(" " * 1_000_000, O200K) < 20_000  # tiktoken alone overflows its stack here


def test_past_the_exact_maximum_the_rest_counts_like_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.tokens.text.EXACT_CHARS_MAX", SLICE_CHARS + 1)
    text = "word " * (2 * SLICE_CHARS)

    exact = len(O200K.encode_ordinary(text[: SLICE_CHARS + 1]))

    assert count(text, O200K) == -(-exact * len(text) // (SLICE_CHARS + 1))
    assert EXACT_CHARS_MAX > SLICE_CHARS + 1
