"""``nflae bench``: rivals that compute what they are named after, a front that is one, times with their sum rates."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from nflae_bridge.cli.commands.studies.bench import _ratio
from nflae_bridge.plots.benchmark import bench_figure, scaling_figure
from nflae_bridge.plots.look import FigureLook
from nflae_bridge.studies.benchmark.comparison import Settings, compare, draw, rounds
from nflae_bridge.studies.benchmark.competitors import FLOOR, ITERATIONS, Competitor, competitors
from nflae_bridge.studies.benchmark.cuda_graph import Captured
from nflae_bridge.studies.benchmark.implementations import Implementation, fastest_implementation, implementations
from nflae_bridge.studies.benchmark.inversion_free import gradient_coefficients, warm_starts
from nflae_bridge.studies.benchmark.pareto import (
    Measurement,
    Ratio,
    fastest_reaching,
    largest_not_above,
    on_front,
    ratios,
)
from nflae_bridge.studies.benchmark.scaling import Scaled, scale, scale_rounds, series, slope
from nflae_bridge.studies.benchmark.setup import Setup
from nflae_bridge.studies.benchmark.tables import bench_csv, scaling_csv
from nflae_bridge.studies.benchmark.timing import cyclic_batches, mean_objective, time_interleaved
from nflae_bridge.studies.benchmark.wmmse import cholesky_inverse, lu_inverse, one_inverse
from simulator.downlink.budget import LinkBudget
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.constraints import check_constraints
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import achieved_sinr, effective_gains_and_beam_energy, rates, sinr
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import scheme
from simulator.schemes.wmmse import wmmse
from tests.channel_files import Run

CPU = torch.device("cpu")


def setup(snr_db: float = 20.0, threads: int = 1) -> Setup:
    return Setup(1.0, 10 ** (-snr_db / 10), CPU, threads=threads)


def sum_rates(channels: torch.Tensor, answer: tuple[torch.Tensor, torch.Tensor], noise_power: float) -> torch.Tensor:
    return rates(achieved_sinr(channels, *answer, noise_power)).sum(-1)


def measured(scheme: str, median: float, sum_rate: float, iterations: int | None = None) -> Measurement:
    return Measurement("cpu", 1, 10, 256, scheme, iterations, "torch", median, median, 30, sum_rate)


@pytest.fixture
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Implementations are chosen by two calls each, and scalings measured on 32 drops."""
    monkeypatch.setattr("nflae_bridge.studies.benchmark.implementations._TRIALS", 2)
    monkeypatch.setattr("nflae_bridge.studies.benchmark.implementations._SMALL_BATCH_TRIALS", 2)
    monkeypatch.setattr("nflae_bridge.studies.benchmark.scaling.BATCH", 32)


# --- rivals


@pytest.mark.parametrize("iterations", [0, 1, 5, 20])
@pytest.mark.parametrize(("users", "snr_db"), [(1, 20.0), (4, 0.0), (8, 20.0), (8, 40.0)])
@pytest.mark.parametrize("batch", [1, 70])
def test_every_implementation_of_wmmse_computes_wmmse(iterations: int, users: int, snr_db: float, batch: int) -> None:
    channels, on = draw(users, 64, batch, seed=3), setup(snr_db)
    expected = wmmse(ChannelBatch(channels), on.budget, iterations=iterations)
    found = implementations("wmmse", on, batch, {})
    assert len(found) == (2 if batch == 1 else 4)
    for way in found:
        precoder, power = way.make(iterations)(channels)
        # A user who is being switched off amplifies rounding, as it does in the sum rate only by its little share.
        theirs = sum_rates(channels, (precoder, power), on.noise_power)
        torch.testing.assert_close(theirs, expected.sum_rate, rtol=1e-3, atol=1e-6, msg=way.name)
        assert abs(float(theirs.mean() / expected.sum_rate.mean()) - 1) < 1e-4, way.name
        if iterations < 5 and snr_db < 40:
            torch.testing.assert_close(power.double(), expected.power, rtol=1e-3, atol=1e-4)
            overlap = (precoder.conj() * expected.precoder).sum(-1).abs()
            torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=0, atol=1e-4)


def test_inverses_are_inverses() -> None:
    generator = np.random.default_rng(1)
    half = generator.normal(size=(6, 5, 5)) + 1j * generator.normal(size=(6, 5, 5))
    matrices = np.eye(5) + half @ half.conj().swapaxes(-1, -2)
    for precision, rounding in ((np.complex64, 1e-4), (np.complex128, 1e-12)):
        exact = matrices.astype(precision)
        for inverse in (cholesky_inverse, lu_inverse):
            found = inverse(torch.from_numpy(exact)).numpy()
            assert found.dtype == precision
            np.testing.assert_allclose(found @ exact, np.tile(np.eye(5), (6, 1, 1)), atol=rounding)
        np.testing.assert_allclose(one_inverse(exact[0].copy()) @ exact[0], np.eye(5), atol=rounding)
        assert one_inverse(exact[0]).dtype == precision


