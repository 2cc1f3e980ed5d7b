"""A few seconds of every fuzzer: seeds that failed once, and fixed new ones."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz import watchdog
from tests.fuzz.crafted_files import CRAFTED
from tests.fuzz.fuzzers import FUZZERS, faults_of, kept_seeds, load
from tests.fuzz.watchdog import failures

NEW = {"engine": 25, "engine_many": 3, "files": 600, "pmt": 1500, "wire": 100}


@pytest.mark.parametrize("name", FUZZERS)
def test_no_seed_fails(name: str, tmp_path: Path) -> None:
    seeds = itertools.chain(kept_seeds(name), range(10_000, 10_000 + NEW[name]))
    attempt, end = load(name), time.monotonic() + 20
    found = {}
    for seed in itertools.takewhile(lambda seed: time.monotonic() < end, seeds):
        if faults := faults_of(attempt, seed, tmp_path):
            found[seed] = faults
    assert not found


def strange(seed: int, folder: Path, traces: Path) -> list[str]:
    """A fuzzer whose seed 3 waits and 5 computes without end, 4 ends the process, 6 raises, 7 has a fault."""
    trace = (traces / str(seed)).open("w")
    faulthandler.enable(trace)
    (folder / "file").write_text(str(seed))
    if seed == 3:
        threading.Event().wait()
    while seed == 5:
        pass
    if seed == 4:
        os._exit(9)
    if seed == 6:
        raise ValueError("six")
    return ["seven"] if seed == 7 else []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_seed_that_hangs_or_ends_its_process_is_its_own_fault_and_the_others_are_run(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_WAITING", 25)  # others of these seeds may stand still for seconds, too
    found = dict(failures(partial(strange, traces=tmp_path), range(30), 60, workers, limit=0.2))
    assert sorted(found) == list(range(30))
    assert {seed: faults for seed, faults in found.items() if faults} == {
        3: ["does not end in 5 s"],
        4: ["ends its process, exit code 9"],
        5: ["takes more than 0.2 s of processor time"],
        6: ["ValueError: six"],
        7: ["seven"],
    }
    assert [seed for seed in range(30) if "in strange" in (tmp_path / str(seed)).read_text()] == [3, 5]


def test_no_seed_begins_after_the_time_and_no_process_is_left() -> None:
    pids: set[int] = set()
    for _, faults in failures(lambda seed, folder: [str(os.getpid())], itertools.count(), 0.2, 2):
        pids.update(map(int, faults))
    assert 1 <= len(pids) <= 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


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
