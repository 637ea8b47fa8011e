"""A YAML file whose every key knows its line."""

import difflib
import io
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from robsweep.orchestrator.errors import SpecError

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file: plain values, and the line of each key."""

    name: str
    text: str
    content: Any
    tree: Any
    sets: Mapping[Key, str] = field(default_factory=dict)  # what the command line has set

    def error(self, key: Key, message: str) -> SpecError:
        """An error that says where in the file, or in which `--set`, it arose."""
        line = self._line(key)
        place = ".".join(str(part) for part in key)
        where = f"{self.name}{f':{line}' if line else ''}"
        for name, shown in self.sets.items():
            if key[: len(name)] == name:
                where = shown
            elif name[: len(key)] == key:
                message += f" (with {shown})"
        return SpecError(f"{where}: {place + ': ' if place else ''}{message}")

    def _line(self, key: Key) -> int | None:
        node, line = self.tree, None
        for part in key:
            try:
                if isinstance(node, Mapping):
                    line = node.lc.key(part)[0] + 1  # type: ignore[attr-defined]
                else:
                    line = node.lc.item(part)[0] + 1
                node = node[part]
            except (KeyError, IndexError, TypeError, AttributeError):
                break
        return line


def read(path: Path) -> Document:
    """Reads a YAML file.

    Raises:
        SpecError: No such file, or no valid YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text ({error})") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Parses YAML text.

    Raises:
        SpecError: No valid YAML; says at which line.
    """
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SpecError(f"{name}:{line}: {error.problem or 'not valid YAML'}") from error
    except YAMLError as error:
        raise SpecError(f"{name}: not valid YAML ({error})") from error
    return Document(name, text, _plain(tree), tree)


def from_mapping(mapping: Mapping[str, Any], name: str) -> Document:
    """A mapping as if it had been read from a file; its errors name keys and no lines.

    Raises:
        SpecError: A value that a YAML file cannot hold.
    """
    text = io.StringIO()
    YAML().dump(_written(mapping, (), name), text)
    # what counts is what will be read again
    return Document(name, text.getvalue(), parse(text.getvalue(), name).content, None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'eps'?` where something is near, else what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:
        near = [name for name in names if name.lower() == word.lower()]
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def _written(value: Any, key: Key, name: str) -> Any:
    """A value of a mapping in the types of YAML."""
    if isinstance(value, Mapping):
        return {
            _written(k, (*key, str(k)), name): _written(v, (*key, str(k)), name)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_written(item, (*key, i), name) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | PurePath):
        return str(value)
    if isinstance(value, numbers.Integral):  # numpy's too
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    place = Document(name, "", None, None)
    raise place.error(
        key, f"expected text, numbers, lists and mappings, got {type(value).__name__}: {value!r}"
    )


def _plain(node: Any) -> Any:
    """Without ruamel's types, which compare and print in ways of their own."""
    if isinstance(node, Mapping):
        return {(str(k) if isinstance(k, str) else k): _plain(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
