"""Rechecks what a store claims about one model."""

import math
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from robsweep.tasks.catalogue.code.own_code import importable
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef, Setting
from robsweep.tasks.load import labelled_data_for
from robsweep.tasks.models.load import forget_all, load
from robsweep.tasks.own_functions import importing
from robsweep.tasks.recheck import certificates
from robsweep.tasks.recheck.chain import as_certified
from robsweep.tasks.recheck.claims import Budget, Finding, Question, finding
from robsweep.tasks.recheck.counterexamples import Subject, confirm, not_the_label, refutes
from robsweep.tasks.recheck.network import read
from robsweep.tasks.recheck.proofs import Shown, derive

_WORSE = ("ok", "open", "wrong")


def recheck(
    ref: ModelRef,
    weights: bytes | None,
    setting: Setting,
    questions: Sequence[Question],
    budget: Budget,
) -> Iterator[Finding]:
    """One finding per claim about a model that there is something to recheck of.

    A model that cannot be read here leaves all its claims open.
    """
    with importable(setting.import_paths, setting.code, importing) as own:
        yield from _findings(ref, weights, setting, questions, budget)
    if own.used:
        forget_all()


def _findings(
    ref: ModelRef,
    weights: bytes | None,
    setting: Setting,
    questions: Sequence[Question],
    budget: Budget,
) -> Iterator[Finding]:
    loaded = load(ref, weights, torch.device("cpu"))
    try:
        subject = Subject(loaded.model, read(loaded.model, ref.shape))
    except InputError as error:
        for question in questions:
            yield _named(question, finding(question.claim, "open", str(error)))
        return
    network = as_certified(subject.layers, math.prod(ref.shape))
    for question in questions:
        claim, started = question.claim, time.monotonic()
        shown: Shown | None
        if claim.weights_sha256 not in (None, loaded.weights_sha256):
            shown = Shown("open", "the model's weights are not those that the verdict is about")
        elif question.certified:
            data = labelled_data_for(ref, claim.dataset, claim.split, setting, (claim.sample,))
            image, label = data.images[claim.sample].numpy(), int(data.labels[claim.sample])
            shown = certificates.shown(claim, network, image, label, question.certificate)
        elif claim.norm != "linf" or claim.property != "untargeted" or claim.eps is None:
            what = f"property {claim.property!r} in norm {claim.norm}"
            shown = Shown("open", f"another property: {what} cannot be rechecked")
        else:
            data = labelled_data_for(ref, claim.dataset, claim.split, setting, (claim.sample,))
            shown = _shown(subject, data, question, claim.eps, budget)
        if shown is not None:
            found = finding(claim, *shown, time.monotonic() - started)
            yield _named(question, found)


def _named(question: Question, found: Finding) -> Finding:
    """What is checked of a certificate is about it, not about a proof that is derived here."""
    if not question.certified:
        return found
    size = 0 if question.certificate is None else len(zlib.compress(question.certificate, 9))
    return replace(found, what="certificate", bytes=size)


def _shown(
    subject: Subject, data: Labelled, question: Question, eps: float, budget: Budget
) -> Shown | None:
    """What the store's counterexamples show, then what can be derived; None: nothing to do."""
    claim = question.claim
    image, label = data.images[claim.sample].numpy(), int(data.labels[claim.sample])
    if claim.verdict == "misclassified":
        return not_the_label(subject, image, label)
    kept = (*question.own, *question.others)
    if claim.verdict == "verified":
        if any(refutes(subject, image, label, eps, point) for point in kept):
            return Shown("wrong", "the store holds a counterexample that is one")
        if not question.derive:
            return None
        limit, seed = budget.time_limit_seconds, budget.seed + claim.sample
        return derive(subject.layers, image, label, eps, limit, seed)
    if question.own:
        found = [confirm(subject, image, label, eps, point) for point in question.own]
        return max(found, key=lambda shown: _WORSE.index(shown.outcome))
    if claim.verdict != "falsified":
        return None
    found = [confirm(subject, image, label, eps, point) for point in question.others]
    if any(shown.outcome == "ok" for shown in found):
        return Shown("ok", "by a counterexample of another measurement")
    return Shown("wrong", "its counterexample is missing or damaged")
