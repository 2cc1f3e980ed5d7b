"""`nflae bench` of precoding problems: every scheme on the same problem, in its objective, beside one plain call."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nflae_bridge import precode
from nflae_bridge.files.problem import ProblemRequest, drawn_problem
from nflae_bridge.studies.benchmark.comparison import Settings, compare, draw
from nflae_bridge.studies.benchmark.competitors import FLOOR, PLAIN_CALL, competitors
from nflae_bridge.studies.benchmark.pareto import Measurement, ratios, reference, share_of_reference
from simulator.problems.problem import PrecodingProblem
from tests.channel_files import Run

SMALL = ("--drops", 4, "--users", 3, "--antennas", 12, "--repeats", 1, "--threads", 1, "--batches", 4)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time small batches as seldom as large ones."""
    monkeypatch.setattr("nflae_bridge.studies.benchmark.comparison._MAX_CALLS_RATIO", 1)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "same", "column", "objective", "schemes"),
    [
        (
            ("--weights", "8,1,2"),
            {"weights": [8, 1, 2]},
            "weighted_sum_rate",
            lambda rate: rate @ [8, 1, 2],
            ["nflae", "wmmse", "rzf"],
        ),
        (
            ("--objective", "max-min"),
            {"objective": "max-min"},
            "smallest_rate",
            lambda rate: rate.min(1),
            ["nflae", "rzf"],
        ),
        (
            ("--power-per-antenna", 0.05, "--antenna-groups", 4),
            {"power_per_antenna": 0.05, "antenna_groups": 4},
            "sum_rate",
            lambda rate: rate.sum(1),
            ["nflae", "wmmse", "rzf"],
        ),
        (
            ("--rf-chains", 4, "--phase-bits", 3, "--schemes", "omp,nflae"),
            {"rf_chains": 4, "phase_bits": 3},
            "sum_rate",
            lambda rate: rate.sum(1),
            ["omp", "nflae"],
        ),
    ],
)
def test_every_scheme_of_the_problem_in_its_own_objective(
    nflae: Run, tmp_path: Path, options: Any, same: Any, column: str, objective: Any, schemes: list[str]
) -> None:
    refine = () if "max-min" in options else ("--refine", "0")  # without the network there is one row of nflae
    done = nflae("bench", "-o", tmp_path, *SMALL, *refine, *options)
    assert done.exit_code == 0, done.output
    floor, plain, *rows = table(tmp_path / "bench.csv")
    assert (floor["scheme"], plain["scheme"]) == (FLOOR, PLAIN_CALL)
    assert (floor[column], plain[column], plain["share_of_best_rival"]) == ("", "", "")
    assert float(plain["median_s"]) > 0
    assert [row["scheme"] for row in rows] == schemes
    channels = draw(3, 12, 4, 0).numpy()
    best = max(float(row[column]) for row in rows if row["scheme"] != "nflae")
    for row in rows:
        rate = precode(channels, noise_power=0.01, scheme=row["scheme"], **same).rate
        assert float(row[column]) == pytest.approx(objective(rate).mean(), rel=1e-4)
        assert float(row["share_of_best_rival"]) == pytest.approx(float(row[column]) / best, rel=1e-5)
        for name, value in same.items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            assert f"{name}={shown}" in row["problem"].split("; ")
    shown = " ".join(done.output.split())
    for text in (column.replace("_", " "), "of the best", "nflae over its plain call", f"({PLAIN_CALL})"):
        assert text in shown
    assert "wmmse-100" not in done.output
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_limits_of_antennas_hold_beside_the_total_power_where_they_sum_to_more() -> None:
    channels = draw(3, 12, 5, 1)
    for limit, total in ((0.05, 0.6), (0.2, 1.0)):
        problem = drawn_problem(ProblemRequest(power_per_antenna=str(limit)), 3, 12)
        assert problem.total_power == (total == 1.0)
        setup = Settings(problem=problem).setup(torch.device("cpu"))
        _, plain, *found = competitors(("nflae", "wmmse", "rzf"), (0,), setup, channels, channels)
        for competitor in found:
            precoder, power = competitor.solve(channels)
            loads = (precoder.abs() ** 2 * power.unsqueeze(-1)).sum(1)
            assert float(loads.max()) <= limit * (1 + 1e-5)
            assert float(power.sum(-1).max()) <= total * (1 + 1e-5)
        _, power = plain.solve(channels)  # the plain call keeps to the total power alone
        torch.testing.assert_close(power.sum(-1), torch.ones(5, dtype=power.dtype), rtol=1e-4, atol=0)


