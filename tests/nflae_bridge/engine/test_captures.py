"""Captures of CUDA graphs keep to what PyTorch and CUDA require: streams, threads, memory, no reads on the host.

On the fake of `fake_cuda`; on tensors of the device ``meta``: those hold no values, so a read on the host fails, and
so does an operation that mixes them with a tensor of the CPU, as it would on a GPU; what is not captured, on a GPU
emulated in ordinary memory.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from nflae_bridge.engine.comparison import Comparison
from nflae_bridge.engine.cuda_graphs import recording
from nflae_bridge.engine.cuda_graphs.answers import RecordedAnswers
from nflae_bridge.engine.cuda_graphs.graphs import KEPT, CudaGraphs
from nflae_bridge.engine.cuda_graphs.packed import AnswerSize, PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.engine import Engine
from nflae_bridge.files.labels import SCHEME_LABELS, precode_labelled
from nflae_bridge.files.upload import upload
from nflae_bridge.network.encoders.wavefront import scaled_to_range
from nflae_bridge.network.shipped import load_model
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import Limits
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.solution import solution_arrays
from tests.emulated_gpu import GPU, EmulatedGpu
from tests.nflae_bridge.engine.fake_cuda import FakeCuda, FakeStream, install, needs_interpreter
from tests.simulator.definitions import draw_channels

CPU, BUDGET = torch.device("cpu"), LinkBudget(1.0, 0.01)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # before every capture it takes most of the time of these tests
    return install(monkeypatch)


def double(problem: DeviceProblem, answer: PackedAnswer) -> None:
    answer.precoder.copy_(problem.channels * 2)
    answer.table.fill_(1)


def batch_of(users: int, drops: int = 2) -> ChannelBatch:
    return ChannelBatch(torch.randn(drops, users, 4, dtype=torch.complex64))


def run(held: CudaGraphs, batch: ChannelBatch) -> None:
    answer = held.run(double, batch, BUDGET, False, 0)
    assert answer is not None
    torch.testing.assert_close(answer.precoder, 2 * batch.channels)


def test_copies_and_replays_never_run_on_a_stream_of_captures(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.engine.cuda_graphs.inputs.LARGEST", 20)
    for held in (CudaGraphs(CPU), CudaGraphs(CPU)):
        for users in range(1, 6):
            run(held, batch_of(users))
            run(held, batch_of(users, drops=45))
    assert cuda.captures == 2 * 5 * 3
    assert len(cuda.captured_on) == 2
    assert not cuda.captured_on & cuda.replayed_on
    assert cuda.default not in cuda.replayed_on
    assert cuda.made == 1 + 6  # PyTorch has 32, the same ones again and again


def test_one_graph_is_captured_at_a_time_in_a_process(cuda: FakeCuda) -> None:
    """Another engine's capture in another thread waits, and so does its change of the precision of products."""
    free = []

    def is_free() -> bool:
        found = recording.CAPTURING.acquire(blocking=False)
        if found:
            recording.CAPTURING.release()
        return found

    def compute(problem: DeviceProblem, answer: PackedAnswer) -> None:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(is_free).result())
        double(problem, answer)

    batch = batch_of(3)
    CudaGraphs(CPU).run(compute, batch, BUDGET, False, 0)
    assert free == [False] * 3 + [True]  # warm-up, warm-up, capture; replay


def test_graphs_in_use_are_kept(cuda: FakeCuda) -> None:
    held = CudaGraphs(CPU)
    for users in range(1, KEPT + 6):
        run(held, batch_of(users))
        run(held, batch_of(1))
    assert held.state(batch_of(1), BUDGET, 0) == "seen"
    assert held.state(batch_of(2), BUDGET, 0) == "new"
    assert cuda.captures == KEPT + 5


