"""Check that public names are documented in NumPy style: sections for parameters and returned values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("matlab_io", "simulator", "nflae_bridge")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef
# What no standards document says of a function or a file, and what DESIGN's rule for English rules out.
UNWANTED = re.compile(
    r"\b(who|whom|whose turn|nobody|can't be had|could be had|is told|are told|isn't|doesn't|don't|can't|won't)\b"
)


def is_command(node: Function) -> bool:
    """Return whether click makes a command of the function, whose docstring is its help text."""
    return any(re.match(r"click\.(command|group)\b", ast.unparse(decorator)) for decorator in node.decorator_list)


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Yield the public functions and classes of a module or class body."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


def parameters(node: Function) -> list[str]:
    """Return the names of a function's parameters but self and cls."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]


def has(docstring: str, *sections: str) -> bool:
    """Return whether a docstring has one of these sections."""
    return any(re.search(rf"^{section}\n-+$", docstring, re.MULTILINE) for section in sections)


def is_property(node: Function) -> bool:
    """Return whether the function is read as an attribute or implements another's documented interface."""
    return any(re.search(r"property|override|overload", ast.unparse(each)) for each in node.decorator_list)


def problems(path: Path) -> list[str]:
    """Return what is missing in a module's docstrings, a line per name."""
    tree = ast.parse(path.read_text(), str(path))
    found = []
    if not ast.get_docstring(tree) and path.read_text().strip():
        found.append("the module has no docstring")
    for node in public(tree.body):
        text = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            is_dataclass = "dataclass" in " ".join(map(ast.unparse, node.decorator_list))
            if is_dataclass and len(fields) > 1 and not has(text, "Parameters", "Attributes"):
                found.append(f"class {node.name}: no section Parameters or Attributes")
            methods = [each for each in public(node.body) if not isinstance(each, ast.ClassDef)]
            for method in methods:
                described = ast.get_docstring(method) or ""
                if len(parameters(method)) > 1 and not is_property(method) and not has(described, "Parameters"):
                    found.append(f"{node.name}.{method.name}: no section Parameters")
        elif not is_command(node):
            if parameters(node) and not has(text, "Parameters"):
                found.append(f"{node.name}: no section Parameters")
            returns = ast.unparse(node.returns) if node.returns else "None"
            if parameters(node) and returns not in ("None", "NoReturn") and not has(text, "Returns", "Yields"):
                found.append(f"{node.name}: no section Returns or Yields")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_numpy_style_docstrings(path: Path) -> None:
    assert not problems(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_plain_english(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        text = (ast.get_docstring(node) or "") if isinstance(node, documented) else ""
        found = UNWANTED.search(text)
        assert not found, f"{getattr(node, 'name', 'module')}: {found.group(0) if found else ''!r}"
        assert not re.match(r"(What|Who|Whose|Whether|How|Where|Which|When|If) ", text), text.splitlines()[0]


def test_the_check_finds_what_is_missing(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        'def f(a):\n    """Do."""\n    return a\n\nclass C:\n    """Hold."""\n\n    def g(self, a, b): ...\n'
    )
    assert problems(module) == ["the module has no docstring", "f: no section Parameters", "C.g: no section Parameters"]
