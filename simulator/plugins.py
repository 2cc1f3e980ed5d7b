"""Find schemes and sources by name: built-in ones by the decorators in their files, third-party ones by entry points.

Names are found without importing the modules, so that help and completion need no PyTorch.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Entry = TypeVar("Entry")
_third_party_imports: list[str] = []  # packages whose entry points are being loaded


@dataclass(frozen=True)
class Declaration:
    """Describe a function decorated with ``@register("name", ...)``, as read from its source text.

    Parameters
    ----------
    name
        First argument of the decorator.
    module
        Stem of the file.
    function
        Definition of the function.
    keywords
        Keyword arguments of the decorator that are literals.
    """

    name: str
    module: str
    function: ast.FunctionDef
    keywords: dict[str, object]


@dataclass(frozen=True)
class ThirdParty:
    """Hold the entry points of one group by name, and one line for each that is ignored.

    Parameters
    ----------
    entries
        Entry point and ``package version``, by name.
    problems
        Reasons why further entry points are ignored.
    """

    entries: dict[str, tuple[EntryPoint, str]]
    problems: tuple[str, ...]


class Registry(Generic[Entry]):
    """Hold the objects of one kind under their names.

    The name of a built-in object is the argument of its decorator, that of a third-party object the name of its entry
    point. Objects registered at run time count too.

    Parameters
    ----------
    package
        Package with one file per built-in object.
    group
        Group of entry points.
    kind
        Noun for messages.
    adopt
        Converts what an entry point refers to, given its name; raises `TypeError` if that is impossible.
    """

    def __init__(self, package: str, group: str, kind: str, adopt: Callable[[str, object], Entry]) -> None:
        self.package, self.group, self.kind, self._adopt = package, group, kind, adopt
        self.loaded: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Enter an object under its name.

        While a third-party package is imported this holds for built-in names only: its entry points name its objects.

        Parameters
        ----------
        name
            Name.
        entry
            Object.
        """
        if not _third_party_imports or name in self.declared():
            self.loaded[name] = entry

    def declared(self) -> dict[str, Declaration]:
        """Return the built-in declarations by name."""
        return _declarations(tuple(importlib.import_module(self.package).__path__))

    def third_party(self) -> ThirdParty:
        """Return the third-party entry points, those with a built-in name excepted."""
        return _without_clashes(self.kind, self.group, tuple(self.declared()))

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted({*self.declared(), *self.third_party().entries, *self.loaded})

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a name."""
        return name in self.loaded or name in self.declared() or name in self.third_party().entries

    def load(self, name: str) -> Entry:
        """Import the object of a name.

        Parameters
        ----------
        name
            Name, one of `names`.

        Returns
        -------
        Entry
            The object.

        Raises
        ------
        NflaeError
            If there is no such name, or a third-party object cannot be loaded.
        """
        if name in self.loaded:
            return self.loaded[name]
        if name in self.declared():
            importlib.import_module(f"{self.package}.{self.declared()[name].module}")
            return self.loaded[name]
        found = self.third_party()
        if name not in found.entries:
            raise NflaeError(
                "; ".join([f"unknown {self.kind} {name!r}: there are {', '.join(self.names())}", *found.problems])
            )
        self.loaded[name] = self._load_entry_point(name, *found.entries[name])
        return self.loaded[name]

    def unusable(self) -> dict[str, str]:
        """Load the third-party objects, and return the reasons why some cannot be, by name."""
        reasons = {}
        for name in self.third_party().entries:
            try:
                self.load(name)
            except NflaeError as error:
                reasons[name] = str(error)
        return reasons

    def _load_entry_point(self, name: str, entry: EntryPoint, package: str) -> Entry:
        _third_party_imports.append(package)
        try:
            return self._adopt(name, entry.load())
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise NflaeError(f"{self.kind} {name!r} of package {package} cannot be loaded: {reason}") from error
        finally:
            _third_party_imports.pop()


@cache
def _declarations(folders: tuple[str, ...]) -> dict[str, Declaration]:
    files = sorted(file for folder in folders for file in Path(folder).glob("*.py"))
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        if "@register(" not in text:
            continue
        for node in ast.parse(text, str(file)).body:
            for call in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                    assert isinstance(node, ast.FunctionDef)
                    name = str(ast.literal_eval(call.args[0]))
                    found[name] = Declaration(name, file.stem, node, _literals(call.keywords))
    return found


def _literals(keywords: list[ast.keyword]) -> dict[str, object]:
    literals: dict[str, object] = {}
    for keyword in keywords:
        if keyword.arg is not None and isinstance(keyword.value, ast.Constant):
            literals[keyword.arg] = keyword.value.value
    return literals


@cache
def _without_clashes(kind: str, group: str, declared: tuple[str, ...]) -> ThirdParty:
    found = _entry_points(group)
    clashes = [name for name in found.entries if name in declared]
    problems = (f"{found.entries[name][1]}: {kind} {name!r} is built in, this one is ignored" for name in clashes)
    entries = {name: entry for name, entry in found.entries.items() if name not in declared}
    return ThirdParty(entries, (*found.problems, *problems))


def _entry_points(group: str) -> ThirdParty:
    from importlib.metadata import distributions  # takes longer to import than the command line's help

    entries: dict[str, tuple[EntryPoint, str]] = {}
    problems = []
    for distribution in distributions():
        try:
            chosen = [entry for entry in distribution.entry_points if entry.group == group]
        except Exception:  # a damaged entry_points.txt of any package
            if group in (distribution.read_text("entry_points.txt") or ""):
                problems.append(f"{_label(distribution)}: entry_points.txt cannot be read, it is ignored")
            continue
        for entry in chosen:
            package = _label(distribution)
            taken = entries.setdefault(entry.name, (entry, package))[1]
            if taken != package:
                problems.append(f"{package}: {entry.name!r} is {taken}'s already, this one is ignored")
    return ThirdParty(entries, tuple(problems))


def _label(distribution: object) -> str:
    metadata = getattr(distribution, "metadata", {})
    return f"{metadata.get('Name', 'unnamed')} {metadata.get('Version', '')}".strip()
