"""The vocabularies, each loaded once in a run: that takes longer than most tests."""

import functools

from tallygate.tokens.vocabulary import load_encoding

load_once = functools.cache(load_encoding)
