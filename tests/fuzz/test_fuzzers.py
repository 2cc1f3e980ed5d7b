"""A few seconds of every fuzzer: seeds that failed once, and fixed new ones."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.crafted_files import CRAFTED
from tests.fuzz.fuzzers import FUZZERS, failures, kept_seeds

NEW = {"engine": 25, "engine_many": 3, "files": 600, "pmt": 1500, "wire": 100}


@pytest.mark.parametrize("name", FUZZERS)
def test_no_seed_fails(name: str) -> None:
    seeds = itertools.chain(kept_seeds(name), range(10_000, 10_000 + NEW[name]))
    found = {seed: faults for seed, faults in failures(name, seeds, 20) if faults}
    assert not found


def test_crafted_files_are_refused_in_one_line_two_seconds_and_300_mb(tmp_path: Path) -> None:
    paths = {}
    for name, craft in CRAFTED.items():
        (tmp_path / name).mkdir()
        paths[name] = tmp_path / name / "x.mat"
        craft(paths[name])
    reader = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.read_crafted", *map(str, paths.values())],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for line in reader.stdout.splitlines():
        outcome = json.loads(line)
        path = outcome["path"]
        refused = [said for said in outcome["outcomes"] if said]
        assert refused, path
        for said in refused:
            assert said.startswith(f"{path}: "), said
            assert "\n" not in said
        assert outcome["seconds"] < 2, path
        assert outcome["memory"] < 300, path
    assert len(reader.stdout.splitlines()) == len(CRAFTED)
