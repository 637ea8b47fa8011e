"""The types of the values in a sweep file: how numbers, ranges and names may be written."""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from robsweep.orchestrator.spec.parameters import number


def _eps(value: Any) -> float:
    eps = number(value)
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {value!r}")
    return eps


def _eps_list(value: Any) -> Any:
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError("an empty list: give at least one eps")
    return tuple(sorted({_eps(item) for item in values}))


def check_pixels(norm: str, eps: float) -> None:
    if norm == "linf" and eps > 1:
        raise ValueError(f"eps {eps:g} in norm linf: pixels are 0 to 1, write e.g. 8/255")


def _numbers(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else [value]
    found = tuple(sorted({number(item) for item in values}))
    if not found or found[0] <= 0:
        raise ValueError(f"expected numbers above 0, got {value!r}")
    return found


def _range(value: Any) -> Any:
    if value is None:
        return None
    pair = [0, value] if not isinstance(value, list | tuple) else list(value)
    if len(pair) != 2 or any(isinstance(end, bool) or not isinstance(end, int) for end in pair):
        raise ValueError(f"expected a number of samples or [start, stop], got {value!r}")
    if not 0 <= pair[0] < pair[1]:
        raise ValueError(f"expected 0 <= start < stop, got {value!r}")
    return tuple(pair)


def _bytes(value: Any) -> Any:
    units = {
        "B": 1,
        "KB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "KIB": 2**10,
        "MIB": 2**20,
        "GIB": 2**30,
    }
    if isinstance(value, str):
        digits = value.rstrip("BKMGTibkmgt ")
        unit = value[len(digits) :].strip().upper()
        if unit not in units:
            raise ValueError(f"expected bytes or e.g. '2 GiB', got {value!r}")
        return int(number(float(digits)) * units[unit])
    return value


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _ball_eps(value: Any) -> float | None:
    return None if value is None else _eps(value)


def _rising(value: Any) -> Any:
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    found = tuple(_eps(item) for item in values)
    for eps in found:
        check_pixels("linf", eps)
    if len(found) < 2:
        raise ValueError(f"a curve needs two radii or more, e.g. [0.01, 0.02], got {value!r}")
    for before, after in pairwise(found):
        if not before < after:
            raise ValueError(f"the radii of a curve rise: {after:g} comes after {before:g}")
    return found


def _margin(value: Any) -> float:
    margin = number(value)
    if margin < 0:
        raise ValueError(f"the margin by which the label must win is 0 or more, got {value!r}")
    return margin


def _targets(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, bool) or not isinstance(item, int) or item < 0 for item in values):
        raise ValueError(f"expected classes counted from 0, e.g. [3, 5], got {value!r}")
    return tuple(sorted(set(values)))


def _sha256(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(f"expected a SHA-256, 64 digits from 0 to f in quotes, got {value!r}")
    return value.lower()


def _plain_name(value: str) -> str:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    if not value or value[0] in ".-" or not set(value) <= allowed:
        raise ValueError(f"{value!r}: letters, digits, '_', '-' and '.' only, as it names a folder")
    return value


# How values may be written, as JSON schemas.
FRACTION = {"type": "string", "pattern": r"^\s*[0-9.eE+-]+\s*/\s*[0-9.eE+-]+\s*$"}


def written_number(**limits: float) -> dict[str, Any]:
    """A number within limits, or a fraction such as 8/255."""
    return {"anyOf": [{"type": "number", **limits}, FRACTION]}


_NULL = {"type": "null"}
_POSITIVE = written_number(exclusiveMinimum=0)
_EPS = written_number(minimum=0)
_EPS_OR_LIST = [_EPS, {"type": "array", "items": _EPS, "minItems": 1}]
_CLASS = {"type": "integer", "minimum": 0}
_WORDS = {"type": "array", "items": {"type": "string"}}
_RANGE = {"type": "array", "items": _CLASS, "minItems": 2, "maxItems": 2}
_SHA = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
_SIZE = {"type": "string", "pattern": r"^[0-9.]+ *[KMGkmg]?[Ii]?[Bb] *$"}


def _as(*schemas: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [*schemas]})


Norm = Literal["linf", "l2", "l1", "l0"]
EpsTuple = Annotated[tuple[float, ...], BeforeValidator(_eps_list), _as(*_EPS_OR_LIST)]
EpsList = Annotated[tuple[float, ...] | None, BeforeValidator(_eps_list), _as(*_EPS_OR_LIST, _NULL)]
Numbers = Annotated[
    tuple[float, ...],
    BeforeValidator(_numbers),
    _as(_POSITIVE, {"type": "array", "items": _POSITIVE, "minItems": 1}),
]
BallEps = Annotated[float | None, BeforeValidator(_ball_eps), _as(_EPS, _NULL)]
Curve = Annotated[
    tuple[float, ...] | None,
    BeforeValidator(_rising),
    _as({"type": "array", "items": written_number(minimum=0, maximum=1), "minItems": 2}, _NULL),
]
Margin = Annotated[float, BeforeValidator(_margin), _as(_EPS)]
Targets = Annotated[
    tuple[int, ...], BeforeValidator(_targets), _as(_CLASS, {"type": "array", "items": _CLASS})
]
Samples = Annotated[
    tuple[int, int] | None,
    BeforeValidator(_range),
    _as({"type": "integer", "minimum": 1}, _RANGE, _NULL),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), _as({"type": "string"}, _WORDS)]
PlainName = Annotated[
    str,
    AfterValidator(_plain_name),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"}),
]
Sha256 = Annotated[str | None, BeforeValidator(_sha256), _as(_SHA, _NULL)]
Bytes = Annotated[
    Annotated[int, Field(gt=0)] | None,
    BeforeValidator(_bytes),
    _as({"type": "integer", "minimum": 1}, _SIZE, _NULL),
]
Positive = Annotated[
    float, BeforeValidator(number), Field(gt=0), _as(written_number(exclusiveMinimum=0))
]
Share = Annotated[
    float, BeforeValidator(number), Field(ge=0, le=1), _as(written_number(minimum=0, maximum=1))
]
Natural = Annotated[int, Field(gt=0, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Rerun = Literal["never", "ambiguous", "refine", "always"]
