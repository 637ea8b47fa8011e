"""Do the sweep's detectors see what was done to an image, and what do they let through?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.intervals import NO_DATA, Interval
from robsweep.orchestrator.results.metrics.detection.areas import auroc
from robsweep.orchestrator.results.metrics.detection.influence import share
from robsweep.orchestrator.results.metrics.detection.logit_scores import of_rows, score
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.ood import undefined
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.rates import estimate, rate
from robsweep.orchestrator.results.tables.columns import Row
from robsweep.orchestrator.results.tables.joint.conditions import Condition
from robsweep.orchestrator.results.tables.joint.errors import detected, extents

Floats = NDArray[np.float64]

ACCEPTED = 0.95  # share of clean images that a detector is to let through
NONE_FELL = "no successful adversarials"


class Detector(NamedTuple):
    """A scorer of the sweep that stored predictions are enough for."""

    entry: str
    name: str
    parameters: Mapping[str, Any]

    def __call__(self, condition: Condition) -> Floats:
        return score(self.name, self.parameters, condition.logits, condition.confidence)


def detectors_of(model: Model) -> list[Detector]:
    """Those that the sweep asks for under `ood:`; the confidence where it asks for none."""
    found = {
        a.entry: Detector(a.entry, a.params["scorer"], a.params.get("parameters") or {})
        for a in model.of("score")
        if of_rows(a.params)
    }
    return [*found.values()] or [Detector("confidence", "max_softmax", {})]


def detector_rows(found: Sequence[Condition], detectors: Sequence[Detector]) -> Iterator[Row]:
    """Per condition and detector: is it seen, and what is accepted?

    `auroc` is that the image as it was scores lower than what was done to it; of attacks only
    successful adversarials count, as the others have nothing to see.
    """
    clean = [condition for condition in found if not condition.columns]
    if not clean:
        return
    for detector in detectors:
        before = detector(clean[0])
        for condition in found:
            after = detector(condition)
            common = {**condition.columns, "scorer": detector.entry}
            yield {
                "question": "errors",
                **common,
                **detected(after, ~condition.right),
                **extents(condition.asked, failed=condition.failed),
            }
            if condition.columns:
                yield {
                    "question": "detection",
                    **common,
                    **_seen(clean[0], before, condition, after),
                }
            yield {
                "question": "acceptance",
                **common,
                **_accepted(clean[0], before, condition, after),
            }


def _seen(clean: Condition, before: Floats, condition: Condition, after: Floats) -> Row:
    samples = condition.rows["sample"].to_numpy()
    taken = (
        np.isin(samples, [*condition.broken]) if condition.attacked else np.ones(len(samples), bool)
    )
    found, why = paired_auroc(samples[taken], after[taken], clean.rows["sample"].to_numpy(), before)
    if len(samples) and not taken.any():
        why = NONE_FELL
    return {
        **estimate("auroc", found),
        "auroc_n": int(taken.sum()),
        "auroc_n_id": len(before),
        "auroc_n_ood": int(taken.sum()),
        "auroc_status": _status(clean, condition),
        "why": why if len(samples) and len(before) else None,
    }


def paired_auroc(
    ood_samples: NDArray[np.int64], ood: Floats, id_samples: NDArray[np.int64], id_: Floats
) -> tuple[Interval, str | None]:
    """AUROC where both sets are of the same images: the unit of its interval is an image.

    Source: Obuchowski 1997, on clustered data.
    """
    why = undefined(ood, id_)
    if why is not None:
        return NO_DATA, why
    of_ood, of_id = np.argsort(ood), np.argsort(id_)
    area = auroc(ood[of_ood], id_[of_id])
    units, at = np.unique(
        np.concatenate([ood_samples[of_ood], id_samples[of_id]]), return_inverse=True
    )
    moved = np.concatenate(
        [
            (area.positives - area.value) / len(ood),
            (area.negatives - area.value) / len(id_),
        ]
    )
    influence = np.bincount(at, weights=moved).astype(np.float64) * len(units)
    return share(area.value, [influence]), None


def _accepted(clean: Condition, before: Floats, condition: Condition, after: Floats) -> Row:
    """At the threshold that lets through 95 % of the clean images."""
    n, right = len(after), condition.right
    row: Row = {}
    for name in ("accepted", "accepted_accuracy", "accepted_right"):
        row[f"{name}_status"] = _status(clean, condition)
        row[f"{name}_n"] = 0
    if n == 0 or len(before) == 0:
        return row
    if before.min() == before.max():
        return {**row, "why": "constant scores"}
    threshold = np.sort(before)[int(np.ceil(ACCEPTED * len(before) - 1e-9)) - 1]
    accepted = after <= threshold
    return {
        **row,
        **rate("accepted", int(accepted.sum()), n),
        **rate("accepted_accuracy", int((accepted & right).sum()), int(accepted.sum())),
        **rate("accepted_right", int((accepted & right).sum()), n),
    }


def _status(clean: Condition, condition: Condition) -> str:
    asked = list({a.measurement_id: a for a in (*clean.asked, *condition.asked)}.values())
    return str(extent("", asked, failed=condition.failed)["_status"])
