"""Registry of precoding schemes, under the names that the command line, the server and the benchmarks use.

A scheme is a function ``(ChannelBatch, LinkBudget) -> Precoding`` decorated with ``@register("name")`` in a file of
this package, or the object of an entry point in the group ``nflae.schemes`` of another package. Further parameters with
defaults are the scheme's options: ``wmmse:iterations=50``. Nothing is imported before a scheme is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from simulator.plugins import Registry
from simulator.schemes.options import SchemeError, SchemeOption, declared_options, options_of, parse_options, split_spec

if TYPE_CHECKING:
    from simulator.downlink.precoding import Scheme

AnyScheme = TypeVar("AnyScheme", bound="Scheme")


def _adopt(name: str, found: object) -> Scheme:
    if not callable(found):
        raise TypeError(f"it is of type {type(found).__name__}, not a function")
    options_of(found)
    return found


REGISTRY: Registry[Scheme] = Registry("simulator.schemes", "nflae.schemes", "scheme", _adopt)
_NEEDING_SIC: list[Callable[..., object]] = []


def register(name: str, needs_sic: bool = False) -> Callable[[AnyScheme], AnyScheme]:
    """Register the decorated function as a precoding scheme.

    Parameters
    ----------
    name
        Name of the scheme; in a third-party package the entry point's name counts instead.
    needs_sic
        Its rates hold only for receivers with successive interference cancellation, see `Precoding`.

    Returns
    -------
    Callable
        Decorator that returns its function unchanged.
    """

    def enter(scheme: AnyScheme) -> AnyScheme:
        REGISTRY.add(name, scheme)
        if needs_sic:
            _NEEDING_SIC.append(scheme)
        return scheme

    return enter


def scheme_names() -> list[str]:
    """Return the names of all classical schemes, sorted."""
    return REGISTRY.names()


def unusable_schemes() -> dict[str, str]:
    """Load the third-party schemes and return one line for each that cannot be loaded, by name."""
    return REGISTRY.unusable()


def needs_sic_as_declared(name: str) -> bool:
    """Return `needs_sic` as far as known without importing the scheme: False of a third-party scheme.

    Parameters
    ----------
    name
        Name of the scheme.

    Returns
    -------
    bool
        As declared.
    """
    declared = REGISTRY.declared()
    return name in declared and bool(declared[name].keywords.get("needs_sic"))


def known_options(name: str) -> tuple[SchemeOption, ...]:
    """Return the options of a scheme as far as known without importing it: none of a third-party scheme.

    Parameters
    ----------
    name
        Name of the scheme.

    Returns
    -------
    tuple of SchemeOption
        Options in the order of the parameters.
    """
    declared = REGISTRY.declared()
    return declared_options(declared[name].function) if name in declared else ()


def check_scheme(spec: str, others: Collection[str] = (), offer_sic: bool = True) -> str:
    """Check the name and the options of a scheme; only a third-party scheme given with options is imported for it.

    Parameters
    ----------
    spec
        ``NAME`` or ``NAME:OPTION=VALUE:...``.
    others
        Further names allowed, without options.
    offer_sic
        List schemes that need receivers with SIC in the error for an unknown name.

    Returns
    -------
    str
        `spec` without spaces around its parts.

    Raises
    ------
    SchemeError
        If the scheme or an option is unknown or a value is out of range.
    NflaeError
        If a third-party scheme cannot be loaded.
    """
    name, texts = split_spec(spec)
    if name in others:
        parse_options(name, texts, ())
    elif name not in REGISTRY:
        offered = (known for known in scheme_names() if offer_sic or not needs_sic_as_declared(known))
        known = [*others, *(known for known in offered if known not in others)]
        problems = REGISTRY.third_party().problems
        raise SchemeError("; ".join([f"unknown scheme {name[:60]!r}: there are {', '.join(known)}", *problems]))
    elif texts:
        _options(name, texts)
    return ":".join([name, *(f"{option}={text}" for option, text in texts.items())])


def scheme(spec: str) -> Scheme:
    """Load a scheme.

    Parameters
    ----------
    spec
        ``NAME`` or ``NAME:OPTION=VALUE:...``.

    Returns
    -------
    Scheme
        Callable ``(ChannelBatch, LinkBudget) -> Precoding`` with its options set.

    Raises
    ------
    SchemeError
        If the scheme or an option is unknown or a value is out of range; a `ValueError` too.
    NflaeError
        If a third-party scheme cannot be loaded.
    """
    if spec in REGISTRY.loaded:
        return REGISTRY.loaded[spec]
    name, texts = split_spec(check_scheme(spec))
    options = _options(name, texts) if texts else {}
    return partial(REGISTRY.load(name), **options) if options else REGISTRY.load(name)


def needs_sic(spec: str) -> bool:
    """Return whether the rates of a scheme hold only for receivers with successive interference cancellation.

    Parameters
    ----------
    spec
        Scheme, or any other name, for which the answer is False.

    Returns
    -------
    bool
        As registered.

    Raises
    ------
    NflaeError
        If a third-party scheme cannot be loaded.
    """
    name = split_spec(spec)[0]
    if name not in REGISTRY:
        return False
    loaded = REGISTRY.load(name)  # before the search, since its import fills the list
    return any(loaded is found for found in _NEEDING_SIC)


def _options(name: str, texts: dict[str, str]) -> dict[str, int | float | bool | str]:
    built_in = name in REGISTRY.declared()
    return parse_options(name, texts, known_options(name) if built_in else options_of(REGISTRY.load(name)))