def test_a_capture_without_memory_frees_the_other_graphs_and_is_tried_again(
    cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    held, batch = CudaGraphs(CPU), batch_of(3)

    def too_large(problem: DeviceProblem, answer: PackedAnswer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    run(held, batch_of(1))
    assert held.run(too_large, batch, BUDGET, False, 0) is None
    assert [held.state(each, BUDGET, 0) for each in (batch_of(1), batch)] == ["new", "new"]
    run(held, batch)
    assert not caplog.records
    alone = CudaGraphs(CPU)
    assert alone.run(too_large, batch, BUDGET, False, 0) is None
    assert alone.state(batch, BUDGET, 0) == "impossible"
    (said,) = caplog.messages
    assert said.startswith("2 drops, 3 users, 4 antennas: no CUDA graph (CUDA out of memory. Tried to allocate 2 GiB);")


@needs_interpreter
def test_the_kernels_and_the_classifier_beside_them_give_pytorchs_answer(cuda: FakeCuda) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    channels, names = draw_channels(3, users=2, antennas=16, drops=1).numpy(), ("power", "sum_rate", "near_field_score")
    engine, plain = (Engine(load_model("tiny", CPU), CPU, backend=name) for name in ("triton", "torch"))
    found, expected = (each.arrays(channels, BUDGET, names) for each in (engine, plain))
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert cuda.captures == 1


def test_the_classifiers_kernel_runs_where_its_channels_are_and_says_why_it_does_not(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Triton launches on the current device, whichever the channels are on."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel

    kernel = WavefrontKernel.of(load_model("tiny", CPU).network)
    assert kernel is not None
    channels, entered = batch_of(3).channels, []
    monkeypatch.setattr(Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: entered.append(tensor) or nullcontext())
    kernel.logits = lambda channels: torch.zeros(channels.shape[:-1])  # type: ignore[method-assign]
    assert kernel.scores(channels).tolist() == [[0.5] * 3] * 2  # type: ignore[union-attr]
    assert entered[0] is channels

    def fails(error: Exception) -> Callable[[Tensor], Tensor]:
        def logits(channels: Tensor) -> Tensor:
            raise error

        return logits

    kernel.logits = fails(torch.OutOfMemoryError("CUDA out of memory"))  # type: ignore[method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        kernel.scores(channels)
    kernel.logits = fails(ValueError("no such instruction"))  # type: ignore[method-assign]
    assert [kernel.scores(channels) for _ in range(2)] == [None, None]
    (said,) = caplog.messages
    assert "no kernels of Triton's (no such instruction); PyTorch computes instead" in said


# On the device meta


@pytest.mark.parametrize("name", ["tiny", "small", "nano"])
def test_an_engine_off_the_cpu_keeps_its_weights_there(name: str) -> None:
    engine = Engine(load_model(name, CPU), "meta")
    assert {weight.device.type for weight in engine.network.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "users", "antennas"), [("tiny", 1, 31), ("tiny", 16, 1100), ("small", 17, 65), ("nano", 8, 8)]
)
def test_what_is_captured_reads_nothing_on_the_host(
    name: str, users: int, antennas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "is_cuda", True)
    network = copy.deepcopy(load_model(name, CPU).network).to("meta").eval().requires_grad_(False)

    def scores(channels: Tensor) -> Tensor:
        return torch.sigmoid(network.near_field_logit(scaled_to_range(channels)).double())

    answers = RecordedAnswers(None, Comparison(network, scores, True), scores, None, False)  # type: ignore[arg-type]
    channels = torch.empty(3, users, antennas, dtype=torch.complex64, device="meta")
    near = torch.empty(3, users, dtype=torch.bool, device="meta")
    per_drop = torch.empty(3, dtype=torch.float64, device="meta")
    answer = PackedAnswer.allocate(AnswerSize(3, users, antennas, True), device="meta")
    for limits, labels in ((Limits(), near), (Limits(per_drop, per_drop), near), (Limits(per_drop, per_drop), None)):
        problem = DeviceProblem(channels, per_drop, per_drop, per_drop, limits, labels)
        with torch.no_grad():
            answers.by_operations(problem, answer, refinements=1)


# On an emulated GPU


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="tables kept for the emulated GPU would pass for those of a real one"
)
@pytest.mark.parametrize("name", ["tiny", "small", "nano"])
def test_what_is_not_captured_mixes_no_devices(cuda: FakeCuda, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of a file, from its upload to the arrays of its results, by PyTorch's operations one by one."""
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    channels, drops = draw_channels(5, users=3, antennas=40, drops=4).numpy(), torch.linspace(0.1, 1, 4).double()
    plain, stream = Engine(load_model(name, CPU), CPU, backend="torch"), FakeStream(cuda)
    for budget in (BUDGET, LinkBudget(1.0, 0.01, 0.4, 9.0), LinkBudget(drops, 0.01 * drops, drops, drops)):
        with EmulatedGpu():
            engine = Engine(load_model(name, CPU), GPU, backend="torch")
            engine._wavefront_kernel = None
            there = upload(channels, GPU, stream).arrived()  # type: ignore[arg-type]
            assert there.is_cuda
            found = solution_arrays(precode_labelled(engine, there, budget, SCHEME_LABELS, None))
        expected = solution_arrays(precode_labelled(plain, torch.from_numpy(channels), budget, SCHEME_LABELS, None))
        for array in ("sum_rate", "power", "near_field", "feasible"):
            np.testing.assert_allclose(found[array], expected[array], rtol=1e-3, atol=1e-4, err_msg=array)


def test_the_emulated_gpu_refuses_what_a_gpu_does() -> None:
    with EmulatedGpu():
        there, here = torch.ones(3).to(GPU), torch.ones(3)
        assert (there * 2 + 1).device == GPU
        assert (there.cpu() + here).device == CPU
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([there, here])
        with pytest.raises(TypeError, match="numpy"):
            np.asarray(there[1:])
