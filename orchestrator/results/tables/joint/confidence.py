"""Is a model's confidence right under each condition, and does it know its errors?"""

from collections.abc import Iterator, Sequence

from robsweep.orchestrator.results.metrics.detection.selective import selective
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.rates import estimate, rate
from robsweep.orchestrator.results.tables.calibration import calibrated
from robsweep.orchestrator.results.tables.columns import Row
from robsweep.orchestrator.results.tables.joint.conditions import Condition


def confidence_rows(found: Sequence[Condition]) -> Iterator[Row]:
    """One row per condition: accuracy, calibration, and error detection by the confidence."""
    for condition in found:
        right, n = condition.right, len(condition.rows)
        measured = selective(-condition.confidence, ~right)
        row: Row = {
            "question": "confidence",
            **condition.columns,
            **rate("accuracy", int(right.sum()), n),
            **estimate("ece", calibrated(condition.rows).ece),
            **estimate("aurc", measured.aurc),
            **estimate("e_aurc", measured.e_aurc),
            **estimate("error_auroc", measured.auroc),
            "why": measured.why if n else None,
        }
        for name in ("accuracy", "ece", "aurc", "e_aurc", "error_auroc"):
            row |= {f"{name}_n": n, **extent(name, condition.asked, failed=condition.failed)}
        yield row
