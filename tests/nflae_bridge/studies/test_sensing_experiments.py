"""Experiments on sensors at a site: equal training of variants and controls, gains in words, and a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nflae_bridge.beams.network import NetworkSettings
from nflae_bridge.studies.reproduction import EXPERIMENTS, load_experiment
from nflae_bridge.studies.reproduction.compute_budget import QUICK
from nflae_bridge.studies.reproduction.experiments.sensing import comparison, systems
from nflae_bridge.studies.reproduction.experiments.sensing.comparison import gain_of, verdict, without_strongest
from nflae_bridge.studies.reproduction.experiments.sensing.site_windows import draw_windows
from nflae_bridge.studies.reproduction.runner import run
from nflae_bridge.studies.reproduction.study import Study

NAMES = ("wmlm", "m2beamllm", "bp-llm", "llm4sg", "lvm4csi")


def study(folder: Path) -> Study:
    budget = replace(QUICK, steps=QUICK.steps | {"tiny": 6}, test_drops=30)
    return Study(folder, budget, "gpt2-random", 3, torch.device("cpu"))


def test_the_strongest_beam_and_its_neighbours_are_left_out() -> None:
    powers = np.random.default_rng(0).uniform(1, 2, (5, 16)).astype(np.float32)
    powers[:, 9] = 3
    powers[0, 0] = 4
    left = without_strongest(powers)
    assert not (left[1:, 7:12] > 1e-6).any()
    assert not (left[0, :3] > 1e-6).any()
    np.testing.assert_array_equal(left[1:, :7], powers[1:, :7])
    np.testing.assert_array_equal(left[0, 3:], powers[0, 3:])


def test_a_gain_exceeds_two_standard_errors() -> None:
    top1 = {"a": (50.0, 54.0, 58.0), "b": (48.0, 51.0, 54.0), "c": (49.0, 52.0, 60.0)}
    rows = pd.DataFrame(
        [
            {"method": name, "seed": seed, "ahead": ahead, "top1": value + shift}
            for name, values in top1.items()
            for seed, value in enumerate(values)
            for ahead, shift in ((1, 5.0), (2, 0.0), (3, -5.0))
        ]
    )
    assert gain_of(rows, "a", "b") == pytest.approx((3.0, 1 / 3**0.5))
    assert verdict(*gain_of(rows, "a", "b")) == "gain: +3.0 points, standard error 0.6"
    assert verdict(*gain_of(rows, "a", "c")).startswith("no gain: +0.3 points")
    assert verdict(-3.0, 0.1).startswith("no gain")


@pytest.mark.parametrize("name", NAMES)
def test_controls_have_as_many_steps_and_differ_in_one_respect(name: str) -> None:
    assert name in EXPERIMENTS
    experiment = load_experiment(name)
    system = experiment.checks.args[0]  # type: ignore[attr-defined]
    steps = {each.epochs + each.mask + each.align for each in system.variants.values()}
    assert len(steps) == 1
    assert {each for pair in system.pairs for each in pair} == set(system.variants)
    assert set(system.rivals) >= {"repeat", "knn"}


def test_windows_of_a_site_have_all_inputs() -> None:
    names = ("power", "position", "picture", "radar", "points", "csi", "csi-picture")
    windows = draw_windows(names, 10, 5)
    assert set(windows.recorded) == set(names[2:])
    assert all(np.isfinite(each).all() for each in windows.recorded.values())
    assert windows.position is not None
    assert windows.beams == 64
    assert len(windows) == 10 * (24 - 7)
    other = draw_windows(names[:1], 10, 6)
    assert not np.array_equal(other.past, windows.past)


def test_a_page_states_every_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(
        systems.BP_LLM.checks.args[0],  # type: ignore[attr-defined]
        variants={
            "seen": NetworkSettings(("power", "csi-vision"), 3, align=1),
            "blind": NetworkSettings(("power",), 4),
        },
        pairs=(("seen", "blind"),),
        rivals=("repeat", "velocity-centroid"),
        vision=True,
    )
    monkeypatch.setattr(comparison, "SEEDS", 2)
    experiment = comparison.experiment_of("bp-llm", "Title", "source", small, "Remark.")
    outcome = run(experiment, study(tmp_path), lambda done, note, part: None)
    page = (tmp_path / "bp-llm.md").read_text()
    assert page.count(" standard error ") >= 2
    rows = pd.read_csv(tmp_path / "bp-llm.csv")
    assert len(rows) == 2 * 4 * 3
    repeat = rows[rows["method"] == "repeat"].groupby("ahead")["top1"].mean()
    assert repeat[1] > repeat[3]
    best = rows[rows["method"].isin(small.rivals)].groupby("method")["top1"].mean().idxmax()
    assert [each.claim for each in outcome.checks] == [
        "seen: above blind",
        f"seen: above the best simple rival, {best}",
    ]
    assert (tmp_path / "runs/random-vision-3/model.safetensors").is_file()
