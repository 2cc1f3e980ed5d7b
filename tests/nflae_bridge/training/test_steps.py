"""Training steps: the same as plain AdamW, free of what a CUDA graph cannot hold, with frozen parts left alone."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.trunks.backbone import Backbone
from nflae_bridge.tasks.task import task_of
from nflae_bridge.training.data import DropDistribution, PublishedDrops
from nflae_bridge.training.loop import learning_rate
from nflae_bridge.training.loss import LossWeights
from nflae_bridge.training.presets import presets
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.steps import step as steps
from nflae_bridge.training.steps.captured import CapturedSteps, layout_of, map_tensors, tensors_of
from nflae_bridge.training.steps.step import TrainingStep
from simulator.geometry.arrays import UniformLinearArray

CPU, META = torch.device("cpu"), torch.device("meta")
SMALL_TRUNK = BackboneConfig(width=16, layers=1, heads=2, attention="causal")
DROPS = PublishedDrops(users=3, array=UniformLinearArray(8), train=40, validate=20, batch=10)
PUBLISHED_LOSS = LossWeights(relative=False, projected=False)

RAW = Recipe(NetworkConfig(EncoderConfig(kind="raw", antennas=8, blocks=1), SMALL_TRUNK), DROPS, PUBLISHED_LOSS)
FROZEN = replace(RAW, network=replace(RAW.network, backbone=replace(SMALL_TRUNK, frozen=True)))
GRAM = Recipe(
    NetworkConfig(EncoderConfig(edge_width=8), BackboneConfig(width=16, layers=1, heads=2)),
    DropDistribution(users=(2, 4), antennas=(32,), tokens=64),
    LossWeights(min_rate=1.0),
)


def network_of(recipe: Recipe) -> Any:
    torch.manual_seed(3)
    return task_of(recipe.network).build(recipe.network, False)


def by_hand(compute: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """A record that replays by computing again, into memory that a capture leaves undefined."""
    values = torch.full((4,), math.nan, dtype=torch.float64)
    return lambda: values.copy_(compute()), values


# Equal to plain AdamW


def reference(recipe: Recipe, count: int) -> tuple[list[float], nn.Module]:
    """The same training, written out with an AdamW of its own."""
    network, task = network_of(recipe), task_of(recipe.network)
    parameters = [each for each in network.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(parameters, betas=recipe.betas, weight_decay=recipe.weight_decay, foreach=False)
    losses = []
    for number in range(count):
        batch = recipe.data.training(recipe.seed, number, CPU)
        optimiser.param_groups[0]["lr"] = learning_rate(recipe, number)
        loss = task.loss(network, task.prepare(network, batch, recipe.loss), recipe.loss)["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses, network


@pytest.mark.parametrize("recipe", [RAW, FROZEN, GRAM], ids=["raw", "frozen", "gram"])
def test_fifty_steps_in_static_memory_are_those_of_plain_adamw(recipe: Recipe) -> None:
    """Loss by loss and weight by weight; the layouts of the gram encoder's batches differ in K, N and labels."""
    recipe = replace(recipe, steps=50, warm_up=5, learning_rate=1e-3)
    expected, plain = reference(recipe, 50)
    network = network_of(recipe)
    step = TrainingStep(network, task_of(recipe.network), recipe, CPU)
    step.captured = CapturedSteps(CPU, by_hand)
    batches = [recipe.data.training(recipe.seed, number, CPU) for number in range(50)]
    values = [step.take(batch, learning_rate(recipe, number)) for number, batch in enumerate(batches)]
    torch.testing.assert_close([float(value[0]) for value in values], expected, rtol=2e-4, atol=1e-5)
    theirs = dict(plain.named_parameters())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            parameter, theirs[name], rtol=1e-2, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    layouts = {layout_of(step.task.prepare(network, batch, recipe.loss)) for batch in batches}
    assert 1 <= step.captured.graphs <= len(layouts)
    assert len(layouts) > 3 if recipe.data == GRAM.data else len(layouts) == 1


