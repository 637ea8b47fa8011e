"""JSON schemas of single values: fields of the spec's models, and parameters of the catalogue."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from robsweep.orchestrator.spec.fields import FRACTION, written_number
from robsweep.orchestrator.spec.schema.words import WORDS
from robsweep.tasks.catalogue.values import CHOICES, RANGES, REFUSED

Schema = dict[str, Any]

_PLAIN: list[Schema] = [{"type": ["number", "string", "boolean"]}]
_RANDOM: Schema = {
    "type": "object",
    "description": "an axis of random values",
    "properties": {
        "random": {"type": "array", "items": written_number(), "minItems": 2, "maxItems": 2},
        "n": {"type": "integer", "minimum": 1, "default": 1},
        "scale": {"enum": ["linear", "log"], "default": "linear"},
        "seed": {"type": "integer", "minimum": 0, "default": 0},
    },
    "required": ["random"],
    "additionalProperties": False,
}


def fields(model: type[BaseModel]) -> dict[str, Schema]:
    """The fields of a model of the spec, each with what it means and its default."""
    whole = model.model_json_schema()
    found: dict[str, Schema] = _inlined(whole["properties"], whole.get("$defs", {}))
    return {
        name: {**_untitled(schema), **_described(name)}
        for name, schema in found.items()
        if name not in {"parameters"}
    }


def _inlined(schema: Any, definitions: Schema) -> Any:
    """With what `$ref` names in its place: a sweep file's schema has definitions of its own."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        inside = {name: {**_untitled(one), **_described(name)} if isinstance(one, dict) else one
                  for name, one in named["properties"].items()}  # fmt: skip
        kept = {key: value for key, value in named.items() if key not in {"title", "description"}}
        return {**kept, "properties": inside}
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def parameter(name: str, default: Any) -> Schema:
    """A parameter, by its default; a type stands for one that is required."""
    schema = {**_typed(name, default), **_described(name)}
    if not isinstance(default, type):
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


def axis(schema: Schema) -> Schema:
    """One value, a list of them, or a random sample of numbers."""
    value = {key: schema[key] for key in schema if key not in {"description", "default"}}
    choices = [value, {"type": "array", "items": value, "minItems": 1}]
    if FRACTION in value.get("anyOf", []):  # they are no whole numbers
        choices.append(_RANDOM)
    return {**{key: schema[key] for key in schema if key not in value}, "anyOf": choices}


def list_axis(schema: Schema) -> Schema:
    """A value that is a list by nature, or a list of such lists."""
    value = {key: schema[key] for key in schema if key not in {"description", "default"}}
    lists = {"type": "array", "items": {"allOf": [{"type": "array"}, value]}, "minItems": 1}
    return {**{key: schema[key] for key in schema if key not in value}, "anyOf": [value, lists]}


def of_user() -> Schema:
    """A parameter of a user's function, whose type nobody knows."""
    return {"type": ["number", "string", "boolean", "null", "array", "object"]}


def _typed(name: str, default: Any) -> Schema:
    if isinstance(default, Mapping):
        names = {"not": {"enum": sorted(REFUSED[name])}} if name in REFUSED else {}
        values = {"anyOf": _PLAIN}
        return {"type": "object", "additionalProperties": values, "propertyNames": names}
    if isinstance(default, tuple | list):
        item = _typed(name, default[0]) if default else {}
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": int(name in CHOICES)}]}
    kind = default if isinstance(default, type) else type(default)
    if kind is bool:
        return {"type": "boolean"}
    if kind is str:
        return {"enum": [*CHOICES[name]]} if name in CHOICES else {"type": "string"}
    low, high = RANGES.get(name, (-math.inf, math.inf))
    limits = {"minimum": low, "maximum": high}
    limits = {key: value for key, value in limits.items() if math.isfinite(value)}
    if kind is int:
        return {"type": "integer", **limits}
    return written_number(**limits) if kind is float else {}


def _described(name: str) -> Schema:
    return {"description": WORDS[name]} if name in WORDS else {}


def _untitled(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}
