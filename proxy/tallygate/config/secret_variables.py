"""Which variables a file of the configuration names as secrets (`secret_env: NAME`), without reading any of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from tallygate.config.document import FILE_BYTES_MAX

_SUFFIX: Final = "_env"


def secret_variables(directory: Path | None, file: str) -> frozenset[str]:
    """Names under keys that end in `_env`; none where the file is not there or no YAML, which loading tells."""
    if directory is None:
        return frozenset()
    try:
        with (directory / file).open("rb") as opened:
            root = yaml.compose(opened.read(FILE_BYTES_MAX), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return frozenset()
    return frozenset(_named(root))


def _named(root: yaml.Node | None) -> Iterator[str]:
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # aliases share nodes
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(value, yaml.ScalarNode) and str(key.value).endswith(_SUFFIX):
                    yield str(value.value)
                waiting.append(value)
