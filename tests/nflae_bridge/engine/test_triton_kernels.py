"""The GPU's three kernels against the engine's own computing: on a GPU, or without one in Triton's interpreter."""

# ruff: noqa: E402 - what is imported depends on the interpreter being asked for first

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

HERE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")

from nflae_bridge.engine.comparison import NEGLIGIBLE
from nflae_bridge.engine.cuda_graphs.packed import AnswerSize, PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.triton_kernels import USERS, TritonKernels
from nflae_bridge.engine.triton_kernels.classical import precode_classically
from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.wavefront import scaled_to_range
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.rounding import loses_digits
from simulator.downlink.structure import structured_beams
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

NAMES = ("precoder", "power", "lambda", "sinr", "rate", "feasible", "fallback", "sum_rate", "usable")
# The interpreter multiplies in single precision where a GPU's matrix units take TF32.
CLOSE = {"rtol": 1e-5, "atol": 1e-5} if HERE == "cpu" else {"rtol": 2e-2, "atol": 2e-2}


def on_device(batch: ChannelBatch, budget: LinkBudget) -> DeviceProblem:
    """The problem of a labelled batch, with numbers of every drop in memory as the kernels read them."""
    assert batch.near_field is not None
    problem = DeviceProblem.of(ChannelBatch(batch.channels.to(HERE), batch.near_field.to(HERE)), budget)
    scale = problem.amplitude_scale.expand(len(batch.channels)).contiguous()
    alpha_c, min_rate = problem.alpha_c.contiguous(), problem.min_rate.contiguous()
    return replace(problem, amplitude_scale=scale, alpha_c=alpha_c, min_rate=min_rate)


def kernels_answer(
    engine: Engine,
    channels: torch.Tensor,
    snr_db: float,
    refinements: int = 0,
    near_field: torch.Tensor | None = None,
    budget: LinkBudget | None = None,
) -> PackedAnswer:
    kernels = TritonKernels.of(engine.network.to(HERE))
    assert kernels is not None
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10)) if budget is None else budget
    labels = torch.zeros(channels.shape[:2], dtype=torch.bool) if near_field is None else near_field
    problem = on_device(ChannelBatch(channels, labels), budget)
    assert problem.near_field is not None
    answer = PackedAnswer.allocate(AnswerSize(*channels.shape, False), device=HERE)
    kernels(problem, problem.near_field, answer, refinements, NEGLIGIBLE)
    return PackedAnswer(answer.size, answer.memory.cpu())


def engine_answer(
    engine: Engine,
    channels: torch.Tensor,
    snr_db: float,
    refinements: int = 0,
    near_field: torch.Tensor | None = None,
    budget: LinkBudget | None = None,
) -> Precoding:
    """As computed in PyTorch."""
    engine.network.cpu()
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10)) if budget is None else budget
    return engine.refined(refinements)(ChannelBatch(channels, near_field), budget)


def assert_alike(
    engine: Engine,
    channels: torch.Tensor,
    snr_db: float,
    refinements: int = 0,
    near_field: torch.Tensor | None = None,
    budget: LinkBudget | None = None,
) -> Precoding:
    expected = engine_answer(engine, channels, snr_db, refinements, near_field, budget)
    found = kernels_answer(engine, channels, snr_db, refinements, near_field, budget)
    arrays = {name: torch.from_numpy(values) for name, values in found.arrays(1.0, NAMES).items()}
    torch.testing.assert_close(arrays["sum_rate"], expected.sum_rate, **CLOSE)
    torch.testing.assert_close(torch.log2(1 + arrays["sinr"]), arrays["rate"])
    torch.testing.assert_close(arrays["rate"].sum(-1), arrays["sum_rate"])
    torch.testing.assert_close(torch.linalg.vector_norm(arrays["precoder"], dim=-1), torch.ones(channels.shape[:2]))
    torch.testing.assert_close(arrays["feasible"], expected.feasible)
    assert arrays["usable"].all()
    if HERE == "cpu":
        torch.testing.assert_close(arrays["fallback"], expected.fallback)
        torch.testing.assert_close(arrays["power"], expected.power, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(arrays["lambda"], expected.uplink_power, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(arrays["precoder"], expected.precoder, rtol=1e-3, atol=1e-3)
    return expected


@pytest.fixture(scope="module", params=["tiny", "small"])
def shipped(request: pytest.FixtureRequest) -> Engine:
    return Engine(load_model(request.param, torch.device("cpu")), backend="torch")


@pytest.mark.slow
@pytest.mark.parametrize(("users", "antennas"), [(1, 16), (3, 40), (10, 256), (USERS, 64)])
def test_the_kernels_give_the_engines_answer(shipped: Engine, users: int, antennas: int) -> None:
    drops = scenario("paper", users=users, antennas=antennas).draw(2, torch.Generator().manual_seed(users))
    assert_alike(shipped, drops.channels, 20.0)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 40.0])
