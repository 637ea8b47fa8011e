"""What can go wrong, and what the command line does about it.

RobsweepError
├── InputError            wrong input: one message (where, what, how to fix), exit 2
│   ├── SpecError         ... in a sweep file: carries file and line
│   └── StoreError        ... the store is none, is newer than this program, or is damaged
├── FencedError           another driver took over this sweep: this one stops, exit 1
└── ContradictionError    results contradict each other (soundness alarm), exit 3

A job that raises is no error here: it becomes a row of the jobs table, and the sweep goes on.
"""

from robsweep.tasks.errors import InputError, RobsweepError

__all__ = [
    "ContradictionError",
    "FencedError",
    "InputError",
    "RobsweepError",
    "SpecError",
    "StoreError",
]


class SpecError(InputError):
    """A sweep file is wrong."""


class StoreError(InputError):
    """A store is none, is newer than this program, or is damaged."""


class FencedError(RobsweepError):
    """A newer driver of the same sweep has taken over."""


class ContradictionError(RobsweepError):
    """A proof and a counterexample speak of the same sample."""
