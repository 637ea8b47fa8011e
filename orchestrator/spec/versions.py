"""The versions of a model in a sweep: one per training, or one per make-up of an ensemble."""

from collections.abc import Iterator
from typing import NamedTuple

from robsweep.orchestrator.spec.selection import excluded, matching, selected
from robsweep.orchestrator.spec.spec import SweepSpec


class Member(NamedTuple):
    """One version of a model, by its names; an imported one has no training."""

    model: str
    training: str | None


class Version(NamedTuple):
    """A model under a training. Without members it is trained (or imported), else assembled."""

    training: str | None
    start: str | None = None  # the training whose weights it starts from
    members: tuple[Member, ...] = ()

    @property
    def seeded(self) -> bool:
        """Whether a training was part of it: then there is one per seed."""
        return self.training is not None or any(m.training is not None for m in self.members)


def all_versions(spec: SweepSpec) -> Iterator[tuple[str, Version]]:
    """The versions of all models, each behind those that it is made of."""
    for name in sorted(spec.models, key=lambda name: bool(spec.models[name].members)):
        for version in versions(spec, name):
            yield name, version


def versions(spec: SweepSpec, name: str) -> list[Version]:
    """The versions of one model, each behind the one that it starts from.

    A training with `start:` trains an ensemble as a whole; under all others it is put together of
    its members, where all of them have that training.
    """
    model = spec.models[name]
    if model.imported:
        return [Version(None)]
    trained = [
        Version(training, start_of(spec, training))
        for training, entry in spec.trainings.items()
        if selected(entry, name, training) and (entry.start is not None or not model.members)
    ]
    trained.sort(key=lambda version: len(_starts(spec, str(version.training))))
    if not model.members:
        return trained
    whole = {version.training for version in trained}
    return [*(v for v in assembled(spec, name) if v.training not in whole), *trained]


def start_of(spec: SweepSpec, training: str) -> str | None:
    """The full name of the training that a training starts from."""
    word = spec.trainings[training].start
    return None if word is None else matching(word, spec.trainings)[0]


def assembled(spec: SweepSpec, name: str) -> list[Version]:
    """The versions of an ensemble that are put together of its members."""
    named = [slot for word in spec.models[name].members for slot in slots(spec, word)]
    free = {m for m, training in named if training is None and not spec.models[m].imported}
    if not free:
        own = {training for _, training in named if training is not None}
        return [Version(own.pop() if len(own) == 1 else None, members=tuple(named))]
    return [
        Version(
            training,
            members=tuple(Member(m, own or (training if m in free else None)) for m, own in named),
        )
        for training, entry in spec.trainings.items()
        if all(selected(entry, m, training) for m in free) and not excluded(entry, name, training)
    ]


def slots(spec: SweepSpec, word: str) -> list[Member]:
    """What a word of `members:` stands for; without a training of its own, that is left open."""
    model_word, _, training_word = word.partition("/")
    models = matching(model_word, spec.models)
    if not training_word:
        return [Member(model, None) for model in models]
    return [
        Member(model, training)
        for model in models
        for training in matching(training_word, spec.trainings)
        if selected(spec.trainings[training], model, training)
    ]


def _starts(spec: SweepSpec, training: str) -> list[str]:
    """The trainings before a training, until one that starts afresh; or the first to come twice."""
    before: list[str] = []
    start = start_of(spec, training)
    while start is not None and start not in before:
        before.append(start)
        start = start_of(spec, start)
    return before
