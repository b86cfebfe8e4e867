"""Plain values (parsed JSON, database rows) parsed by the rules of the configuration files, with field paths instead of lines."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from tallygate.config.document import DEPTH_MAX
from tallygate.config.problems import PROBLEMS_MAX, Problems
from tallygate.config.section import Place, Section


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
        """The path of the first field at fault; None if the whole value is."""
        return (self.paths[0] or None) if self.paths else None


def section_of(value: dict[str, Any], problems: FieldProblems) -> Section:
    """A mapping to be parsed like one from a file. It may have only JSON values. Raises ValueError beyond DEPTH_MAX levels."""
    _refuse_deep(value, DEPTH_MAX)
    return Section(Place("", 1, "", problems), value)


def plain_value(node: yaml.Node | None) -> Any:
    """The inverse: the plain value of a valid node. A date stays text."""
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


def _refuse_deep(value: object, levels: int) -> None:
    if not levels:
        raise ValueError(f"is nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_deep(item, levels - 1)
