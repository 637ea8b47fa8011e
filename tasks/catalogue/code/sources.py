"""A user's own modules: where they lie, what they import, and a hash of what they say."""

import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from robsweep.tasks.catalogue.code.source_text import canonical, imports_of
from robsweep.tasks.errors import InputError

# Never looked for among a user's own modules: what Python and robsweep import by these names is
# what they mean. (A test holds the list against all imports of robsweep.)
RESERVED = sys.stdlib_module_names | {
    "robsweep", "PIL", "altair", "eagerpy", "foolbox", "gurobipy", "highspy", "numba", "numpy",
    "onnx", "ortools", "polars", "pooch", "pyarrow", "pydantic", "ray", "rich", "ruamel",
    "safetensors", "scipy", "sklearn", "streamlit", "torch", "typer", "vnnlib",
}  # fmt: skip
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)  # in Python's own order
_STDLIB = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_ROOT = Path(__file__).resolve().parents[3]
_HOUSES = ("robsweep", "tasks", "orchestrator", "dashboards")
_PACKAGED = [_ROOT] if _ROOT.name == "robsweep" and (_ROOT / "__init__.py").is_file() else []
_OURS = tuple(f"{folder}{os.sep}" for folder in (*_PACKAGED, *(_ROOT / h for h in _HOUSES)))


class Found(NamedTuple):
    """A module's file (None: a folder without `__init__.py`), and where its submodules lie."""

    file: str | None
    folders: tuple[str, ...]


