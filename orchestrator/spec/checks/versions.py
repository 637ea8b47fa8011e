"""Whether what `members:` and `start:` of a sweep file name is there."""

from robsweep.orchestrator.spec.selection import matching, selected, without_axes
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.versions import assembled, slots, versions
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean


def check(document: Document, spec: SweepSpec) -> None:
    """Whether all that `members:` and `start:` name is there.

    Raises:
        SpecError: It is not, or an ensemble or training is made of itself.
    """
    for training in spec.trainings:
        _check_start(document, spec, training)
    for name, model in spec.models.items():
        if model.members:
            _check_members(document, spec, name)
        found = versions(spec, name)
        for version in found:
            start = version.start
            if start is not None and start not in {other.training for other in found}:
                raise document.error(
                    ("trainings", without_axes(str(version.training)), "start"),
                    f"there is no {name}/{start} to start from: leave {name} out with `exclude:`",
                )
    ensembles = {name for name, model in spec.models.items() if model.members}
    for training, entry in spec.trainings.items():
        named = {name for name in spec.models if entry.only and selected(entry, name, training)}
        if named and named <= ensembles and entry.start is None:
            raise document.error(
                ("trainings", without_axes(training), "only"),
                f"{min(named)} is put together of its members: "
                "give `start: NAME`, a training of them, to train it as a whole",
            )


def _check_start(document: Document, spec: SweepSpec, training: str) -> None:
    key: Key = ("trainings", without_axes(training), "start")
    word = spec.trainings[training].start
    if word is None:
        return
    found = matching(word, spec.trainings)
    if not found:
        raise document.error(
            key, f"no training is named {word!r}{did_you_mean(word, spec.trainings)}"
        )
    if len(found) > 1:
        raise document.error(key, f"{word!r} is several: name one of {', '.join(found)}")
    before = [training]
    while (start := spec.trainings[before[-1]].start) is not None:
        following = matching(start, spec.trainings)
        if len(following) != 1:  # a mistake of its own
            return
        before.append(following[0])
        if before[-1] in before[:-1]:
            raise document.error(key, f"goes round in a circle: {' from '.join(before)}")


def _check_members(document: Document, spec: SweepSpec, name: str) -> None:
    model = spec.models[name]
    key: Key = ("models", without_axes(name), "members")
    for word in model.members:
        _check_member(document, spec, key, word)
    found = assembled(spec, name)
    if not found:
        raise document.error(
            key, f"no training is there for all of its members: {', '.join(model.members)}"
        )
    for _, _, members in found:
        twice = [member for i, member in enumerate(members) if member in members[:i]]
        if twice:
            named = "/".join(part for part in twice[0] if part is not None)
            raise document.error(key, f"the same member twice: {named}")
        if len(members) < 2:
            raise document.error(key, f"one member is no ensemble: give more than {members[0][0]}")


def _check_member(document: Document, spec: SweepSpec, key: Key, word: str) -> None:
    model_word, _, training_word = word.partition("/")
    models = matching(model_word, spec.models)
    if not models:
        raise document.error(
            key, f"no model is named {model_word!r}{did_you_mean(model_word, spec.models)}"
        )
    if training_word and not matching(training_word, spec.trainings):
        known = did_you_mean(training_word, spec.trainings)
        raise document.error(key, f"no training is named {training_word!r}{known}")
    for model in models:
        member = spec.models[model]
        if member.members:
            raise document.error(key, f"{model} is an ensemble: name its members instead")
        if member.name == "onnx":
            raise document.error(
                key,
                f"{model} is an ONNX file, which cannot be a member: give its architecture as a "
                "function, and its weights as safetensors or a state dict",
            )
        if training_word and member.imported:
            raise document.error(key, f"{model} is imported: name it without a training")
    if training_word and not slots(spec, word):
        raise document.error(key, f"{model_word} is not trained by {training_word!r}")
