"""The JSON schema of a sweep file, made of the spec's models and the catalogue.

It says what can be said without looking at other entries or files: names, keys, types and ranges.
Reading a sweep file says the rest.
"""

import json
from collections.abc import Iterator
from typing import Any

from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.entries.verification import (
    OF_A_QUESTION,
    VerificationSpec,
    only_estimates,
)
from robsweep.orchestrator.spec.fields import written_number
from robsweep.orchestrator.spec.schema.values import (
    Schema,
    axis,
    fields,
    list_axis,
    of_user,
    parameter,
)
from robsweep.orchestrator.spec.schema.words import OF_THE_FILE, WORDS
from robsweep.orchestrator.spec.spec import (
    SECTIONS,
    AttackSpec,
    ModelSpec,
    ResourceSpec,
    SensitivitySpec,
    SweepSpec,
    TrainingSpec,
)
from robsweep.tasks.catalogue import DATASETS, KINDS, NETS, RECIPE, REGIONS
from robsweep.tasks.catalogue.entries import Attack, Verifier

_OWN = {"type": "string", "pattern": "^[^:]+:[^:]+$", "description": "package.module:function"}


# a file of one's own, and how many classes there are
_OWN_DATA: Schema = {
    "type": "object",
    "properties": {"npz": {"type": "string"}, "classes": {"type": "integer", "minimum": 1}},
    "required": ["npz"],
    "additionalProperties": False,
}
_GROUP: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
    ]
}


def schema() -> Schema:
    """A JSON schema, draft 2020-12."""
    own = fields(SweepSpec)
    properties = {
        "name": own["name"],
        "dataset": {"anyOf": [*_data_sets(), _OWN_DATA]},
        "samples": own["samples"],
        "seeds": {**own["seeds"], "uniqueItems": True, "default": [0]},
        **{name: _section(name, kind) for name, kind in SECTIONS.items()},
        "resources": _resources(),
        "ood_groups": {"type": "object", "additionalProperties": _GROUP},
    }
    properties["models"] = {**properties["models"], "type": "object", "minProperties": 1}
    for name, words in OF_THE_FILE.items():
        properties[name] = {**properties[name], "description": words}
    definitions: dict[str, Schema] = {}
    for name, kind in SECTIONS.items():
        definitions |= dict(_definitions(name, kind))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep file of robsweep",
        "type": "object",
        "properties": properties,
        "required": ["name", "dataset", "models"],
        "additionalProperties": False,
        "$defs": _once(definitions),
    }


def _data_sets() -> list[Schema]:
    """The words for data sets to measure on."""
    corrupted = {"type": "string", "pattern": rf"^({'|'.join(DATASETS)}|npz:.+)\+.+:[1-5]$"}
    return [{"enum": [*DATASETS]}, {"type": "string", "pattern": "^npz:."}, corrupted]


def _once(definitions: dict[str, Schema]) -> dict[str, Schema]:
    """The same definitions; what several properties have in common stands there once."""
    places: dict[str, list[tuple[Schema, str]]] = {}
    for definition in definitions.values():
        for name, value in definition.get("properties", {}).items():
            places.setdefault(json.dumps(value), []).append((definition["properties"], name))
    common: dict[str, Schema] = {}
    for text, uses in places.items():
        if len(uses) > 1:
            name = f"value.{len(common)}.{uses[0][1]}"
            common[name] = json.loads(text)
            for properties, word in uses:
                properties[word] = {"$ref": f"#/$defs/{name}"}
    return {**definitions, **common}


def _section(section: str, kind: type[EntrySpec]) -> Schema:
    """Named entries; one that is named as the catalogue does need not say what it is."""
    said = _says_what_it_is(kind)
    entry = {"$ref": f"#/$defs/{section}"}
    return {
        "type": ["object", "null"],
        "properties": {
            name: {"if": said, "then": entry, "else": {"$ref": f"#/$defs/{section}.{name}"}}
            for name in kind.catalogue
        },
        "additionalProperties": {"allOf": [said, entry]},
    }


def _says_what_it_is(kind: type[EntrySpec]) -> Schema:
    ways: list[Schema] = [{"required": [kind.family]}]
    if kind is ModelSpec:
        ways += [{"required": ["members"]}, {"required": ["net"]}, _ONNX]
    return {"type": "object", "anyOf": ways}


_ONNX: Schema = {
    "required": ["weights"],
    "properties": {"weights": {"type": "string", "pattern": r"\.onnx$"}},
}


def _definitions(section: str, kind: type[EntrySpec]) -> Iterator[tuple[str, Schema]]:
    own = kind not in {VerificationSpec, SensitivitySpec}  # may be functions of the user
    names: Schema = {"enum": [*kind.catalogue]}
    word = {"anyOf": [names, _OWN]} if own else names
    rules = [_rule(kind.family, {"const": name}, f"{section}.{name}") for name in kind.catalogue]
    if own:
        rules.append(_rule(kind.family, _OWN, f"{section}.own"))
        yield f"{section}.own", _own(kind)
    if kind is ModelSpec:
        rules += _model_rules()
    several = {"type": "array", "items": word, "minItems": 1}
    yield (
        section,
        {
            "type": "object",
            "properties": {kind.family: {"anyOf": [word, several]}},
            "allOf": rules,
        },
    )
    for name, entry in kind.catalogue.items():
        yield f"{section}.{name}", _entry(kind, name, entry)


def _rule(key: str, value: Schema, definition: str) -> Schema:
    """What a key has decides which definition holds."""
    condition = {"properties": {key: value}, "required": [key]}
    return {"if": condition, "then": {"$ref": f"#/$defs/{definition}"}}


