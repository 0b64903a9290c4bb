"""Checks of single settings: each maker returns a dataclass field whose metadata holds the check.

A check takes the setting's full name and the value found, and returns the value in its final type or raises a
UserError naming the setting, the value and what is allowed.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from posedistill.errors import UserError

Check = Callable[[str, Any], Any]


def fail(key: str, value: Any, allowed: str) -> UserError:
    """The error of a setting that cannot be: `loss.alpha: found -1, allowed: a number >= 0`."""
    return UserError(f"{key}: found {_show(value)}, allowed: {allowed}")


def unknown(key: str, name: str, known: Iterable[str]) -> UserError:
    """The error of a key that does not exist, with the nearest one that does."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    full = f"{key}.{name}" if key else name
    return UserError(f"{full}: unknown key{hint}, allowed: {', '.join(known)}")


def setting(check: Check, *, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field checked by `check`. Only entries of lists have defaults: a setting has none, so that a stage
    which reads a setting it does not list fails instead of taking a default."""
    return dataclasses.field(default=default, metadata={"check": check})


def check_of(field: dataclasses.Field) -> Check:
    return field.metadata["check"]


def whole(minimum: int = 0, *, multiple_of: int = 1, also: tuple[Any, ...] = ()) -> Check:
    """A whole number of at least `minimum`, divisible by `multiple_of`, or one of `also`."""
    allowed = f"a whole number >= {minimum}"
    if multiple_of > 1:
        allowed += f" that {multiple_of} divides"
    allowed += _alternatives(also)

    def check(key: str, value: Any) -> Any:
        if _is_one_of(value, also):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum or value % multiple_of:
            raise fail(key, value, allowed)
        return value

    return check


def real(minimum: float = 0.0, maximum: float = math.inf, *, above: bool = False, also: tuple[Any, ...] = ()) -> Check:
    """A finite number in [minimum, maximum], or (minimum, maximum] if `above`, or one of `also`; becomes a float."""
    allowed = f"a number {'>' if above else '>='} {minimum:g}"
    if maximum < math.inf:
        allowed += f" and <= {maximum:g}"
    allowed += _alternatives(also)

    def check(key: str, value: Any) -> Any:
        if _is_one_of(value, also):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise fail(key, value, allowed)
        if value < minimum or value > maximum or (above and value == minimum):
            raise fail(key, value, allowed)
        return float(value)

    return check


def span(minimum: float, maximum: float = math.inf) -> Check:
    """Two numbers [low, high] with minimum <= low <= high <= maximum; becomes a tuple of floats."""
    limits = f">= {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:g}"
    allowed = f"[low, high], two numbers {limits} with low <= high"
    number = real(minimum, maximum)

    def check(key: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise fail(key, value, allowed)
        try:
            low, high = number(key, value[0]), number(key, value[1])
        except UserError:
            raise fail(key, value, allowed) from None
        if low > high:
            raise fail(key, value, allowed)
        return low, high

    return check


def flag(*, also: tuple[Any, ...] = ()) -> Check:
    """true or false, or one of `also`."""
    allowed = "true or false" + _alternatives(also)

    def check(key: str, value: Any) -> Any:
        if isinstance(value, bool) or _is_one_of(value, also):
            return value
        raise fail(key, value, allowed)

    return check


def choice(*names: str) -> Check:
    """One of a few words."""

    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise fail(key, value, " | ".join(names))
        return value

    return check


def text(*, optional: bool = False) -> Check:
    """Text that is not empty, or null if `optional`."""
    allowed = "text that is not empty" + (" or null" if optional else "")

    def check(key: str, value: Any) -> str | None:
        if value is None and optional:
            return None
        if not isinstance(value, str) or not value.strip():
            raise fail(key, value, allowed)
        return value

    return check


def texts(*, optional: bool = False, number: int | None = None) -> Check:
    """A list of `number` (or at least one) texts (becomes a tuple), or null if `optional`."""
    allowed = f"a list of {number or ''} texts".replace("  ", " ") + (" or null" if optional else "")
    one = text()

    def check(key: str, value: Any) -> tuple[str, ...] | None:
        if value is None and optional:
            return None
        if not isinstance(value, list | tuple) or not value or len(value) != (number or len(value)):
            raise fail(key, value, allowed)
        return tuple(one(f"{key}[{i}]", item) for i, item in enumerate(value))

    return check


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """`value` itself if it is a mapping with text keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise fail(key or "settings", value, "a mapping of keys to values")
    return value


def _alternatives(also: tuple[Any, ...]) -> str:
    return "".join(f" or {_show(value)}" for value in also)


def _is_one_of(value: Any, also: tuple[Any, ...]) -> bool:
    return any(value is other or (isinstance(other, str) and value == other) for other in also)


def _show(value: Any) -> str:
    """A value as it would stand in the settings file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    shown = value if isinstance(value, str) else repr(value)
    if isinstance(value, str):
        shown = f'"{shown}"' if not shown.isidentifier() else shown
    return shown if len(shown) <= 80 else shown[:77] + "..."
