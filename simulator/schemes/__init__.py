"""The registry of precoding schemes: one file a scheme, one name for the CLI, the server and the benchmarks.

A scheme is a function ``(ChannelBatch, LinkBudget) -> Precoding`` decorated with ``@register("name")``; a file put
into this package is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from simulator.downlink.precoding import Scheme

_SCHEMES: dict[str, Scheme] = {}
_NEED_SIC: set[str] = set()


AnyScheme = TypeVar("AnyScheme", bound=Scheme)


def register(name: str, needs_sic: bool = False) -> Callable[[AnyScheme], AnyScheme]:
    """Enter a scheme into the registry under ``name``. needs_sic: as its answers say, see `Precoding`."""

    def enter(scheme: AnyScheme) -> AnyScheme:
        _SCHEMES[name] = scheme
        if needs_sic:
            _NEED_SIC.add(name)
        return scheme

    return enter


def scheme_names() -> list[str]:
    """The classical schemes' names, sorted."""
    _load()
    return sorted(_SCHEMES)


def scheme(name: str) -> Scheme:
    """The scheme called ``name``. Raises ValueError, listing what there is, for an unknown name."""
    if name not in _SCHEMES:
        _load()
    try:
        return _SCHEMES[name]
    except KeyError:
        raise ValueError(f"unknown scheme {name!r}: there are {', '.join(scheme_names())}") from None


def needs_sic(name: str) -> bool:
    """Whether the rates of the scheme called ``name`` hold only for receivers with SIC; False for an unknown name."""
    _load()
    return name in _NEED_SIC


def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
