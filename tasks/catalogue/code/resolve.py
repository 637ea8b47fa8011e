"""From a dotted path to the function behind it."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from robsweep.tasks.catalogue.code.install import how_to_install
from robsweep.tasks.catalogue.code.own_code import module_of
from robsweep.tasks.errors import InputError

OURS = "robsweep.tasks"  # where the catalogue's paths, which begin with a dot, start


def resolve(path: str, what: str) -> Callable[..., Any]:
    """Imports `package.module:function`, a user's, or `.module:function` of this house.

    Args:
        what: The family, for messages: "model", "attack", ...

    Raises:
        InputError: Not such a path, or nothing callable behind it.
    """
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise InputError(
            f"{what} {path!r} is neither a catalogue name nor 'package.module:function'; "
            f"see `robsweep list`"
        )
    try:
        module = import_module(module_name, OURS) if is_ours(path) else module_of(path)
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise InputError(
            f"{what} {path!r}: importing module {module_name!r} raised "
            f"{type(error).__name__}: {error}. Install it, or name its folder as an import path"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{what} {path!r}: module {module_name!r} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def is_ours(path: str) -> bool:
    """Whether a path is the catalogue's, not a user's."""
    return path.startswith(".")


def optional(module_name: str, extra: str) -> ModuleType:
    """Imports a library that only some jobs need.

    Raises:
        InputError: It is not installed; says which extra of robsweep brings it.
    """
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{module_name} is not installed ({error}): {how_to_install(extra)}"
        ) from error
