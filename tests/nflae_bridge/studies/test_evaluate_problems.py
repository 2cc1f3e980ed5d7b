"""`nflae evaluate` of precoding problems: every scheme on the same problem, measured by the problem's own objective."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nflae_bridge import precode
from tests.channel_files import Run, WriteMat, random_channels

WEIGHTS = np.random.default_rng(3).uniform(0.2, 8, (6, 3))


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["scheme"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("options", "same", "objective", "schemes"),
    [
        (
            ("--weights", "a"),
            {"weights": WEIGHTS},
            lambda rate: (WEIGHTS * rate).sum(1),
            {"nflae", "wmmse", "rzf"},
        ),
        (("--objective", "max-min"), {"objective": "max-min"}, lambda rate: rate.min(1), {"nflae", "rzf"}),
        (
            ("--objective", "proportional-fair", "--window", 3),
            {"objective": "proportional-fair", "window": 3},
            lambda rate: np.log(rate.reshape(2, 3, 3).mean(1)).sum(-1),
            {"nflae", "wmmse", "rzf"},
        ),
        (
            ("--rf-chains", 4, "--connection", "sub"),
            {"rf_chains": 4, "connection": "sub"},
            lambda rate: rate.sum(1),
            {"nflae", "wmmse", "rzf"},
        ),
    ],
)
def test_every_scheme_solves_the_problem_in_its_own_objective(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: Any, same: Any, objective: Any, schemes: set[str]
) -> None:
    H, output = random_channels(drops=6), tmp_path / "table.csv"
    source = write_mat(H, noise_power=0.1, a=WEIGHTS.T)
    done = nflae("evaluate", source, *options, "--csv", output, "--batch", 4)
    assert done.exit_code == 0, done.output
    found = table(output)
    assert set(found) == schemes
    best = max(float(row["mean_objective"]) for row in found.values())
    for name, row in found.items():
        expected = objective(precode(H, noise_power=0.1, scheme=name, **same).rate).mean()
        assert float(row["mean_objective"]) == pytest.approx(expected, rel=1e-4)
        share = float(row["mean_objective"]) / best
        if "window" in same:
            share = np.exp((float(row["mean_objective"]) - best) / 3)
        assert float(row["share_of_best"]) == pytest.approx(share, rel=1e-4)
        assert (row["violated"], row["below_textbook"]) == ("0", "0")
    assert "of the best" in done.output
    assert "capacity (DPC)" not in done.output


def test_subcarriers_and_receive_antennas(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, output = random_channels(drops=12).reshape(3, 4, 3, 16), tmp_path / "table.csv"
    source = write_mat(grid=H.T, power=4.0, noise_power=0.1)
    options = ("--layout", "nkfs", "--power-scope", "total", "--drops", 9, "--csv", output)
    done = nflae("evaluate", source, *options)
    assert done.exit_code == 0, done.output
    assert "the first 8 of 12" in done.output  # two whole snapshots
    assert "mean sum rate of" in done.stdout
    assert "4 subcarriers, bps/Hz" in done.stdout
    found = table(output)
    sums = {}
    for name in ("zf", "rzf"):
        same = {"layout": "sfkn", "convention": "hermitian", "noise_power": 0.1, "power": 4.0, "power_scope": "total"}
        sums[name] = precode(H[:2], scheme=name, **same).sum_rate.reshape(2, 4).sum(1)
        assert float(found[name]["mean_objective"]) == pytest.approx(sums[name].mean(), rel=1e-4)
    assert int(found["zf"]["below_textbook"]) == 4 * (sums["zf"] < sums["rzf"]).sum() > 0
    multi = np.stack([H[:, 0], H[:, 1]], 2)
    done = nflae(
        "evaluate",
        write_mat(grid=multi.T, noise_power=0.1),
        "--layout",
        "nrks",
        "--receive-antennas",
        "joint",
        "--schemes",
        "bd,rzf",
        "--csv",
        output,
    )
    assert done.exit_code == 0, done.output
    assert set(table(output)) == {"bd", "rzf"}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--weights", "1,2,3", "--optimiser"), 2, "--optimiser applies to the plain sum rate"),
        (("--weights", "1,2,3", "--plot", "p.png"), 2, "--plot applies to the plain sum rate"),
        (("--weights", "1,2,3", "--schemes", "zf"), 1, "scheme zf does not solve weights; there are nflae, wmmse, rzf"),
        (("--schemes", "bd"), 1, "scheme bd solves receive antennas only"),
        (
            ("--rf-chains", 4, "--connection", "sub", "--schemes", "omp"),
            1,
            "scheme omp does not solve hybrid array with connection='sub'; there are nflae, wmmse, rzf",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    nflae: Run, write_mat: WriteMat, options: tuple[object, ...], status: int, words: str
) -> None:
    done = nflae("evaluate", write_mat(random_channels(drops=4), noise_power=0.1), *options)
    assert (done.exit_code, words in done.stderr) == (status, True), done.stderr


def test_a_bad_drop_of_a_snapshot_is_named(nflae: Run, write_mat: WriteMat) -> None:
    H = random_channels(drops=4)
    H[2, 0] = np.nan
    source = write_mat(grid=H.reshape(2, 2, 3, 16).T, noise_power=0.1)
    options = ("--layout", "nkfs", "--power-scope", "total", "--on-bad-drop", "skip")
    done = nflae("evaluate", source, *options)
    assert done.exit_code == 1
    assert "drop 2, subcarrier 1 cannot be skipped: 2 drops are solved together" in done.stderr