def test_each_layout_is_run_plainly_once_and_then_replayed() -> None:
    captured, plain, recorded = CapturedSteps(CPU, by_hand), [], []

    def step(inputs: tuple[Tensor, ...]) -> Tensor:
        (recorded if inputs[0].data_ptr() not in given else plain).append(inputs[0].shape)
        return inputs[0].sum().double().expand(4)

    sizes = (2, 3, 2, 2, 3, 4)
    inputs = [(torch.full((size,), 10.0**turn),) for turn, size in enumerate(sizes)]
    given = {each[0].data_ptr() for each in inputs}
    values = [captured.run(step, each) for each in inputs]
    assert [float(value[0]) for value in values] == [size * 10**turn for turn, size in enumerate(sizes)]
    assert [tuple(shape) for shape in plain] == [(2,), (3,), (4,)]
    assert [tuple(shape) for shape in recorded] == [(2,), (2,), (3,)]
    assert captured.graphs == 2


def test_no_garbage_is_collected_in_a_capture_and_none_is_left_from_before() -> None:
    class Graph:
        """Part of a circle of references, as the graphs of a former training are."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            ended.append(len(ended))

    ended: list[int] = []

    def record(compute: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        assert ended == [0]
        assert not gc.isenabled()
        return by_hand(compute)

    captured = CapturedSteps(CPU, record)
    captured.run(lambda inputs: inputs[0] + 1, (torch.zeros(1),))
    gc.collect()  # the next automatic collection is hundreds of objects away
    Graph()
    assert not ended
    captured.run(lambda inputs: inputs[0] + 1, (torch.zeros(1),))
    assert captured.graphs == 1
    assert gc.isenabled()


def test_a_step_that_cannot_be_captured_is_run_plainly_and_says_why() -> None:
    def refuse(compute: Callable[[], Tensor]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    captured = CapturedSteps(CPU, refuse)
    values = [captured.run(lambda inputs: inputs[0] + 1, (torch.tensor(float(each)),)) for each in range(3)]
    assert [float(value) for value in values] == [1, 2, 3]
    assert captured.refused == "operation not permitted when stream is capturing"
    assert captured.graphs == 0


def test_an_undefined_gradient_changes_nothing_and_the_next_step_counts() -> None:
    step = TrainingStep(network := network_of(GRAM), task_of(GRAM.network), GRAM, CPU)
    step.take(GRAM.data.training(1, 0, CPU), 1e-2)
    before = copy.deepcopy((network.state_dict(), step.optimiser.state_dict()["state"]))
    batch = GRAM.data.training(1, 0, CPU)
    step.take(replace(batch, channels=batch.channels * torch.nan), 1e-2)  # type: ignore[type-var]
    after = network.state_dict(), step.optimiser.state_dict()["state"]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    step.take(batch, 1e-2)
    assert not torch.equal(network.heads["power"].weight, before[0]["heads.power.weight"])


def test_frozen_parameters_have_neither_gradients_nor_moments() -> None:
    step = TrainingStep(network := network_of(FROZEN), task_of(FROZEN.network), FROZEN, CPU)
    before = copy.deepcopy(network.state_dict())
    step.take(FROZEN.data.training(1, 0, CPU), 1e-2)
    held = {id(parameter) for parameter in step.optimiser.state}
    for name, parameter in network.named_parameters():
        frozen = "attn" in name or (".mlp." in name and name.startswith("backbone"))
        assert (parameter.grad is None) >= frozen, name
        assert (id(parameter) in held) <= (not frozen), name
        if frozen:
            assert torch.equal(parameter, before[name]), name


# Free of what a CUDA graph cannot hold

REFUSED = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "_linalg_check_errors")


class Refused(Exception):
    """An operation that a CUDA graph cannot hold."""


class NoTransfer(TorchDispatchMode):
    """Refuse reading values, copies between devices, and shapes that depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        results = func(*args, **(kwargs or {}))
        devices = {each.device.type for each in (*args, results) if isinstance(each, Tensor)}
        if name in REFUSED or (name in ("_to_copy", "copy_") and len(devices) > 1):
            raise Refused(f"{name} {devices}")
        if name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1]):
            raise Refused("index by a mask")
        return results


