"""The shipped JSON Schemas: well-formed, and true of every example in docs/control.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cli.fields import field_of, schema_names, schema_text
from cli.session import HACTL, MNCTL, Failure

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = sorted((ROOT / "cli" / "schemas").glob("*.json"))
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_UNDERSTOOD = {
    "$schema", "$id", "title", "description", "type", "enum", "const", "required", "properties",
    "additionalProperties", "items", "format",
}  # fmt: skip


def mistakes(schema: Mapping[str, Any], value: Any, place: str = "$") -> Iterator[str]:
    """Where `value` is not what `schema` says; as much of JSON Schema as our schemas use."""
    assert schema.keys() <= _UNDERSTOOD
    if "const" in schema and value != schema["const"]:
        yield f"{place} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} = {value!r} is not one of {schema['enum']}"
    kinds = schema.get("type", list(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    allowed = tuple(cls for kind in kinds for cls in _TYPES[kind])
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        yield f"{place} = {value!r} is not {kinds}"
    if schema.get("format") == "date-time" and isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            yield f"{place} = {value!r} is no instant"
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{place} lacks {name}"
        for name, one in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            yield from mistakes(inner, one, f"{place}.{name}")
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from mistakes(schema.get("items", {}), one, f"{place}[{index}]")


def schema_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped schema of a result, by its `schema` field."""
    for path in SCHEMAS:
        schema: dict[str, Any] = json.loads(path.read_text())
        if schema["$id"] == result["schema"]:
            return schema
    raise AssertionError(f"no schema for {result['schema']}")


def documented() -> dict[str, Any]:
    """The JSON examples of docs/control.md, by schema; the parts of a roam are put together."""
    text = (ROOT / "docs" / "control.md").read_text()
    found: dict[str, Any] = {}
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        block = block.replace('"at":"..."', '"at":"2026-11-23T14:25:10.059Z"')
        block = re.sub(r'"(time|registered_at)":"\.\.\."', r'"\1":"2026-11-23T14:25:22.114Z"', block)
        if block.startswith('"dry_run"'):
            found["mnctl/roam/1 dry"] = {**found["mnctl/roam/1"], **json.loads("{" + block + "}")}
            continue
        decoder, position = json.JSONDecoder(), 0
        while position < len(block):
            value, position = decoder.raw_decode(block, position)
            found[value["schema"]] = value
            position += len(block[position:]) - len(block[position:].lstrip())
    return found


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_schema_names_itself_and_uses_only_what_the_validator_knows(path: Path) -> None:
    schema = json.loads(path.read_text())
    tool, _, name = path.stem.partition("-")
    assert schema["$id"] in (f"{tool}/{name}/1", f"control/{name}/1")
    assert schema["properties"]["schema"] == {"const": schema["$id"]}
    assert schema["title"]
    assert list(mistakes(schema, {})) != []


@pytest.mark.parametrize("name", sorted(documented()))
def test_the_documentation_keeps_to_the_schemas(name: str) -> None:
    example = documented()[name]
    assert list(mistakes(schema_of(example), example)) == []


def test_the_documentation_shows_every_field_of_the_status() -> None:
    def fields(schema: Mapping[str, Any]) -> set[str]:
        inner = schema.get("properties", {})
        deeper = [*inner.values(), *([schema["items"]] if "items" in schema else [])]
        return set(inner).union(*(fields(one) for one in deeper))

    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(names(one) for one in value.values()))
        return set().union(*(names(one) for one in value)) if isinstance(value, list) else set()

    health = {"code", "severity", "impacts_connectivity", "since", "text", "fix"}
    for name, elsewhere in (
        ("mnctl/status/1", set()),
        ("mnctl/roam/1 dry", set()),
        ("hactl/status/1", health),
        ("hactl/bindings/1", {"next"}),
    ):
        example = documented()[name]
        assert fields(schema_of(example)) - names(example) == elsewhere


def test_the_validator_sees_wrong_types_values_and_gaps() -> None:
    status = documented()["mnctl/status/1"]
    schema = schema_of(status)
    wrong: list[dict[str, Any]] = [
        {**status, "state": "happy"},
        {**status, "time": "yesterday"},
        {**status, "at_home": 1},
        {**status, "path": {"encap": "carrier-pigeon"}},
        {**status, "standby": [{"ready": "yes"}]},
        {**status, "totals": {"drops": {"x": "y"}}},
        {name: value for name, value in status.items() if name != "time"},
    ]
    assert all(list(mistakes(schema, one)) for one in wrong)


def test_one_field_is_printed_plainly() -> None:
    status = documented()["mnctl/status/1"]
    assert field_of(MNCTL, status, "path.care_of") == "192.168.7.2"
    assert field_of(MNCTL, status, "at_home") == "false"
    assert field_of(MNCTL, status, "standby.0.rtt_ms") == "62.0"
    assert field_of(MNCTL, {**status, "home": {"v6": ["a", "b"]}}, "home.v6") == "a\nb"
    assert json.loads(field_of(MNCTL, status, "binding"))["sequence"] == 4711


def test_a_field_that_is_unknown_now_is_empty_and_one_that_never_is_is_an_error() -> None:
    bare = {"schema": "mnctl/status/1", "state": "starting"}
    for field in ("path.care_of", "reason", "standby.3.interface", "totals.drops.anything", "health"):
        assert field_of(MNCTL, bare, field) == ""
    for field in ("path.coa", "state.x", "nothing", "", "standby.0.coa"):
        with pytest.raises(Failure) as caught:
            field_of(MNCTL, bare, field)
        assert caught.value.exit_code == 10


def test_each_tool_lists_its_schemas() -> None:
    assert {"status", "roam", "event", "flight"} <= set(schema_names(MNCTL))
    assert {"status", "bindings", "leases", "show", "drop"} <= set(schema_names(HACTL))
    with pytest.raises(KeyError):
        schema_text(MNCTL, "../mnctl-status")
