"""Hold one direction of dependency: nflae_bridge -> simulator -> matlab_io."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "simulator": {"simulator", "matlab_io", "torch", "numpy", "scipy", "sionna"},
    "matlab_io": {"matlab_io", "numpy", "scipy", "h5py", "pandas", "xarray", "PIL"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of all that a module imports, at its top or anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(path.relative_to(ROOT).parts[0] if node.level else str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("import_module", "__import__"):
            names |= {str(a.value).split(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return names


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_what_it_may(package: str) -> None:
    for path in modules(package):
        foreign = imported(path) - ALLOWED[package] - set(sys.stdlib_module_names)
        assert not foreign, f"{path.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


def test_the_check_sees_an_import_wherever_it_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "module.py"
    module.write_text("import os.path\ndef f():\n    from torch.nn import Linear\nimportlib.import_module('h5py.x')\n")
    assert imported(module) == {"os", "torch", "h5py"}


@pytest.mark.parametrize("package", ["nflae_bridge", "simulator", "matlab_io"])
def test_no_package_imports_pickle_or_its_relatives(package: str) -> None:
    for path in modules(package):
        assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path.name
        for node in ast.walk(ast.parse(path.read_text())):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert call not in ("torch.load", "torch.save", "eval", "exec"), f"{path.name} calls {call}"
            if call in ("np.load", "numpy.load"):
                assert not any(k.arg == "allow_pickle" for k in node.keywords), path.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", ["nflae_bridge", "simulator", "matlab_io"])
def test_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
