"""The fuzzers by name, their kept seeds, and the attempt of one seed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

Attempt = Callable[[int, Path], list[str]]

# Imported where they run: readers of files need no PyTorch, and their memory is measured.
_ATTEMPTS = {
    "engine": "nasty_drops:attempt",
    "engine_many": "nasty_drops:attempt_many",
    "files": "mutated_files:attempt",
    "pmt": "hostile_pmts:attempt",
    "wire": "hostile_messages:attempt",
}
FUZZERS = tuple(_ATTEMPTS)
SEEDS = Path(__file__).with_name("seeds")


def load(name: str) -> Attempt:
    """Import a fuzzer: its function of a seed and a folder returns faults, none for most seeds."""
    module, function = _ATTEMPTS[name].split(":")
    attempt: Attempt = getattr(import_module(f"tests.fuzz.{module}"), function)
    return attempt


def faults_of(attempt: Attempt, seed: int, folder: Path) -> list[str]:
    """Return the faults of a seed; an exception of the fuzzer is one."""
    try:
        return attempt(seed, folder)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def kept_seeds(name: str) -> list[int]:
    """Seeds that failed once."""
    path = SEEDS / f"{name}.txt"
    return [int(line.split("#")[0]) for line in path.read_text().splitlines() if line.split("#")[0].strip()]
