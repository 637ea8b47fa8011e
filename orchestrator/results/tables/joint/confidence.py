"""Is a model's confidence right under each condition, and does it know its errors?"""

from collections.abc import Iterator, Sequence

from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.rates import estimate, rate
from robsweep.orchestrator.results.tables.calibration import calibrated
from robsweep.orchestrator.results.tables.columns import Row
from robsweep.orchestrator.results.tables.joint.conditions import Condition
from robsweep.orchestrator.results.tables.joint.errors import detected, extents


def confidence_rows(found: Sequence[Condition]) -> Iterator[Row]:
    """One row per condition: accuracy, calibration, and error detection by the confidence."""
    for condition in found:
        right, n = condition.right, len(condition.rows)
        yield {
            "question": "confidence",
            **condition.columns,
            **rate("accuracy", int(right.sum()), n),
            **extent("accuracy", condition.asked, failed=condition.failed),
            **estimate("ece", calibrated(condition.rows).ece),
            "ece_n": n,
            **extent("ece", condition.asked, failed=condition.failed),
            **detected(-condition.confidence, ~right),
            **extents(condition.asked, failed=condition.failed),
        }
