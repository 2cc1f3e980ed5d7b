"""Work shared among processes: the same figures however many there are, and whatever happens to them."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import Block
from nflae_bridge.studies.cluster import ClusterLost, local_processes, run_units
from nflae_bridge.studies.evaluation.comparison import Comparison
from nflae_bridge.studies.evaluation.evaluate import evaluate
from nflae_bridge.studies.evaluation.scores import Evaluation
from simulator.downlink.budget import LinkBudget
from tests.channel_files import Run, WriteMat, random_channels


@dataclass(frozen=True)
class Throw:
    """Numbers to draw, and where to leave a trace of having done so."""

    seed: int
    folder: Path


def throw(unit: Throw) -> float:
    (unit.folder / f"{unit.seed}").touch()
    return float(np.random.default_rng(unit.seed).standard_normal(1000).sum())


def fail_at(which: int, unit: Throw) -> float:
    if unit.seed == which:
        raise NflaeError(f"unit {which} says no")
    return throw(unit)


def die_once_at(which: int, unit: Throw) -> float:
    marker = unit.folder / "died"
    if unit.seed == which and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return throw(unit)


def die_at_once(unit: Throw) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def throws(count: int, folder: Path) -> list[Throw]:
    return [Throw(seed, folder) for seed in range(count)]


@pytest.fixture(scope="module")
def pair(warm_workers: None) -> Iterator[LocalCluster]:
    """A cluster of two processes that restarts those that die."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0) as running:
        yield running


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """A cluster within this process, quickly gone."""
    monkeypatch.setattr("nflae_bridge.studies.cluster._TIMEOUT_SECONDS", 3)  # less is too little on a busy machine
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as running:
        yield running


