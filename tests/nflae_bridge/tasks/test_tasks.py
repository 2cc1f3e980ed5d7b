"""Tasks: the recipe "add a task" of CONTRIBUTING, by a toy task, and what holds for every task."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import load_checkpoint, save_checkpoint
from nflae_bridge.network.shipped import load_model, model_folder
from nflae_bridge.tasks import task as registry
from nflae_bridge.tasks.precode import PRECODE
from nflae_bridge.tasks.task import Parts, Task, find_task, register, task_names, task_of
from nflae_bridge.training.data import DropDistribution
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.presets import presets
from tests.conftest import Run
from tests.nflae_bridge.tasks.toy import RUN, TOY, ToyConfig, ToyNetwork, compare

CPU = torch.device("cpu")


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of one test, with all tasks of the package, whose modules are imported once."""
    every = {name: find_task(name) for name in task_names()}
    monkeypatch.setattr(registry, "_REGISTERED", every)


@pytest.fixture
def toy(own_registry: None) -> Task:
    """The toy task, registered for one test."""
    return register(TOY)


@pytest.fixture
def trained(toy: Task, nflae: Run, tmp_path: Path) -> Path:
    done = nflae("train", "--preset", "toy-tiny", "-o", tmp_path / "toy-tiny", "--device", "cpu", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "(negative error)" in done.output
    return tmp_path / "toy-tiny"


def test_the_toy_task_has_at_most_60_lines() -> None:
    assert len((Path(__file__).parent / "toy.py").read_text().splitlines()) <= 60


def test_a_task_is_trained_and_logged_by_its_declaration(trained: Path) -> None:
    log = pd.read_csv(trained / "log.csv")
    assert log.columns.tolist() == ["step", "seconds", "learning_rate", "loss", "mean_error", "validation_mean_error",
                                    "validation_loss"]  # fmt: skip
    assert log["step"].tolist() == [10, 20, 30, 40, 50, 60]
    assert log["validation_loss"].notna().tolist() == [False, True] * 3
    assert log["mean_error"].between(0.5, 1.5).all()  # 7 variances of 9 in the mean of 8: 0.98
    assert log["validation_loss"].iloc[-1] < 0.25 < log["loss"].iloc[0]


def test_a_model_of_a_task_is_listed_and_loaded(trained: Path, nflae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads((trained / "model.json").read_text())["task"] == "toy"
    assert load_checkpoint(trained).network.config == ToyConfig()
    monkeypatch.setattr("nflae_bridge.network.shipped.SHIPPED", trained.parent)
    row = next(line for line in nflae("models").output.splitlines() if "toy-tiny" in line)
    assert "mean_error" in row
    assert {"toy", "cpu,", "cuda"} <= set(row.split())
    assert "toy-tiny" in nflae("models", "--task", "toy").output
    assert "none is shipped" in nflae("models", "--task", "precode").output
    loaded = load_model("auto", CPU, "toy")
    assert (loaded.name, loaded.task) == ("toy-tiny", "toy")
    assert "toy" in nflae("models", trained).output
    assert "toy-tiny" in nflae("train", "--list").output


def test_the_guard_of_a_task_decides(trained: Path) -> None:
    """Untrained, its answers are far from the truth, and the plain mean is given; trained, few are."""
    batch = RUN.data.training(5, 0)
    torch.manual_seed(0)
    before, after = compare(ToyNetwork(ToyConfig()), batch), compare(load_checkpoint(trained).network, batch)
    assert float(before.fallback.double().mean()) > 0.3 > float(after.fallback.double().mean())
    chosen = torch.where(after.fallback, after.figures["mean"], after.figures["nflae"])
    torch.testing.assert_close(after.guarded, chosen, rtol=0, atol=0)
    assert float(after.guarded.mean()) > float(after.figures["mean"].mean())


def test_models_are_compared_with_the_rivals_of_their_task(trained: Path, nflae: Run) -> None:
    done = nflae("models", trained, "--compare")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.strip()}
    batch = RUN.data.validation()[0]
    error = -(load_checkpoint(trained).network(batch[:, 1:]).detach() - batch[:, 0]).abs().mean()
    mean = -(batch[:, 1:].mean(1) - batch[:, 0]).abs().mean()
    assert rows["toy-tiny"][:2] == ["9", f"{float(error):.4f}"]
    assert rows["mean"] == [f"{float(mean):.4f}"]
    assert (
        rows["toy-tiny"][3] == f"{float(compare(load_checkpoint(trained).network, batch).fallback.double().mean()):.1%}"
    )
    assert "guard: the network's unless" in done.output
    assert nflae("models", "--compare").exit_code == 2


def test_a_run_of_any_task_resumes_bit_for_bit(toy: Task, tmp_path: Path) -> None:
    unbroken, killed = (Trainer("toy-tiny", RUN, tmp_path / name, CPU, resume=False) for name in "ab")
    for _ in unbroken.run():
        pass
    for progress in killed.run():
        if progress.step == 33:
            break
    resumed = Trainer("toy-tiny", RUN, tmp_path / "b", CPU, resume=True)
    assert resumed.step == 30
    for _ in resumed.run():
        pass
    assert torch.equal(resumed.network.weights.weight, unbroken.network.weights.weight)


def test_a_part_that_is_nan_leaves_its_batch_out_of_the_log(
    monkeypatch: pytest.MonkeyPatch, toy: Task, tmp_path: Path
) -> None:
    steps = iter(range(60))

    def every_third(network: ToyNetwork, batch: torch.Tensor, settings: None) -> Parts:
        step = next(steps)
        return TOY.loss(network, batch, settings) | {"mean_error": torch.tensor(step if step % 3 == 0 else torch.nan)}

    monkeypatch.setitem(registry._REGISTERED, "toy", replace(TOY, loss=every_third))
    for _ in Trainer("toy-tiny", RUN, tmp_path, CPU, resume=False).run():
        pass
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["mean_error"].tolist() == [4.5, 15.0, 24.0, 34.5, 45.0, 54.0]  # means of 0, 3, 6, 9; 12, 15, 18; ...
    assert log["loss"].notna().all()


# A model of another task


def test_a_model_of_another_task_is_refused_in_one_line_that_names_both(
    trained: Path, nflae: Run, write_mat: Any, untrained: Path
) -> None:
    source = write_mat(torch.randn(2, 3, 8, dtype=torch.complex64).numpy())
    done = nflae("precode", source, "-o", trained.parent / "out.mat", "--model", trained)
    assert done.exit_code == 1
    assert "model toy-tiny is for task toy, expected one for task precode" in " ".join(done.stderr.split())
    for refused in (lambda: load_model(str(untrained), CPU, "toy"), lambda: model_folder(str(untrained), task="toy")):
        with pytest.raises(NflaeError, match="is for task precode, expected one for task toy"):
            refused()
    with pytest.raises(NflaeError, match="is for task toy, expected one for task precode"):
        Engine(load_checkpoint(trained))
    start = nflae("train", "--preset", "tiny", "-o", trained.parent / "run", "--start", trained)
    assert "is for task toy, expected one for task precode" in " ".join(start.stderr.split())


def test_no_model_is_shipped_for_the_task(toy: Task) -> None:
    with pytest.raises(NflaeError, match=r"'auto' for task toy.*none is shipped.*nflae train"):
        model_folder("auto", task="toy")


def test_cards_without_a_task_are_for_precoding(untrained: Path, tmp_path: Path) -> None:
    card = json.loads((untrained / "model.json").read_text())
    assert card.pop("task") == "precode"
    for name in ("model.safetensors",):
        (tmp_path / name).write_bytes((untrained / name).read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert load_model(str(tmp_path), CPU).task == "precode"


@pytest.mark.parametrize("name", ["predictions", "task", "os", "../x", 7, None, ["toy"]])
def test_a_card_of_an_unknown_task_is_refused(untrained: Path, tmp_path: Path, name: object) -> None:
    card = json.loads((untrained / "model.json").read_text()) | {"task": name}
    (tmp_path / "model.safetensors").write_bytes((untrained / "model.safetensors").read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(NflaeError, match=r"model.json: unknown task .*precode") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


# What a card may hold


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class WideConfig(ToyConfig):
    inner: Inner = Inner()
    layers: int = 1
    sizes: tuple[int, ...] = (2, 3)
    pair: tuple[float, str] = (0.5, "a")
    deep: bool = False
    source: str | None = None


@pytest.fixture
def wide(own_registry: None, tmp_path: Path) -> Path:
    """A checkpoint whose configuration has a field of every kind."""
    register(replace(TOY, name="wide", config=WideConfig))
    save_checkpoint(tmp_path / "wide", ToyNetwork(WideConfig(sizes=(4,), pair=(1, "b"), layers=2)), {})
    return tmp_path / "wide"


def test_configurations_of_every_kind_come_back(wide: Path) -> None:
    assert load_checkpoint(wide).network.config == WideConfig(sizes=(4,), pair=(1.0, "b"), layers=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"samples": 9}, "does not hold the network"),
        ({"samples": 1 << 30}, "samples is 1073741824"),
        ({"samples": True}, "samples is True"),
        ({"samples": -8}, "samples is -8"),
        ({"layers": 3}, "layers is 3"),  # two tensors are stored
        ({"inner": {"width": 1 << 20}}, "width is 1048576"),
        ({"inner": {"width": 3, "height": 3}}, "'height'"),
        ({"inner": 3}, "inner is not a JSON object"),
        ({"sizes": [1, "2"]}, "sizes is '2'"),
        ({"sizes": 4}, "sizes is not a list"),
        ({"sizes": [1] * 5000}, "sizes is not a list"),
        ({"pair": [1.0]}, "pair has 1 values, not 2"),
        ({"pair": [float("nan"), "a"]}, "pair is nan"),
        ({"deep": 1}, "deep is not true or false"),
        ({"source": 1}, "source is not text"),
    ],
    ids=str,
)
def test_sizes_of_any_task_are_checked_before_anything_is_built(
    wide: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    card = json.loads((wide / "model.json").read_text())
    card["network"] |= change
    (wide / "model.json").write_text(json.dumps(card))
    built = ToyNetwork.__init__

    def on_paper(self: ToyNetwork, *arguments: Any) -> None:
        assert torch.get_default_device().type == "meta"
        built(self, *arguments)

    monkeypatch.setattr(ToyNetwork, "__init__", on_paper)
    with pytest.raises(NflaeError) as error:
        load_checkpoint(wide)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_any_task_must_be_finite(wide: Path) -> None:
    tensors = load_file(wide / "model.safetensors")
    tensors["weights.bias"][0] = float("nan")
    save_file(tensors, wide / "model.safetensors")
    card = json.loads((wide / "model.json").read_text())
    del card["weights_sha256"]
    (wide / "model.json").write_text(json.dumps(card))
    with pytest.raises(NflaeError, match=r"NaN or Inf in weights\.bias"):
        load_checkpoint(wide)


# The registry


def test_names_and_configurations_belong_to_one_task(toy: Task) -> None:
    for twin in (replace(TOY, config=Inner), replace(TOY, name="other")):
        with pytest.raises(ValueError, match="'toy'"):
            register(twin)
    assert task_of(ToyConfig()) is TOY
    with pytest.raises(TypeError, match="Inner"):
        task_of(Inner())


@pytest.mark.parametrize("name", task_names())
def test_every_task_is_declared_in_full(name: str) -> None:
    task = find_task(name)
    assert task.name == name
    for text in (task.summary, task.score_meaning, task.guard, *(preset.summary for preset in task.presets.values())):
        assert text
        assert "\n" not in text
        assert not text.endswith(".")
    assert "loss" not in (*task.parts, *task.measures)
    for preset in task.presets.values():
        assert type(preset.recipe.network) is task.config
    every = [other for each in task_names() for other in find_task(each).presets]
    assert len(every) == len(set(every)) == len(presets())


def test_precoding_is_compared_by_its_engine(untrained: Path) -> None:
    """Sum rates per drop: the guard's is the better of the network's and RZF's, where no minimum rate decides."""
    data = DropDistribution(users=(3, 4), antennas=(32,), tokens=128, constrained=0.0)
    compared = PRECODE.compare(load_checkpoint(untrained).network, data.training(3, 1))
    best = torch.maximum(compared.figures["nflae"], compared.figures["rzf"])
    assert bool((compared.guarded >= best - 1e-6 * best).all())
    kept = ~compared.fallback
    torch.testing.assert_close(compared.guarded[kept], compared.figures["nflae"][kept])
    assert 0 < int(compared.fallback.sum()) < len(best)
