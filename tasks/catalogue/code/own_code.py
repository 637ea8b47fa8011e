"""A user's own modules in this process: those that the job at hand was planned with, no others."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from robsweep.tasks.catalogue.code.sources import RESERVED, Sources
from robsweep.tasks.errors import InputError

_KEPT = 4  # sweeps whose modules stay for the next job of this process


class _Modules:
    """The local modules of a sweep as of one moment, read once and imported at most once."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths, self.sources = paths, Sources(paths)
        self.imported: dict[str, ModuleType] = {}

    def fit(self, code: Mapping[str, str]) -> bool:
        """Whether they are what a job wants, however the files have changed since.

        Args:
            code: Names of functions -> hashes of their sources when the sweep was planned.
        """
        sources, planned = self.sources, set[str]()
        try:
            code = code or {n: Sources(self.paths).sha256(n) for n in sources.hashes}
            for name, wanted in code.items():
                if sources.sha256(name) != wanted:
                    return False
                planned |= {*sources.covered(name).values()}
        except InputError:
            return False
        return all(file in planned or _same(file, held) for file, held in sources.contents.items())

    # the protocol of sys.meta_path
    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        del path, target
        found = self.sources.find(name)
        if found is None:
            return None
        if found.file is None:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [*found.folders]
            return spec
        loader = _AsRead(found.file, self.sources) if found.file.endswith(".py") else None
        inside = [*found.folders] or None
        return spec_from_file_location(
            name, found.file, loader=loader, submodule_search_locations=inside
        )


class _AsRead(SourceLoader):
    """Runs a file as it was read for its hash; no bytecode, whose times are coarse."""

    def __init__(self, file: str, sources: Sources) -> None:
        self._file, self._sources = file, sources

    def get_filename(self, fullname: str) -> str:
        del fullname
        return self._file

    def get_data(self, path: str | bytes) -> bytes:
        if path != self._file:
            raise OSError(path)
        return self._sources.read(self._file)


_kept: dict[tuple[str, ...], _Modules] = {}
_job: "OwnCode | None" = None


class OwnCode:
    """What one job uses of a user's own."""

    def __init__(
        self,
        paths: tuple[str, ...],
        code: Mapping[str, str],
        importing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.paths, self._code, self._importing = paths, code, importing
        self._modules: _Modules | None = None
        self._before: dict[str, ModuleType] = {}

    @property
    def used(self) -> bool:
        return self._modules is not None

    def module(self, path: str) -> ModuleType:
        """The module of `package.module:function`, as planned.

        Raises:
            InputError: It has changed since.
            Exception: What the module itself raises.
        """
        modules = self._modules or self._enter()
        wanted = self._code.get(path)
        if wanted is not None and modules.sources.sha256(path) != wanted:
            raise InputError(
                f"{path} or a module that it imports has changed since the sweep was planned: "
                "run it again"
            )
        for covered in modules.sources.covered(path):
            self._hide(covered.partition(".")[0])
        with self._importing():
            return import_module(path.partition(":")[0])

    def _enter(self) -> _Modules:
        modules = _kept.pop(self.paths, None)
        if modules is None or not modules.fit(self._code):
            modules = _Modules(self.paths)
        _kept[self.paths] = self._modules = modules
        while len(_kept) > _KEPT:
            _kept.pop(next(iter(_kept)))
        self._before = {**sys.modules}
        folders = tuple(str(Path(path, "_"))[:-1] for path in self.paths)
        for name, module in self._before.items():
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.startswith(folders):
                self._hide(name.partition(".")[0])
        sys.modules.update(modules.imported)
        sys.meta_path.insert(0, modules)
        return modules

    def _hide(self, top: str) -> None:
        """Sets aside what this process had loaded by a name that is a user's own here."""
        assert self._modules is not None
        if top == "__main__" or self._modules.sources.find(top) is None:
            return
        for name, module in [*sys.modules.items()]:
            if name.partition(".")[0] == top and module is self._before.get(name):
                del sys.modules[name]

    def leave(self) -> None:
        """Leaves `sys.modules` as it was before the job, but for installed ones that it loaded."""
        if self._modules is None:
            return
        sys.meta_path.remove(self._modules)
        for name, module in [*sys.modules.items()]:
            if module is not self._before.get(name) and self._modules.sources.find(name):
                self._modules.imported[name] = sys.modules.pop(name)
        sys.modules.update(self._before)


@contextmanager
def importable(
    paths: Sequence[str],
    code: Mapping[str, str],
    importing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[OwnCode]:
    """Makes a sweep's own modules importable for one job, and for no longer.

    A module is imported once in a process and kept for later jobs, until what it was made of is no
    longer what a job was planned with. What the process has loaded by the same names is set aside.

    Args:
        paths: Folders that come before the Python path.
        code: Names of functions -> hashes of their sources when the sweep was planned; what is not
            named there is taken as it lies in its file now.
        importing: What imports run in.
    """
    global _job  # noqa: PLW0603 (as sys.modules is)
    outer, own = _job, OwnCode(tuple(paths), code, importing)
    if outer is not None and outer.paths == own.paths:
        yield outer
        return
    _job = own
    try:
        yield own
    finally:
        own.leave()
        _job = outer


def module_of(path: str) -> ModuleType:
    """Imports the module of `package.module:function`, a user's own or an installed one."""
    name = path.partition(":")[0]
    if _job is None or name.partition(".")[0] in RESERVED:
        return import_module(name)
    return _job.module(path)


def _same(file: str, content: bytes) -> bool:
    try:
        return Path(file).read_bytes() == content
    except OSError:
        return False
