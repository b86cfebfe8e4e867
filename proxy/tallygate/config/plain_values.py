"""Plain values (parsed JSON, database rows) read by the rules of the configuration files, with field paths in place of lines."""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tallygate.config.document import DEPTH_MAX
from tallygate.config.problems import PROBLEMS_MAX, Problems
from tallygate.config.section import Place, Section

_NOWHERE: Final = yaml.Mark("", 0, 0, 0, None, 0)


@dataclass(slots=True)
class FieldProblems(Problems):
    """Problems without file and line: "rate_limits[0].requests must be at least 1, got 0"."""

    paths: list[str] = field(default_factory=list)

    def add(self, file: str, line: int, text: str, *, path: str = "") -> None:
        del file, line
        if len(self.lines) < PROBLEMS_MAX:
            self.lines.append(text)
            self.paths.append(path)
        else:
            self.dropped += 1

    @property
    def param(self) -> str | None:
        """The path of the first field at fault; None where the whole is."""
        return (self.paths[0] or None) if self.paths else None


def section_of(value: dict[str, Any], problems: FieldProblems) -> Section:
    """A mapping to be read as if it stood in a file. It must hold only what JSON can. Raises ValueError past DEPTH_MAX levels."""
    node = _node(value, 1)
    if not isinstance(node, yaml.MappingNode):
        raise TypeError("a section is a mapping")
    return Section(Place("", 0, "", problems), node)


def plain_value(node: yaml.Node | None) -> Any:
    """The way back: what a node, read and found right, holds. A date stays the text that was written."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain_value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain_value(item) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        return None
    match node.tag.rpartition(":")[2]:
        case "int":
            return int(node.value)
        case "float":
            return float(node.value)
        case "bool":
            return str(node.value).lower() == "true"
        case "null":
            return None
        case _:
            return str(node.value)


def _node(value: Any, depth: int) -> yaml.Node:
    if depth > DEPTH_MAX:
        raise ValueError(f"is nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        pairs = [(_scalar("str", str(key)), _node(item, depth + 1)) for key, item in value.items()]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, _NOWHERE, _NOWHERE)
    if isinstance(value, list):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [_node(item, depth + 1) for item in value], _NOWHERE, _NOWHERE)
    if value is None:
        return _scalar("null", "null")
    if isinstance(value, bool):
        return _scalar("bool", "true" if value else "false")
    if isinstance(value, int):
        return _scalar("int", str(value))
    return _scalar("float", repr(value)) if isinstance(value, float) else _scalar("str", str(value))


def _scalar(kind: str, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", text, _NOWHERE, _NOWHERE)
