"""Registry of the kinds of CSI models, under the names that ``--csi`` uses.

A kind is a function from the arguments in its text to a `simulator.csi.models.CsiPart`, decorated with ``@register`` in
a file of `simulator.csi.kinds`, or the object of an entry point in the group ``nflae.csi`` of another package. Nothing
is imported before a kind is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from simulator.plugins import Registry

if TYPE_CHECKING:
    from simulator.csi.models import CsiPart

CsiKind: TypeAlias = "Callable[[Sequence[str]], CsiPart]"


def _adopt(name: str, found: object) -> CsiKind:
    if not callable(found):
        raise TypeError(f"it is of type {type(found).__name__}, not a function")
    return found


REGISTRY: Registry[CsiKind] = Registry("simulator.csi.kinds", "nflae.csi", "CSI", _adopt)


def register(name: str, form: str) -> Callable[[CsiKind], CsiKind]:
    """Register the decorated function as a kind of CSI models.

    Parameters
    ----------
    name
        Name of the kind, a literal.
    form
        Form of its text, a literal, such as ``"noisy:DB"``, for help and messages.

    Returns
    -------
    Callable
        Decorator that returns its function unchanged.
    """

    def enter(kind: CsiKind) -> CsiKind:
        REGISTRY.add(name, kind)
        return kind

    return enter


def csi_forms() -> list[str]:
    """Return the forms of the text of every kind, ``perfect`` first, without importing the kinds."""
    declared = REGISTRY.declared()
    forms = [str(declared[name].keywords["form"]) if name in declared else f"{name}:..." for name in REGISTRY.names()]
    return ["perfect", *forms]