def _model_rules() -> list[Schema]:
    """Of models without `arch:`: an ensemble, a published network, an ONNX file."""
    no_arch: Schema = {"not": {"required": ["arch"]}}
    single: Schema = {"not": {"anyOf": [{"required": ["arch"]}, {"required": ["members"]}]}}
    ensemble = {"if": {**no_arch, "required": ["members"]}, "then": _ref("ensemble")}
    net = {"if": {"required": ["net"]}, "then": {"properties": {"net": {"enum": [*NETS, None]}}}}
    alone: Schema = {"not": {"required": ["net"], "anyOf": [{"required": ["weights"]},
                                                            {"required": ["sha256"]}]}}  # fmt: skip
    nets = [
        {
            "if": {**single, "required": ["net"], "properties": {"net": {"const": name}}},
            "then": _ref(entry.arch),
        }
        for name, entry in NETS.items()
    ]
    return [ensemble, net, alone, *nets, {"if": {**single, **_ONNX}, "then": _ref("onnx")}]


def _ref(arch: str) -> Schema:
    return {"$ref": f"#/$defs/models.{arch}"}


def _fields(kind: type[EntrySpec]) -> dict[str, Schema]:
    found = {name: one for name, one in fields(kind).items() if name != "name"}
    if "dataset" in found:
        found["dataset"] = {**found["dataset"], "anyOf": [*_data_sets(), {"type": "null"}]}
    return {name: (list_axis if name in kind.lists else axis)(one) for name, one in found.items()}


def _entry(kind: type[EntrySpec], name: str, entry: Any) -> Schema:
    """An entry that is the catalogue's `name`."""
    properties = _fields(kind)
    defaults = _defaults(entry)
    for word, default in defaults.items():
        if word not in properties:
            listed = isinstance(default, tuple | list)
            properties[word] = (list_axis if listed else axis)(parameter(word, default))
    required = [word for word, default in defaults.items() if isinstance(default, type)]
    required += _required(kind)
    result: Schema = {"type": "object", "description": entry.source}
    if isinstance(entry, Attack):
        properties["norm"] = axis({"enum": [*entry.norms], "description": WORDS["norm"]})
        properties["gives"] = {"const": entry.gives}
        if entry.gives == "min_norm":
            properties["eps"] = {"type": "null", "description": "it seeks the closest adversarial"}
        else:
            required.append("eps")
            properties["eps"] = {"allOf": [properties["eps"], {"not": {"type": "null"}}]}
        required += ["target"] * (entry.targets == "required") + ["detector"] * entry.detects
        if entry.targets == "none":
            properties["target"] = {"type": "null", "description": "it cannot aim at a class"}
    if isinstance(entry, Verifier):
        further = [norm for question in entry.questions.values() for norm in question.norms]
        norms = [*dict.fromkeys([*entry.norms, *further])]
        properties["norm"] = axis({"enum": norms, "description": WORDS["norm"]})
        if only_estimates(name):
            properties = {k: v for k, v in properties.items() if k not in OF_A_QUESTION}
        else:
            words = ("eps", "box", "region", "curve", "question")
            result["anyOf"] = [{"required": [word]} for word in words]
            properties["region"] = axis({"anyOf": [*_regions()], "description": WORDS["region"]})
            pixels = axis(written_number(minimum=0, maximum=1))
            other = {"norm": {"not": {"const": "linf"}}}
            result["if"] = {"required": ["norm"], "properties": other}
            result["else"] = {"properties": {"eps": {"anyOf": [pixels, {"type": "null"}]}}}
    if name == "ensemble" and kind is ModelSpec:
        required.append("members")
    if not required and "anyOf" not in result:
        result["type"] = ["object", "null"]
    properties[kind.family] = {"description": f"{name}: {entry.source}"}
    return {
        **result,
        "properties": properties,
        "required": sorted(set(required)),
        "additionalProperties": False,
    }


def _regions() -> Iterator[Schema]:
    """Of a verification: a name, or one with parameters."""
    named = {name: region for name, region in REGIONS.items() if not region.ball}
    yield {"type": "null"}
    needs = {
        name: [word for word, one in region.parameters.items() if isinstance(one, type)]
        for name, region in named.items()
    }
    yield {"enum": [name for name, words in needs.items() if not words]}
    for name, region in named.items():
        own = {word: parameter(word, default) for word, default in region.parameters.items()}
        yield {
            "type": "object",
            "description": region.holds,
            "properties": {"name": {"const": name}, **own},
            "required": ["name", *needs[name]],
            "additionalProperties": False,
        }


def _required(kind: type[EntrySpec]) -> list[str]:
    """Fields without a default, less those that the catalogue knows."""
    known = {"name", "norm", "gives"}
    return [n for n, one in kind.model_fields.items() if one.is_required() and n not in known]


def _own(kind: type[EntrySpec]) -> Schema:
    """A user's function: fields are checked, and of trainings the recipe."""
    properties = _fields(kind)
    if kind is TrainingSpec:
        for word, default in RECIPE.items():
            properties[word] = axis(parameter(word, default))
    required = [kind.family, *_required(kind), *(["norm"] if kind is AttackSpec else [])]
    properties[kind.family] = _OWN
    return {"properties": properties, "required": required, "additionalProperties": of_user()}


def _defaults(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Verifier):
        return {**entry.screen_parameters, **entry.solve_parameters}
    return dict(entry.parameters)


def _resources() -> Schema:
    every = fields(ResourceSpec)
    others = {k: v for k, v in every.items() if k not in {"workers", "checkpoint_seconds"}}
    return {
        "type": ["object", "null"],
        "properties": {
            kind: {
                "type": ["object", "null"],
                "properties": every if kind == "train" else others,
                "additionalProperties": False,
            }
            for kind in KINDS
        },
        "additionalProperties": False,
    }
