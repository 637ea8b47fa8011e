"""What of a store is still wanted: by the plans that its sweeps have recorded, and by nobody else.

Rows, artifacts and checkpoints of a measurement stay or go together.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from robsweep.tasks.catalogue import KINDS

ID = re.compile(rf"(?:{'|'.join(KINDS)}|import)-[0-9a-f]{{16}}")


class Question(NamedTuple):
    """What verification asks of a model's samples, at whichever eps."""

    model_id: str
    dataset: str
    split: str
    property: str
    norm: str | None


@dataclass(frozen=True)
class Asked:
    """A measurement of a recorded plan."""

    measurement_id: str
    model_id: str
    question: Question | None  # of a screen or solve
    names: frozenset[str]  # what it needs, and every other id that its parameters name


@dataclass(frozen=True)
class Held:
    """A measurement that a store has rows of."""

    measurement_id: str
    model_id: str
    question: Question | None


def wanted(plans: Iterable[Asked], held: Iterable[Held]) -> frozenset[str]:
    """Ids of the measurements that a store must keep.

    What is planned, and what that names: the training of a model, members of an ensemble, the
    model that a training starts from or that a transfer attack is made on, predictions that a
    calibration reads. Beside these, answers to questions that a plan asks, as a verdict at another
    eps decides a sample too, and the rows of imported models, which their preflight wrote.

    Args:
        held: What may be wanted although no plan names it.
    """
    asked = list(plans)
    ids = {one.measurement_id for one in asked}.union(*(one.names for one in asked))
    models = ids | {one.model_id for one in asked}
    questions = {one.question for one in asked if one.question is not None}
    for one in held:
        described = one.measurement_id.startswith("preflight-") and one.model_id in models
        if described or one.question in questions:
            ids.add(one.measurement_id)
    return frozenset(ids | models)


def asked(rows: Iterable[Mapping[str, Any]]) -> Iterator[Asked]:
    """The measurements of a plan, from the rows of its table."""
    for row in rows:
        params = json.loads(row["params_json"])
        question = None
        if row["kind"] in {"screen", "solve", "cross_check"}:
            question = Question(
                row["model_id"], row["dataset"], row["split"], params["property"], row["norm"]
            )
        names = frozenset({*(row["needs"] or ()), *ID.findall(row["params_json"])})
        yield Asked(row["measurement_id"], row["model_id"], question, names)
