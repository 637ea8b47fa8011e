"""Adversarials as OOD sets: data sets that an attack of this sweep, or of another, has made."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Attacked, Planned, PlannedModel
from robsweep.orchestrator.ranges import intersect, subtract
from robsweep.orchestrator.spec.selection import matching
from robsweep.orchestrator.spec.spec import DatasetSpec, OodSpec
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks.catalogue.words import ADVERSARIALS, Adversarials, eps_name


class Made(NamedTuple):
    """Adversarials at one eps: sample by sample those of the split that was attacked."""

    dataset: DatasetSpec
    samples: tuple[int, int]  # those that were attacked
    group: int  # in which they are there whole
    label: str  # `adversarials:ENTRY:EPS`
    needs: tuple[str, ...]


def attacked_of(planned: Sequence[Planned]) -> list[Attacked]:
    """Measured attacks of this sweep."""
    found = []
    for one in planned:
        m = one.measurement
        radii = m.params["eps"]
        found.append(
            Attacked(
                m.measurement_id, one.entry, one.model, m.model.model_id, m.dataset, m.split,
                (None,) if radii is None else tuple(radii), one.wanted, one.group, one.size,
                needs=(m.measurement_id,),
            )
        )  # fmt: skip
    return found


def adversarial_sets(
    make: Make, model: PlannedModel, name: str, entry: OodSpec, own: Sequence[Attacked]
) -> Iterator[Made]:
    """The sets of an entry of `ood:` that are adversarials, one per attack and eps.

    Args:
        own: Attacks of this sweep on the model.

    Raises:
        InputError: Another sweep has no such attack, or none of this model.
    """
    for word in entry.adversarials:
        here = [a for a in own if a.entry in matching(word, make.spec.attacks)]
        for attack in here or _elsewhere(make, model, name, word):
            (start, stop) = attack.wanted[0]
            if entry.ood_samples is not None:
                asked = intersect((entry.ood_samples,), attack.wanted)
                if subtract((entry.ood_samples,), asked):
                    low, high = entry.ood_samples
                    raise InputError(
                        f"ood.{name}.ood_samples: asks for samples {low} to {high}, {word} attacks "
                        f"{start} to {stop}"
                    )
                start, stop = entry.ood_samples
            for eps in attack.eps:
                made = Adversarials(attack.measurement_id, eps_name(eps))
                prefix = "" if here else f"{word.partition('/')[0]}/"
                label = f"{ADVERSARIALS}{prefix}{attack.entry}:{made.eps}"
                dataset = DatasetSpec(
                    name=made.name,
                    splits={attack.split: attack.size},
                    shape=make.spec.dataset.shape,
                    classes=make.spec.dataset.classes,
                    split=attack.split,
                )
                yield Made(dataset, (start, stop), attack.group, label, attack.needs)


def _elsewhere(make: Make, model: PlannedModel, name: str, word: str) -> list[Attacked]:
    """Attacks of another sweep on the same model; or on the only one that they attack."""
    if matching(word, make.spec.attacks):  # of this sweep, and of other models
        return []
    sweep, _, attack = word.partition("/")
    where = f"ood.{name}.sets: {ADVERSARIALS}{word}"
    there = make.places.attacks(sweep) if make.places.attacks is not None else None
    if there is None:
        raise InputError(f"{where}: there is no sweep {sweep!r} on this store: run it first")
    names = list(dict.fromkeys(a.entry for a in there))
    found = [a for a in there if a.entry in matching(attack, names)]
    if not found:
        raise InputError(
            f"{where}: sweep {sweep!r} has no attack {attack!r}{did_you_mean(attack, names)}"
        )
    same = [a for a in found if a.model_id == model.ref.model_id]
    if same or len({a.model_id for a in found}) == 1:
        return same or found
    attacked = ", ".join(dict.fromkeys(a.model for a in found))
    raise InputError(
        f"{where}: it has attacked {attacked}, and not the very model {model.name} of this sweep: "
        "leave that out with `exclude:`"
    )
