"""Runs in pieces: stopped after some minutes, kept in files of bounded size, and continued bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.training import loop
from nflae_bridge.training.data import PublishedDrops
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.loss import LossWeights
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.steps import state
from simulator.geometry.arrays import UniformLinearArray

CPU = torch.device("cpu")
TRUNK = BackboneConfig(width=16, layers=1, heads=2, attention="causal", frozen=True)
RUN = Recipe(
    NetworkConfig(EncoderConfig(kind="raw", antennas=8, blocks=1), TRUNK),
    PublishedDrops(users=3, array=UniformLinearArray(8), train=40, validate=20, batch=10),
    LossWeights(relative=False, projected=False),
    steps=9,
    warm_up=2,
    validate_every=4,
    save_every=3,
    judge="loss",
)


def train(folder: Path, minutes: float | None = None, recipe: Recipe = RUN, **given: Any) -> Trainer:
    trainer = Trainer("test", recipe, folder, CPU, loop.holds_run(folder), **given)
    for _ in trainer.run() if minutes is None else trainer.run(minutes):
        pass
    return trainer


def test_a_run_in_pieces_is_the_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step per piece, its state in files of 2 kB: weights, moments, model and log, to the last bit."""
    unbroken = train(tmp_path / "whole")
    monkeypatch.setattr(state, "SHARD_BYTES", 2_000)
    for step in range(1, 10):
        torch.rand(3)  # whatever else happened to the global generator
        pieces = train(tmp_path / "pieces", minutes=0)
        assert pieces.step == step
        files = list((tmp_path / "pieces").glob("last.*"))
        assert len(files) > 5
        assert max(file.stat().st_size for file in files if file.name != "last.safetensors") < 4_000
        assert {file.name.split(".")[1] for file in files} <= {"safetensors", str(step)}  # no stale ones
    for name, value in unbroken.network.state_dict().items():
        assert torch.equal(value, pieces.network.state_dict()[name]), name
    for one, other in zip(unbroken.optimisation.parameters, pieces.optimisation.parameters, strict=True):
        moments, theirs = (each.optimisation.optimiser.state[p] for each, p in ((unbroken, one), (pieces, other)))
        assert all(torch.equal(moments[key], theirs[key]) for key in moments)
    models = [load_checkpoint(tmp_path / name) for name in ("whole", "pieces")]
    assert models[0].card["step"] == models[1].card["step"]
    logs = [pd.read_csv(tmp_path / name / "log.csv").drop(columns="seconds") for name in ("whole", "pieces")]
    pd.testing.assert_frame_equal(*logs)
    pieces.discard_state()
    assert not list((tmp_path / "pieces").glob("last*"))


def test_frozen_parameters_are_not_in_the_state_and_have_to_be_the_same(tmp_path: Path) -> None:
    train(tmp_path, minutes=0)
    tensors, notes = state.read_state(tmp_path / "last.safetensors")
    assert not any(".attn." in name or ".h.0.mlp." in name for name in tensors)
    assert any("backbone.model.h.0.ln_1" in name for name in tensors)
    assert any("encoder.norm.running_mean" in name for name in tensors)
    state.save_state(tmp_path / "last.safetensors", tensors, {**notes, "fixed": "0"}, 1)
    with pytest.raises(NflaeError, match="other untrained parameters; give the same --start and --backbone"):
        train(tmp_path)


def test_an_interrupted_save_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SHARD_BYTES", 2_000)
    path = tmp_path / "last.safetensors"
    first, second = ({"a": torch.full((700,), value), "b": torch.full((2, 3), value)} for value in (1.0, 2.0))
    state.save_state(path, first, {"step": 1}, 1)
    monkeypatch.setattr(state, "save_tensors", lambda target, *rest: save(target, *rest) if target != path else stop())

    def stop() -> None:
        raise KeyboardInterrupt

    from nflae_bridge.network.checkpoint import save_tensors as save

    with pytest.raises(KeyboardInterrupt):
        state.save_state(path, second, {"step": 2}, 2)
    tensors, notes = state.read_state(path)
    assert notes == {"step": 1}
    torch.testing.assert_close(tensors, first, rtol=0, atol=0)
    next(tmp_path.glob("last.1.1.*")).unlink()
    with pytest.raises(NflaeError, match=r"last\.1\.1\.safetensors is missing"):
        state.read_state(path)


def test_a_state_that_takes_long_to_save_is_saved_seldom_and_the_best_model_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_QUICKLY_SAVED", -1)
    monkeypatch.setattr(loop, "_SAVING_SHARE", 1e6)
    saved, original = [], Trainer._save_state

    def counting(self: Trainer) -> None:
        saved.append(self.step)
        original(self)

    monkeypatch.setattr(Trainer, "_save_state", counting)
    trainer = train(tmp_path, recipe=replace(RUN, steps=12))
    assert saved == [3, 12]  # the first one measures the time
    rows = pd.read_csv(tmp_path / "log.csv").dropna(subset="validation_loss")
    best = rows.loc[rows["validation_loss"].idxmin()]
    assert load_checkpoint(tmp_path).card["step"] == best["step"]
    assert -trainer.best == pytest.approx(best["validation_loss"], rel=1e-5)
