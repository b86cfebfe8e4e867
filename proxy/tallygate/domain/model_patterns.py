"""Patterns of model names: names, and beginnings of names followed by `*`, as configuration files list them."""

import re
from collections.abc import Iterable
from typing import Final

MODEL_PATTERN: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}\*?", re.ASCII)


def matches(model: str, pattern: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def matches_any(model: str, patterns: Iterable[str]) -> bool:
    return any(matches(model, pattern) for pattern in patterns)
