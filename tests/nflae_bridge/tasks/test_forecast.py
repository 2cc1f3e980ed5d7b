"""The task ``forecast``: its stages, inputs left out in training, and runs that go on where they stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.senses.config import HeadConfig, InputConfig, SensesConfig
from nflae_bridge.network.encoders.senses.network import SensesNetwork
from nflae_bridge.tasks.forecast import FORECAST, ForecastLoss
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.recipe import CPU, Recipe
from nflae_bridge.training.sources.sensed_windows import SensedWindows, Stages

PAST, AHEAD, WINDOWS = 3, 2, 40
CONFIG = SensesConfig(
    tuple(InputConfig(name, "vector", (size,)) for name, size in (("power", 6), ("position", 2), ("radar", 4))),
    (HeadConfig("forecast", 6), HeadConfig("classify", 3), HeadConfig("regress", 2), HeadConfig("reconstruct"),
     HeadConfig("align", 8)),
    PAST,
    AHEAD,
    BackboneConfig(width=16, layers=1, heads=2),
    dropout=0.0,
)  # fmt: skip


def source(stages: Stages, rows: int = 16) -> SensedWindows:
    generator = torch.Generator().manual_seed(5)
    place = torch.rand(WINDOWS, 1, 1, generator=generator)
    values = [torch.cos(place * (1 + torch.arange(each.shape[0]))).expand(-1, PAST, -1) for each in CONFIG.inputs]
    scores = torch.softmax(4 * torch.rand(WINDOWS, AHEAD, 6, generator=generator), -1)
    targets = {
        "forecast": scores,
        "classify": torch.eye(3)[(3 * place[:, 0, 0]).long()],
        "regress": place.expand(-1, AHEAD, 2),
    }
    return SensedWindows.of(values, torch.ones(WINDOWS, PAST, 3, dtype=torch.bool), targets, rows, stages)


def gradients(stage: str) -> set[str]:
    torch.manual_seed(0)
    network = SensesNetwork(CONFIG)
    batch = replace(source(Stages()).training(0, 0), stage=stage)
    if stage == "mask":
        batch = replace(batch, hidden=torch.rand(batch.present.shape) < 0.5)
    FORECAST.loss(network, batch, ForecastLoss())["loss"].backward()  # type: ignore[no-untyped-call]
    trained = [name for name, each in network.named_parameters() if each.grad is not None and bool(each.grad.any())]
    parts = {".".join(name.split(".")[: 2 if name.startswith("heads") else 1]) for name in trained}
    return {name for name in parts if name.startswith(("heads", "trunk"))}


def test_stages_train_their_parts() -> None:
    assert gradients("mask") == {"trunk", "heads.reconstruct"}
    assert gradients("align") == {"heads.align"}
    assert gradients("task") == {"trunk", "heads.forecast", "heads.classify", "heads.regress"}


def test_alignment_is_the_contrastive_loss() -> None:
    """Against the formula by NumPy; windows without the input or without the anchor are left out."""
    torch.manual_seed(0)
    network = SensesNetwork(CONFIG).eval()
    batch = replace(source(Stages()).training(0, 0), stage="align")
    present = batch.present.clone()
    present[0, :, 0] = False
    present[1, :, 2] = False
    batch = replace(batch, present=present)
    found = float(FORECAST.loss(network, batch, ForecastLoss(anchor="position"))["align"].detach())
    directions = network.directions(batch.values, present).detach().numpy().astype(np.float64)
    terms = []
    for other, kept in ((0, [0]), (2, [1])):
        rows = np.delete(np.arange(len(present)), kept)
        scores = directions[1][rows] @ directions[other][rows].T / 0.1
        both = [
            np.log(np.exp(each - each.max(1, keepdims=True)).sum(1)) + each.max(1) - np.diag(each)
            for each in (scores, scores.T)
        ]
        terms.append(np.mean(both))
    assert found == pytest.approx(np.mean(terms), rel=1e-4)


def test_one_input_remains_where_others_are_left_out() -> None:
    data = source(Stages(mask=1, align=1, dropout=0.7))
    batches = [data.training(3, step) for step in range(30)]
    assert [each.stage for each in batches[:4]] == ["mask", "align", "task", "task"]
    assert not bool(batches[1].hidden.any())
    assert 0.3 < float(batches[0].hidden.float().mean()) < 0.5
    left = torch.cat([each.hidden for each in batches[2:]])
    assert bool((left == left[:, :1]).all())  # of all samples of a window
    assert bool((~left).any(-1).all())
    assert 0.5 < float(left.float().mean()) < 0.7
    again = data.training(3, 7)
    assert torch.equal(again.hidden, batches[7].hidden)
    assert torch.equal(again.values[0], batches[7].values[0])
    assert sum(len(each.present) for each in batches[:3]) == WINDOWS


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    recipe = Recipe(CONFIG, source(Stages(mask=3, align=3)), ForecastLoss(), steps=12, learning_rate=3e-3, warm_up=1,
                    validate_every=4, save_every=4, seed=1)  # fmt: skip
    for _ in Trainer("whole", recipe, tmp_path / "whole", CPU, resume=False).run():
        pass
    for progress in Trainer("parts", recipe, tmp_path / "parts", CPU, resume=False).run():
        if progress.step == 8:
            break
    trainer = Trainer("parts", recipe, tmp_path / "parts", CPU, resume=True)
    assert trainer.step == 8
    for _ in trainer.run():
        pass
    whole, parts = (load_checkpoint(tmp_path / name).network for name in ("whole", "parts"))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)
    with pytest.raises(Exception, match="another recipe"):
        Trainer("parts", replace(recipe, data=source(Stages())), tmp_path / "parts", CPU, resume=True)