def test_at_every_snr(snr_db: float) -> None:
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    assert_alike(engine, draw_channels(4, users=5, antennas=24, drops=3, spread_db=20), snr_db)


@pytest.mark.parametrize("refinements", [1, 3])
def test_with_refinements(refinements: int) -> None:
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    assert_alike(engine, draw_channels(5, users=4, antennas=24, drops=3), 20.0, refinements)


@pytest.mark.parametrize(("alpha_c", "min_rate"), [(0.3, 1.0), (0.05, 4.0)])
def test_under_c3_and_c4(alpha_c: float, min_rate: float) -> None:
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    channels = draw_channels(9, users=4, antennas=24, drops=3, spread_db=20)
    channels[1, 3] = channels[1, 2]
    near_field = torch.arange(12).reshape(3, 4) % 3 == 0
    near_field[2] = True
    budget = LinkBudget(1.0, 0.01, alpha_c, min_rate)
    found = kernels_answer(engine, channels, 20.0, 0, near_field, budget).arrays(1.0, NAMES)
    kept = found["feasible"]
    assert (found["power"] * near_field.numpy()).sum(-1).max() <= alpha_c + 1e-9
    assert (found["rate"][kept] >= min_rate - 1e-6).all()
    expected = engine_answer(engine, channels, 20.0, 0, near_field, budget)
    assert not kept[expected.feasible.numpy() == 0].any()
    np.testing.assert_allclose(found["sum_rate"][kept], expected.sum_rate.numpy()[kept], rtol=1e-3)


def test_under_c3_and_c4_refinements_lower_no_sum_rate() -> None:
    """The second drop has a redundant user: four answers of the network's are compared."""
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    channels = draw_channels(9, users=4, antennas=24, drops=40, spread_db=20)[[6, 8]]
    channels[1, 3] = channels[1, 2] + 0.3 * channels[1, 3]
    near_field = torch.tensor([[True, False, False, True], [False, True, False, False]])
    budget = LinkBudget(1.0, 0.01, 0.2, 1.0)
    plain = engine_answer(engine, channels, 20.0, 0, near_field, budget)
    expected = engine_answer(engine, channels, 20.0, 2, near_field, budget)
    found = kernels_answer(engine, channels, 20.0, 2, near_field, budget)
    torch.testing.assert_close(found.per_drop("sum_rate"), expected.sum_rate, **CLOSE)
    assert (found.per_drop("sum_rate") >= plain.sum_rate * (1 - CLOSE["rtol"])).all()
    assert found.holds("feasible")
    assert found.holds("exact")


def test_of_users_with_one_channel_one_is_served() -> None:
    channels = draw_channels(6, users=4, antennas=24, drops=2)
    channels[:, 1] = 1j * channels[:, 0]
    channels[1, 3] = channels[1, 2]
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    power_fractions = assert_alike(engine, channels, 20.0).power
    assert power_fractions[1, :2].min() < 1e-6
    assert power_fractions[1, 2:].min() < 1e-6