class NoHostData(TorchFunctionMode):
    """Refuse tensors made of Python's numbers, also as lists of indices: these are copied from the host's memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(each, list) for each in index):
                raise Refused("list of indices")
        result = func(*args, **(kwargs or {}))
        made = func in (torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray)
        if made and result.device.type != "cpu" and not any(isinstance(each, Tensor) for each in args):
            raise Refused(f"{func.__name__} from the host")
        return result


@contextmanager
def capturing() -> Iterator[None]:
    with NoHostData(), NoTransfer():
        yield


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + torch.ones(3).to(x.device),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.as_tensor(1.0, device=x.device),
        lambda x: x[:, [0, 2]],
        lambda x: x[x > 0],
        lambda x: x.new_zeros(2, 2).copy_(torch.zeros(2, 2)),
        lambda x: torch.linalg.solve(x[:2, :2], x[:2]),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: torch.nonzero(x),
    ],
)
def test_the_check_refuses_what_a_graph_cannot_hold(operation: Callable[[Tensor], Any]) -> None:
    values = torch.zeros(3, 3, device=META)
    with pytest.raises((Refused, RuntimeError, NotImplementedError)), capturing():
        operation(values)


class NoUpdate:
    """An optimiser that updates nothing: PyTorch's fused AdamW is capturable by its own account."""

    def __init__(self, parameters: list[nn.Parameter], *_: object, **settings: object) -> None:
        self.parameters, self.settings = parameters, settings

    def zero_grad(self, set_to_none: bool) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        pass


def small(recipe: Recipe) -> Recipe:
    """The recipe with few drops per batch and a trunk built here, of width 64, in place of a loaded one."""
    for name, size in (("tokens", 64), ("series", 3), ("rows", 8), ("sites", 2)):
        if hasattr(recipe.data, name):
            recipe = replace(recipe, data=replace(recipe.data, **{name: size}))  # type: ignore[type-var]
    trunk = getattr(recipe.network, "backbone", None)
    if not isinstance(trunk, BackboneConfig) or trunk.source is None:
        return recipe
    return replace(recipe, network=replace(recipe.network, backbone=replace(trunk, source=None, width=64, layers=1)))


