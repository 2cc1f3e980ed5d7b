"""Measure the share of single-line faults that the test suite detects.

    python benchmarks/mutation.py powers layout --sample 100
    python benchmarks/mutation.py --list

Each mutant is the code with one operator or constant changed. The tests that execute the changed line are run on it,
the quickest first; a mutant is killed if one of them fails or does not end. Equivalent mutants, which change nothing
that can be observed, count as survivors. Needs a POSIX system (processes are forked) and the `test` extra.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Subject -> (sources, tests).
SUBJECTS = {
    "engine": (["nflae_bridge/engine"], ["tests/nflae_bridge/engine", "tests/nflae_bridge/api"]),
    "powers": (
        ["simulator/downlink/powers.py", "simulator/downlink/structure.py", "simulator/downlink/balancing.py"],
        ["tests/simulator/downlink", "tests/simulator/schemes"],
    ),
    "layout": (["matlab_io/reading/layout.py"], ["tests/matlab_io/reading"]),
    "budget": (
        [
            "matlab_io/reading/scalars.py",
            "nflae_bridge/files/budget",
        ],
        ["tests/matlab_io/reading/test_scalars.py", "tests/nflae_bridge/files/budget"],
    ),
    "sequences": (
        ["simulator/csi/sequences", "simulator/csi/models.py", "nflae_bridge/files/slots.py"],
        [
            "tests/simulator/csi/sequences",
            "tests/simulator/csi/test_models.py",
            "tests/nflae_bridge/cli/test_predict.py",
        ],
    ),
    "wire": (
        [
            "nflae_bridge/live/protocol/frames.py",
            "nflae_bridge/live/protocol/answers.py",
            "nflae_bridge/live/protocol/headers.py",
        ],
        ["tests/nflae_bridge/live/test_protocol.py"],
    ),
}
LEFT_OUT = ("triton_kernels",)  # compiled by Triton, for a GPU
PRELOADED = ("numpy", "scipy.linalg", "scipy.io", "torch", "onnxruntime", "hypothesis", "pytest", "msgspec", "h5py")

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}


@dataclass(frozen=True)
class Mutant:
    """Describe one change to one line of one file.

    Attributes
    ----------
    path : str
        File, relative to the root.
    line : int
        Line of the change, from 1.
    start, stop : int
        Span of the changed text, as byte offsets into the file.
    old, new : str
        Text before and after.
    """

    path: str
    line: int
    start: int
    stop: int
    old: str
    new: str

    def apply(self, source: bytes) -> bytes:
        """Return the source with the change made."""
        return source[: self.start] + self.new.encode() + source[self.stop :]


def mutants_of(path: str) -> list[Mutant]:
    """List the mutants of one file.

    Parameters
    ----------
    path : str
        File, relative to the root.

    Returns
    -------
    list of Mutant
        In the order of the file.
    """
    source = (ROOT / path).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(line: int | None, column: int | None) -> int:
        return starts[(line or 1) - 1] + (column or 0)

    def change(node: Any, first: int, last: int, old: str, new: str) -> Mutant | None:
        found = re.search(rb"(?<![\w*/<>=!])" + re.escape(old.encode()) + rb"(?![\w*/<>=])", source[first:last])
        if found is None:
            return None
        begin = first + found.start()
        return Mutant(path, source[:begin].count(b"\n") + 1, begin, first + found.end(), old, new)

    found = []
    for node in _code(ast.parse(source)):
        begin, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
        if isinstance(node, ast.Compare):
            left = node.left
            for operator, right in zip(node.ops, node.comparators, strict=True):
                span = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)
                found.append(change(node, *span, *COMPARISONS[type(operator)]))
                left = right
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            span = at(node.left.end_lineno, node.left.end_col_offset), at(node.right.lineno, node.right.col_offset)
            found.append(change(node, *span, *ARITHMETIC[type(node.op)]))
        elif isinstance(node, ast.BoolOp):
            for one, other in zip(node.values, node.values[1:], strict=False):
                span = at(one.end_lineno, one.end_col_offset), at(other.lineno, other.col_offset)
                pair = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                found.append(change(node, *span, *pair))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
            stop = at(node.operand.lineno, node.operand.col_offset)
            found.append(Mutant(path, node.lineno, begin, stop, source[begin:stop].decode(), ""))
        elif isinstance(node, ast.Constant) and not isinstance(node.value, (str, bytes, type(None), type(...))):
            found.append(Mutant(path, node.lineno, begin, end, source[begin:end].decode(), _other(node.value)))
    return sorted((each for each in found if each is not None), key=lambda each: each.start)


def _other(value: Any) -> str:
    if isinstance(value, bool):
        return str(not value)
    return repr(value + 1) if isinstance(value, int) else repr(30 * value + (value == 0))


def _code(tree: ast.AST) -> Iterator[Any]:
    """Yield the nodes of a tree in which a change can matter: no annotations, texts or declarations."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield node.value
                yield from _code(node.value)
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if isinstance(node, ast.arg):
            continue
        if isinstance(node, ast.expr):
            yield node
        yield from _code(node)


@dataclass
class Covered:
    """Hold what the tests execute and how long they take.

    Attributes
    ----------
    tests : dict
        (file, line) -> identifiers of the tests that execute the line.
    imported : set of (file, line)
        Lines executed when a module is imported; every test depends on them.
    seconds : dict
        Identifier -> duration, s.
    """

    tests: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    imported: set[tuple[str, int]] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)