def test_a_null_channel_and_an_untrained_network_do_no_harm() -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, layers=2, heads=2, attention="coherence")
    network = PrecodingNetwork(NetworkConfig(EncoderConfig(blocks=0, edge_width=16), backbone)).eval()
    engine = Engine(Checkpoint("untrained", network, {}), backend="torch")
    channels = draw_channels(7, users=3, antennas=24, drops=2)
    channels[0, 2] = 0
    found = kernels_answer(engine, channels, 10.0).arrays(1.0, NAMES)
    assert np.isfinite(found["precoder"]).all()
    assert np.isfinite(found["sinr"]).all()
    np.testing.assert_allclose(found["power"].sum(-1), np.ones(2))
    assert found["usable"].tolist() == [False, True]


def test_the_answer_without_redundant_users_is_taken_only_if_it_is_not_worse_by_more_than_rounding() -> None:
    """Users of equal gain a little apart: with two beams and with one, within the margin and beyond it."""
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    channels = draw_channels(8, users=3, antennas=24, kind="near-parallel", drops=4)
    for snr_db in (-10.0, 10.0, 30.0):
        assert_alike(engine, channels, snr_db)


def test_networks_of_other_kinds_are_left_to_the_engine(make_network: Callable[..., PrecodingNetwork]) -> None:
    assert TritonKernels.of(make_network(kind="raw", antennas=12)) is None
    assert TritonKernels.of(make_network(head_width=8)) is None


@pytest.mark.parametrize(
    ("spec", "iterations", "limits"),
    [("rzf", 0, (0.3, 0.5)), ("wmmse:iterations=3", 3, (1.0, 0.0)), ("zf", 0, (0.3, 0.5)), ("mrt", 0, (0.3, 0.1))],
)
def test_classical_schemes_are_those_of_the_registry(spec: str, iterations: int, limits: tuple[float, float]) -> None:
    channels = draw_channels(9, users=4, antennas=24, drops=2, spread_db=20)
    batch = ChannelBatch(channels, torch.arange(8).reshape(2, 4) % 3 == 0)
    budget = LinkBudget(1.0, 0.01, *limits)
    problem = on_device(batch, budget)
    answer = PackedAnswer.allocate(AnswerSize(*channels.shape, False), device=HERE)
    precode_classically(problem, answer, spec.partition(":")[0], iterations)
    expected = scheme(spec)(batch, budget)
    found = PackedAnswer(answer.size, answer.memory.cpu()).precoding(budget, expected.compute_labels)
    for name in ("power", "uplink_power", "precoder", "sinr"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(found.feasible, expected.feasible)
    assert answer.holds("exact")


def test_drops_on_which_the_algebra_loses_digits_are_marked() -> None:
    channels = draw_channels(9, users=4, antennas=24, drops=2)
    channels[0, 1] = 1j * channels[0, 0] + 1e-6 * channels[0, 1]
    budget = LinkBudget(1.0, 1e-6)
    answer = PackedAnswer.allocate(AnswerSize(*channels.shape, False), device=HERE)
    precode_classically(on_device(ChannelBatch(channels, torch.zeros(2, 4, dtype=torch.bool)), budget), answer, "rzf")
    gram = normalised_gram(channels, budget)
    lossy = loses_digits(gram, structured_beams(gram, torch.full((2, 4), 0.25, dtype=torch.float64)))
    assert lossy.tolist() == [True, False]
    torch.testing.assert_close(answer.per_drop("exact").cpu() == 0, lossy)
    channels[1, 3] = 1j * channels[1, 2]
    precode_classically(on_device(ChannelBatch(channels, torch.zeros(2, 4, dtype=torch.bool)), budget), answer, "zf")
    assert not answer.per_drop("exact").any()


@pytest.mark.parametrize("antennas", [20, 100])
def test_the_classifiers_kernel_gives_its_logits(antennas: int) -> None:
    network = load_model("tiny", torch.device("cpu")).network
    drops = scenario("paper", users=5, antennas=antennas).draw(2, torch.Generator().manual_seed(1))
    channels = drops.channels + 0.01 * torch.randn(drops.channels.shape, dtype=torch.complex64)
    channels[0, 0] *= 1e-20
    channels[0, 1] *= 1e17
    channels[1, 2] = 0
    with torch.no_grad():
        expected = network.near_field_logit(scaled_to_range(channels))
        kernel = WavefrontKernel.of(network.to(HERE))
        assert kernel is not None
        found = kernel.logits(channels.to(HERE)).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