class Sources:
    """The local modules of a sweep as of one moment: what was looked at once stays as it was.

    Local is what lies in the sweep's folder or elsewhere on the Python path, but is neither
    installed, nor Python's, nor robsweep's own.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.folders = tuple(os.path.abspath(folder) for folder in (*paths, *sys.path))  # noqa: PTH100 (`""` too)
        self._paths = paths
        self.contents: dict[str, bytes] = {}  # file -> what it held
        self.hashes: dict[str, str] = {}  # of modules with all that they import
        self._found: dict[str, Found] = {}
        self._covered: dict[str, dict[str, str]] = {}

    def find(self, module: str) -> Found | None:
        """Where a local module lies; None if there is none of that name."""
        if module not in self._found:
            found = self._find(module)
            if found is None:
                return None
            self._found[module] = found
        return self._found[module]

    def read(self, file: str) -> bytes:
        if file not in self.contents:
            self.contents[file] = Path(file).read_bytes()
        return self.contents[file]

    def covered(self, name: str) -> dict[str, str]:
        """Module -> file: the one that defines `package.module:function`, and all local modules
        that it imports, however deep.

        Raises:
            InputError: There is no such module.
        """
        module = name.partition(":")[0]
        if module not in self._covered:
            self._covered[module] = {module: self._file_of(name, module), **self._imported(module)}
        return self._covered[module]

    def sha256(self, name: str) -> str:
        """Of what these modules say, comments and docstrings aside.

        A file that has neither, and imports no local module, has the SHA-256 of its bytes.

        Raises:
            InputError: There is no such module.
        """
        module = name.partition(":")[0]
        if module not in self.hashes:
            texts = {other: self._text(file) for other, file in self.covered(name).items()}
            own = hashlib.sha256(texts.pop(module)).hexdigest()
            others = {o: hashlib.sha256(t).hexdigest() for o, t in texts.items() if t.strip()}
            if others:
                whole = json.dumps([own, others], sort_keys=True, separators=(",", ":"))
                own = hashlib.sha256(whole.encode()).hexdigest()
            self.hashes[module] = own
        return self.hashes[module]

    def _text(self, file: str) -> bytes:
        content = self.read(file)
        return canonical(content) if file.endswith(".py") else content

    def _find(self, module: str) -> Found | None:
        parts = module.split(".")
        found = None if parts[0] in RESERVED else _in(self.folders, parts[0])
        for part in parts[1:]:
            found = found and _in(found.folders, part)
        if found is None:
            return None
        places = found.folders if found.file is None else (found.file,)
        return found if any(is_local(place) for place in places) else None

    def _file_of(self, name: str, module: str) -> str:
        found = self.find(module)
        if found is not None and found.file is not None:
            return found.file
        top = module.partition(".")[0]
        mine = _in(self.folders, top) if top in RESERVED else None
        if mine is not None and mine.file is not None and is_local(mine.file):
            raise InputError(
                f"{name}: {top!r} is the name of a module that Python or robsweep needs itself: "
                "give your own another name"
            )
        file, reason = _elsewhere(module)
        if file is None:
            where = ", ".join(self._paths) or "the Python path"
            raise InputError(f"{name}: {reason}; looked in {where} and the installed packages")
        if is_local(file):  # an editable install: its other modules lie beside it
            depth = module.count(".") + (Path(file).stem == "__init__")
            self.folders = (*self.folders, str(Path(file).parents[depth]))
            self._found.clear()
        return file

    def _imported(self, module: str) -> dict[str, str]:
        files: dict[str, str] = {}
        todo, seen = [module], set[str]()
        while todo:
            parts = todo.pop().split(".")
            for depth in range(1, len(parts) + 1):  # packages run when what is in them is imported
                name = ".".join(parts[:depth])
                if name in seen or (found := self.find(name)) is None:
                    seen.add(name)
                    continue
                seen.add(name)
                if found.file is not None:
                    files[name] = found.file
                    if found.file.endswith(".py"):
                        package = name if found.folders else name.rpartition(".")[0]
                        todo += self._named(package, self.read(found.file))
        return files

    def _named(self, package: str, content: bytes) -> Iterator[str]:
        """Every name that a module of a package imports and that may be a module."""
        for level, base, names in imports_of(content):
            above = package.split(".")[: len(package.split(".")) - level + 1]
            if level and (not package or not above):
                continue  # beyond the top: it raises when it runs
            full = ".".join([*(above if level else ()), *([base] if base else ())])
            yield full
            for name in names:
                if name != "*":
                    yield f"{full}.{name}"
                elif (found := self.find(full)) is not None:
                    yield from (f"{full}.{inner}" for inner in _inside(found.folders))


def is_local(place: str) -> bool:
    """Whether a file or folder is a user's: not installed, not Python's, not robsweep's own."""
    if {"site-packages", "dist-packages"} & {*Path(place).parts}:
        return False
    return not place.startswith(_STDLIB) and not str(Path(place).resolve()).startswith(_OURS)


def _in(folders: tuple[str, ...], part: str) -> Found | None:
    """What importing `part` finds in these folders; files as they are now, whatever was cached."""
    portions = []
    for folder in folders:
        base = os.path.join(folder, part)  # noqa: PTH118 (thousands of these)
        for suffix in _SUFFIXES:
            if os.path.isfile(file := os.path.join(base, f"__init__{suffix}")):  # noqa: PTH113, PTH118
                return Found(file, (base,))
        for suffix in _SUFFIXES:
            if os.path.isfile(base + suffix):  # noqa: PTH113
                return Found(base + suffix, ())
        if os.path.isdir(base):  # noqa: PTH112
            portions.append(base)
    return Found(None, tuple(portions)) if portions else None


def _inside(folders: tuple[str, ...]) -> Iterator[str]:
    for folder in folders:
        for path in sorted(Path(folder).iterdir()):
            if path.suffix in SOURCE_SUFFIXES or path.is_dir():
                yield path.stem


def _elsewhere(module: str) -> tuple[str | None, str]:
    """The file of a module that is no local one, or why there is none."""
    reason = f"No module named {module!r}"
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # noqa: BLE001 (packages run when they are looked into)
        return None, f"{type(error).__name__}: {error}"
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None, reason
    # what this process holds of a user's own may be of a folder that is no longer on the path
    return (None, reason) if module in sys.modules and is_local(spec.origin) else (spec.origin, "")
