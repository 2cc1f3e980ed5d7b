"""Parse a scheme's own options in ``NAME:OPTION=VALUE``, by the annotations of its function."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from matlab_io.errors import NflaeError

Value = int | float | bool | str
_TYPES: dict[type, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_POSITIONAL = 2  # channels and link budget, which every scheme has


class SchemeError(NflaeError, ValueError):
    """Report an unknown scheme, an unknown option of a scheme, or a value outside its range."""


@dataclass(frozen=True)
class Between:
    """Bound an option's values, in the annotation of a scheme's parameter: ``Annotated[int, Between(1, 100)]``.

    Parameters
    ----------
    smallest, largest
        Bounds, both allowed.
    """

    smallest: float
    largest: float


@dataclass(frozen=True)
class SchemeOption:
    """Describe an option of a scheme: a keyword parameter of its function.

    Parameters
    ----------
    name
        Name of the parameter.
    type
        `int`, `float`, `bool` or `str`.
    default
        Default value.
    bounds
        Range of the values, None for any.
    """

    name: str
    type: type
    default: Value
    bounds: Between | None = None

    def describe(self) -> str:
        """Return name, default, type and range, e.g. ``iterations=200 (whole number, 1 to 10000)``."""
        return f"{self.name}={_shown(self.default)} ({self._allowed()})"

    def parse(self, text: str) -> Value:
        """Convert the text of a value.

        Parameters
        ----------
        text
            Text after the equals sign.

        Returns
        -------
        int, float, bool or str
            Value.

        Raises
        ------
        ValueError
            If it is of another type or out of range.
        """
        try:
            value: Value = _TRUTH[text.lower()] if self.type is bool else self.type(text)
        except (KeyError, ValueError):
            value = math.nan
        numeric = self.type in (int, float)
        within = self.bounds is None or (numeric and self.bounds.smallest <= float(value) <= self.bounds.largest)
        if not within or (self.type is not str and not math.isfinite(float(value))):
            raise ValueError(f"{self.name} has to be {self._allowed(article=True)}, got {text[:40]!r}")
        return value

    def _allowed(self, article: bool = False) -> str:
        noun = _TYPES[self.type]
        bounds = "" if self.bounds is None else f"{self.bounds.smallest:g} to {self.bounds.largest:g}"
        if article:
            noun = noun if self.type in (bool, str) else f"a {noun}"
            return f"{noun} from {bounds}" if bounds else noun
        return f"{noun}, {bounds}" if bounds else noun


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Split ``NAME:OPTION=VALUE:...`` into the scheme's name and the texts of its options.

    Parameters
    ----------
    spec
        Scheme as given on the command line, on the wire or in Python.

    Returns
    -------
    name : str
    options : dict
        Text of every value by option.

    Raises
    ------
    SchemeError
        If a part has no equals sign, or an option is given twice.
    """
    name, *parts = (part.strip() for part in spec.split(":"))
    options: dict[str, str] = {}
    for part in parts:
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not option or option in options:
            raise SchemeError(f"scheme {spec[:60]!r}: write NAME:OPTION=VALUE, each option once, colons between them")
        options[option] = value
    return name, options


def parse_options(name: str, texts: dict[str, str], known: Sequence[SchemeOption]) -> dict[str, Value]:
    """Convert the options given for a scheme.

    Parameters
    ----------
    name
        Name of the scheme.
    texts
        Text of every value by option.
    known
        Options of the scheme.

    Returns
    -------
    dict
        Values by option.

    Raises
    ------
    SchemeError
        If an option is unknown or a value is out of range; the message lists the options.
    """
    by_name, values = {option.name: option for option in known}, {}
    described = ", ".join(option.describe() for option in known)
    listed = f"options of {name}: {described}" if known else "it has no options"
    for option, text in texts.items():
        if option not in by_name:
            raise SchemeError(f"scheme {name} has no option {option[:40]!r}; {listed}")
        try:
            values[option] = by_name[option].parse(text)
        except ValueError as error:
            raise SchemeError(f"scheme {name}: {error}; {listed}") from None
    return values


def usage(name: str, known: Sequence[SchemeOption]) -> str:
    """Return a scheme's name with its options and defaults, as help shows it: ``wmmse[:iterations=200]``.

    Parameters
    ----------
    name
        Name of the scheme.
    known
        Options of the scheme.

    Returns
    -------
    str
        Name and options.
    """
    return name + "".join(f"[:{option.name}={_shown(option.default)}]" for option in known)


@cache
def declared_options(function: ast.FunctionDef) -> tuple[SchemeOption, ...]:
    """Read the options of a built-in scheme from its definition, without importing it.

    Parameters
    ----------
    function
        Definition; annotations are of the built-in types and `Annotated` with `Between`, defaults are literals.

    Returns
    -------
    tuple of SchemeOption
        Options in the order of the parameters.
    """
    arguments = [*function.args.args, *function.args.kwonlyargs]
    missing = len(function.args.args) - len(function.args.defaults)
    defaults = [*[None] * missing, *function.args.defaults, *function.args.kw_defaults]
    found = []
    for argument, default in list(zip(arguments, defaults, strict=True))[_POSITIONAL:]:
        assert argument.annotation is not None, f"{function.name}: {argument.arg} has no annotation"
        assert default is not None, f"{function.name}: {argument.arg} has no default"
        found.append(_option(argument.arg, _declared_type(argument.annotation), ast.literal_eval(default)))
    return tuple(option for option in found if option is not None)


def options_of(scheme: Callable[..., Any]) -> tuple[SchemeOption, ...]:
    """Read the options of a scheme from its signature.

    Parameters
    ----------
    scheme
        Scheme; parameters of other types than int, float, bool and str are not options.

    Returns
    -------
    tuple of SchemeOption
        Options in the order of the parameters.

    Raises
    ------
    TypeError
        If the object is not callable with channels and link budget alone.
    """
    signature = inspect.signature(scheme)
    signature.bind(*[None] * _POSITIONAL)
    parameters = list(signature.parameters.values())
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = (
        _option(parameter.name, _type_of(parameter.annotation), parameter.default)
        for parameter in parameters[_POSITIONAL:]
        if parameter.kind in named
    )
    return tuple(option for option in found if option is not None)


def _option(name: str, annotation: object, default: Any) -> SchemeOption | None:
    bounds = None
    if get_origin(annotation) is Annotated:
        annotation, *notes = get_args(annotation)
        bounds = next((note for note in notes if isinstance(note, Between)), None)
    return SchemeOption(name, annotation, default, bounds) if annotation in _TYPES else None


def _type_of(annotation: object) -> object:
    return _declared_type(ast.parse(annotation, mode="eval").body) if isinstance(annotation, str) else annotation


def _declared_type(annotation: ast.expr) -> object:
    """Read an annotation from its definition; None for one that is of no option's type."""
    match annotation:
        case ast.Name(name):
            return next((each for each in _TYPES if each.__name__ == name), None)
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([base, *notes])):
            bounds = [note.args for note in notes if isinstance(note, ast.Call) and ast.unparse(note.func) == "Between"]
            return Annotated[_declared_type(base), *(Between(*map(ast.literal_eval, each)) for each in bounds), None]
        case _:
            return None


def _shown(value: Value) -> str:
    if value == "":
        return "TEXT"
    return str(value).lower() if isinstance(value, bool) else str(value)