@pytest.mark.parametrize(("users", "snr_db"), [(1, 10.0), (4, 10.0), (10, 20.0)])
def test_inversion_free_comes_within_a_hundredth_of_wmmse_and_keeps_below_capacity(users: int, snr_db: float) -> None:
    """It may find a better local optimum than WMMSE does, so it is capacity that bounds it."""
    channels, on = draw(users, 128, 60, seed=5), setup(snr_db)
    unweighted = warm_starts(on.gram(channels), (5, 20, 100))
    capacity = dirty_paper_capacity(channels, on.budget)
    converged = float(wmmse(ChannelBatch(channels), on.budget, iterations=300).sum_rate.mean())
    for way in implementations("inversion-free", on, len(channels), unweighted):
        found = []
        for iterations in (5, 20, 100):
            achieved = sum_rates(channels, way.make(iterations)(channels), on.noise_power)
            assert bool((achieved <= capacity * (1 + 1e-4)).all())
            found.append(float(achieved.mean()))
        assert all(later >= earlier * (1 - 1e-5) for earlier, later in pairwise(found))
        assert found[-1] == pytest.approx(converged, rel=0.01)


@pytest.mark.parametrize(("users", "snr_db"), [(1, 10.0), (3, 5.0), (4, 10.0)])
def test_gradient_steps_and_wmmse_have_the_same_fixed_point(users: int, snr_db: float) -> None:
    channels, on = draw(users, 64, 20, seed=7), setup(snr_db)
    gram = on.gram(channels.to(torch.complex128))
    torch.testing.assert_close(gram, normalised_gram(channels, on.budget), rtol=1e-12, atol=1e-12)
    coefficients = gradient_coefficients(gram, torch.eye(users, dtype=gram.dtype), 3000)
    effective_gains, energy = effective_gains_and_beam_energy(gram, coefficients)
    found = rates(sinr(effective_gains, energy / energy.sum(-1, keepdim=True))).sum(-1)
    converged = wmmse(ChannelBatch(channels), on.budget, iterations=1000).sum_rate
    torch.testing.assert_close(found.mean(), converged.mean(), rtol=1e-4, atol=0)


def test_warm_start_is_the_best_of_those_tried() -> None:
    channels, on = draw(6, 64, 30, seed=2), setup(30.0)
    chosen = warm_starts(on.gram(channels), (1, 10))
    assert chosen[1] in (0, 1)

    def mean(few: int) -> float:
        way = implementations("inversion-free", on, len(channels), {10: few})[0]
        return float(sum_rates(channels, way.make(10)(channels), on.noise_power).mean())

    assert mean(chosen[10]) >= max(mean(few) for few in (0, 1, 2, 5, 10)) * (1 - 1e-4)


@pytest.mark.parametrize("batch", [1, 33])
@pytest.mark.parametrize("name", ["nflae", "wmmse", "inversion-free", "rzf", "zf"])
def test_every_contestant_keeps_the_power_and_unit_norm_beams(name: str, batch: int) -> None:
    channels, on = draw(4, 32, batch, seed=1), setup()
    floor, *found = competitors([name], [0, 1], on, channels, channels, iterations=(3,) if name in ITERATIONS else ())
    assert floor.scheme == FLOOR
    assert len(found) == (2 if name == "nflae" else 1)
    nobody = torch.zeros(channels.shape[:2], dtype=torch.bool)
    for competitor in found:
        precoder, power = competitor.solve(channels)
        assert precoder.shape == channels.shape
        assert power.shape == channels.shape[:2]
        check = check_constraints(channels, precoder, power, nobody, on.budget)
        for violation in (check.total_power, check.negative_power, check.beam_norm):
            assert float(violation.max()) < 1e-5