class _Recorder:
    """Record for every test the lines it executes and its duration."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_runtest_setup(self, item: Any) -> None:
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)


def measure_coverage(tree: Path, sources: list[str], tests: list[str]) -> Covered:
    """Run the tests once, unchanged, and record which of them execute which line."""
    import coverage
    import pytest

    watch = coverage.Coverage(data_file=None, include=[str(tree / source) for source in sources])
    recorder = _Recorder(watch)
    watch.start()
    status = pytest.main([*_quiet(), *(str(tree / test) for test in tests)], plugins=[recorder])
    watch.stop()
    if status != 0:
        raise RuntimeError(f"tests fail on the unchanged code: {', '.join(recorder.failed) or status}")
    data, covered = watch.get_data(), Covered(seconds=recorder.seconds)
    for name in data.measured_files():
        for line, contexts in data.contexts_by_lineno(name).items():
            place = str(Path(name).relative_to(tree)), line
            covered.tests[place] = set(contexts) - {""}
            if "" in contexts:
                covered.imported.add(place)
    return covered


def _quiet() -> list[str]:
    return ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:timeout"]


def _forked(queue: Queue[Any], tree: Path, work: Any, *arguments: Any) -> None:
    os.setpgid(0, 0)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    sys.dont_write_bytecode = True
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
    queue.put(work(*arguments))


def in_process(tree: Path, timeout: float, work: Any, *arguments: Any) -> Any:
    """Call a function in a forked process; return its result, or None where it does not end or dies."""
    context = get_context("fork")
    queue: Queue[Any] = context.Queue()
    process = context.Process(target=_forked, args=(queue, tree, work, *arguments))
    process.start()
    end = time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            try:
                return queue.get(timeout=0.1)
            except Exception:
                if not process.is_alive():
                    return None if queue.empty() else queue.get()
        return None
    finally:
        try:
            os.killpg(process.pid or 0, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        process.join()


def run_tests(tests: list[str]) -> bool:
    """Return whether all of the tests pass."""
    import pytest

    return int(pytest.main([*_quiet(), *tests])) == 0


def examine(tree: Path, mutant: Mutant, covered: Covered) -> str:
    """Return the fate of a mutant: killed, survived, or not executed by any test."""
    place = mutant.path, mutant.line
    found = covered.tests.get(place) or (covered.seconds if place in covered.imported else ())
    tests = sorted(found, key=lambda test: covered.seconds.get(test, 0))
    if not tests:
        return "not executed"
    target = tree / mutant.path
    original, times = target.read_bytes(), target.stat()
    try:
        target.write_bytes(mutant.apply(original))
        seconds = 30 + 5 * sum(covered.seconds.get(test, 0) for test in tests)
        passed = in_process(tree, seconds, run_tests, tests)
    finally:
        target.write_bytes(original)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    return "survived" if passed else "killed"


def chosen(subject: str, sample: int, seed: int) -> tuple[list[Mutant], list[str], list[str]]:
    """Return the mutants, the sources and the tests of a subject."""
    sources, tests = SUBJECTS[subject]
    paths = [
        path
        for source in sources
        for path in ([ROOT / source] if source.endswith(".py") else (ROOT / source).rglob("*.py"))
    ]
    names = sorted(str(path.relative_to(ROOT)) for path in paths)
    names = [name for name in names if not any(part in name for part in LEFT_OUT)]
    found = [mutant for name in names for mutant in mutants_of(name)]
    if sample and sample < len(found):
        found = random.Random(seed).sample(found, sample)
    return sorted(found, key=lambda each: (each.path, each.start)), names, tests


def main() -> None:
    """Examine mutants of the chosen subjects and print the share killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"{', '.join(SUBJECTS)}; by default all")
    parser.add_argument("--sample", type=int, default=0, help="examine so many mutants per subject; by default all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--list", action="store_true", help="print the number of mutants and stop")
    parser.add_argument("-o", "--output", type=Path, help="write a CSV file with a row per mutant")
    options = parser.parse_args()
    rows = []
    for name in () if options.list else PRELOADED:
        importlib.import_module(name)
    for subject in options.subjects or SUBJECTS:
        mutants, sources, tests = chosen(subject, options.sample, options.seed)
        if options.list:
            print(f"{subject}: {len(mutants)} mutants of {len(sources)} files")
            continue
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", ".*_cache", "docs")
            shutil.copytree(ROOT, tree, ignore=ignored)
            covered = in_process(tree, 3600, measure_coverage, tree, sources, tests)
            if covered is None:
                raise SystemExit(f"mutation: error: the tests of {subject} fail on the unchanged code")
            fates = []
            for number, mutant in enumerate(mutants, 1):
                fates.append(examine(tree, mutant, covered))
                rows.append([subject, mutant.path, mutant.line, mutant.old.strip(), mutant.new, fates[-1]])
                if fates[-1] != "killed":
                    print(f"{fates[-1]}: {mutant.path}:{mutant.line}: {mutant.old!r} -> {mutant.new!r}", flush=True)
                if sys.stderr.isatty():
                    print(f"\r{subject}: {number} of {len(mutants)}", end="", file=sys.stderr)
        killed = fates.count("killed")
        print(f"{subject}: {killed} of {len(fates)} killed ({100 * killed / len(fates):.1f} %)", flush=True)
    if options.output:
        with options.output.open("w", newline="") as file:
            csv.writer(file).writerows([["subject", "file", "line", "old", "new", "fate"], *rows])


if __name__ == "__main__":
    main()
