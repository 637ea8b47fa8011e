"""Whether the corruptions of a sweep file are for its images."""

from robsweep.orchestrator.spec.selection import without_axes
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.yaml_file import Document
from robsweep.tasks.catalogue.corruptions import misfit


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses what could only fail.

    Raises:
        SpecError: With file, line and what is wrong.
    """
    for name, entry in spec.shift.items():
        if (why := misfit(entry.name, spec.dataset.shape)) is not None:
            raise document.error(("shift", without_axes(name)), why)
