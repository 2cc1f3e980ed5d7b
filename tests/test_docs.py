"""The code blocks of the README and docs/ run, generated pages equal the code, and the site builds without warnings.

The bash, python and octave blocks of a page run in order in one folder, `nflae` and Python in forks of a process that
holds torch. A bash block that begins with ``nflae serve`` or ``nflae stream`` runs in the background until its page
ends, that of the README as the program that is installed, and must end with exit status 0 on SIGTERM.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from matlab_io.version import __version__
from tests.ports import documented_ports
from tests.warm_python import warm_nflae

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LIVE = ("nflae serve", "nflae stream")
BLOCK = re.compile(r"^```(bash|python|octave)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PACKAGES = ("matlab_io", "simulator", "nflae_bridge")


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


PAGES = [page for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if blocks(page)]


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command ``nflae`` without the time of importing torch."""
    return warm_nflae(tmp_path_factory.mktemp("warm"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, warm: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    installed = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": os.pathsep.join([str(warm.parent), str(installed), os.environ["PATH"]]),
        "OCTAVE_PATH": str(ROOT / "matlab_io" / "matlab"),
        "OMP_NUM_THREADS": "1",
    }
    if any("gnuradio install" in code for _, code in blocks(page)):
        environment["HOME"] = str(tmp_path)
    commands = {
        "bash": ["bash", "-euo", "pipefail", "-c"],
        "python": [str(warm), "--python"],
        "octave": ["octave-cli", "--no-gui", "-q", "--no-history", "--eval"],
    }
    with ExitStack() as running:
        if any(code.startswith(LIVE) for _, code in blocks(page)):
            running.enter_context(documented_ports())
        for language, code in blocks(page):
            if language == "octave" and not shutil.which("octave-cli"):
                assert not os.environ.get("CI"), "CI is set and GNU Octave is missing"
                pytest.skip("GNU Octave is not installed: apt-get install octave")
            command = [*commands[language], code]
            if code.startswith(LIVE):
                # exec: the signal that ends it must reach nflae, not the shell
                program = installed if page.name == "README.md" else warm.parent
                running.enter_context(in_background([*command[:-1], f"exec {program}/{code}"], tmp_path, environment))
                continue
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{page.name}, {language} block:\n{code}\n{done.stdout}{done.stderr}"


@contextmanager
def in_background(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a live program from its first event until after the block, when SIGTERM must end it with exit status 0."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if "event=" in line:
            break
    reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        assert process.poll() is None, f"{command[-1]} ended at once: {log}"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, f"{command[-1]}: {log}"
        reader.join(10)
        process.stderr.close()


def test_readme_has_code_that_runs() -> None:
    assert ROOT / "README.md" in PAGES


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_equal_the_code() -> None:
    # In an interpreter of its own: schemes that other tests register would be part of the help texts.
    script = "import generate\nfor page, text in generate.committed_pages().items():\n"
    script += "    if page.read_text() != text: print(page)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "docs"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert not done.stdout, f"python docs/generate.py rewrites {done.stdout}"


def public_modules() -> dict[str, Path]:
    """Return the file of every public module by its dotted name, found from the tree alone."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                found[".".join(parts)] = path
    return found


def test_every_public_module_is_in_the_api_reference() -> None:
    listed = re.findall(r"automodule:: (\S+)", "\n".join(generator().api_pages().values()))
    assert sorted(listed) == sorted(public_modules())


def test_formulas_in_docstrings_are_text() -> None:
    escaped = generator().escape_markup("1 - |b^H a| with 2 * lambda_ of ``a|b_`` and **x**")
    assert generator().escape_markup("    * a * b") == r"    * a \* b"
    assert escaped == r"1 - \|b^H a\| with 2 \* lambda\_ of ``a|b_`` and **x**"


def public_names(path: Path) -> Iterator[str]:
    """Yield the functions and classes that a module defines for others, without click commands and Triton kernels."""
    body = ast.parse(path.read_text()).body
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        wrapped = any(re.match(r"click\.|main\.|triton\.", ast.unparse(decorator)) for decorator in node.decorator_list)
        if not wrapped and (exported is None or node.name in exported):
            yield node.name


@pytest.mark.slow
@pytest.mark.timeout(900)  # 40 s on an idle core
def test_site_builds_without_warnings_and_has_every_public_name(tmp_path: Path) -> None:
    sphinx = pytest.importorskip("sphinx.util.inventory")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("api"))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    # The contents beside a page without its functions: every page's navigation copies those of all pages.
    options = ["-b", "html", "-W", "--keep-going", "-q", "-d", "doctrees", "-D", "toc_object_entries=0"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", "site"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=890,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "searchindex.js").exists()
    inventory = sphinx.InventoryFile.loads((tmp_path / "site" / "objects.inv").read_bytes(), uri="")
    documented = {name for kind in inventory.data.values() for name in kind}
    due = {f"{module}.{name}" for module, path in public_modules().items() for name in public_names(path)}
    assert not due - documented, sorted(due - documented)


def test_mentioned_pages_exist() -> None:
    folders = [ROOT / name for name in (*PACKAGES, "benchmarks", "examples")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".m")]
    missing = [
        f"{file.relative_to(ROOT)}: {page}"
        for file in [*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        for page in re.findall(r"docs/[\w/]+\.md", file.read_text())
        if not (ROOT / page).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_pages_beside_docs_exist(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text())
    assert not [target for target in targets if "://" not in target and not (ROOT / target).exists()]


def test_paths_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:matlab_io|simulator|nflae_bridge|tests|docs)/[\w/.]*)`", text)
    assert paths
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_citation_has_the_version() -> None:
    assert re.search(rf"^version: {re.escape(__version__)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
