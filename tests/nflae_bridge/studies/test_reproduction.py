"""What ``nflae reproduce`` computes, against definitions: near-field figures, baselines, constraints, what was cut."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import Tensor

from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.config import NetworkConfig
from nflae_bridge.studies.reproduction import EXPERIMENTS, load_experiment, trained_baselines
from nflae_bridge.studies.reproduction import study as study_module
from nflae_bridge.studies.reproduction.compute_budget import COMPUTE_BUDGETS, FULL, QUICK, ComputeBudget
from nflae_bridge.studies.reproduction.experiment import Check, Experiment
from nflae_bridge.studies.reproduction.experiments import cost, gamma2, spectral_efficiency
from nflae_bridge.studies.reproduction.experiments.beyond import mobility, transfer
from nflae_bridge.studies.reproduction.experiments.csi import multi_task
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.output import markdown_table, page
from nflae_bridge.studies.reproduction.published_values import GAMMA2
from nflae_bridge.studies.reproduction.runner import Outcome, plan_work, run
from nflae_bridge.studies.reproduction.scheme_metrics import evaluate_scheme
from nflae_bridge.studies.reproduction.study import CLASSICAL, CONSTRAINED, LEARNED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, baseline_recipe, run_folder, train_baseline
from nflae_bridge.training.data import PublishedDrops
from nflae_bridge.training.presets import RANDOM_BACKBONE
from nflae_bridge.training.recipe import Recipe
from simulator.downlink.budget import LinkBudget
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr
from simulator.geometry.arrays import UniformLinearArray
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels, sinr_by_definition

CPU = torch.device("cpu")
CSI_EXPERIMENTS = list(EXPERIMENTS)[list(EXPERIMENTS).index("csi-prediction") :]


def silent(note: str) -> None:
    """Nobody listens."""


# Near-field figures

ANTENNAS, WAVELENGTH, MAST, TILT = 256, 299_792_458.0 / 30e9, 15.0, math.radians(5)
APERTURE = ANTENNAS * WAVELENGTH / 2


def gain_by_quadrature(beta: float) -> float:
    """|1/beta int_0^beta exp(-j pi t^2 / 2) dt|."""
    parts = [quad(lambda t, f=f: f(math.pi * t * t / 2), 0, beta, limit=400)[0] for f in (math.cos, math.sin)]
    return math.hypot(*parts) / beta


def beta_on_the_ground(x: float) -> float:
    theta = math.atan2(MAST, x) - TILT
    return math.sqrt((APERTURE * math.cos(theta)) ** 2 / (2 * WAVELENGTH * math.hypot(x, MAST)))


def exact_gain(theta: float, distance: float) -> float:
    """|b^H a| of the spherical and the plane wave from a direction, element by element in double precision."""
    place = (np.arange(ANTENNAS) - (ANTENNAS - 1) / 2) * WAVELENGTH / 2
    path = np.sqrt(distance**2 - 2 * place * distance * np.sin(theta) + place**2)
    near = np.exp(-2j * np.pi * (path - distance) / WAVELENGTH)
    far = np.exp(2j * np.pi * place * np.sin(theta) / WAVELENGTH)
    return float(abs(near.conj() @ far) / ANTENNAS)


def exact_gain_on_the_ground(x: float) -> float:
    return exact_gain(math.atan2(MAST, x) - TILT, math.hypot(x, MAST))


@pytest.fixture(scope="module")
def near_field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``nflae reproduce enfr gain``."""
    from click.testing import CliRunner

    from nflae_bridge.cli.group import main

    folder = tmp_path_factory.mktemp("near_field")
    done = CliRunner().invoke(main, ["reproduce", "enfr", "gain", "-o", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output.count(" yes ") == 3  # every check is met
    return folder


def test_enfr_is_where_the_exact_beam_loses_ten_percent(near_field: Path) -> None:
    rows = pd.read_csv(near_field / "enfr.csv")
    edges = [brentq(lambda x: exact_gain_on_the_ground(x) - 0.9, *bracket) for bracket in ((3, 15), (50, 120))]
    exact = rows[rows["what"].str.contains("exact")].iloc[0]
    np.testing.assert_allclose([exact["from_m"], exact["to_m"]], edges, atol=2e-3)  # the rows' grid is 1 mm


def test_enfr_in_closed_form_is_where_beta_passes_its_threshold(near_field: Path) -> None:
    threshold = brentq(lambda beta: gain_by_quadrature(beta) - 0.9, 0.5, 1.5, xtol=1e-12)
    assert threshold == pytest.approx(0.98641, abs=5e-6)
    edges = [brentq(lambda x: beta_on_the_ground(x) - threshold, *bracket) for bracket in ((1, 15), (50, 120))]
    rows = pd.read_csv(near_field / "enfr.csv")
    closed = rows[rows["what"].str.contains("closed form")].iloc[0]
    np.testing.assert_allclose([closed["from_m"], closed["to_m"]], edges, rtol=1e-5)
    np.testing.assert_allclose(edges, [5.73, 82.0], atol=0.1)
    rayleigh = rows[rows["what"].str.contains("Rayleigh distance")].iloc[0]
    assert rayleigh["to_m"] == pytest.approx(ANTENNAS**2 * WAVELENGTH / 2, rel=1e-5)


def test_erd_lies_where_the_exact_beam_loses_about_ten_percent(near_field: Path) -> None:
    rows = pd.read_csv(near_field / "enfr.csv")
    border = rows[rows["what"] == "ERD"]
    assert border["angle_deg"].iloc[[0, -1]].tolist() == [-90, 90]
    away = border[border["distance_m"] > 1]
    depression = np.degrees(np.arctan2(MAST - away["height_m"], away["x_m"]))
    np.testing.assert_allclose(depression - 5, away["angle_deg"], atol=1e-3)
    np.testing.assert_allclose(np.hypot(away["x_m"], MAST - away["height_m"]), away["distance_m"], rtol=1e-4)
    for _, row in border[border["angle_deg"].abs() <= 60].iterrows():
        assert exact_gain(math.radians(row["angle_deg"]), row["distance_m"]) == pytest.approx(0.9, abs=2e-3)


def test_gain_is_the_exact_waves_and_the_integral(near_field: Path) -> None:
    rows = pd.read_csv(near_field / "gain.csv")
    for _, row in rows.iloc[::7].iterrows():
        assert row["gain_exact"] == pytest.approx(exact_gain_on_the_ground(row["x_m"]), abs=2e-5)
        assert row["gain_closed_form"] == pytest.approx(gain_by_quadrature(beta_on_the_ground(row["x_m"])), abs=2e-6)


def test_gain_falls_then_rises_and_is_below_the_threshold_in_the_enfr_alone(near_field: Path) -> None:
    rows = pd.read_csv(near_field / "gain.csv")
    for column in ("gain_exact", "gain_closed_form"):
        gain = rows[column].to_numpy()
        lowest = int(gain.argmin())
        assert (np.diff(gain[: lowest + 1]) <= 1e-6).all()
        assert (np.diff(gain[lowest:]) >= -1e-6).all()
        below = rows["x_m"][gain < 0.9]
        assert below.min() == pytest.approx(5.73, abs=0.15)
        assert below.max() == pytest.approx(82.0, abs=0.6)
    assert rows["x_m"].iloc[[0, -1]].tolist() == [0.1, 200]


# Learned baselines


@pytest.mark.parametrize("network", LEARNED)
def test_full_baselines_are_trained_as_published(network: str) -> None:
    recipe = baseline_recipe(network, PUBLISHED, FULL, "gpt2", 3)
    assert (recipe.learning_rate, recipe.betas, recipe.weight_decay) == (1e-4, (0.9, 0.999), 1e-4)
    assert (recipe.warm_up, recipe.decay) == (0, 0)
    assert (recipe.loss.min_rate, recipe.loss.near_field) == (10, 5)
    assert (recipe.loss.relative, recipe.loss.projected) == (False, False)
    data = recipe.data
    assert isinstance(data, PublishedDrops)
    assert (data.train, data.validate, data.batch) == (8_000, 1_000, 100)
    assert recipe.steps == 500 * data.train // data.batch
    assert recipe.validate_every == data.train // data.batch
    assert (data.users, data.alpha_c, data.min_rate, data.snr_db) == (10, 0.4, 0.6, 20)
    assert data.array == UniformLinearArray(256, 30e9, 15.0, math.radians(5))
    assert recipe.seed == 3


@pytest.mark.parametrize("compute_budget", COMPUTE_BUDGETS.values(), ids=COMPUTE_BUDGETS)
def test_baselines_differ_in_their_network_and_its_steps_alone(compute_budget: ComputeBudget) -> None:
    setting = OperatingPoint(users=7, power_dbw=-10, alpha_c=0.7, min_rate=0.1, array=UniformLinearArray(antennas=128))

    def rest(network: str) -> Recipe:
        recipe = baseline_recipe(network, setting, compute_budget, RANDOM_BACKBONE, 1)
        assert recipe.network.encoder.antennas == 128
        assert recipe.steps == compute_budget.steps[network]
        assert 1 <= recipe.validate_every <= recipe.steps
        return replace(recipe, network=NetworkConfig(), steps=1, validate_every=1)

    assert rest("paper") == rest("transformer") == rest("cnn") == rest("tiny")
    data = rest("paper").data
    assert isinstance(data, PublishedDrops)
    assert (data.users, data.alpha_c, data.min_rate) == (7, 0.7, 0.1)
    assert data.snr_db == pytest.approx(10)  # -10 dBW over a noise of -20 dBW
    kinds = [baseline_recipe(network, setting, compute_budget, "gpt2", 1).network.encoder.kind for network in LEARNED]
    assert kinds == ["raw", "raw", "cnn"]
    assert baseline_recipe("paper", setting, compute_budget, "/models/x", 1).network.backbone.source == "/models/x"


SMALL = OperatingPoint(users=2, min_rate=0.1, array=UniformLinearArray(antennas=16))
MOMENT = replace(QUICK, train_drops=40, validation_drops=20, batch=10, steps=dict.fromkeys(QUICK.steps, 6))
SHORT = baseline_recipe("cnn", SMALL, MOMENT, "", 1)


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.network.state_dict()


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


def test_a_network_is_trained_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    first, folder = train_baseline("CNN", SHORT, tmp_path, CPU, notes.append)
    assert notes[0] == "training CNN"
    assert [note.split(",")[0] for note in notes[1:]] == [f"training CNN: step {step} of 6" for step in range(1, 7)]
    assert folder.parent == tmp_path
    assert pd.read_csv(folder / "log.csv")["step"].iloc[-1] == 6
    assert not (folder / "last.safetensors").exists()
    monkeypatch.setattr(trained_baselines, "Trainer", None)
    again, there = train_baseline("CNN", SHORT, tmp_path, CPU, pytest.fail)
    assert there == folder
    assert_same(weights(again), weights(first))


@pytest.mark.parametrize("step", [1, 4])
def test_interrupted_training_goes_on_to_the_very_same_weights(tmp_path: Path, step: int) -> None:
    def interrupt(note: str) -> None:
        if f"step {step} " in note:
            raise KeyboardInterrupt

    unbroken, _ = train_baseline("CNN", SHORT, tmp_path / "unbroken", CPU, silent)
    with pytest.raises(KeyboardInterrupt):
        train_baseline("CNN", SHORT, tmp_path / "killed", CPU, interrupt)
    notes: list[str] = []
    torch.rand(3)  # whatever else happened to the global generator
    resumed, _ = train_baseline("CNN", SHORT, tmp_path / "killed", CPU, notes.append)
    assert notes[1].startswith(f"training CNN: step {step + 1} of 6")
    assert_same(weights(resumed), weights(unbroken))


def test_every_recipe_has_a_folder_of_its_own() -> None:
    others = [
        baseline_recipe("cnn", SMALL, MOMENT, "", 2),
        baseline_recipe("cnn", SMALL, MOMENT, "", 1, gamma2=0.2),
        baseline_recipe("tiny", SMALL, MOMENT, "", 1),
        baseline_recipe("cnn", SMALL, replace(MOMENT, learning_rate=1e-4), "", 1),
        baseline_recipe("cnn", SMALL, replace(MOMENT, steps={"cnn": 7}), "", 1),
        baseline_recipe("cnn", SMALL, replace(MOMENT, train_drops=50), "", 1),
        *(baseline_recipe("paper", SMALL, MOMENT, backbone, 1) for backbone in ("gpt2", "/gpt2", RANDOM_BACKBONE)),
        *(
            baseline_recipe("cnn", replace(SMALL, **changed), MOMENT, "", 1)
            for changed in (
                {"users": 3},
                {"power_dbw": 1.0},
                {"alpha_c": 0.5},
                {"min_rate": 0.2},
                {"array": replace(SMALL.array, antennas=8)},
                {"array": replace(SMALL.array, height=20.0)},
                {"array": replace(SMALL.array, tilt=0.0)},
                {"array": replace(SMALL.array, carrier=7e9)},
            )
        ),
    ]
    folders = {run_folder(Path("runs"), recipe) for recipe in (SHORT, *others)}
    assert len(folders) == 1 + len(others)
    assert run_folder(Path("runs"), baseline_recipe("cnn", SMALL, MOMENT, "", 1)) == run_folder(Path("runs"), SHORT)
    # the weight that is published is the one without a word
    assert run_folder(Path("runs"), baseline_recipe("cnn", SMALL, MOMENT, "", 1, gamma2=5.0)) == run_folder(
        Path("runs"), SHORT
    )


def test_gamma2_is_the_weight_of_the_near_far_error_alone() -> None:
    light = baseline_recipe("cnn", SMALL, MOMENT, "", 1, gamma2=0.2)
    assert light.loss.near_field == 0.2
    assert replace(light, loss=SHORT.loss) == SHORT


# What schemes reach


def says(
    precoder: Tensor, power: Tensor, rate: Tensor | None = None, feasible: Tensor | None = None, noise: float = 0.01
) -> Scheme:
    """A scheme whose answers are these, in order of the drops it is asked for; its rates too, unless they follow."""
    place = 0

    def answer(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        nonlocal place
        part = slice(place, place := place + len(batch.channels))
        near = torch.zeros(power[part].shape, dtype=torch.bool)
        yes = torch.ones(len(near), dtype=torch.bool)

        def sinr() -> Tensor:
            if rate is None:
                return achieved_sinr(batch.channels, precoder[part], power[part], noise)
            return torch.exp2(rate[part]) - 1

        return Precoding(
            precoder=precoder[part],
            power=power[part],
            uplink_power=torch.full_like(power[part], torch.nan),
            feasible=yes if feasible is None else feasible[part],
            fallback=~yes,
            compute_labels=lambda: (near, near.double()),
            compute_sinr=sinr,
        )

    return answer


def sum_rates_by_definition(channels: Tensor, answer: Precoding, noise: float) -> list[float]:
    drops = zip(channels.numpy(), answer.precoder.numpy(), answer.power.numpy(), strict=True)
    return [float(np.log2(1 + sinr_by_definition(h, w, power, noise)).sum()) for h, w, power in drops]


def test_sum_rates_are_those_of_the_definition_however_many_drops() -> None:
    channels = draw_channels(0, users=3, antennas=4, drops=230)
    near, budget = torch.zeros(230, 3, dtype=torch.bool), LinkBudget(2.0, 0.1)
    found = evaluate_scheme(scheme("rzf"), channels, near, budget)
    expected = sum_rates_by_definition(channels, scheme("rzf")(ChannelBatch(channels, near), budget), 0.1)
    np.testing.assert_allclose(found.sum_rate, expected, rtol=1e-5)
    assert found.mean == pytest.approx(np.mean(expected), rel=1e-6)
    assert found.half_width == pytest.approx(1.96 * np.std(expected, ddof=1) / math.sqrt(230), rel=1e-4)


def test_answers_to_noisy_csi_are_judged_on_the_true_channels() -> None:
    channels, seen = (draw_channels(seed, users=3, antennas=4, drops=120) for seed in (0, 1))
    near, budget = torch.zeros(120, 3, dtype=torch.bool), LinkBudget(2.0, 0.1, 1.0, 0.4)
    found = evaluate_scheme(scheme("rzf"), channels, near, budget, csi=seen)
    answer = scheme("rzf")(ChannelBatch(seen, near), budget)
    np.testing.assert_allclose(found.sum_rate, sum_rates_by_definition(channels, answer, 0.1), rtol=1e-5)
    true = [
        np.log2(1 + sinr_by_definition(h, w, power, 0.1)).min()
        for h, w, power in zip(channels.numpy(), answer.precoder.numpy(), answer.power.numpy(), strict=True)
    ]
    assert found.short.tolist() == [bool(rate < 0.4) for rate in true]
    assert int(found.short.sum()) > 0
    torch.testing.assert_close(found.feasible, answer.feasible)


def test_what_breaks_a_constraint_is_seen_on_its_drop() -> None:
    """P = 2 W, alpha_c = 0.4, R_min = 0.5; two users, the first one near-field; a drop for each constraint."""
    power_fractions = {
        "kept": (0.4, 0.6),
        "C1": (0.3, 0.701),
        "C2": (-0.001, 0.6),
        "C3": (0.401, 0.5),
        "C5": (0.4, 0.6),
        "unused": (0.1, 0.1),
        "C4": (0.4, 0.6),
    }
    precoder = torch.eye(2, 4, dtype=torch.complex64).repeat(len(power_fractions), 1, 1)
    precoder[list(power_fractions).index("C5"), 1] *= 1.001
    rate = torch.full((len(power_fractions), 2), 0.5, dtype=torch.float64)
    rate[list(power_fractions).index("C4"), 0] = 0.499
    channels = draw_channels(0, users=2, antennas=4, drops=len(power_fractions))
    near = torch.tensor([True, False]).repeat(len(power_fractions), 1)
    power = 2 * torch.tensor(list(power_fractions.values()), dtype=torch.float64)
    feasible = torch.arange(len(power_fractions)) != 2
    found = evaluate_scheme(says(precoder, power, rate, feasible), channels, near, LinkBudget(2.0, 0.01, 0.4, 0.5))
    assert dict(zip(power_fractions, found.broken.tolist(), strict=True)) == {
        name: name in ("C1", "C2", "C3", "C5") for name in power_fractions
    }
    assert dict(zip(power_fractions, found.short.tolist(), strict=True)) == {
        name: name == "C4" for name in power_fractions
    }
    assert found.feasible.tolist() == feasible.tolist()
    assert not evaluate_scheme(
        says(precoder[:1], power[:1]), channels[:1], near[:1], LinkBudget(2.0, 0.01, 0.4)
    ).broken.any()


@dataclass
class FakeStudy:
    """Schemes by name, each asked for one setting."""

    schemes: dict[str, Scheme]
    asked: dict[str, OperatingPoint]
    compute_budget: ComputeBudget
    seed: int = 1
    device: torch.device = CPU

    def scheme(self, name: str, setting: OperatingPoint, note: Note) -> Scheme:
        self.asked[name] = setting
        return self.schemes[name]


def test_missed_counts_what_some_other_scheme_shows_to_be_possible() -> None:
    """Rates of 1 bps/Hz a user but where said; drops 0 kept, 1 short for ours alone, 2 for all, 3 C1, 4 C3 broken."""
    setting = OperatingPoint(users=2, min_rate=0.5)
    near = setting.draw(5, 1 + 2).near_field

    def fake(short: tuple[int, ...] = (), spent: tuple[int, ...] = (), unfair: tuple[int, ...] = ()) -> Scheme:
        rate = torch.ones(5, 2, dtype=torch.float64)
        rate[list(short), 1] = 0.4
        power = torch.full((5, 2), 0.1, dtype=torch.float64)
        power[list(spent)] = 0.6
        power[list(unfair)] = torch.where(near[list(unfair)], 0.45, 0.1).double()
        feasible = torch.ones(5, dtype=torch.bool)
        feasible[list(short)] = False
        return says(torch.eye(2, 256, dtype=torch.complex64).repeat(5, 1, 1), power, rate, feasible)

    assert near[4].any()
    schemes = {name: fake(short=(1, 2, 3, 4)) for name in CONSTRAINED}
    schemes |= {name: fake(short=(0, 1, 2, 3, 4), spent=(0, 1, 2)) for name in CLASSICAL}
    schemes["transformer"] = fake(short=(2, 3, 4))
    schemes["small"] = fake(short=(1, 2), spent=(3,), unfair=(4,))
    fakes = FakeStudy(schemes, {}, replace(QUICK, test_drops=5))
    found = spectral_efficiency._point(fakes, 0.5, setting, silent)  # type: ignore[arg-type]
    rows = {str(row["scheme"]): row for row in found}
    assert rows.keys() == {"capacity", *CLASSICAL, *CONSTRAINED}
    assert all(asked == setting for asked in fakes.asked.values())
    counted = {name: [rows[name][what] for what in ("flagged", "missed", "possible")] for name in CONSTRAINED}
    assert counted.pop("small") == [2, 3, 2]
    assert counted.pop("transformer") == [3, 0, 2]
    assert all(counts == [4, 1, 2] for counts in counted.values())
    assert all("missed" not in rows[name] for name in CLASSICAL)
    assert rows["small"]["sum_rate"] == pytest.approx((5 * 2 - 2 * 0.6) / 5)
    assert rows["small"]["of_optimiser"] == pytest.approx((10 - 2 * 0.6) / (10 - 4 * 0.6))
    assert rows["small"]["drops"] == 5


# What was cut


def study_of(folder: Path, compute_budget: ComputeBudget = QUICK, backbone: str = "gpt2") -> Study:
    return Study(folder, compute_budget, backbone, 2026, CPU)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_full_runs_have_nothing_to_own_up_to_but_a_random_backbone(name: str) -> None:
    found = load_experiment(name)
    assert found.cuts(study_of(Path(), FULL)) == []
    told = found.cuts(study_of(Path(), FULL, RANDOM_BACKBONE))
    needs_gpt2 = name not in ("enfr", "gain", "mobility", *CSI_EXPERIMENTS)
    assert [("randomly initialised" in line, "Quick" in line) for line in told] == [(True, False)] * needs_gpt2


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_runs_name_what_was_cut(name: str) -> None:
    found = load_experiment(name)
    told = " ".join(found.cuts(study_of(Path(), QUICK)))
    for network, known in (("paper", "GPT-2 raw"), ("transformer", "Transformer"), ("cnn", "CNN")):
        steps = f"{known} {QUICK.steps[network]} steps instead of 40,000"
        assert (steps in told) == (network in found.networks)
    for text in (
        f"{QUICK.batch} drops per step instead of 100",
        f"{QUICK.train_drops:,} drops instead of 8,000",
        f"learning rate {QUICK.learning_rate} instead of 0.0001",
    ):
        assert (text in told) == bool(found.networks)
    if name == "csi-prediction":
        assert f"{QUICK.test_drops // 5} test drops per point instead of {FULL.test_drops // 5}" in told
    if name.startswith("se-") or name in ("robust", "transfer", "gamma2"):
        assert re.search(f"{QUICK.test_drops} test drops( per point)? instead of 1,000", told)
    assert ("networks of the published setting at every point" in told) == name.startswith("se-")
    assert (told == "") == (name in ("enfr", "gain", "mobility"))


def test_cuts_that_experiments_name_by_number_are_those_they_make() -> None:
    def told(name: str) -> str:
        return str(load_experiment(name).cut)

    assert FULL.test_drops == 1_000
    assert f"{cost._REPEATS['quick']} repeats per time instead of {cost._REPEATS['full']}" in told("cost")
    assert f"retrained for {len(transfer._QUICK)} settings of {len(transfer._SETTINGS)}" in told("transfer")
    assert set(transfer._QUICK) <= set(transfer._SETTINGS)
    assert (len(gamma2._QUICK_WEIGHTS), len(GAMMA2)) == (3, 9)
    assert "three weights instead of nine for GPT-2 raw" in told("gamma2")


def test_per_point_or_not_is_what_networks_are_trained_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[OperatingPoint] = []

    def note_setting(
        study: Study, network: str, setting: OperatingPoint, note: Note, gamma2: float | None = None
    ) -> None:
        asked.append(setting)

    monkeypatch.setattr(Study, "retrained", note_setting)
    setting = replace(PUBLISHED, users=5, array=UniformLinearArray(antennas=128))
    for compute_budget in (FULL, QUICK):
        study_of(tmp_path, compute_budget).scheme("cnn", setting, silent)
    assert asked == [setting, replace(PUBLISHED, array=setting.array)]


# Pages


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every Markdown table of a page."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def assert_well_formed(text: str) -> None:
    assert text.endswith("\n")
    for table in tables(text):
        assert set(table[1]) == {"---"}
        assert len(table) > 2
        assert {len(row) for row in table} == {len(table[0])}
        assert "nan" not in {cell for row in table for cell in row}


def test_markdown_table_keeps_cells_apart() -> None:
    frame = pd.DataFrame({"a | b": [1.0, math.nan, 0.123456], 0.5: ["x|y", "", "z"], "n": [1, 2, 3]})
    text = markdown_table(frame.set_index(pd.Index(["|w|", "v", "u"], name="of")))
    assert_well_formed(text + "\n")
    assert tables(text) == [
        [
            ["of", r"a \| b", "0.5", "n"],
            ["---"] * 4,
            [r"\|w\|", "1", r"x\|y", "1"],
            ["v", "", "", "2"],
            ["u", "0.1235", "z", "3"],
        ]
    ]


def test_near_field_pages_are_whole(near_field: Path) -> None:
    for name in ("enfr", "gain"):
        text = (near_field / f"{name}.md").read_text()
        assert_well_formed(text)
        assert len(tables(text)) == 2
        assert f"nflae reproduce {name} -o DIR --budget quick --seed 2026" in text
        assert f"]({name}.png)" in text
        assert "Quick" not in text


# All of them, in little

WORDS = ("scheme", "what", "setting", "machine", "kind", "method")
TINY_EFFORT = replace(
    QUICK, test_drops=6, train_drops=40, validation_drops=20, batch=10,
    steps={"paper": 2, "transformer": 2, "cnn": 2, "tiny": 2},
)  # fmt: skip
Little = Callable[[str], tuple[Experiment, Study]]


@pytest.fixture(scope="module")
def little_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study in a folder that all experiments share, its backbone a tiny GPT-2 with random weights."""
    folder = tmp_path_factory.mktemp("reproduction")
    torch.manual_seed(1)
    shape = transformers.GPT2Config(
        vocab_size=11, n_embd=24, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2Model(shape).save_pretrained(folder / "backbone")
    return study_of(folder / "results", TINY_EFFORT, str(folder / "backbone"))


@pytest.fixture
def little(little_study: Study, monkeypatch: pytest.MonkeyPatch) -> Little:
    """An experiment with fewer points, drops and steps."""
    draw = OperatingPoint.draw
    monkeypatch.setattr(OperatingPoint, "draw", lambda setting, drops, seed: draw(setting, min(drops, 8), seed))
    monkeypatch.setattr(study_module, "optimise", partial(optimise, steps=3))
    monkeypatch.setattr(cost, "_REPEATS", {"quick": 1})
    monkeypatch.setattr(cost, "_DROPS", 10)
    monkeypatch.setattr(mobility, "_SLOTS", 21)
    monkeypatch.setattr(multi_task, "_BATCHES", 1)
    monkeypatch.setattr(gamma2, "GAMMA2", {weight: GAMMA2[weight] for weight in (0.2, 5.0)})
    monkeypatch.setattr(gamma2, "_QUICK_WEIGHTS", (5.0,))
    kept = ("as published", "N = 128")
    monkeypatch.setattr(transfer, "_SETTINGS", {where: transfer._SETTINGS[where] for where in kept})

    def shorten(name: str) -> tuple[Experiment, Study]:
        found = load_experiment(name)
        if name.startswith("se-") or name in ("robust", *CSI_EXPERIMENTS):
            units = load_experiment(name).units(little_study)
            count = 2 if name == "csi-prediction" else 1  # rates against age, and one point of the table
            found = replace(found, units=lambda study: units[:count])
        return found, little_study

    return shorten


def rows_of(study: Study, name: str) -> pd.DataFrame:
    lines = (study.folder / f"{name}.jsonl").read_text().splitlines()[1:]
    return pd.DataFrame([row for line in lines for row in json.loads(line)["rows"]])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_from_units_to_page(little: Little, name: str) -> None:
    experiment, study = little(name)
    seen: list[tuple[int, str]] = []
    plan = plan_work([experiment], study)
    planned = {activity.note for unit in plan._plan[name].values() for activity in unit}
    outcome: Outcome = run(experiment, study, lambda done, note, left: seen.append((done, note)), plan)
    assert set(plan._measured) == planned  # every activity is announced, in order
    units = [unit.key for unit in experiment.units(study)]
    assert len(set(units)) == len(units)
    assert [key for _, key in seen if key in units] == units
    assert seen[-1] == (len(units), "")
    assert [path.name for path in outcome.paths] == [f"{name}.csv", f"{name}.png", f"{name}.md"]
    table, picture, text = outcome.paths
    assert_sane_table(table)
    height, width, _ = matplotlib.image.imread(picture).shape
    assert 500 < height < 2_000
    assert 1_000 < width < 2_500
    content = text.read_text()
    assert_well_formed(content)
    assert_checks(outcome.checks, content)
    assert_owns_up(experiment, study, rows_of(study, name), outcome.checks)
    assert_nothing_is_computed_again(experiment, study, table)


def assert_sane_table(path: Path) -> None:
    rows = pd.read_csv(path)
    assert len(rows) > 0
    for column in rows.columns:
        if column in WORDS:
            assert rows[column].notna().all()
            continue
        assert pd.api.types.is_numeric_dtype(rows[column]), column
        assert rows[column].notna().any(), column
        assert np.isfinite(rows[column].dropna()).all(), column
    for column in ("accuracy", "missed", "short_of_min_rate", "labels_right"):
        if column in rows:
            assert (rows[column].dropna() >= 0).all()
    if "sum_rate" in rows:
        assert (rows["sum_rate"] > 0).all()


def assert_checks(checks: list[Check], content: str) -> None:
    cells = [cell for table in tables(content) for row in table for cell in row]
    for check in checks:
        assert type(check.met) is bool
        assert check.claim.replace("|", r"\|") in cells
        assert check.found.replace("|", r"\|") in cells


def assert_owns_up(experiment: Experiment, study: Study, rows: pd.DataFrame, checks: list[Check]) -> None:
    """What was cut, and that the backbone is random, is in the picture and on the page, whole."""
    random = replace(study, backbone=RANDOM_BACKBONE)
    figure = experiment.draw(random, rows)
    drawn = " ".join(" ".join(artist.get_text().split()) for artist in figure.findobj(Text))
    content = page(experiment, random, rows, checks, "x.png")
    cuts = experiment.cuts(random)
    assert any("randomly initialised" in line for line in cuts) == ("paper" in experiment.networks)
    for line in cuts:
        assert line in drawn
        assert line in content
    assert ("--backbone gpt2-random" in content) == ("paper" in experiment.networks)
    assert "Quick run" not in " ".join(
        artist.get_text() for artist in experiment.draw(replace(study, compute_budget=FULL), rows).findobj(Text)
    )


def assert_nothing_is_computed_again(experiment: Experiment, study: Study, table: Path) -> None:
    def compute(note: Note) -> None:
        pytest.fail("computed again")

    def units(study: Study) -> list[object]:
        return [replace(unit, compute=compute) for unit in experiment.units(study)]  # type: ignore[arg-type]

    before = table.read_bytes()
    again = replace(experiment, units=units, draw=lambda study, rows: Figure())  # type: ignore[arg-type]
    run(again, study, lambda done, note, left: None)
    assert table.read_bytes() == before


@pytest.mark.slow
def test_published_parameter_counts_of_the_rivals(little: Little) -> None:
    """Table II: 13.15 M for the Transformer, 0.92 M for the CNN, all of them trained."""
    experiment, study = little("cost")
    run(experiment, study, lambda done, note, left: None)
    rows = pd.read_csv(study.folder / "cost.csv").set_index("scheme")
    for name, millions in (("transformer", 13.15), ("cnn", 0.92)):
        for column in ("parameters_millions", "trained_parameters_millions"):
            assert rows.loc[name, column] == pytest.approx(millions, abs=0.005)
    assert (rows["inference_ms"] > 0).all()
