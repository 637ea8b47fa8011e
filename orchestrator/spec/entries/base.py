"""What all entries of a sweep file have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from robsweep.orchestrator.spec.fields import Names, Natural, Samples, Seed


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntrySpec(Frozen):
    """What all entries share: the catalogue name and its parameters, defaults resolved."""

    family: ClassVar[str]  # what the catalogue calls it, and the key that names it
    catalogue: ClassVar[Mapping[str, Any]]
    lists: ClassVar[frozenset[str]] = frozenset({"only", "exclude", "samples"})

    name: str
    parameters: dict[str, Any] = {}
    only: Names = ()
    exclude: Names = ()


class Evaluation(EntrySpec):
    dataset: str | None = None  # in place of the sweep's own
    samples: Samples = None
    group_size: Natural | None = None
    seed: Seed = 0
