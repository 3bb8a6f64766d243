"""One field of a result, for shells without jq; and the JSON Schemas that say which fields there are.

Performs I/O (reads the schemas, which are installed beside this module).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.exits import Exit
from cli.session import Failure, Tool
from cli.words import at, clean

_DIRECTORY = Path(__file__).parent / "schemas"


def schema_names(tool: Tool) -> tuple[str, ...]:
    """What `schema NAME` of this tool can print."""
    return tuple(sorted(path.stem.partition("-")[2] for path in _DIRECTORY.glob(f"{tool.name}-*.json")))


def schema_text(tool: Tool, name: str) -> str:
    """The JSON Schema of the result `name`; KeyError when there is none."""
    if name not in schema_names(tool):
        raise KeyError(name)
    return (_DIRECTORY / f"{tool.name}-{name}.json").read_text()


def field_of(tool: Tool, result: Mapping[str, Any], field: str) -> str:
    """The value as one line, a list as one line an item; empty while unknown. Failure: no such field."""
    value = at(result, field)
    if value is None:
        name = str(result.get("schema", "")).split("/")[1]
        schema = json.loads(schema_text(tool, name))
        known = _known(schema, schema, field.split("."))
        if known is not None:
            raise Failure(tool, Exit.NOT_FOUND, f"no field {field}", candidates=tuple(known))
        return ""
    if isinstance(value, list):
        return "\n".join(_shown(one) for one in value)
    return _shown(value)


def _shown(value: object) -> str:
    return clean(value) if isinstance(value, str) else json.dumps(value)


def _known(root: Mapping[str, Any], schema: Mapping[str, Any], steps: list[str]) -> list[str] | None:
    """None when the schema knows a field at `steps`, else the names where the first unknown step stands."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if not steps:
        return None
    if "items" in schema and steps[0].isdecimal():
        return _known(root, schema["items"], steps[1:])
    properties = schema.get("properties", {})
    if steps[0] in properties:
        return _known(root, properties[steps[0]], steps[1:])
    return None if schema.get("additionalProperties") not in (None, True) else list(properties)
