"""CUDA graphs give what PyTorch gives, for every shape, budget and place of the channels, on a GPU and on a fake.

The fake (`fake_cuda`) replays the captured closure, so the graphs' logic runs on a CPU: their shapes, sizes, memory,
budgets, labels, eviction and failures. What it cannot show is whether the kernels can be captured.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from matlab_io.result import RESULT_NAMES
from nflae_bridge.engine.backends import Backend
from nflae_bridge.engine.cuda_graphs.graphs import KEPT, CudaGraphs
from nflae_bridge.engine.cuda_graphs.inputs import LARGEST, graph_size
from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer, UnusableChannels
from nflae_bridge.engine.cuda_graphs.schemes import RecordedScheme
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from nflae_bridge.studies.benchmark.cuda_graph import Captured
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, result_arrays
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.schemes import scheme
from tests.nflae_bridge.engine.fake_cuda import FakeCuda, install, needs_interpreter
from tests.simulator.definitions import draw_channels

BUDGETS = {
    "free": LinkBudget(1.0, 0.01),
    "near share": LinkBudget(1.0, 0.01, 0.3),
    "minimum rates": LinkBudget(1.0, 0.01, 0.4, 1.5),
}


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, Engine]:
    checkpoint = load_model("tiny", torch.device("cpu"))
    return Engine(checkpoint, "cpu", backend="torch"), Engine(checkpoint, "cuda")


def drops(count: int, users: int = 6, seed: int = 0) -> ChannelBatch:
    drawn = scenario("paper", users=users).draw(count, torch.Generator().manual_seed(seed))
    return ChannelBatch(drawn.channels, drawn.near_field)


def assert_alike(found: Precoding, expected: Precoding, batch: ChannelBatch, budget: LinkBudget) -> None:
    assert found.precoder.device == batch.channels.device
    power = found.power.cpu()
    achieved = rates(achieved_sinr(batch.channels.cpu(), found.precoder.cpu(), power, budget.noise_power)).sum(-1)
    torch.testing.assert_close(achieved, found.sum_rate.cpu(), rtol=1e-5, atol=1e-5)
    # TF32 in the network moves a drop's sum rate by 1e-3 or so, by more where users stand side by side.
    apart = (found.sum_rate.cpu() / expected.sum_rate - 1).abs()
    assert float((apart < 1e-2).double().mean()) > 0.99
    assert float(apart.max()) < 0.1
    assert abs(float(found.sum_rate.mean() / expected.sum_rate.mean()) - 1) < 5e-4
    torch.testing.assert_close(found.near_field.cpu(), expected.near_field)
    torch.testing.assert_close(found.feasible.cpu(), expected.feasible)


@pytest.mark.gpu
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("count", [1, 3, 64, 2500])
def test_a_graph_gives_the_cpus_answer(engines: tuple[Engine, Engine], count: int, budget: LinkBudget) -> None:
    cpu, gpu = engines
    for seed in range(4):  # computed, captured, replayed, replayed
        batch = drops(count, seed=seed)
        assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)
    assert gpu.select_backend(batch, budget).backend in (Backend.CUDA_GRAPHS, Backend.TRITON)


@pytest.mark.gpu
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_channels_on_the_gpu_or_without_labels_are_answered_alike(
    engines: tuple[Engine, Engine], budget: LinkBudget
) -> None:
    cpu, gpu = engines
    for seed in range(3):
        batch = ChannelBatch(drops(50, seed=seed).channels)
        expected = cpu(batch, budget)
        assert_alike(gpu(batch, budget), expected, batch, budget)
        there = ChannelBatch(batch.channels.cuda())
        assert_alike(gpu(there, budget), expected, there, budget)
        pinned = ChannelBatch(batch.channels.pin_memory())
        assert_alike(gpu(pinned, budget), expected, pinned, budget)


@pytest.mark.gpu
def test_every_drop_may_have_a_budget_of_its_own(engines: tuple[Engine, Engine]) -> None:
    cpu, gpu = engines
    for seed in range(3):
        batch = drops(40, seed=seed)
        budget = LinkBudget(
            torch.linspace(0.1, 2.0, 40),
            torch.full((40,), 0.01),
            torch.linspace(0.2, 1.0, 40),
            torch.linspace(0, 1, 40),
        )
        assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)


@pytest.mark.gpu
def test_graphs_captured_under_inference_mode_run_outside_of_it(engines: tuple[Engine, Engine]) -> None:
    cpu, gpu = engines
    batch, budget = drops(7, users=3), LinkBudget()
    for _ in range(2):
        with torch.inference_mode():
            gpu(batch, budget)
    assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)


@given(st.integers(1, 5000))
def test_a_graph_is_at_most_an_eighth_larger_or_the_largest(drops: int) -> None:
    size = graph_size(drops)
    assert size <= LARGEST
    assert size == LARGEST or drops <= size <= drops * 9 / 8
    assert graph_size(size) == size


# On the fake


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


def reference(refinements: int = 0) -> Engine:
    return Engine(load_model("tiny", torch.device("cpu")), "cpu", refinements, backend="torch")


def graphs(refinements: int = 0) -> Engine:
    return Engine(load_model("tiny", torch.device("cpu")), "cpu", refinements, backend="cuda_graphs")


def assert_same(found: Precoding, expected: Precoding) -> None:
    for name in ("sum_rate", "power", "uplink_power", "precoder", "sinr", "near_field_score"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4)
    for name in ("feasible", "fallback", "near_field"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("count", [1, 7, 16, 17, 65])
def test_the_fakes_graphs_give_pytorchs_answer(cuda: FakeCuda, count: int, labelled: bool, budget: LinkBudget) -> None:
    engine, expected = graphs(), reference()
    for seed in range(3):  # captured, replayed, replayed with other channels
        batch = drops(count, seed=seed)
        if not labelled:
            batch = ChannelBatch(batch.channels)
        assert_same(engine(batch, budget), expected(batch, budget))
    assert cuda.captures == 1
    assert cuda.replays == 3


@pytest.mark.parametrize("budget", [*BUDGETS.values(), LinkBudget(1.0, 0.01, 0.4, 9.0)], ids=[*BUDGETS, "infeasible"])
@pytest.mark.parametrize("count", [3, 33])
def test_arrays_of_a_recorded_answer_are_those_of_the_result(cuda: FakeCuda, count: int, budget: LinkBudget) -> None:
    engine, expected = graphs(), reference()
    for seed in range(2):
        batch = ChannelBatch(drops(count, seed=seed).channels)
        found = engine.arrays(batch.channels.numpy(), budget, RESULT_NAMES)
        for name, values in result_arrays(expected(batch, budget)).items():
            assert found[name].dtype == values.dtype
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
    assert cuda.captures == 1
    found = engine.arrays(batch.channels.numpy(), budget, ["power"])
    assert list(found) == ["power"]


@pytest.mark.parametrize("fault", [np.nan, np.inf, 0])
@pytest.mark.parametrize("count", [2, 20])
def test_unusable_channels_are_found_along_with_the_computation(cuda: FakeCuda, count: int, fault: float) -> None:
    engine, channels = graphs(), drops(count, users=3).channels.numpy()
    bad = channels.copy()
    bad[1, 2] = fault if fault == 0 else bad[1, 2]
    bad[1, 2, 4] = fault
    for _ in range(2):
        engine.arrays(channels, LinkBudget(), ["power"], checked=False)
        with pytest.raises(UnusableChannels):
            engine.arrays(bad, LinkBudget(), ["power"], checked=False)
    with pytest.raises(UnusableChannels):
        Engine(load_model("tiny", torch.device("cpu")), backend="torch").arrays(
            bad, LinkBudget(), ["power"], checked=False
        )


@needs_interpreter
def test_a_recorded_scheme_is_that_of_the_registry(cuda: FakeCuda) -> None:
    """Without labels, with those of a network, under C3 and C4, and where the algebra of a drop loses digits."""
    pytest.importorskip("triton", reason="Triton is not installed")
    recorded = RecordedScheme("wmmse:iterations=1", CudaGraphs(torch.device("cpu")))
    engine, channels = reference(), draw_channels(9, users=3, antennas=24, drops=2)
    channels[0, 1] = 1j * channels[0, 0] + 1e-6 * channels[0, 1]
    firsts = []
    for budget in (LinkBudget(1.0, 0.01), LinkBudget(1.0, 0.01, 0.3, 0.5), LinkBudget(1.0, 1e-6)):
        near = engine.near_field(channels)
        expected = scheme("wmmse:iterations=1")(ChannelBatch(channels, near), budget)
        firsts.append(recorded.arrays(channels.numpy(), budget, RESULT_NAMES, engine.near_field_score))
        found = recorded.arrays(channels.numpy(), budget, RESULT_NAMES, engine.near_field_score)
        assert found is not None
        for name in ("power", "precoder", "rate", "sum_rate", "feasible", "near_field"):
            values = getattr(expected, name).numpy()
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    called = [recorded(ChannelBatch(channels, near), budget) for _ in range(2)]
    for name in ("power", "near_field"):
        torch.testing.assert_close(getattr(called[1], name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    assert [first is None for first in firsts] == [True, True, False]  # the last has the shape of the first
    bad = channels.clone()
    bad[1, 0] = torch.nan
    assert recorded.arrays(bad.numpy(), LinkBudget(1.0, 0.01), ["power"], engine.near_field_score) is None
    assert not RecordedScheme.supports("sdma", 4)
    assert not RecordedScheme.supports("wmmse", 17)


def test_batches_larger_than_a_graph_alternate_between_two(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.engine.cuda_graphs.inputs.LARGEST", 20)
    engine, expected, budget = graphs(), reference(), BUDGETS["near share"]
    for seed in range(2):
        batch = drops(71, seed=seed)
        assert_same(engine(batch, budget), expected(batch, budget))
    assert cuda.captures == 2
    assert cuda.replays == 2 * 4


@pytest.mark.parametrize("count", [5, 40])
def test_budgets_per_drop_and_numbers_may_alternate(cuda: FakeCuda, count: int) -> None:
    """A graph keeps the budget in its memory: what was written last must not stay where another one comes."""
    engine, expected = graphs(), reference()
    one = torch.ones(count)
    by_drop = LinkBudget(
        torch.linspace(0.1, 2.0, count), 0.01 * one, torch.linspace(0.2, 1.0, count), torch.linspace(0, 1, count)
    )
    numbers = LinkBudget(1.0, 0.01, 0.3, 0.5)
    others = LinkBudget(2.0, 0.1, 0.6, 0.25)
    batch = drops(count)
    for budget in (numbers, by_drop, numbers, numbers, others, by_drop):
        assert_same(engine(batch, budget), expected(batch, budget))


def test_another_batch_in_the_same_graph_brings_its_own_labels(cuda: FakeCuda) -> None:
    engine, expected, budget = graphs(), reference(), BUDGETS["near share"]
    channels = drops(4).channels
    for labels in (torch.ones(4, 6, dtype=torch.bool), torch.arange(24).reshape(4, 6) % 3 == 0):
        batch = ChannelBatch(channels, labels)
        assert_same(engine(batch, budget), expected(batch, budget))
    assert cuda.captures == 1


def test_shapes_budgets_labels_and_refinements_have_graphs_of_their_own(cuda: FakeCuda) -> None:
    engine, free = graphs(), BUDGETS["free"]
    batch = drops(3)
    for budget in BUDGETS.values():
        engine(batch, budget)
    assert cuda.captures == 3
    engine(ChannelBatch(batch.channels), BUDGETS["near share"])
    assert cuda.captures == 4
    engine(drops(3, users=5), free)
    assert cuda.captures == 5
    refined = engine.refined(2)
    assert_same(refined(batch, free), reference(2)(batch, free))
    assert cuda.captures == 6
    engine(drops(33), free)
    engine(drops(34), free)
    assert graph_size(33) == graph_size(34)
    assert cuda.captures == 7


def test_the_first_batch_of_a_shape_is_computed_the_second_captured(cuda: FakeCuda) -> None:
    batch, budget = drops(3), LinkBudget()
    held = CudaGraphs(torch.device("cpu"))
    assert held.state(batch, budget, 0) == "new"
    held.note(batch, budget, 0)
    assert held.state(batch, budget, 0) == "seen"
    assert held.state(batch, budget, 1) == "new"
    assert cuda.captures == 0


def test_the_oldest_graphs_make_room(cuda: FakeCuda) -> None:
    held, budget = CudaGraphs(torch.device("cpu")), LinkBudget()

    def compute(problem: DeviceProblem, answer: PackedAnswer) -> None:
        answer.precoder.copy_(problem.channels * 2)
        answer.table.fill_(1)

    batches = [ChannelBatch(torch.randn(2, users, 4, dtype=torch.complex64)) for users in range(1, KEPT + 4)]
    for batch in batches:
        answer = held.run(compute, batch, budget, False, 0)
        assert answer is not None
        torch.testing.assert_close(answer.precoder, 2 * batch.channels)
    states = [held.state(batch, budget, 0) for batch in batches]
    assert states == ["new"] * states.count("new") + ["seen"] * states.count("seen")
    assert KEPT <= states.count("seen") <= KEPT + 1
    captured = cuda.captures
    held.run(compute, batches[-1], budget, False, 0)
    assert cuda.captures == captured
    held.run(compute, batches[0], budget, False, 0)
    assert cuda.captures == captured + 1


def test_what_cannot_be_captured_is_left_to_pytorch_for_good(cuda: FakeCuda) -> None:
    engine, batch, budget = graphs(), drops(3), LinkBudget()
    cuda.refuse = True
    assert_same(engine(batch, budget), reference()(batch, budget))
    cuda.refuse = False
    with pytest.raises(NflaeError, match="backend cuda_graphs cannot compute this batch: an operation cannot be"):
        engine(batch, budget)
    assert cuda.captures == 0
    engine(drops(4), budget)
    assert cuda.captures == 1


@needs_interpreter
def test_a_kernel_that_cannot_be_compiled_is_left_to_pytorch(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's errors are no RuntimeError."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel

    def compute(problem: DeviceProblem, answer: PackedAnswer) -> None:
        raise CompilationError("no such instruction")

    class CompilationError(Exception):
        pass

    held, batch, budget = CudaGraphs(torch.device("cpu")), drops(2), LinkBudget()
    assert held.run(compute, batch, budget, False, 0) is None
    assert held.state(batch, budget, 0) == "impossible"

    engine, channels = reference(), drops(2).channels
    expected = engine.near_field_score(channels)
    kernel = WavefrontKernel.of(engine.network)
    assert kernel is not None
    assert kernel.scores(channels) is None  # on a CPU
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    torch.testing.assert_close(kernel.scores(channels), expected, rtol=1e-3, atol=1e-3)

    def broken(channels: torch.Tensor) -> torch.Tensor:
        raise CompilationError("no such instruction")

    monkeypatch.setattr(kernel, "logits", broken)
    assert kernel.scores(channels) is None
    monkeypatch.undo()
    engine._wavefront_kernel = kernel
    torch.testing.assert_close(engine.near_field_score(channels), expected)


def test_without_a_gpu_graphs_cannot_be_requested() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(NflaeError, match="no"):
        Engine(load_model("tiny", torch.device("cpu")), "cpu", backend="cuda_graphs")


def test_the_benchmarks_functions_are_captured_by_the_same_code(cuda: FakeCuda) -> None:
    captured = Captured(lambda values: (2 * values, values + 1), torch.device("cpu"))
    for seed in range(3):
        values = torch.full((4,), float(seed))
        double, next_one = captured(values)
        torch.testing.assert_close(double, 2 * values)
        torch.testing.assert_close(next_one, values + 1)
    captured(torch.zeros(5))
    assert (cuda.captures, cuda.replays) == (2, 4)
