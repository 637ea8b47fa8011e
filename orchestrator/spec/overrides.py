"""Values that the command line sets in a sweep file: `--set trainings.fgsm.eps=0.2`."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from robsweep.orchestrator.errors import SpecError
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean, parse


def override(document: Document, assignments: Sequence[str]) -> Document:
    """The document with some of its values replaced, as if it had been written so.

    An assignment is `KEY=VALUE`: a dotted path into the file, and YAML. All of the path but its
    last key must be there, except below `resources:`; names may have dots in them. Of two
    assignments to one key the later holds. The text of the result has no comments.

    Raises:
        SpecError: One is of another form, or leads nowhere; says which.
    """
    if not assignments:
        return document
    content = _copied(document.content)
    sets: dict[Key, str] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise SpecError(f"--set {assignment}: expected KEY=VALUE, e.g. attacks.pgd.steps=20")
        shown = f"--set {assignment}"
        key = _assign(content, path, parse(value, shown).content, shown)
        sets[key] = shown
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.dump(content, text)
    head = "".join(f"# {' '.join(line.split())}\n" for line in [document.name, *sets.values()])
    return replace(document, text=head + text.getvalue(), content=content, sets=sets)


def _assign(content: Any, path: str, value: Any, shown: str) -> Key:
    """Puts a value where the path leads; returns the key that is new, or has a new value."""
    node, rest = content, path
    key: Key = ()
    made: Key | None = None
    while True:
        place = ".".join(map(str, key)) or "the file"
        if not isinstance(node, dict):
            raise SpecError(f"{shown}: {place} has no keys: set it as a whole")
        first = rest.split(".", maxsplit=1)[0]
        name = _longest(node, rest)
        if name is None and first == rest:  # a new key: whether it may be there is checked later
            name = rest
        if name is None:
            if (*key, first)[0] != "resources":
                hint = did_you_mean(first, [str(known) for known in node])
                raise SpecError(f"{shown}: {place} has no {first!r}{hint}")
            name = first
        key = (*key, name)
        if str(name) == rest:
            node[name] = value
            return made or key
        if node.get(name) is None:  # not there, or `temperature:` alone
            made = made or (None if name in node else key)
            node[name] = {}
        node, rest = node[name], rest[len(str(name)) + 1 :]


def _longest(node: Mapping[Any, Any], rest: str) -> Any:
    """The key that a path begins with; of several the longest, as names may have dots."""
    there = [name for name in node if rest == str(name) or rest.startswith(f"{name}.")]
    return max(there, key=lambda name: len(str(name)), default=None)


def _copied(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(item) for item in node] if isinstance(node, list) else node
