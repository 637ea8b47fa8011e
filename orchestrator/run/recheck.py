"""Rechecks a sweep's verdicts with `tasks.recheck`, which shares no code with the verifier."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import polars as pl

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.plan.plan import Places, Plan, Planned, plan
from robsweep.orchestrator.plan.recorded import attacks_on, recorded
from robsweep.orchestrator.results.counterexamples import Kept
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue.values import DISTANCE
from robsweep.tasks.job import Inputs, Job
from robsweep.tasks.recheck.claims import Budget, Claim, Finding, Question, finding

_CLAIM = list(Claim.__dataclass_fields__)
_PLACE = ["model_id", "dataset", "split", "property", "norm", "eps", "sample"]
_PLURALS = {
    "counterexample": "counterexamples",
    "misclassified": "misclassified",
    "proof": "proofs",
}
_SAID = {"ok": "ok", "wrong": "wrong", "open": "not rechecked"}
_CHEAP = ("interval", "crown")  # stages of closed formulas, without a search
_ALWAYS = ("falsified", "misclassified")


@dataclass(frozen=True)
class Recheck:
    """What is going to be rechecked, and how many claims there are of each kind."""

    questions: Sequence[Question]
    verified: int
    names: dict[str, str]  # of the models, by id


def prepare(results: Results, sweep: str, budget: Budget) -> Recheck:
    """Chooses the proofs to derive again, and gathers the counterexamples.

    Raises:
        InputError: The sweep is not there, or has no verdicts.
    """
    verdicts = results.verdicts(sweep).filter(pl.col("property") != DISTANCE)  # claims nothing
    rows = verdicts.select(*_CLAIM, "decided_by").unique()
    rows = rows.sort(*_CLAIM, "decided_by")
    if rows.is_empty():
        raise InputError(f"sweep {sweep!r} has no verdicts yet: there is nothing to recheck")
    verified = pl.col("verdict") == "verified"
    hard = ~pl.col("decided_by").is_in(_CHEAP)  # a stage without a name counts as hard
    proofs = rows.filter(verified).sort(
        hard.fill_null(value=True), descending=True, maintain_order=True
    )
    proofs = proofs.unique(_PLACE, keep="first", maintain_order=True)
    chosen = _drawn(proofs["decided_by"].to_list(), budget)
    kept = Kept(results.store, results.rows("verification"))
    others = rows.filter(~verified).select(_CLAIM).unique(maintain_order=True)
    questions = [kept.question(Claim(**row)) for row in others.to_dicts()]
    questions += [
        replace(kept.question(Claim(**row)), derive=i in chosen)
        for i, row in enumerate(proofs.select(_CLAIM).to_dicts())
    ]
    names = results.plan(sweep).select("model_id", "model", "training", "seed").unique()
    return Recheck(
        [q for q in questions if q.derive or q.own or q.others or q.claim.verdict in _ALWAYS],
        len(proofs),
        {row["model_id"]: _name(row) for row in names.to_dicts()},
    )


def _drawn(stages: Sequence[str | None], budget: Budget) -> set[int]:
    """Which proofs are derived again: those of the later stages first, as more can go wrong there.

    Each of the later stages gives in turn, as long as it has any; the cheap ones fill up.
    """
    generator = random.Random(budget.seed)
    strata: dict[str, list[int]] = {}
    for i, stage in enumerate(stages):
        strata.setdefault("" if stage in _CHEAP else str(stage), []).append(i)
    for members in strata.values():
        generator.shuffle(members)
    cheap = strata.pop("", [])
    rounds = zip_longest(*(strata[stage] for stage in sorted(strata)))
    order = [i for turn in rounds for i in turn if i is not None]
    return set([*order, *cheap][: budget.proofs])


def findings(
    what: Recheck, results: Results, sweep: str, settings: Settings, budget: Budget
) -> Iterator[Finding]:
    """Does it, model by model."""
    from robsweep.tasks.recheck.run import recheck

    spec, places = recorded(results.store, sweep, settings)
    covered = results.snapshot.coverage
    planned = plan(
        spec,
        Places(places.data_dir, places.nets_dir, attacks_on(results.store, results.snapshot)),
        covered,
    )
    models: dict[str, list[Question]] = {}
    for question in what.questions:
        models.setdefault(question.claim.model_id, []).append(question)
    for model_id, questions in models.items():
        found = _of_model(planned, model_id)
        inputs = _inputs(planned, found, results.store, results.snapshot) if found else None
        if found is None or inputs is None:
            why = "the model is not there as it was: its code, weights or data have changed"
            for question in questions:
                yield finding(question.claim, "open", why)
            continue
        m = found.measurement
        yield from recheck(m.model, inputs.weights, found.setting, questions, budget)


def summary(what: Recheck, found: Sequence[Finding]) -> str:
    """One line per kind of claim, then each finding that is not ok."""
    lines = []
    for kind, plural in _PLURALS.items():
        here = [one for one in found if one.what == kind]
        counts: Counter[str] = Counter(one.outcome for one in here)
        text = ", ".join(f"{counts[outcome]} {said}" for outcome, said in _SAID.items())
        if kind == "proof":
            ways = Counter(one.detail for one in here if one.outcome == "ok")
            how = "".join(f"; {count} {way}" for way, count in sorted(ways.items()))
            text += f", of {what.verified} verified samples{how}"
        lines.append(f"{plural}: {text}")
    lines += [line(what, one) for one in found if one.outcome != "ok"]
    return "\n".join(lines) + "\n"


def line(what: Recheck, one: Finding) -> str:
    """A finding in one line."""
    claim = one.claim
    ball = claim.norm if claim.eps is None else f"{claim.norm} {claim.eps:g}"
    return (
        f"{_SAID[one.outcome]}: {claim.verdict}, {what.names[claim.model_id]}, {claim.dataset} "
        f"{claim.split} {claim.sample}, {ball}: {one.detail}"
    )


def _of_model(planned: Plan, model_id: str) -> Planned | None:
    for found in planned.measurements.values():
        if found.measurement.kind == "screen" and found.measurement.model.model_id == model_id:
            return found
    return None


def _inputs(planned: Plan, found: Planned, store: Store, snapshot: Snapshot) -> Inputs | None:
    job = Job(found.measurement, 0, found.size, found.setting)
    try:
        return InputReader(planned, store, snapshot).of(job)
    except (FileNotFoundError, StoreError):  # gone, or not those that were measured
        return None


def _name(row: dict[str, object]) -> str:
    parts = [row["model"], row["training"], None if row["seed"] is None else f"seed {row['seed']}"]
    return "/".join(str(part) for part in parts if part is not None)
