"""One YAML file as a tree of nodes that remember their lines. Bounded: hostile files end in a problem, not in memory."""

from typing import Final

import yaml

from tallygate.config.problems import Problems
from tallygate.config.section import Place, Section

FILE_BYTES_MAX: Final = 64 * 2**20  # 10**5 organizations take about 30 MB
DEPTH_MAX: Final = 32

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times as fast


def read_document(file: str, text: bytes, problems: Problems) -> Section | None:
    """Parse the file's top-level mapping; None, with problems added, if it is not YAML or not a mapping.

    An empty file is an empty mapping. Aliases are allowed, to share a list of limits between plans, but a file may not expand to
    more values than it has bytes, which no file without aliases can. So a "billion laughs" costs no more than parsing it.
    """
    if len(text) > FILE_BYTES_MAX:
        problems.add(file, 1, f"is larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problems.add(file, line, f"is not valid YAML: {error.problem or error.context}")
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.add(file, 1, f"is not valid YAML: {str(error).splitlines()[0]}")
        return None
    except RecursionError:
        problems.add(file, 1, f"is nested deeper than {DEPTH_MAX} levels")
        return None
    place = Place(file=file, line=1, path="", problems=problems)
    if root is None:
        return Section(place, yaml.MappingNode("tag:yaml.org,2002:map", []))
    if not isinstance(root, yaml.MappingNode):
        place.at(root).problem("must be a mapping, such as `plans:`")
        return None
    if not _is_bounded(root, values_max=len(text), place=place):
        return None
    return Section(place, root)


def _is_bounded(root: yaml.Node, *, values_max: int, place: Place) -> bool:
    """Walk the expanded tree level by level; False, with a problem added, if it is too deep or too large."""
    values = 1
    level = [root]
    for _ in range(DEPTH_MAX):
        below: list[yaml.Node] = []
        for node in level:
            children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else node.value
            values += len(children)
            below += [child for child in children if not isinstance(child, yaml.ScalarNode)]
            if values > values_max:
                place.problem("expands to more values than it has bytes: too many aliases")
                return False
        if not below:
            return True
        level = below
    place.at(level[0]).problem(f"is nested deeper than {DEPTH_MAX} levels")
    return False
