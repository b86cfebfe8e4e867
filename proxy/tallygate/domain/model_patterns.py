"""Names of models, and beginnings of names followed by `*`, as configuration files list them."""

from collections.abc import Iterable


def matches(model: str, pattern: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def matches_any(model: str, patterns: Iterable[str]) -> bool:
    return any(matches(model, pattern) for pattern in patterns)
