"""Values in a sweep file: numbers, axes, and parameters held against the catalogue."""

import itertools
import math
import random
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean
from robsweep.tasks.catalogue.values import CHOICES, RANGES, REFUSED

_FRACTION = re.compile(r"\s*([0-9.eE+-]+)\s*/\s*([0-9.eE+-]+)\s*")


def number(value: Any) -> float:
    """A finite float from a number or a fraction such as `8/255`.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        divisor = float(match[2])
        if divisor == 0:
            raise ValueError(f"{value!r} divides by zero")
        value = float(match[1]) / divisor
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")  # noqa: TRY004 (one kind of error)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value) + 0.0  # -0.0 and 0.0 are one number, and must be one text


def of_user(value: Any) -> Any:
    """A parameter of a user's function, whose type nobody knows: fractions become numbers.

    Raises:
        ValueError: It is no plain finite value.
    """
    if isinstance(value, list):
        return [of_user(item) for item in value]
    if isinstance(value, float) or (isinstance(value, str) and _FRACTION.fullmatch(value)):
        return number(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"expected a number, text, true, false or a list, got {value!r}")


def expand(
    document: Document, key: Key, body: Mapping[str, Any], lists: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All combinations of an entry's axes, each with the suffix that names it.

    A list where a scalar is expected is an axis; so is `{random: [low, high], n: 5}`, a seeded
    sample, uniform or with `scale: log` log-uniform.

    Args:
        lists: Keys whose value is a list by nature.
    """
    axes: dict[str, list[Any]] = {}
    for name, value in body.items():
        if isinstance(value, Mapping) and "random" in value:
            axes[name] = _sample(document, (*key, name), value)
        elif isinstance(value, list) and (
            name not in lists or (value and all(isinstance(item, list) for item in value))
        ):
            axes[name] = value
    for name, values in axes.items():
        if not values:
            raise document.error((*key, name), "an empty list: give at least one value")
    shown = [name for name, values in axes.items() if len(values) > 1]
    for choice in itertools.product(*axes.values()):
        chosen = dict(zip(axes, choice, strict=True))
        suffix = ",".join(f"{name}={_short(chosen[name])}" for name in shown)
        yield f"[{suffix}]" if suffix else "", {**body, **chosen}


def resolve(
    document: Document,
    key: Key,
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    later: Collection[str] = (),
) -> dict[str, Any]:
    """An entry's parameters: those given, checked, and the defaults of the others.

    Args:
        later: Parameters that are left out where they have their default, given or not.

    Raises:
        SpecError: A parameter is unknown, missing, or of another type.
    """
    for name in given:
        if name not in defaults:
            raise document.error(
                (*key, name), f"unknown key {name!r}{did_you_mean(name, defaults)}"
            )
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        if name not in given:
            if isinstance(default, type):
                raise document.error(key, f"needs {name!r} (a {default.__name__})")
            values[name] = _copied(default)
            continue
        try:
            values[name] = _typed(default, given[name])
            _check_range(name, values[name])
            _check_words(name, values[name])
        except ValueError as error:
            raise document.error((*key, name), str(error)) from error
    return {
        name: value
        for name, value in values.items()
        if name not in later or value != _copied(defaults[name])
    }


def _check_range(name: str, value: Any) -> None:
    if name not in RANGES:
        return
    low, high = RANGES[name]
    for item in value if isinstance(value, list) else [value]:
        if not low <= item <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"expected {wanted}, got {item!r}")


def _check_words(name: str, value: Any) -> None:
    if name in CHOICES:
        known = CHOICES[name]
        if value == []:
            raise ValueError(f"an empty list: name at least one of {', '.join(known)}")
        for word in value if isinstance(value, list) else [value]:
            if word not in known:
                raise ValueError(f"unknown {name} {word!r}{did_you_mean(str(word), known)}")
    for word in REFUSED.get(name, ()):
        if word in value:
            raise ValueError(f"{word!r} cannot be set: {REFUSED[name][word]}")


def _copied(default: Any) -> Any:
    if isinstance(default, Mapping):
        return dict(default)
    return list(default) if isinstance(default, tuple | list) else default


def _typed(default: Any, value: Any) -> Any:
    if isinstance(default, Mapping):
        return _plain_values(value)
    if isinstance(default, tuple | list):
        items = value if isinstance(value, list) else [value]
        return [_typed(default[0], item) if default else item for item in items]
    kind = default if isinstance(default, type) else type(default)
    if default is None:
        return value
    if kind is float:
        return number(value)
    if kind is int:
        whole = number(value)
        if whole != int(whole):
            raise ValueError(f"expected a whole number, got {value!r}")
        return int(whole)
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got {value!r}")  # noqa: TRY004
    return value


def _plain_values(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected names with values, e.g. {{name: 1}}, got {value!r}")  # noqa: TRY004
    for name, one in value.items():
        if not isinstance(name, str) or not isinstance(one, bool | int | float | str):
            raise ValueError(  # noqa: TRY004
                f"expected a number, text, true or false for {name!r}, got {one!r}; "
                "an axis is a list of whole mappings"
            )
        if isinstance(one, float):
            number(one)
    return dict(value)


def _sample(document: Document, key: Key, axis: Mapping[str, Any]) -> list[float]:
    known = {"random", "n", "scale", "seed"}
    for name in axis:
        if name not in known:
            raise document.error((*key, name), f"unknown key {name!r}{did_you_mean(name, known)}")
    try:
        low, high = (number(end) for end in axis["random"])
        count, scale = int(axis.get("n", 1)), axis.get("scale", "linear")
        generator = random.Random(int(axis.get("seed", 0)))
        if not low < high or count < 1 or scale not in {"linear", "log"}:
            raise ValueError("low < high, n >= 1, scale linear or log")
        if scale == "log" and low <= 0:
            raise ValueError("a log scale needs low > 0")
    except (TypeError, ValueError) as error:
        raise document.error(key, f"expected {{random: [low, high], n: 5}}: {error}") from error
    draw = generator.uniform
    if scale == "log":
        return [math.exp(draw(math.log(low), math.log(high))) for _ in range(count)]
    return [draw(low, high) for _ in range(count)]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "x".join(_short(item) for item in value)
    if isinstance(value, Mapping):
        return "+".join(f"{name}={_short(one)}" for name, one in value.items()) or "none"
    return str(value)


def unknown_name(family: str, word: str, known: Collection[str]) -> str:
    """Message for a name that the catalogue does not have."""
    return (
        f"unknown {family} {word!r}{did_you_mean(word, known)} "
        f"(`robsweep list` shows all; a function of yours is named package.module:function)"
    )
