"""Several tasks by one network: batches in turn, measures of each task, and a model that serves them all."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.shipped import load_model, model_folder
from nflae_bridge.studies.models import compare_models
from nflae_bridge.tasks.multi import MULTI, TASKS, AlternatingData, MultiBatch
from nflae_bridge.tasks.precode import PRECODE
from nflae_bridge.tasks.task import find_task
from nflae_bridge.training.data import DropDistribution
from nflae_bridge.training.loop import Trainer
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from tests.conftest import Run
from tests.simulator.definitions import draw_channels

CPU = torch.device("cpu")
DECLARED = MULTI.presets["multi-tiny"].recipe


@dataclass(frozen=True)
class Few:
    """A source with one short validation batch."""

    source: Any

    def training(self, seed: int, step: int, device: torch.device = CPU) -> Any:
        return self.source.training(seed, step, device)

    def validation(self) -> list[Any]:
        return [self.source.training(99, 0)]


SOURCES = (DropDistribution(users=(2, 3), antennas=(32,), tokens=64), *DECLARED.data.sources[1:])  # type: ignore[attr-defined]
SHORT = replace(
    DECLARED, data=AlternatingData(tuple(map(Few, SOURCES))), steps=6, warm_up=1, validate_every=6, save_every=3
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "multi-tiny"
    for _ in Trainer("multi-tiny", SHORT, folder, CPU, resume=False).run():
        pass
    return folder


def test_batches_of_the_tasks_alternate() -> None:
    @dataclass(frozen=True)
    class Named:
        name: str

        def training(self, seed: int, step: int, device: torch.device) -> Any:
            return (self.name, seed, step)

        def validation(self) -> list[Any]:
            return [f"{self.name}{index}" for index in range(5)]

    data = AlternatingData(tuple(map(Named, TASKS)), thinning=2)
    drawn = [data.training(4, step) for step in range(7)]
    assert [each.task for each in drawn] == [*TASKS, *TASKS, TASKS[0]]
    assert [each.batch for each in drawn[3:5]] == [(TASKS[0], 4, 1), (TASKS[1], 4, 1)]
    assert MultiBatch(TASKS[1], f"{TASKS[1]}4") in data.validation()
    assert len(data.validation()) == 9


def test_parts_and_measures_of_every_task_are_logged(trained: Path) -> None:
    log = pd.read_csv(trained / "log.csv")
    assert [f"{task}_loss" in log for task in TASKS] == [True] * 3
    assert log[[f"{task}_loss" for task in TASKS]].notna().all(axis=None)
    last = log.iloc[-1]
    assert last["loss"] == pytest.approx(last[[f"{task}_loss" for task in TASKS]].mean(), rel=1e-4)
    card = json.loads((trained / "model.json").read_text())
    assert card["holds"] == sorted(TASKS)
    for task in TASKS:
        declared = find_task(task)
        found = {name: card["validation"][f"{task}_{name}"] for name in declared.measures}
        if task == "precode":
            assert card["validation"]["precode_score"] == pytest.approx(sum(found.values()))
    assert MULTI.score(card["validation"]) == sum(card["validation"][f"{task}_score"] for task in TASKS)


def test_every_task_trains_the_trunk(trained: Path) -> None:
    torch.manual_seed(SHORT.seed)
    network = MULTI.build(SHORT.network, False)
    for step, task in enumerate(TASKS):
        network.zero_grad()
        inputs = MULTI.prepare(network, SHORT.data.training(1, step), SHORT.loss)
        parts = MULTI.loss(network, inputs, SHORT.loss)
        parts["loss"].backward()
        assert float(network.get_submodule("trunk").h[0].mlp.c_fc.weight.grad.abs().sum()) > 0, task
        assert [name for name in TASKS if not parts[f"{name}_loss"].isnan()] == [task]


def test_the_model_serves_each_of_its_tasks(trained: Path, nflae: Run, write_mat: Any) -> None:
    for task in TASKS:
        checkpoint = load_model(str(trained), CPU, task)
        assert (checkpoint.name, checkpoint.task) == ("multi-tiny", task)
        assert model_folder(str(trained), task=task) == trained
    channels = draw_channels(0, 3, 32, drops=2)
    answer = Engine(load_model(str(trained), CPU))(ChannelBatch(channels), LinkBudget())
    assert bool((answer.power.sum(-1) <= 1 + 1e-9).all())
    source = write_mat(channels.numpy())
    details = " ".join(nflae("models", trained).output.split())
    for command in ("precode", "predict", "estimate"):
        assert f"nflae {command} IN.mat -o OUT.mat --model" in details
    done = nflae("precode", source, "-o", trained.parent / "out.mat", "--model", trained)
    assert done.exit_code == 0, done.output
    with pytest.raises(NflaeError, match="is for task multi, expected one for task mask"):
        model_folder(str(trained), task="mask")


def test_no_kernels_without_task_tokens_run_a_network_that_has_one(trained: Path) -> None:
    kernels = pytest.importorskip("nflae_bridge.engine.triton_kernels")
    assert kernels.TritonKernels.of(load_model("tiny", CPU).network) is not None
    assert kernels.TritonKernels.of(load_model(str(trained), CPU).network) is None


def test_a_held_network_does_not_start_a_run_of_its_task(trained: Path, tmp_path: Path) -> None:
    held = load_model(str(trained), CPU)
    recipe = replace(PRECODE.presets["tiny"].recipe, data=Few(SOURCES[0]), network=held.network.config)
    with pytest.raises(NflaeError, match="is not the network of preset tiny"):
        Trainer("tiny", recipe, tmp_path, CPU, resume=False, start=held)


def test_a_card_that_claims_a_network_it_does_not_hold_is_refused(trained: Path, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | {"holds": ["precode", "mask"]}))
    assert load_model(str(tmp_path), CPU).task == "precode"
    with pytest.raises(NflaeError, match="is for task multi, expected one for task mask"):
        load_model(str(tmp_path), CPU, "mask")


def test_its_networks_are_compared_task_by_task(
    trained: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, source in zip(TASKS, SHORT.data.sources, strict=True):
        presets = find_task(task).presets
        name = next(iter(presets))
        monkeypatch.setitem(presets, name, replace(presets[name], recipe=replace(presets[name].recipe, data=source)))
    tables = {
        task.name: merits for task, merits in compare_models([load_checkpoint(trained), load_checkpoint(untrained)])
    }
    assert list(tables) == list(TASKS)
    assert [merit.method for merit in tables["precode"]] == ["multi-tiny", "untrained", "rzf"]
    for task in TASKS[1:]:
        assert tables[task][0].method == "multi-tiny"
        assert set(find_task(task).rivals) <= {merit.method for merit in tables[task]}
