"""A tool's definition in the form in which OpenAI's models read it, which is shorter than its JSON.

OpenAI, "OpenAI harmony response format", section "Function calling": tools are types of a TypeScript-like namespace, descriptions
are comments before what they describe, an optional member has a question mark, an enum is a union of its values.
"""

import json
from typing import Any, Final

CHARS_MAX: Final = 65_536  # of a definition: decoding a longer one takes too long in one piece
DEPTH_MAX: Final = 32  # of a schema; anything deeper is `any`


def namespace_text(definition: str) -> str:
    """The type of a tool that is given as JSON; the JSON itself if it is no function, very long, or has references to its parts."""
    if len(definition) > CHARS_MAX or '"$ref"' in definition:
        return definition
    try:
        tool = json.loads(definition)
    except (ValueError, RecursionError):
        return definition
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return definition
    parameters = function.get("parameters")
    argument = f"_: {_type(parameters, DEPTH_MAX)}" if isinstance(parameters, dict) and parameters.get("properties") else ""
    return f"{_comment(function.get('description'))}type {function['name']} = ({argument}) => any;\n\n"


def _comment(description: object) -> str:
    if not isinstance(description, str) or not description:
        return ""
    return "".join(f"// {line}\n" for line in description.split("\n"))


def _type(schema: Any, depth: int) -> str:
    """The TypeScript type of a JSON schema."""
    if not isinstance(schema, dict) or not depth:
        return "any"
    values = schema.get("enum")
    if isinstance(values, list):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    for name in ("anyOf", "oneOf"):
        choices = schema.get(name)
        if isinstance(choices, list):
            return " | ".join(_type(choice, depth - 1) for choice in choices)
    match schema.get("type"):
        case "object":
            return _object(schema, depth)
        case "array":
            return f"{_type(schema.get('items'), depth - 1)}[]"
        case "integer":
            return "number"
        case list() as kinds:
            return " | ".join(map(str, kinds))
        case str() as kind:
            return kind
        case _:
            return _object(schema, depth) if "properties" in schema else "any"


def _object(schema: dict[str, Any], depth: int) -> str:
    members = schema.get("properties")
    if not isinstance(members, dict) or not members:
        return "object"
    required = schema.get("required")
    always = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    lines = []
    for name, member in members.items():
        stated = member if isinstance(member, dict) else {}
        default = f" // default: {stated['default']}" if stated.get("default") is not None else ""
        mark = "" if name in always else "?"
        lines.append(f"{_comment(stated.get('description'))}{name}{mark}: {_type(member, depth - 1)},{default}\n")
    return "{\n" + "".join(lines) + "}"
