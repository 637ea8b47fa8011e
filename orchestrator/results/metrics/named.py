"""Models by the names that options take."""

from collections.abc import Sequence

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.metrics.planned import Model


def name_of(model: Model, *, by_seed: bool = True) -> str:
    """`cnn/standard/0`, or `cnn/standard`; `cnn` of one that is not trained."""
    parts = (model.model, model.training, model.seed if by_seed else None)
    return "/".join(str(part) for part in parts if part is not None)


def named(models: Sequence[Model], name: str) -> list[Model]:
    """The models that go by a name or its beginning: `cnn`, `cnn/standard`, `cnn/standard/0`.

    Raises:
        InputError: None does.
    """
    found = [
        model
        for model in models
        if name == model.model_id or f"{name_of(model)}/".startswith(f"{name}/")
    ]
    if not found:
        known = ", ".join(dict.fromkeys(map(name_of, models)))
        raise InputError(f"--baseline {name!r}: no such model; there are: {known}")
    return found