def test_refinements_and_settings_of_the_plain_comparison_apply() -> None:
    problem = PrecodingProblem(weights=np.array([4.0, 1.0]))
    settings = Settings(("nflae", "rzf"), (0, 2), (1, 3), users=2, antennas=8, drops=3, repeats=1, problem=problem)
    rows = compare(settings, lambda done, note: None)
    names = [FLOOR, PLAIN_CALL, "nflae", "nflae+2", "rzf"]
    assert [(row.batch, row.name) for row in rows] == [(batch, name) for batch in (1, 3) for name in names]
    for alone, together in zip(rows[:5], rows[5:], strict=True):
        assert alone.objective == pytest.approx(together.objective, rel=1e-3, nan_ok=True)


def test_shares_and_ratios_are_those_to_the_best_rival_and_the_plain_call() -> None:
    def measured(scheme: str, median: float, objective: float) -> Measurement:
        steps = 0 if scheme == "nflae" else None
        return Measurement("cpu", 1, 3, 12, scheme, steps, "problem", median, median, 1, objective)

    ours, omp = measured("nflae", 6.0, 21.0), measured("omp", 3.0, 20.0)
    rows = [measured(FLOOR, 0.5, math.nan), measured(PLAIN_CALL, 2.0, math.nan), ours, omp, measured("rzf", 1.0, 10.0)]
    hybrid = PrecodingProblem(rf_chains=4)
    assert reference(rows, hybrid) is omp
    assert share_of_reference(rows, ours, hybrid) == pytest.approx(1.05)
    assert share_of_reference(rows, rows[1], hybrid) is None
    assert share_of_reference(rows[:3], ours, hybrid) is None
    assert reference(rows, PrecodingProblem()) is None
    found = {ratio.quantity: (ratio.rival, ratio.times) for ratio in ratios(rows, ours, "sum rate")}
    assert found == {
        "fastest scheme at an equal or higher sum rate": (None, None),
        "nflae over the floor": (FLOOR, 12.0),
        "nflae over its plain call": (PLAIN_CALL, 3.0),
    }


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--window", 3), 2, "--window applies to the channels of a file only"),
        (("--streams", 2), 2, "--streams applies to the channels of a file only"),
        (("--receive-antennas", "joint"), 2, "--receive-antennas applies to the channels of a file only"),
        (("--power-scope", "total"), 2, "--power-scope applies to the channels of a file only"),
        (("--weights", "w"), 2, "one number per user"),
        (("--objective", "proportional-fair"), 2, "proportional-fair"),
        (("--objective", "max-min", "--scaling"), 2, "--scaling applies to the plain sum rate"),
        (("--weights", "1,2"), 1, "--weights must hold one value for each of the 10 users"),
        (("--rf-chains", 2), 1, "--rf-chains must be from 10"),
        (("--objective", "max-min", "--rf-chains", 10), 1, "cannot be solved together"),
        (("--rf-chains", 10, "--schemes", "nflae,inversion-free"), 1, "scheme inversion-free does not solve hybrid"),
        (("--schemes", "omp"), 1, "scheme omp solves hybrid array only"),
    ],
)
def test_what_needs_a_file_or_does_not_fit_is_refused_by_name_before_any_work(
    nflae: Run, tmp_path: Path, options: Any, code: int, text: str
) -> None:
    done = nflae("bench", "-o", tmp_path / "out", *options)
    assert done.exit_code == code
    assert text in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
