"""Check the arguments of the functions for Python users against their annotations."""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN = 60  # characters of a value in a message
_KEPT = 256  # results
_FIXED = frozenset((bool, float, int, str, type(None)))


def checked(**hints: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Convert the arguments of a function to the types of its annotations, or raise an error that names the argument.

    ``int`` becomes an int, also from NumPy integers; ``float`` a float; ``str`` must be a str, ``str | Path`` may be a
    path; ``bool`` must be True or False; ``npt.ArrayLike`` becomes a NumPy array. With ``| None`` also None is passed
    on. Arguments with other annotations are passed on as they are.

    Parameters
    ----------
    **hints : str
        Remedy for an argument of a wrong type, by the name of the argument.

    Returns
    -------
    callable
        Decorator of a function of a module with ``from __future__ import annotations``; the function then raises
        NflaeError, one line, for an argument of another type.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        kinds = {each.name: str(each.annotation) for each in inspect.signature(function).parameters.values()}
        names = tuple(kinds)

        def converted(name: str, value: Any) -> Any:
            try:
                return convert_argument(name, kinds.get(name, ""), value)
            except NflaeError as error:
                raise NflaeError(f"{error}; {hints[name]}" if name in hints else str(error)) from None

        @functools.wraps(function)
        def call(*positional: P.args, **named: P.kwargs) -> R:
            given: list[Any] = [converted(name, value) for name, value in zip(names, positional, strict=False)]
            given += positional[len(names) :]  # too many: reported by Python
            return function(*given, **{name: converted(name, named[name]) for name in named})

        return call

    return decorate


def convert_argument(name: str, annotation: str, value: Any) -> Any:
    """Convert one argument to the type of its annotation, as `checked` does.

    Parameters
    ----------
    name : str
        Name of the argument.
    annotation : str
        Annotation, as in the source.
    value : object
        Argument.

    Returns
    -------
    object
        Converted argument.

    Raises
    ------
    NflaeError
        If it is of another type; one line that names the argument.
    """
    kind, optional, known = _kind(annotation)
    if known is None or (optional and value is None):
        return value
    converter, expected = known
    try:
        return converter(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] if kind.startswith("npt.ArrayLike") else ""
    text = " ".join(repr(value).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    raise NflaeError(
        f"{name} must be {expected}{' or None' if optional else ''}, got {type(value).__name__} {shown}"
        + (f": {reason}" if reason else "")
    )


@functools.cache
def _kind(annotation: str) -> tuple[str, bool, tuple[Callable[[Any], Any], str] | None]:
    """Return the kind of an annotation, whether it is optional, and the converter with the text of what it expects."""
    kind = annotation.removesuffix(" | None")
    return kind, annotation != kind, _CONVERTERS.get(kind)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Keep the last results of a function of numbers and texts, for calls with the same arguments.

    Parameters
    ----------
    function : callable
        Function whose result is not changed and depends on its arguments alone.

    Returns
    -------
    callable
        The same function; it computes again unless all arguments are numbers, texts, truth values or None of Python,
        or tuples of texts. Other objects, a tensor for one, may have the same hash after their value has changed.
    """
    cached = functools.lru_cache(_KEPT, typed=True)(function)

    @functools.wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> R:
        values = (*positional, *named.values())
        if _FIXED.issuperset(map(type, values)) or all(map(_never_changes, values)):
            return cached(*positional, **named)  # type: ignore[arg-type]
        return function(*positional, **named)

    return call


def _never_changes(value: Any) -> bool:
    return type(value) in _FIXED or (type(value) is tuple and {str}.issuperset(map(type, value)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _text_or_path(value: Any) -> str:
    return _text(os.fspath(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _whole(value: Any) -> int:
    if type(value) is int and abs(value) < 2**63:
        return value
    if isinstance(value, bool | np.bool_) or np.ndim(value):
        raise TypeError
    number = operator.index(value)
    if abs(number) >= 2**63:
        raise OverflowError
    return number


def _number(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    if isinstance(value, bool | np.bool_ | str | bytes) or np.ndim(value) or np.iscomplexobj(value):
        raise TypeError
    return float(value)


def _array(value: Any) -> npt.NDArray[Any]:
    lazily = hasattr(value, "resolve_conj") and hasattr(value, "resolve_neg")  # a tensor of PyTorch, perhaps conjugated
    array = np.asarray(value.resolve_conj().resolve_neg() if lazily else value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"its elements are no numbers (dtype {array.dtype})")
    if array is not value and np.ma.is_masked(value):
        raise ValueError("it has masked entries; state them as NaN, e.g. by .filled(np.nan)")
    return array


def _array_or_text(value: Any) -> npt.NDArray[Any] | str:
    return value if isinstance(value, str) else _array(value)


def _number_or_array(value: Any) -> float | npt.NDArray[Any]:
    return _array(value) if np.ndim(value) else _number(value)


_CONVERTERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "str": (_text, "a text"),
    "str | Path": (_text_or_path, "a text or a path"),
    "bool": (_flag, "True or False"),
    "int": (_whole, "a whole number"),
    "float": (_number, "a number"),
    "npt.ArrayLike": (_array, "an array of numbers"),
    "float | npt.ArrayLike": (_number_or_array, "a number or an array of numbers"),
    "npt.ArrayLike | str": (_array_or_text, "an array of numbers or a text"),
}


def name_remedy(name: str, known: Sequence[str]) -> str:
    """Return the remedy for a name that does not exist.

    Parameters
    ----------
    name : str
        Name that was given.
    known : sequence of str
        Names that exist.

    Returns
    -------
    str
        The nearest of them to write, or all of them.
    """
    near = get_close_matches(name, known, 1)
    return f"write {near[0]!r}" if near else f"the options are {', '.join(known)}"
