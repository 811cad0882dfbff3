"""Checks of arguments, and the one form of what they say: `NAME must be WHAT, not TYPE`, or `NAME is empty: HINT`.

The values themselves are not quoted, apart from numbers: a value may be somebody's e-mail address, and the text of an
error may end in a log.
"""

from __future__ import annotations

import inspect
import math
import os
from typing import Any, get_args


def type_name(value: object) -> str:
    """What an error calls the type of a value: `str`, or `the class Batch` where the value is a class itself."""
    if isinstance(value, type):
        return f"the class {_name_of(value)}"
    return _name_of(type(value))


def wrong_type(name: str, what: str, value: object, hint: str = "") -> TypeError:
    """The error for an argument of a wrong type.

    Args:
        name: The name of the argument.
        what: What it must be, with its article: "a string".
        value: What was given instead.
        hint: What to do about it, if there is more to say.
    """
    return TypeError(f"{name} must be {what}, not {type_name(value)}{hint and f': {hint}'}")


def check_type(name: str, value: object, types: type | tuple[type, ...], what: str, hint: str = "") -> None:
    """Check that an argument is an instance of one of these types, which the error calls `what`.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, types):
        raise wrong_type(name, what, value, hint)


def check_bool(name: str, value: object) -> None:
    """Check that an argument is True or False.

    Raises:
        TypeError: It is neither.
    """
    check_type(name, value, bool, "True or False")


def check_text(name: str, value: object, hint: str = "") -> None:
    """Check that an argument is a string with at least one character.

    Raises:
        TypeError: It is no string.
        ValueError: It is empty; the error ends with the hint.
    """
    check_type(name, value, str, "a string")
    if not value:
        raise ValueError(f"{name} is empty: {hint or 'it must have at least one character'}")


def is_async(function: object) -> bool:
    """Whether a function, or an object that can be called, is a coroutine function, whose result has to be awaited."""
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def check_number(
    name: str,
    value: Any,
    least: int | None,
    most: int | None = None,
    *,
    whole: bool = False,
    unit: str = "",
    hint: str = "",
) -> None:
    """Check that an argument is a number, and neither too small nor too large.

    Args:
        name: The name of the argument.
        value: What was given.
        least: The smallest number allowed; None: any.
        most: The largest number allowed; None: any.
        whole: Whether it must be a whole number.
        unit: What it counts, as in "seconds".
        hint: What to do about a number that is too small or too large, if there is more to say.

    Raises:
        TypeError: It is no number.
        ValueError: It is too small or too large, or "not a number" (NaN).
    """
    what = f"{'a whole number' if whole else 'a number'}{unit and f' of {unit}'}"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise wrong_type(name, what, value)
    too_small = least is not None and not value >= least
    if too_small or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {allowed}, not {value}{hint and f': {hint}'}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must be {what}, not {value}")


def file_path(path: str | os.PathLike[str]) -> str:
    """Check that an argument can be the path of a file, and return it as an absolute path.

    Raises:
        TypeError: It is neither a string nor a path.
        ValueError: No file can have this name.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise wrong_type("path", "a str or a path", path)
    if not text or text == ":memory:" or "\0" in text:
        what = "of a name with a null character" if "\0" in text else repr(text)
        raise ValueError(f"path must be the path of a file, not {what}")
    return os.path.abspath(text)  # the working directory may change


def app_id_and_key(app_id: str | None, api_key: str | None) -> tuple[str | None, str | None]:
    """Return the id of the application and its key as they were given, and else those of the environment.

    algoliasearch's configurations read both from the environment, and then still raise an error if they were not given.
    """
    return (
        os.environ.get("ALGOLIA_APP_ID") if app_id is None else app_id,
        os.environ.get("ALGOLIA_API_KEY") if api_key is None else api_key,
    )


def check_choice(name: str, value: object, literal: Any) -> None:
    """Check that an argument is one of the strings of a `Literal` type.

    Raises:
        ValueError: It is not.
    """
    allowed = get_args(literal)
    if value not in allowed:
        what = f"another string, of {len(value)} characters" if isinstance(value, str) else type_name(value)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {what}")


def _name_of(kind: type) -> str:
    # A class may define `__name__` itself, as anything and of any length.
    return str(type.__dict__["__name__"].__get__(kind))[:40]
