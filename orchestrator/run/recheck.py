"""Rechecks a sweep's verdicts with `tasks.recheck`, which shares no code with the verifier."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import median

import polars as pl

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.plan.plan import Places, Plan, Planned, plan
from robsweep.orchestrator.plan.recorded import attacks_on, recorded
from robsweep.orchestrator.results.certificates import Certificates
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
    certified: int  # verified samples with a certificate
    names: dict[str, str]  # of the models, by id


def prepare(results: Results, sweep: str, budget: Budget, *, every: bool = False) -> Recheck:
    """Chooses the proofs to derive again, and gathers counterexamples and certificates.

    Args:
        every: Whether each certificate there is counts; else those of the chosen proofs.

    Raises:
        InputError: The sweep is not there, or has no verdicts.
    """
    verdicts = results.verdicts(sweep).filter(pl.col("property") != DISTANCE)  # claims nothing
    rows = verdicts.select(*_CLAIM, "decided_by", "certificate").unique()
    rows = rows.sort(*_CLAIM, "decided_by", nulls_last=True)
    if rows.is_empty():
        raise InputError(f"sweep {sweep!r} has no verdicts yet: there is nothing to recheck")
    verified = pl.col("verdict") == "verified"
    hard = ~pl.col("decided_by").is_in(_CHEAP)  # a stage without a name counts as hard
    proofs = rows.filter(verified).sort(
        hard.fill_null(value=True), descending=True, maintain_order=True
    )
    certified = proofs.filter(pl.col("certificate").is_not_null())
    certified = certified.unique(_PLACE, keep="first", maintain_order=True)
    proofs = proofs.unique(_PLACE, keep="first", maintain_order=True)
    chosen = _drawn(proofs["decided_by"].to_list(), budget)
    kept = Kept(results.store, results.rows("verification"))
    others = rows.filter(~verified).select(_CLAIM).unique(maintain_order=True)
    questions = [kept.question(Claim(**row)) for row in others.to_dicts()]
    questions += [
        replace(kept.question(Claim(**row)), derive=i in chosen)
        for i, row in enumerate(proofs.select(_CLAIM).to_dicts())
    ]
    there = Certificates(results.store)
    drawn = proofs[sorted(chosen)].select(_PLACE)
    for row in (certified if every else certified.join(drawn, _PLACE, "semi")).to_dicts():
        claim = Claim(**{name: row[name] for name in _CLAIM})
        content = there.of(claim.measurement_id, claim.sample, row["certificate"])
        questions.append(Question(claim, certified=True, certificate=content))
    names = results.plan(sweep).select("model_id", "model", "training", "seed").unique()
    return Recheck(
        [q for q in questions if _to_do(q)],
        len(proofs),
        len(certified),
        {row["model_id"]: _name(row) for row in names.to_dicts()},
    )


def _to_do(question: Question) -> bool:
    asked = question.certified or question.derive or question.claim.verdict in _ALWAYS
    return bool(asked or question.own or question.others)


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
                found_here = finding(question.claim, "open", why)
                yield replace(found_here, what="certificate") if question.certified else found_here
            continue
        m = found.measurement
        yield from recheck(m.model, inputs.weights, found.setting, questions, budget)


def summary(what: Recheck, found: Sequence[Finding], *, every: bool = False) -> str:
    """One line per kind of claim, then each finding that is not ok.

    Args:
        every: Whether certificates are told of where there are none.
    """
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
    if what.certified or every:
        lines.append(_certificates(what, [one for one in found if one.what == "certificate"]))
    lines += [line(what, one) for one in found if one.outcome != "ok"]
    return "\n".join(lines) + "\n"


def _certificates(what: Recheck, found: Sequence[Finding]) -> str:
    """How many verdicts carry a proof that the second program accepts."""
    counts: Counter[str] = Counter(one.outcome for one in found)
    text = (
        f"certificates: {counts['ok']} of {what.verified} verdicts carry a proof that the second "
        f"program accepts, {counts['wrong']} refused, {counts['open']} not rechecked, "
        f"{what.verified - what.certified} without"
    )
    if looked := what.certified - len(found):
        text += f", {looked} not looked at (--all)"
    accepted = [one for one in found if one.outcome == "ok"]
    if accepted:
        ways = Counter(one.detail.removeprefix("certificate, ") for one in accepted)
        text += "".join(f"; {count} {way}" for way, count in sorted(ways.items()))
        seconds, sizes = (
            sorted(getattr(one, name) for one in accepted) for name in ("seconds", "bytes")
        )
        text += (
            f"; {median(seconds):.2f} s each (median, at most {seconds[-1]:.2f}), "
            f"{median(sizes):.0f} bytes (at most {sizes[-1]})"
        )
    return text


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