@pytest.mark.parametrize("preset", presets())
def test_the_step_of_every_preset_can_be_captured(monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """Forward pass, loss, backward pass and clipping on a device without values, with true labels and without."""
    monkeypatch.setattr(torch.optim, "AdamW", NoUpdate)
    recipe = small(presets()[preset].recipe)
    if isinstance(recipe.data, PublishedDrops):
        recipe = replace(recipe, data=replace(recipe.data, train=20, validate=20, batch=10))
    task = task_of(recipe.network)
    with META:
        network = task.build(recipe.network, False)
    if recipe.part is not None:
        network.requires_grad_(False).get_submodule(recipe.part).requires_grad_(True)
    step = TrainingStep(network.train(), task, recipe, META)
    kinds = set()
    for number in range(1 if isinstance(recipe.data, PublishedDrops) else 4):
        batch = recipe.data.training(1, number, CPU)
        inputs = map_tensors(task.prepare(network, batch, recipe.loss), lambda each: each.to(META))
        kind = getattr(batch, "task", None), getattr(batch, "labelled", None)
        if kind in kinds:
            continue
        kinds.add(kind)
        step.compute(inputs)  # constants are made once, before the capture
        with capturing():
            values = step.compute(inputs)
        assert values.shape == (1 + len(task.parts),)
        assert any(parameter.grad is not None for parameter in step.parameters)


def test_layouts_tell_types_shapes_and_other_fields_apart() -> None:
    batch = GRAM.data.training(1, 0, CPU)
    assert layout_of(batch) == layout_of(replace(batch, channels=batch.channels * 2))  # type: ignore[type-var]
    for other in (
        replace(batch, labelled=not batch.labelled),  # type: ignore[attr-defined, type-var]
        replace(batch, alpha_c=batch.alpha_c.double()),  # type: ignore[attr-defined, type-var]
        replace(batch, channels=batch.channels[:, :, 1:]),  # type: ignore[type-var]
        batch.select(slice(1, None)),  # type: ignore[attr-defined]
    ):
        assert layout_of(batch) != layout_of(other)
    assert [tuple(each.shape) for each in tensors_of((1, (torch.ones(2), None), torch.ones(3, 1)))] == [(2,), (3, 1)]


@pytest.mark.gpu
@pytest.mark.parametrize("preset", presets())
def test_captured_steps_are_the_plain_ones(preset: str) -> None:
    """Two trainings on the GPU from the same weights; the second kernel by kernel."""
    recipe, device = small(presets()[preset].recipe), torch.device("cuda")
    recipe = replace(recipe, data=DROPS) if isinstance(recipe.data, PublishedDrops) else recipe
    if isinstance(recipe.network, NetworkConfig) and recipe.network.encoder.kind in ("raw", "cnn"):
        encoder = replace(recipe.network.encoder, antennas=8)
        recipe = replace(recipe, network=replace(recipe.network, encoder=encoder))
    found = []
    for capture in (True, False):
        step = TrainingStep(network_of(recipe).to(device), task_of(recipe.network), recipe, device)
        if not capture:
            step.captured = None
        batches = [recipe.data.training(1, number % 4, device) for number in range(12)]
        found.append(torch.stack([step.take(batch, 1e-3)[0] for batch in batches]).cpu())
        if step.captured is not None:
            assert step.captured.refused == ""
            assert step.captured.graphs > 0
    torch.testing.assert_close(*found, rtol=2e-2, atol=2e-2)


# Precision of the trunk


def test_only_wide_language_models_multiply_in_bfloat16() -> None:
    networks = [network_of(RAW), network_of(GRAM)]
    for network in networks:
        steps.use_bfloat16(network)
    trunks = [each for network in networks for each in network.modules() if isinstance(each, Backbone)]
    assert [trunk.precision for trunk in trunks] == [None]
    wide = network_of(replace(RAW, network=replace(RAW.network, backbone=replace(SMALL_TRUNK, width=512))))
    steps.use_bfloat16(wide)
    assert wide.backbone.precision == torch.bfloat16


def test_loss_curve_with_a_bfloat16_trunk_is_that_in_single_precision() -> None:
    """Types change within the trunk alone: its output, all gradients and moments are float32."""
    recipe = replace(RAW, steps=30, warm_up=5, learning_rate=1e-3)
    expected, _ = reference(recipe, 30)
    network = network_of(recipe)
    network.backbone.precision = torch.bfloat16
    tokens = torch.randn(2, 3, 16)
    with torch.no_grad():
        exact = network.backbone.model(inputs_embeds=tokens, position_ids=torch.arange(3)[None]).last_hidden_state
        rounded = network.backbone(tokens, None)
    assert rounded.dtype == torch.float32
    assert 1e-5 < float((rounded - exact).abs().max()) < 0.1
    step = TrainingStep(network, task_of(recipe.network), recipe, CPU)
    losses = [step.take(recipe.data.training(recipe.seed, n, CPU), learning_rate(recipe, n))[0] for n in range(30)]
    assert {each.grad.dtype for each in step.parameters if each.grad is not None} == {torch.float32}
    difference = torch.stack(losses) - torch.tensor(expected)
    assert float(difference.abs().max()) < 0.05 * abs(expected[0])
    assert float(difference.abs().mean()) > 0
