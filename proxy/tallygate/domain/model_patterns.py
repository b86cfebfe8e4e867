"""Names of models, and beginnings of names followed by `*`, as configuration files list them."""

from collections.abc import Iterable


def matches_any(model: str, patterns: Iterable[str]) -> bool:
    return any(model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern for pattern in patterns)
