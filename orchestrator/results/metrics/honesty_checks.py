"""Signs that attacks overestimate a model: each check looks at the rows of one model and norm.

A check looks at samples that the model classifies correctly; of a misclassified one, no attack
says anything. Where several attacks are compared, it looks at those that all of them have covered.
A check fails where violations are too many to be chance: a share above the one allowed, with 99 %
confidence. Fewer are a warning.

Source: Carlini et al. 2019; Athalye et al. 2018, section 3.1; Croce & Hein 2020.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple

import polars as pl
from scipy.special import bdtrc

from robsweep.orchestrator.results.metrics.honesty_compared import (
    Access,
    Outcomes,
    access_of,
    budget_ratio,
    cannot_cross,
    compared,
    entries_of,
    iterative,
    names_of,
    samples_of,
)
from robsweep.orchestrator.results.metrics.planned import Asked

Status = Literal["pass", "warn", "fail", "not run"]

# Shares of the samples that may violate a check. Random starts have bad luck, and single images
# are hard for any search: five in a hundred is more than that.
LOOSE = 0.05
# Between whole attacks, where only a handful of samples should change sides with another seed.
STRICT = 0.01
SURVIVORS = 0.05  # at a huge eps; for the few that a search misses
LEVEL = 0.01  # chance that a check fails where exactly the allowed share violates it
USELESS = 0.5  # share of backward passes: an attack that has fewer still has had a direction
ROUNDING = 1e-5  # of float32 logits: those of an image differ with its neighbours in the batch
RANK: Mapping[Status, int] = {"not run": 0, "pass": 1, "warn": 2, "fail": 3}


@dataclass(frozen=True)
class Evidence:
    """What is known of one model under the attacks of one norm."""

    norm: str
    huge: float  # the smallest radius that no model should withstand
    attacks: Sequence[Asked]  # those that any wrong answer is a success of
    rows: pl.DataFrame  # of these attacks: only rows that passed their check, see above
    # measurement_id, eps, sample, before, after: margins of white-box attacks that found nothing
    margins: pl.DataFrame
    proved: Sequence[int]  # samples that are verified at some eps and were attacked
    contradicted: Sequence[int]  # samples that are verified and yet broken in that ball

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes(self.rows)

    def of(self, access: Access) -> list[Asked]:
        return [a for a in self.attacks if access_of(a) == access]

    def rows_of(self, attacks: Iterable[Asked]) -> pl.DataFrame:
        return self.rows.filter(pl.col("measurement_id").is_in([a.measurement_id for a in attacks]))


class Finding(NamedTuple):
    """The result of a check: the samples that it could look at, and those that speak against."""

    status: Status
    n: int
    violations: list[int]
    detail: str
    attacks: tuple[str, ...] = ()  # entries whose numbers a failing check puts in doubt


def iterative_beats_single_step(e: Evidence) -> Finding:
    """What one step breaks, many steps break too (Carlini et al. 2019, section 5.2)."""
    single = [a for a in e.of("white_box") if not iterative(a)]
    many = [a for a in e.of("white_box") if iterative(a)]
    sides = {"a single-step white-box attack": single, "an iterative white-box attack": many}
    return _judged(e, sides)


def larger_eps_never_helps(e: Evidence) -> Finding:
    """A sample that breaks at an eps breaks at a larger one (Carlini et al. 2019, section 5.2)."""
    again = e.rows_of(a for a in e.of("white_box") if iterative(a))  # noise may have bad luck
    again = again.filter(pl.col("broken_again").is_not_null())
    if again.is_empty():
        return _not_run(
            "a tenth of what breaks is attacked again at larger eps: ask several eps of an "
            "iterative white-box attack, on more samples"
        )
    survived = again.filter(~pl.col("broken_again"))
    detail = "samples broken at a smaller eps, attacked again without that help"
    return _limited(e, again, survived, detail)


def huge_eps_breaks_all(e: Evidence) -> Finding:
    """At a huge eps nothing is left to recognise (Carlini et al. 2019, section 5.2)."""
    white = e.of("white_box")
    eps = max((eps for a in white for eps in a.eps), default=0.0)
    if eps < e.huge and any(not a.eps for a in white):
        eps = e.huge  # a min-norm attack speaks of every eps
    if eps < e.huge:
        return _not_run(f"ask an eps of {e.huge:.3g} or more of a white-box attack of {e.norm}")
    covered, broken = e.outcomes.of(white, eps)
    if not (n := int(covered.sum())):
        return _not_run(f"no sample is covered by all white-box attacks at eps {eps:g}")
    survived = e.outcomes.samples[covered & ~broken].tolist()
    fails = beyond(SURVIVORS, len(survived), n)
    detail = f"samples that survive {names_of(white)} at eps {eps:g}"
    status: Status = "fail" if fails else "warn" if survived else "pass"
    return Finding(status, n, survived, detail, entries_of(white) if fails else ())


def stronger_access_beats(e: Evidence, *, weaker: Access, stronger: Access) -> Finding:
    """With less access, fewer samples break (Carlini et al. 2019, sections 4.4, 4.5 and 4.11)."""
    sides = {f"a {name.replace('_', '-')} attack": e.of(name) for name in (weaker, stronger)}
    return _judged(e, sides)


def gradients_are_of_use(e: Evidence) -> Finding:
    """Attacks fail at robust samples, not for want of a gradient (Athalye et al. 2018)."""
    rows = e.rows_of(e.of("white_box"))
    seen = rows.filter(
        pl.col("inferred_from_eps").is_null(),
        pl.col("bad_gradients").is_not_null(),
        pl.col("n_backward") > 0,
    )
    if seen.is_empty():
        return _not_run(f"needs a white-box attack of {e.norm} that counts useless gradients")
    useless = pl.col("bad_gradients") > USELESS * pl.col("n_backward")
    detail = "unbroken samples with no useful gradient in most backward passes of an attack"
    return _limited(e, seen, seen.filter(~pl.col("success"), useless), detail)


def loss_increases(e: Evidence) -> Finding:
    """What breaks nothing has at least lowered the margin (Carlini et al. 2019, section 5.2)."""
    before, after = pl.col("before"), pl.col("after")
    same = (before - after).abs() <= ROUNDING * (1 + before.abs())
    # a min-norm attack gives the image itself where it finds nothing
    moved = e.margins.filter(pl.col("eps").is_not_null() | ~same)
    if moved.is_empty():
        return _not_run(f"needs unbroken samples of a white-box attack of {e.norm}, and clean ones")
    detail = "unbroken samples whose margin is no smaller at what an attack returned"
    return _limited(e, moved, moved.filter(same | (after > before)), detail)


def square_finds_nothing_new(e: Evidence) -> Finding:
    """Random search finds more only where gradients mislead (Croce & Hein 2020, section 5)."""
    square = [a for a in e.of("black_box") if a.name == "square"]
    sides = {"the attack `square`": square, "a white-box attack": e.of("white_box")}
    return _judged(e, sides)


def doubling_the_steps_changes_nothing(e: Evidence) -> Finding:
    """Attacks have converged (Carlini et al. 2019, section 4.8); the worst pair counts.

    Of `steps: [50, 100, 200]`, that is whether 200 find more than 100: what 50 miss is found.
    """
    found = []
    for budget in ("steps", "queries"):
        pairs = [
            (budget_ratio(shorter, longer, budget), shorter, longer)
            for shorter in e.attacks
            for longer in e.attacks
        ]
        pairs = [pair for pair in pairs if pair[0] >= 2]
        starts = {shorter.measurement_id for _, shorter, _ in pairs}
        last = {longer.measurement_id for _, _, longer in pairs} - starts
        for end in sorted(last):
            of_it = [pair for pair in pairs if pair[2].measurement_id == end]
            _, shorter, longer = min(of_it, key=lambda pair: pair[0])
            found.append(_judged(e, {"the longer": [longer], "the shorter": [shorter]}))
    nothing = _not_run(f"needs an attack of {e.norm} again with twice its steps or queries")
    return max(found, key=lambda f: (RANK[f.status], len(f.violations)), default=nothing)


def soundness(e: Evidence) -> Finding:
    """What is proved stands: verified <= true <= attacked."""
    if not e.proved:
        return _not_run(f"needs samples that are verified and attacked in {e.norm}")
    detail = "verified samples broken inside that ball"
    status: Status = "fail" if e.contradicted else "pass"
    return Finding(status, len(e.proved), list(e.contradicted), detail)


SOUNDNESS = "soundness"
CHECKS: Mapping[str, Callable[[Evidence], Finding]] = {
    "iterative beats single step": iterative_beats_single_step,
    "larger eps never helps": larger_eps_never_helps,
    "huge eps breaks all": huge_eps_breaks_all,
    "white box beats black box": partial(
        stronger_access_beats, weaker="black_box", stronger="white_box"
    ),
    "white box beats noise": partial(stronger_access_beats, weaker="noise", stronger="white_box"),
    "black box beats noise": partial(stronger_access_beats, weaker="noise", stronger="black_box"),
    "transfer never beats white box": partial(
        stronger_access_beats, weaker="transfer", stronger="white_box"
    ),
    "gradients are of use": gradients_are_of_use,
    "loss increases": loss_increases,
    "Square finds nothing new": square_finds_nothing_new,
    "doubling the steps changes nothing": doubling_the_steps_changes_nothing,
    SOUNDNESS: soundness,
}


def beyond(share: float, count: int, n: int) -> bool:
    """Whether `count` of n samples are more than a share of them, at level `LEVEL`.

    One sample alone never is.
    """
    return count > 1 and bool(bdtrc(count - 1, n, share) <= LEVEL)


def _judged(e: Evidence, sides: Mapping[str, Sequence[Asked]]) -> Finding:
    """Warns of each sample that only the weaker attacks break, and fails in view of too many.

    Args:
        sides: What they are -> the weaker attacks, then the stronger ones.
    """
    if absent := [what for what, attacks in sides.items() if not attacks]:
        return _not_run(f"needs {' and '.join(absent)} of {e.norm}")
    weaker, stronger = sides.values()
    names = f"{names_of(weaker)} against {names_of(stronger)}"
    balls = compared(e.outcomes, weaker, stronger)
    if not balls:
        return _not_run(f"{names}: needs samples that all of them have covered at one eps")
    failing = [c for c in balls if beyond(STRICT, len(c.only_weaker), len(c.samples))]
    odd = [c for c in balls if c.only_weaker]
    radii = ", ".join(f"{c.eps:.4g}" for c in failing or odd or balls)
    short = names_of([a for a in stronger if cannot_cross(a)]) if failing else ""
    why = f"; the steps of {short} together are shorter than the ball is wide" if short else ""
    return Finding(
        "fail" if failing else "warn" if odd else "pass",
        len({sample for c in balls for sample in c.samples}),
        sorted({sample for c in balls for sample in c.only_weaker}),
        f"{names}, at eps {radii}{why}",
        entries_of(stronger) if failing else (),
    )


def _limited(e: Evidence, seen: pl.DataFrame, against: pl.DataFrame, detail: str) -> Finding:
    """Warns of any row against; fails where too many are, of one attack at one eps."""
    key = ["measurement_id", "eps"]
    n, bad = (
        {row[:2]: row[2] for row in rows.group_by(key).agg(pl.col("sample").n_unique()).rows()}
        for rows in (seen, against)
    )
    failing = {place[0] for place, count in bad.items() if beyond(LOOSE, count, n[place])}
    shown = failing or {place[0] for place in bad or n}
    attacks = [a for a in e.attacks if a.measurement_id in shown]
    return Finding(
        "fail" if failing else "warn" if bad else "pass",
        len(samples_of(seen)),
        samples_of(against),
        f"{names_of(attacks)}: {detail}",
        entries_of(attacks) if failing else (),
    )


def _not_run(why: str) -> Finding:
    return Finding("not run", 0, [], why)
