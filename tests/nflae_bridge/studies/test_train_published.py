"""The full published training as one command: every stage at a tiny size, in pieces, nothing done twice."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import train_published
from nflae_bridge.studies.reproduction import study as study_module
from nflae_bridge.studies.reproduction.compute_budget import FULL
from nflae_bridge.studies.reproduction.experiments import cost
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.trained_baselines import baseline_recipe
from nflae_bridge.training.data import PublishedDrops
from nflae_bridge.training.presets import FROZEN_RANDOM_BACKBONE, RANDOM_BACKBONE

NETWORKS = ["paper", "paper-frozen", "transformer", "cnn"]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after the test what --smoke reduces."""
    for owner, name in ((OperatingPoint, "draw"), (cost, "_DROPS"), (cost, "_REPEATS"), (study_module, "optimise")):
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.mark.slow
@pytest.mark.usefixtures("restored")
def test_every_stage_runs_and_the_same_command_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-o", str(tmp_path), "--smoke", "--device", "cpu"]
    assert train_published.main([*command, "--minutes", "0"]) == 0
    assert f"not finished: {', '.join(NETWORKS)}; the same command continues" in capsys.readouterr().out
    steps = pd.read_csv(tmp_path / "steps.csv")
    assert steps["network"].tolist() == NETWORKS
    assert (steps["plain_ms"] > 0).all()
    assert (steps["refused"] == "no CUDA device").all()
    before = (tmp_path / "steps.csv").read_bytes()

    assert train_published.main(command) == 0
    assert (tmp_path / "steps.csv").read_bytes() == before
    point = pd.read_csv(tmp_path / "se-k10.csv")
    assert set(point["value"]) == {10}
    assert {"paper", "transformer", "cnn", "tiny", "wmmse", "optimiser"} <= set(point["scheme"])
    curves = pd.read_csv(tmp_path / "convergence.csv")
    assert {"paper", "transformer", "cnn"} <= set(curves.dropna(subset="training_loss")["scheme"])
    assert set(pd.read_csv(tmp_path / "accuracy.csv")["snr_db"]) == {0, 5, 10, 15, 20}
    assert {"paper", "transformer", "cnn"} <= set(pd.read_csv(tmp_path / "cost.csv")["scheme"])
    backbones = pd.read_csv(tmp_path / "backbones.csv")
    assert backbones["random_backbone"].tolist() == ["trained", "frozen"]
    assert backbones.notna().all(axis=None)


def test_the_trainings_are_the_published_ones_but_for_the_random_backbone() -> None:
    trained, frozen = (
        baseline_recipe("paper", PUBLISHED, FULL, name, 1) for name in (RANDOM_BACKBONE, FROZEN_RANDOM_BACKBONE)
    )
    for recipe in (trained, frozen):
        data = recipe.data
        assert isinstance(data, PublishedDrops)
        assert (data.train, data.batch, data.users, data.alpha_c, data.min_rate) == (8_000, 100, 10, 0.4, 0.6)
        assert recipe.steps == 500 * 80
        assert recipe.loss.near_field == 5
        backbone = recipe.network.backbone
        assert (backbone.source, backbone.width, backbone.layers, backbone.heads) == (None, 768, 12, 12)
    assert (trained.network.backbone.frozen, frozen.network.backbone.frozen) == (False, True)
    assert math.isclose(trained.learning_rate, 1e-4)
