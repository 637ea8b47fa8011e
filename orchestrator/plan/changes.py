"""How a measurement differs from the one that the same entry of a sweep gave before."""

from collections.abc import Iterator, Mapping
from typing import Any

from robsweep.orchestrator.identity import canonical_json
from robsweep.orchestrator.plan.table import PlanRow

# Parameters that hold the ids of other measurements or models, by kind.
_REFERENCES = {
    "train": frozenset({"start"}),
    "ensemble": frozenset({"members"}),
    "attack": frozenset({"source"}),
    "calibrate": frozenset({"predictions"}),
}
_MAKERS = frozenset({"train", "ensemble"})  # their model's id is their own
_ABSENT = object()


def changes(before: PlanRow, now: PlanRow) -> list[str]:
    """In words, all that is another in the id of a measurement; nothing of what it refers to."""
    found = []
    if before.dataset != now.dataset:
        found.append(f"data set: {before.dataset} -> {now.dataset}")
    found += _code_changes(before, now)
    found += _import_changes(before, now)
    found += _differences(_flat(before), _flat(now))
    if None not in {before.version, now.version} and before.version != now.version:
        found.append(f"version of {now.kind}: {before.version} -> {now.version}")
    return found


def references(before: PlanRow, now: PlanRow) -> list[str]:
    """Ids of the models and measurements that it refers to and did not before."""
    old = {*_referred(before)}
    if before.imported is not None and now.imported is not None:
        old.add(now.model_id)  # `changes` says what of it is another
    return [one for one in _referred(now) if one not in old]


def untold(before: PlanRow, now: PlanRow) -> str:
    """What to say where the plans show no difference and the ids differ."""
    if before.version is not None:
        return "changed, in a way that plans do not tell"
    what = f"version of {now.kind}"
    if files := sorted({file for source in (now.code or {}).values() for file in source.files}):
        what = f"code in {', '.join(files)} or {what}"
    return f"{what} changed: the recorded plan is of an older robsweep and does not tell"


def _code_changes(before: PlanRow, now: PlanRow) -> list[str]:
    found: dict[str, None] = {}  # several functions may lie in one file
    for name, source in (now.code or {}).items():
        old = (before.code or {}).get(name)
        if old is None or old.sha256 == source.sha256:
            continue
        files = {file for file, digest in source.files.items() if old.files.get(file) != digest}
        files |= old.files.keys() - source.files.keys()
        texts = [f"code changed in {file}" for file in sorted(files)]
        found.update(dict.fromkeys(texts or [f"code of {name} is hashed in another way"]))
    return [*found]


def _import_changes(before: PlanRow, now: PlanRow) -> list[str]:
    old, new = before.imported, now.imported
    if old is None or new is None:
        return []
    found = []
    if old["weights_sha256"] != new["weights_sha256"] and old["weights"] == new["weights"]:
        found.append(f"weights changed in {new['weights']}")
    prefix = f"models.{now.model}."
    facts = [
        {"arch": one["arch"], "weights": one["weights"], **one["parameters"]} for one in (old, new)
    ]
    old_facts, new_facts = ({f"{prefix}{k}": v for k, v in one.items()} for one in facts)
    return found + _differences(old_facts, new_facts)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for name in (*new, *(name for name in old if name not in new)):
        was, is_ = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if was is _ABSENT:
            found.append(f"new parameter {name}: {_text(is_)}")
        elif is_ is _ABSENT:
            found.append(f"without parameter {name}, was {_text(was)}")
        elif was != is_:
            found.append(f"{name}: {_text(was)} -> {_text(is_)}")
    return found


def _flat(row: PlanRow) -> dict[str, Any]:
    """Parameters by the names that a sweep file gives them, less what refers to others."""
    model, training = "", ""
    if row.kind == "train":
        model, training = f"models.{row.model}.", f"trainings.{row.training}."
    flat: dict[str, Any] = {}
    for name, value in row.params.items():
        if name in _REFERENCES.get(row.kind, ()):
            continue
        if name in {"parameters", "arch_parameters"}:
            prefix = model if name == "arch_parameters" else training
            flat.update({f"{prefix}{key}": one for key, one in value.items()})
        else:
            flat[f"{model if name == 'arch' else training}{name}"] = value
    return flat


def _referred(row: PlanRow) -> Iterator[str]:
    if row.kind not in _MAKERS:
        yield row.model_id
    for name in _REFERENCES.get(row.kind, ()):
        value = row.params.get(name)
        yield from [value] if isinstance(value, str) else value or ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