def test_threads_share_a_batch_without_changing_the_answer() -> None:
    channels = draw(4, 32, 150, seed=1)
    settings = Settings(threads=2)
    shared = settings.setup(CPU)
    with shared.worker_threads(150):
        for alone, together in zip(
            implementations("wmmse", setup(), 150, {}), implementations("wmmse", shared, 150, {}), strict=False
        ):
            if alone.name == together.name:
                for ours, theirs in zip(alone.make(5)(channels), together.make(5)(channels), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_fastest_form_depends_on_how_many_iterations_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("nflae_bridge.studies.benchmark.implementations.time.perf_counter", lambda: clock[0])

    def taking(first: float, each: float, iterations: int) -> object:
        def solve(channels: torch.Tensor) -> None:
            clock[0] += first + each * iterations

        return solve

    slow_start = Implementation("slow start", partial(taking, 10.0, 1.0))  # type: ignore[arg-type]
    slow_step = Implementation("slow step", partial(taking, 1.0, 2.0))  # type: ignore[arg-type]
    choose = fastest_implementation([slow_start, slow_step], setup(), torch.empty(1))
    assert [choose(iterations).name for iterations in (0, 5, 8, 10, 100)] == [*["slow step"] * 3, *["slow start"] * 2]


def test_what_cannot_be_captured_runs_as_it_is() -> None:
    captured = Captured(lambda values: (2 * values,), CPU)
    captured.capturable = False
    assert torch.equal(captured(torch.ones(3))[0], 2 * torch.ones(3))


# --- the clock


def test_windows_go_through_all_drops_and_repeat_them_where_they_are_too_few() -> None:
    channels = torch.arange(10)
    assert [part.tolist() for part in cyclic_batches(channels, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [part.tolist() for part in cyclic_batches(channels, 12)] == [[*range(10), 0, 1]]
    assert len(cyclic_batches(channels, 1)) == 10


def test_contestants_get_the_same_inputs_equally_often() -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def solve(name: str, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen[name].append(int(channels[0]))
        return channels, channels

    found = [Competitor(name, None, "torch", partial(solve, name)) for name in seen]
    ticks: list[None] = []

    def turn(drops: int) -> AbstractContextManager[None]:
        return nullcontext()

    timings = time_interleaved(found, cyclic_batches(torch.arange(5), 1), 12, turn, lambda: ticks.append(None))
    assert seen["a"] == seen["b"] == seen["c"] == [0, 1, 2, 0, *(call % 5 for call in range(10)), 0, 0, 1]
    assert len(ticks) == 12
    assert all(0 < timing.median <= timing.p99 for timing in timings)


def test_mean_objective_is_that_of_the_definition() -> None:
    channels, budget = draw(5, 64, 21, seed=4), LinkBudget()
    _, rzf = competitors(["rzf"], [], setup(), channels[:10], channels)
    expected = scheme("rzf")(ChannelBatch(channels), budget)
    assert mean_objective(rzf, channels, 0.01, 10, PrecodingProblem()) == pytest.approx(
        float(expected.sum_rate.mean()), rel=1e-5
    )
    floor, *_ = competitors([], [], setup(), channels[:10], channels)
    assert math.isnan(mean_objective(floor, channels, 0.01, 10, PrecodingProblem()))


# --- the front

points = st.lists(
    st.tuples(st.integers(1, 6), st.one_of(st.integers(1, 6), st.just(math.nan))), min_size=1, max_size=12
).filter(lambda found: any(rate == rate for _, rate in found))


@given(points)
def test_nothing_on_the_front_is_dominated_and_everything_off_it_is(found: list[tuple[int, float]]) -> None:
    rows = [measured("wmmse", float(time), float(rate), 1) for time, rate in found]
    front = on_front(rows)
    real = [row for row in rows if not math.isnan(row.objective)]

    def dominated(row: Measurement) -> bool:
        as_good = [other for other in real if other.median <= row.median and other.objective >= row.objective]
        return any((other.median, other.objective) != (row.median, row.objective) for other in as_good)

    for row, on in zip(rows, front, strict=True):
        assert on == (not math.isnan(row.objective) and not dominated(row))
    assert any(front)


def test_ratios_name_the_rivals_they_are_taken_to() -> None:
    ours = measured("nflae", 2.0, 30.0, 0)
    rows = [
        ours,
        measured("wmmse", 1.0, 28.0, 10),
        measured("wmmse", 8.0, 30.0, 20),
        measured("wmmse", 20.0, 30.5, 50),
        measured("inversion-free", 6.0, 31.0, 30),
        measured("rzf", 0.5, 27.0),
        measured(FLOOR, 0.4, math.nan),
    ]
    assert largest_not_above(rows, "wmmse", 30.0) == rows[2]
    assert largest_not_above(rows, "wmmse", 27.0) is None
    assert fastest_reaching(rows, 30.0) == rows[4]
    found = {ratio.quantity: (ratio.rival, ratio.times) for ratio in ratios(rows, ours)}
    assert found == {
        "wmmse at an equal or lower sum rate": ("wmmse-20", 4.0),
        "inversion-free at an equal or lower sum rate": (None, None),
        "wmmse-20": ("wmmse-20", 4.0),
        "fastest scheme at an equal or higher sum rate": ("inversion-free-30", 3.0),
        "nflae over the floor": (FLOOR, 5.0),
    }


# --- scaling


@given(st.floats(-2, 3), st.floats(1e-6, 1.0))
def test_slope_of_a_power_law_is_its_exponent(exponent: float, scale: float) -> None:
    row = measured("wmmse", 1.0, 1.0, 20)
    of = [Scaled("users", replace(row, users=users, median=scale * users**exponent)) for users in (1, 2, 4, 8, 16)]
    # What comes before the upper half does not count.
    of[0] = Scaled("users", replace(of[0].row, median=1e3))
    found = slope(of)
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert (found.first, found.last, found.axis) == (4, 16, "users")


@pytest.mark.slow
@pytest.mark.usefixtures("few_trials")
def test_scaling_varies_one_thing_at_a_time() -> None:
    settings = Settings(schemes=("nflae", "wmmse", "rzf"), users=4, antennas=32, repeats=2, drops=20)
    axes = {"users": (1, 2), "antennas": (16, 32), "batch": (1, 8)}
    ticks: list[int] = []
    found = scale(settings, axes, lambda done, note: ticks.append(done))
    assert ticks[-1] == scale_rounds(settings, axes)
    assert {(point.axis, point.value) for point in found} == {(axis, v) for axis, vs in axes.items() for v in vs}
    assert {point.row.name for point in found} == {FLOOR, "nflae", "wmmse-20", "rzf"}
    assert all(math.isfinite(point.row.objective) for point in found if point.row.scheme != FLOOR)
    for point in found:
        expected = {"users": 4, "antennas": 32, "batch": 32} | {point.axis: point.value}
        assert {name: getattr(point.row, name) for name in expected} == expected
    table = list(csv.DictReader(scaling_csv(found, settings).splitlines()))
    assert len(table) == len(found)
    assert FigureLook().render(lambda: scaling_figure(found, "scaling", [])).startswith(b"\x89PNG")
    assert len(series(found)) == 3 * 4


# --- the command


def test_settings_call_small_batches_more_often() -> None:
    settings = Settings(repeats=30)
    assert [settings.calls(batch) for batch in (1, 10, 100, 1000, 16384)] == [300, 100, 30, 30, 30]
    assert rounds(replace(settings, batches=(1, 10), devices=(CPU,))) == 400


@pytest.mark.usefixtures("few_trials")
def test_a_row_for_each_contestant_and_batch() -> None:
    settings = Settings(
        refinements=(0, 2), batches=(1, 5), users=3, antennas=16, drops=7, repeats=1, schemes=("nflae", "wmmse", "zf")
    )
    ticks: list[int] = []
    rows = compare(settings, lambda done, note: ticks.append(done))
    assert ticks[-1] == rounds(settings)
    names = [FLOOR, "nflae", "nflae+2", *(f"wmmse-{count}" for count in ITERATIONS["wmmse"]), "zf"]
    assert [(row.batch, row.name) for row in rows] == [(batch, name) for batch in (1, 5) for name in names]
    table = list(csv.DictReader(bench_csv(rows, settings).splitlines()))
    assert [(row["scheme"], int(row["batch"])) for row in table] == [(row.scheme, row.batch) for row in rows]
    for row, line in zip(rows, table, strict=True):
        assert float(line["median_s"]) == pytest.approx(row.median, rel=1e-5)
        assert (line["sum_rate"] == "") == (row.scheme == FLOOR)
        assert (line["threads"], line["users"], line["antennas"], line["snr_db"]) == ("1", "3", "16", "20")
    # The same drops at every batch size: the same sum rates.
    for small, large in zip(rows[: len(names)], rows[len(names) :], strict=True):
        assert small.objective == pytest.approx(large.objective, rel=1e-3, nan_ok=True)
    assert FigureLook().render(lambda: bench_figure(rows, "bench", ["note"])).startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.usefixtures("few_trials")
def test_command_adds_the_scaling(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.studies.benchmark.scaling.AXES", {"users": (1, 2, 4), "batch": (1, 2)})
    small = ["--schemes", "rzf,nflae", "--drops", 4, "--antennas", 8, "--repeats", 1, "--threads", 1, "--batches", 2]
    done = nflae("bench", "-o", tmp_path, "--scaling", *small)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.png", "scaling.csv", "scaling.png"]
    table = list(csv.DictReader((tmp_path / "scaling.csv").open()))
    assert [row["scheme"] for row in table] == [name for name in (FLOOR, "rzf", "nflae") for _ in range(3)] + [
        name for name in (FLOOR, "rzf", "nflae") for _ in range(2)
    ]
    for text in ("2 to 4", "exponent", "users"):
        assert text in done.output


@pytest.mark.slow
@pytest.mark.usefixtures("few_trials")
def test_command_writes_table_and_picture_and_nothing_else(nflae: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "bench.csv").write_text("old")
    small = ["--drops", 10, "--users", 3, "--antennas", 16, "--repeats", 1, "--threads", 1, "--refine", "0"]
    done = nflae("bench", "-o", tmp_path, "--batches", "1,4", *small)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.png", "mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "kept"
    contestants_per_batch = 1 + 1 + len(ITERATIONS["wmmse"]) + len(ITERATIONS["inversion-free"]) + 1
    assert len(list(csv.DictReader((tmp_path / "bench.csv").open()))) == 2 * contestants_per_batch
    for text in (
        "wmmse-20",
        "inversion-free-50",
        "nflae over the floor",
        "tiny on cpu",
        "cpu, 4 drops per call",
    ):
        assert text in done.output
    assert "--repeats 30" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--schemes", "rzf,magic"], "unknown scheme 'magic': there are nflae, inversion-free, ldma, mrt, rzf,"),
        (["--schemes", "noma"], "inversion-free"),
        (["--schemes", ","], "no scheme named"),
        (["--batches", "1,0"], "whole numbers from 1 on"),
        (["--batches", "many"], "whole numbers from 1 on"),
        (["--refine", "-1"], "whole numbers from 0 on"),
        (["--repeats", "0"], "--repeats"),
        (["--effort", "fast", "--model", "tiny"], "--model is chosen by --effort: leave out one of the two"),
        (["--effort", "fast", "--refine", "1"], "--refine is chosen by --effort: leave out one of the two"),
        (["--effort", "fast", "--schemes", "rzf"], "--effort belongs to scheme nflae"),
        (["--users", "0"], "--users"),
    ],
)
def test_wrong_usage_says_what_there_is(nflae: Run, tmp_path: Path, options: list[str], text: str) -> None:
    done = nflae("bench", "-o", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert text in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--device", "cpu,cuda:7"], "device 'cuda:7' is not there"),
        (["--device", "abacus"], "no device is called 'abacus'"),
        (["--model", "none-such"], "none-such"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_work(
    nflae: Run, tmp_path: Path, options: list[str], text: str
) -> None:
    done = nflae("bench", "-o", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert done.stderr.startswith("nflae: error: ")
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_effort_is_a_model_and_its_refinement(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(settings: Settings, advance: object) -> None:
        raise NflaeError(f"{settings.model} {settings.refinements}")

    monkeypatch.setattr("nflae_bridge.studies.benchmark.comparison.compare", compare)
    for effort, found in (("fast", "nano (0,)"), ("balanced", "nano (4,)"), ("best", "auto (0,)")):
        assert found in nflae("bench", "-o", tmp_path, "--effort", effort, "--schemes", "nflae").stderr
    assert "auto (0, 1)" in nflae("bench", "-o", tmp_path, "--schemes", "nflae").stderr


@pytest.mark.parametrize(
    ("times", "text"),
    [(None, "none"), (0.00345678, "0.00346 (rzf)"), (0.5, "0.500 (rzf)"), (1234.5678, "1234.57 (rzf)")],
)
def test_ratios_have_three_digits_however_small(times: float | None, text: str) -> None:
    assert _ratio(Ratio("nflae over rzf", "rzf", times)) == text


def test_a_file_in_the_folders_place_is_refused(nflae: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    done = nflae("bench", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "is a file; name a folder" in done.stderr


def test_help_imports_nothing_that_computes() -> None:
    script = (
        "import sys\nfrom nflae_bridge.cli.group import main\n"
        "try: main(['bench', '--help'], prog_name='nflae')\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def test_many_schemes_have_a_legend_inside_the_figure_and_looks_of_their_own() -> None:
    names = ("nflae", "wmmse", "rzf", "zf", "mrt", "sdma", "ldma", "inversion-free", "omp", "pe-altmin")
    rows = [Measurement("cpu", 1, 3, 16, name, None, "", 1e-5, 1e-5, 1, 2e-4) for name in names]
    figure = bench_figure(rows, "", [])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert figure.bbox.contains(*legend.get_window_extent().min)
    assert figure.bbox.contains(*legend.get_window_extent().max)
    drawn = {line.get_label(): (line.get_color(), line.get_marker()) for line in figure.axes[0].get_lines()}
    assert drawn["omp"] != drawn["pe-altmin"]
    assert "0.0002 bps/Hz" in figure.axes[0].get_ylabel()
