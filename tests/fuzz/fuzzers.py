"""The fuzzers by name, and the loop that runs one of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz import hostile_messages, hostile_pmts, mutated_files, nasty_drops

Attempt = Callable[[int, Path], list[str]]

FUZZERS: dict[str, Attempt] = {
    "engine": nasty_drops.attempt,
    "engine_many": nasty_drops.attempt_many,
    "files": mutated_files.attempt,
    "pmt": hostile_pmts.attempt,
    "wire": hostile_messages.attempt,
}
SEEDS = Path(__file__).with_name("seeds")


def kept_seeds(name: str) -> list[int]:
    """Seeds that failed once."""
    path = SEEDS / f"{name}.txt"
    return [int(line.split("#")[0]) for line in path.read_text().splitlines() if line.split("#")[0].strip()]


def failures(name: str, seeds: Iterator[int], seconds: float) -> Iterator[tuple[int, list[str]]]:
    """Run seeds for a time; yield every seed with its faults, which are none for most."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            try:
                found = FUZZERS[name](seed, Path(folder))
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            yield seed, found
            if time.monotonic() > end:
                return
