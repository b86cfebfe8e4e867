"""What the simulator generates is exactly as many tokens as it says."""

import pytest
from encodings_of_tests import load_once

from tallygate.simulator.words import (
    TOOL_CLOSING,
    TOOL_FRAME_TOKENS,
    TOOL_NAME,
    TOOL_OPENING,
    WORDS,
    text_of,
)
from tallygate.tokens.vocabulary import EncodingName


@pytest.mark.parametrize("name", list(EncodingName))
def test_n_words_are_n_tokens_however_they_are_cut(name: EncodingName) -> None:
    encoding = load_once(name)

    assert all(len(encoding.encode_ordinary(word)) == 1 for word in WORDS)
    for count in (0, 1, 2, 50, 333):
        assert len(encoding.encode_ordinary(text_of(count, start=5))) == count
    assert text_of(7) + text_of(9, start=7) == text_of(16)


@pytest.mark.parametrize("name", list(EncodingName))
def test_a_tool_calls_frame_is_counted(name: EncodingName) -> None:
    encoding = load_once(name)
    arguments = TOOL_OPENING + text_of(20) + TOOL_CLOSING

    assert len(encoding.encode_ordinary(TOOL_NAME)) + len(encoding.encode_ordinary(arguments)) == 20 + TOOL_FRAME_TOKENS
