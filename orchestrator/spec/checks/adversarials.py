"""Whether the attacks are there whose adversarials a sweep takes for OOD sets."""

from robsweep.orchestrator.spec.selection import matching, selected, without_axes
from robsweep.orchestrator.spec.spec import OodSpec, SweepSpec
from robsweep.orchestrator.spec.versions import all_versions
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses adversarials that nothing makes; those of other sweeps are looked for when planned.

    Raises:
        SpecError: With file, line, what is wrong and how to fix it.
    """
    for name, entry in spec.ood.items():
        key: Key = ("ood", without_axes(name), "sets")
        for word in entry.adversarials:
            found = matching(word, spec.attacks)
            if found:
                _check_made(document, key, spec, entry, word)
            elif "/" not in word:
                known = did_you_mean(word, spec.attacks)
                raise document.error(key, f"no attack of this sweep is named {word!r}{known}")


def _check_made(document: Document, key: Key, spec: SweepSpec, entry: OodSpec, word: str) -> None:
    attacks = {name: spec.attacks[name] for name in matching(word, spec.attacks)}
    for name, attack in attacks.items():
        if not attack.keep_adversarials:
            raise document.error(key, f"{name} keeps none: it says `keep_adversarials: false`")
    for model, version in all_versions(spec):
        if selected(entry, model, version.training) and not any(
            selected(attack, model, version.training) for attack in attacks.values()
        ):
            raise document.error(
                key,
                f"{word} does not attack {model}: leave that out here (`exclude: [{model}]`), or "
                "attack it too",
            )