def test_here_units_are_computed_in_order_and_only_when_asked_for(tmp_path: Path) -> None:
    outcomes = run_units(throw, iter(throws(5, tmp_path)), None)
    assert next(outcomes) == (0, throw(Throw(0, tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert [index for index, _ in outcomes] == [1, 2, 3, 4]


@pytest.mark.parametrize("address", ["tcp://host:8786", "host:8786", "tls://10.0.0.1:8786", "tcp://[::1]:8786"])
def test_addresses(address: str) -> None:
    assert local_processes(address) is None


def test_number_of_local_processes() -> None:
    assert local_processes("local:12") == 12


@pytest.mark.parametrize("cluster", ["local", "local:0", "local:-1", "local:x", "local:", "http://host:1", "host", ""])
def test_what_is_no_cluster(cluster: str, nflae: Run) -> None:
    with pytest.raises(NflaeError, match="is not a cluster: give local:N"):
        local_processes(cluster)
    done = nflae("evaluate", "in.mat", "--cluster", cluster)
    assert done.exit_code == 2
    assert "is not a cluster" in done.stderr


def test_without_dask_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NflaeError, match=r"^--cluster needs the extra 'cluster' .* pip install .*\[cluster\]"):
        next(run_units(throw, throws(1, tmp_path), "local:2"))


@pytest.mark.slow
def test_outcomes_are_those_of_one_process(pair: LocalCluster, tmp_path: Path) -> None:
    units = throws(30, tmp_path)
    assert dict(run_units(throw, units, pair.scheduler_address)) == dict(run_units(throw, units, None))


@pytest.mark.slow
def test_a_dead_workers_units_are_computed_again(pair: LocalCluster, tmp_path: Path) -> None:
    units = throws(30, tmp_path)
    outcomes = dict(run_units(partial(die_once_at, 12), units, pair.scheduler_address))
    assert (tmp_path / "died").exists()
    assert outcomes == dict(run_units(throw, units, None))


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_is_named(pair: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(NflaeError, match="the workers died on unit 1 several times"):
        list(run_units(die_at_once, throws(1, tmp_path), pair.scheduler_address))


@pytest.mark.slow
def test_an_error_in_a_unit_comes_out_as_it_is(pair: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(NflaeError, match=r"^unit 3 says no$"):
        list(run_units(partial(fail_at, 3), throws(10, tmp_path), pair.scheduler_address))
    with pytest.raises(AttributeError):  # what isn't ours, too
        list(run_units(throw, [None], pair.scheduler_address))  # type: ignore[list-item]


@pytest.mark.slow
def test_closing_early_wastes_little(pair: LocalCluster, tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[Throw]:
        nonlocal taken
        while True:
            yield Throw(taken, tmp_path)
            taken += 1

    with closing(run_units(throw, endless(), pair.scheduler_address)) as outcomes:
        for count, _ in enumerate(outcomes, start=1):
            if count == 10:
                break
    time.sleep(0.5)
    assert 10 <= len(list(tmp_path.iterdir())) <= taken + 1 <= 10 + 2 * 2


@pytest.mark.slow
def test_another_version_there_is_refused(pair: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.studies.cluster.__version__", "9.9")
    with pytest.raises(NflaeError, match=r"has nflae-bridge .*, this machine 9\.9; use one version"):
        next(run_units(throw, throws(1, tmp_path), pair.scheduler_address))


@pytest.mark.slow
def test_a_cluster_without_workers_and_none_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr("nflae_bridge.studies.cluster._TIMEOUT_SECONDS", 3)
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(NflaeError, match="has no worker; start `dask worker tcp://"),
    ):
        next(run_units(throw, throws(1, tmp_path), empty.scheduler_address))
    monkeypatch.setattr("nflae_bridge.studies.cluster._TIMEOUT_SECONDS", 0.5)
    with pytest.raises(NflaeError, match="cannot be reached; start `dask scheduler` there"):
        next(run_units(throw, throws(1, tmp_path), f"tcp://127.0.0.1:{free_port}"))


@pytest.mark.slow
def test_what_a_lost_cluster_gave_is_kept(passing: LocalCluster, tmp_path: Path) -> None:
    kept = {}

    def run() -> None:
        for index, outcome in run_units(throw, throws(500, tmp_path), passing.scheduler_address):
            kept[index] = outcome
            if len(kept) == 5:
                passing.close()

    with pytest.raises(ClusterLost, match=r"lost after \d+ units; start it again"):
        run()
    assert 5 <= len(kept) < 500
    assert kept.items() <= dict(run_units(throw, throws(500, tmp_path), None)).items()


@pytest.mark.slow
def test_a_cluster_deserted_by_its_workers_is_lost(
    passing: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (Throw(seed, tmp_path) for seed in itertools.count())

    def run() -> None:
        for count, _ in enumerate(run_units(throw, endless, passing.scheduler_address)):
            if count == 5:
                passing.scale(0)
                monkeypatch.setattr("nflae_bridge.studies.cluster._TIMEOUT_SECONDS", 0.5)

    with pytest.raises(ClusterLost, match="lost after"):
        run()


# --- evaluate


def blocks_of(count: int) -> Iterator[Block]:
    for start in range(0, 8 * count, 8):
        channels = random_channels(drops=8, seed=start)
        good = np.arange(8) != (3 if start == 16 else 8)  # one bad drop among them
        yield Block(start, good, channels[good])


def evaluated(cluster: str | None, model: Path, killing: int | None = None, blocks: int = 8) -> Evaluation:
    """``killing``: a process to end after the third block."""
    comparison = Comparison(("rzf", "wmmse", "nflae"), False, str(model), "cpu", 0, LinkBudget(1.0, 0.01, 0.5, 0.3))
    victims = [] if killing is None else [killing]

    def advance(done: int, note: str) -> None:
        if done >= 24 and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    return evaluate(blocks_of(blocks), comparison, advance, cluster)


def figures(found: Evaluation) -> list[object]:
    """All but the times."""
    scores = [(score.scheme, score.mean, score.infeasible, score.fallback) for score in found.scores]
    return [*scores, found.capacity, found.drops, found.skipped, found.near_field_share, found.lost]


@pytest.mark.slow
def test_evaluation_is_the_same_on_one_process_and_several(pair: LocalCluster, untrained: Path) -> None:
    expected = figures(evaluated(None, untrained))
    for cluster in (pair.scheduler_address, "local:4"):
        assert figures(evaluated(cluster, untrained)) == expected, cluster


@pytest.mark.slow
def test_evaluation_is_the_same_after_a_worker_was_killed(pair: LocalCluster, untrained: Path) -> None:
    with Client(pair.scheduler_address, set_as_default=False) as client:
        victim = next(iter(client.run(os.getpid).values()))
    found = evaluated(pair.scheduler_address, untrained, victim)
    assert figures(found) == figures(evaluated(None, untrained))


@pytest.mark.slow
def test_evaluate_reports_what_a_lost_cluster_gave(
    passing: LocalCluster,
    nflae: Run,
    untrained: Path,
    tmp_path: Path,
    write_mat: WriteMat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def losing_it(what: str, pace: object) -> Callable[[int, str], None]:
        return lambda done, note: passing.close() if done == 5 else None

    monkeypatch.setattr("nflae_bridge.cli.terminal._progress_lines", losing_it)
    source, table = write_mat(random_channels(drops=40)), tmp_path / "table.csv"
    arguments = ("--model", untrained, "--schemes", "rzf", "--csv", table, "--batch", 1)
    done = nflae("evaluate", source, *arguments, "--cluster", passing.scheduler_address)
    assert done.exit_code == 1
    assert "nflae: error: only" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("nflae: error")]) == 1
    with table.open() as file:
        assert {row["scheme"] for row in csv.DictReader(file)} == {"rzf", "capacity"}


@pytest.mark.slow
def test_evaluate_names_the_cluster_it_cant_reach(
    nflae: Run, write_mat: WriteMat, untrained: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nflae_bridge.studies.cluster._TIMEOUT_SECONDS", 1)
    address = f"tcp://127.0.0.1:{free_port}"
    done = nflae("evaluate", write_mat(random_channels()), "--model", untrained, "--cluster", address)
    assert done.exit_code == 1
    expected = f"nflae: error: cluster {address}: cannot be reached; start `dask scheduler` there, or give local:N"
    assert done.stderr.splitlines() == [expected]


def test_the_first_connection_leaves_the_defaults_of_dask() -> None:
    script = """
import dask
from matlab_io.errors import NflaeError
from nflae_bridge.studies import cluster

cluster._TIMEOUT_SECONDS = 0.1
try:
    next(cluster.run_units(str, [1], "tcp://127.0.0.1:9"))
except NflaeError as error:
    print(error)
print(dask.config.get("distributed.comm.require-encryption"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "cannot be reached" in done.stdout, done.stderr
    assert done.stdout.endswith("\nNone\n"), done.stderr
