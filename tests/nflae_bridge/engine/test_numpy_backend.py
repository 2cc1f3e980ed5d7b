"""The NumPy backend against PyTorch's, on drops of every kind."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nflae_bridge.engine.backends import Backend
from nflae_bridge.engine.comparison import NEGLIGIBLE
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.near_parallel import redundant_users
from nflae_bridge.engine.numpy_backend import redundancy
from nflae_bridge.engine.numpy_backend.networks import KernelNetwork, Regularised
from nflae_bridge.engine.numpy_backend.single import answers
from nflae_bridge.engine.numpy_backend.solve import DROPS_AT_ONCE, solve
from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import SHIPPED
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.algebra import sinr
from simulator.problems.user_gram import UserGram, in_single_precision
from simulator.problems.wmmse import wmmse_steps
from simulator.schemes import scheme
from tests.simulator.definitions import KINDS, draw_channels, sinr_by_definition


@cache
def engines(refinements: int = 0, model: str = "tiny") -> tuple[Engine, Engine]:
    """NumPy's and PyTorch's."""
    checkpoint = load_checkpoint(SHIPPED / model)
    return (
        Engine(checkpoint, refinements=refinements, backend="numpy"),
        Engine(checkpoint, refinements=refinements, backend="torch"),
    )


def single_precision(channels: torch.Tensor, snr: float) -> UserGram:
    """Drops for all of which single precision suffices."""
    drops, exact = in_single_precision(channels.numpy(), snr)
    assert drops is not None
    assert exact is None
    return drops


def assert_alike(small: Engine, reference: Engine, channels: torch.Tensor, budget: LinkBudget) -> None:
    found, expected = small(ChannelBatch(channels), budget), reference(ChannelBatch(channels), budget)
    torch.testing.assert_close(found.sum_rate, expected.sum_rate, rtol=1e-4, atol=1e-4)
    textbook = scheme("rzf")(ChannelBatch(channels), budget).sum_rate
    tied = (found.sum_rate - textbook).abs() <= 1e-3 * textbook
    tied |= channels.shape[1] >= channels.shape[2]  # selected users are a further candidate
    assert torch.equal(found.fallback | tied, expected.fallback | tied)
    assert torch.equal(found.near_field, expected.near_field)
    assert bool(found.feasible.all())
    limit = torch.as_tensor(budget.power, dtype=torch.float64).reshape(-1, 1)
    torch.testing.assert_close(found.power.sum(-1, keepdim=True), limit.expand(len(channels), 1))
    torch.testing.assert_close(found.uplink_power.sum(-1, keepdim=True), limit.expand(len(channels), 1))
    torch.testing.assert_close(torch.linalg.vector_norm(found.precoder, dim=-1), torch.ones(channels.shape[:2]))


def test_users_need_not_follow_each_other_in_memory() -> None:
    channels = torch.randn(3, 4, 64, dtype=torch.complex64)
    users_first = channels.transpose(0, 1).contiguous().transpose(0, 1)
    assert not users_first.is_contiguous()
    found, expected = (single_precision(each, 1.0) for each in (users_first, channels))
    assert np.array_equal(found.coherence, expected.coherence)


@pytest.mark.parametrize("refinements", [0, 2])
@pytest.mark.parametrize("drops", [1, 7])
@pytest.mark.parametrize("model", ["tiny", "small"])
def test_small_batches_are_answered_as_by_pytorch(refinements: int, drops: int, model: str) -> None:
    kinds = [draw_channels(seed, users=5, antennas=32, kind=kind, drops=2) for seed, kind in enumerate(KINDS)]
    order = torch.randperm(2 * len(KINDS), generator=torch.Generator().manual_seed(0))
    for channels in torch.cat(kinds)[order].split(drops):
        assert_alike(*engines(refinements, model), channels, LinkBudget(2.0, 0.05))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(1, 12),
    antennas=st.sampled_from([2, 16, 40]),
    kind=st.sampled_from(KINDS),
    snr_db=st.sampled_from([-20.0, 0.0, 20.0, 40.0]),
)
def test_the_answer_to_any_drop_is_pytorchs(seed: int, users: int, antennas: int, kind: str, snr_db: float) -> None:
    small, reference = engines()
    batch = ChannelBatch(draw_channels(seed, users, antennas, kind, spread_db=10, drops=3))
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
    found, expected = small(batch, budget), reference(batch, budget)
    torch.testing.assert_close(found.sum_rate, expected.sum_rate, rtol=1e-4, atol=1e-4)


def test_powers_and_beams_are_pytorchs() -> None:
    small, reference = engines(1)
    batch, budget = ChannelBatch(draw_channels(4, users=6, antennas=32, spread_db=10, drops=5)), LinkBudget(2.0, 0.05)
    found, expected = small(batch, budget), reference(batch, budget)
    for name in ("precoder", "power", "uplink_power", "sinr"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4)
    by_hand = sinr_by_definition(
        batch.channels[0].numpy().astype(complex),
        found.precoder[0].numpy().astype(complex),
        found.power[0].numpy(),
        0.05,
    )
    np.testing.assert_allclose(found.sinr[0], by_hand, rtol=1e-4)


@pytest.mark.parametrize("drops", [1, 3])
@pytest.mark.parametrize("snr_db", [-150, 120, 200])
def test_drops_beyond_reason_are_answered_as_by_pytorch(drops: int, snr_db: float) -> None:
    """Identical users at 200 dB: no matrix is regular any more, and the best possible answer still is a number."""
    small, reference = engines()
    batch = ChannelBatch(draw_channels(5, users=4, antennas=32, kind="identical", drops=drops))
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
    found, expected = small(batch, budget), reference(batch, budget)
    torch.testing.assert_close(found.sum_rate, expected.sum_rate, rtol=1e-3, atol=1e-12)
    assert bool(found.precoder.isfinite().all())


def test_drops_with_budgets_of_their_own_are_each_answered_alone() -> None:
    small, _ = engines()
    channels, powers = draw_channels(3, users=5, antennas=32, drops=4), torch.tensor([0.1, 1.0, 2.0, 5.0])
    together = small(ChannelBatch(channels), LinkBudget(powers, 0.05))
    for drop in range(4):
        alone = small(ChannelBatch(channels[drop : drop + 1]), LinkBudget(float(powers[drop]), 0.05))
        for name in ("precoder", "power", "uplink_power", "rate", "fallback", "near_field_score"):
            torch.testing.assert_close(getattr(together, name)[drop], getattr(alone, name)[0], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    drops=st.integers(1, 4),
    users=st.integers(1, 15),
    snr_db=st.floats(-60, 80),
    unit=st.sampled_from([1e-18, 1e-7, 1.0, 1e12, 1e18]),
    coherent=st.booleans(),
)
def test_inner_products_are_right_in_single_precision_and_in_double(
    seed: int, drops: int, users: int, snr_db: float, unit: float, coherent: bool
) -> None:
    generator = np.random.default_rng(seed)
    channels = generator.normal(size=(drops, users, 24, 2)).view(np.complex128)[..., 0] * unit
    if coherent:
        channels[-1, -1] = channels[-1, 0] + 1e-3 * channels[-1, -1]
    channels = channels.astype(np.complex64)
    snr = 10 ** (snr_db / 10) / (24 * unit**2)
    exact = channels.astype(np.complex128) * np.sqrt(snr)
    gram = exact.conj() @ exact.transpose(0, 2, 1)
    single, left = in_single_precision(channels, snr)
    in_double = np.zeros(drops, bool) if left is None else left
    assert (single is None) == bool(in_double.all())
    for found in (UserGram.exact(channels, snr), *([] if single is None else [single])):
        for drop in np.flatnonzero(~in_double) if found.is_single else range(drops):
            own, ours = gram[drop].diagonal().real, found.gram[drop]
            np.testing.assert_allclose(ours, gram[drop], rtol=0, atol=(1e-6 if found.is_single else 1e-13) * own.max())
            within = 5e-3 < own.min() <= own.max() < 3e3 and found.coherence[drop].max() <= 0.999
            assert not found.is_single or within
    if single is not None:  # the other drops are computed along, without a meaning
        np.testing.assert_array_equal(single.gram[in_double], np.broadcast_to(np.eye(users), gram.shape)[in_double])
        assert bool((single.gains[in_double] == 1).all())
        assert bool((single.coherence[in_double] == 0).all())
        assert bool((single.nearest[in_double] == 0).all())
    if users > 1 and coherent:
        assert in_double[-1]
    if users > 12 or unit in (1e-18, 1e18):
        assert in_double.all()


def allocation(*shares: list[float]) -> object:
    """Stands in for a network: the same lambda / P and P_k / P on every drop."""
    uplink, power = (np.array(part) for part in shares)

    def run(drops: UserGram, regularised: Regularised | None) -> np.ndarray:
        return np.stack([np.broadcast_to(part, drops.gains.shape) for part in (uplink, power)])

    return run


def test_users_that_get_next_to_nothing_are_switched_off_and_others_are_compared() -> None:
    """Of two identical users the second gets a power whose effect lies below, then above the negligible."""
    channels = draw_channels(10, users=2, antennas=8, kind="identical").numpy()
    for share in (1e-8, 0.2):
        network = allocation([1 - share, share], [1 - share, share])
        best, fallback, _ = solve(network, UserGram.exact(channels, 10.0), 0, NEGLIGIBLE)  # type: ignore[arg-type]
        np.testing.assert_allclose(best.power_fractions, [[1, 0]], atol=1e-12)
        np.testing.assert_allclose(best.sinr, [[10, 0]], rtol=1e-5, atol=1e-12)
        assert not fallback.any()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(KINDS), users=st.integers(2, 6))
def test_redundant_users_are_pytorchs(seed: int, kind: str, users: int) -> None:
    """All of a redundant user's power goes to the others where the network gives it no more than rounding."""
    channels = draw_channels(seed, users, 8, kind, drops=3)
    shares = np.full(users, 1e-9)
    drops = UserGram.exact(channels.numpy(), 1.0)
    equal = torch.full((3, users), 1e-9, dtype=torch.float64)
    expected = redundant_users(torch.from_numpy(drops.gram), channels, torch.zeros(3, users, dtype=torch.bool), equal)
    best, fallback, _ = solve(allocation(list(shares), list(shares)), drops, 0, 1.0)  # type: ignore[arg-type]
    own = torch.from_numpy(~fallback)
    assert torch.equal((torch.from_numpy(best.power_fractions) == 0)[own], expected[own])


def kernel_engines(refinements: int = 0) -> tuple[Engine, Engine]:
    """NumPy's and PyTorch's, of a kernel encoder with weights that count."""
    torch.manual_seed(3)
    encoder = EncoderConfig(kind="kernel", blocks=2, edge_width=4)
    network = PrecodingNetwork(NetworkConfig(encoder, BackboneConfig(family="none", width=16))).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    checkpoint = Checkpoint("network", network, {})
    return Engine(checkpoint, refinements=refinements), Engine(checkpoint, refinements=refinements, backend="torch")


@pytest.mark.parametrize("refinements", [0, 2])
@pytest.mark.parametrize("drops", [1, 7])
def test_kernel_encoders_are_computed_as_by_pytorch(refinements: int, drops: int) -> None:
    small, reference = kernel_engines(refinements)
    kinds = [draw_channels(seed, users=5, antennas=32, kind=kind, drops=2) for seed, kind in enumerate(KINDS)]
    for channels in torch.cat(kinds).split(drops):
        batch, budget = ChannelBatch(channels), LinkBudget(2.0, 0.05)
        assert small.select_backend(batch, budget).backend is Backend.NUMPY
        found, expected = small(batch, budget), reference(batch, budget)
        torch.testing.assert_close(found.sum_rate, expected.sum_rate, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("drops", [1, 9])
def test_steps_in_single_precision_are_those_in_double(drops: int) -> None:
    """The first answer of each drop is left as it is, and the second takes three steps."""
    single = single_precision(draw_channels(11, users=6, antennas=32, spread_db=10, drops=drops), 50.0)
    fractions = np.random.default_rng(0).dirichlet(np.ones(6), (2, 2 * drops)).astype(np.float32)
    found = answers(np.concatenate([single.gram] * 2), *fractions, 3, drops)
    for own, steps in ((slice(drops), 0), (slice(drops, None), 3)):
        start = fractions[:, own].astype(np.float64)
        dual, beams, power = wmmse_steps(single.gram.astype(np.complex128), *start, steps)
        expected = sinr(beams.effective_gains, power)
        np.testing.assert_allclose(found.sinr[own], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.dual_power_fractions[own], dual, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.power_fractions[own], power, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.sum_rate[own], np.log2(1 + expected).sum(1), rtol=1e-5)
        directions = found.inverse[own] * (beams.coefficients[:, :1] / found.inverse[own][:, :1])
        np.testing.assert_allclose(directions, beams.coefficients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_lower_no_sum_rate_of_any_drop(kind: str) -> None:
    channels, budget = draw_channels(3, users=6, antennas=32, kind=kind, spread_db=20, drops=40), LinkBudget(1.0, 0.01)
    checkpoint = load_checkpoint(SHIPPED / "nano")
    none, one, four = (
        Engine(checkpoint, refinements=steps).arrays(channels.numpy(), budget, ["sum_rate"])["sum_rate"]
        for steps in (0, 1, 4)
    )
    assert (none <= one * (1 + 2e-6)).all()
    assert (one <= four * (1 + 2e-6)).all()


@settings(deadline=None, max_examples=40)
@given(
    delta=st.floats(-1, 1),
    step=st.sampled_from([0.0, 1e-8, 3e-6, -3e-6, 5e-5, 1e-2]),
    start=st.sampled_from([20, 22, 31, 33]),
)
def test_tied_users_are_ranked_by_phase_steps_in_double_precision(delta: float, step: float, start: int) -> None:
    """Steps of alternating sign nearly cancel, so that single precision has five digits of their mean."""
    antenna = np.arange(65)
    one = np.exp(1j * (delta * antenna + (np.pi / 2 - 0.005) * (antenna % 2)))
    turned = np.where((antenna >= start) & (antenna < start + 7), (-1) ** start * 0.99 * np.pi, 0)
    users = np.stack([one, one * np.exp(1j * (step * antenna - turned))])
    drops = single_precision(torch.from_numpy(users[None].astype(np.complex64)), 1.0)
    equal = np.full((1, 2), 0.5, np.float32)
    assert drops.largest_coherence > 0.5
    assert set(redundancy.redundant_users(drops, equal)) == set(
        near_parallel_by_pytorch(drops, torch.from_numpy(equal))
    )


def near_parallel_by_pytorch(drops: UserGram, power_fractions: torch.Tensor) -> list[int]:
    gram, near = torch.from_numpy(drops.gram.astype(np.complex128)), torch.zeros_like(power_fractions, dtype=torch.bool)
    return (
        redundant_users(gram, torch.from_numpy(drops.channels), near, power_fractions)
        .flatten()
        .nonzero()
        .flatten()
        .tolist()
    )


def test_shares_of_a_kernel_encoder_are_the_networks() -> None:
    small, reference = kernel_engines()
    kernel = KernelNetwork(small.network)
    channels = draw_channels(4, users=6, antennas=32, spread_db=10, drops=5)
    drops = single_precision(channels, 20.0)
    shares = kernel(drops)
    shares /= shares.sum(2, keepdims=True)
    gram, one = torch.from_numpy(drops.gram).to(torch.complex128), torch.ones(5)
    with torch.no_grad():
        expected = reference.network(UserInputs(None, gram, one, 0 * one, torch.zeros(5, 6, dtype=torch.bool)))
    np.testing.assert_allclose(shares[0], expected.dual_power_fractions, rtol=0, atol=2e-5)
    np.testing.assert_allclose(shares[1], expected.power_fractions, rtol=0, atol=2e-5)


@pytest.mark.parametrize("refinements", [0, 2])
def test_large_batches_are_computed_in_parts_and_precisions(refinements: int) -> None:
    """Drops that need double precision lie among others, in the parts that a batch is computed in."""
    small, reference = engines(refinements)
    channels = draw_channels(6, users=4, antennas=32, spread_db=10, drops=2 * DROPS_AT_ONCE + 9)
    channels[5, 1] = channels[5, 0]
    channels[DROPS_AT_ONCE + 1] *= 100
    channels[-1] *= 1e-3
    ratio = torch.linspace(0.5, 2, len(channels))
    for part in channels.split(DROPS_AT_ONCE):
        single, exact = in_single_precision(part.numpy(), 20.0)
        assert single is not None
        assert exact is not None
    for budget in (LinkBudget(1.0, 0.05), LinkBudget(ratio, 0.05)):
        found, expected = small(ChannelBatch(channels), budget), reference(ChannelBatch(channels), budget)
        torch.testing.assert_close(found.sum_rate, expected.sum_rate, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.linalg.vector_norm(found.precoder, dim=-1), torch.ones(channels.shape[:2]))
        by_beams = rates(achieved_sinr(channels, found.precoder, found.power, 0.05))
        torch.testing.assert_close(found.rate, by_beams, rtol=0, atol=1e-4)


def test_users_next_to_switched_off_leave_the_comparison_its_digits() -> None:
    """In single precision the energy of a beam with lambda / P = 1e-10 is all rounding; the others' rates are not."""
    channels = draw_channels(8, users=5, antennas=32, drops=4)
    drops = single_precision(channels, 100.0)
    shares = [0.25, 0.25, 0.25, 0.25, 1e-10]
    for refinements in (0, 2):
        network = allocation(shares, shares)
        best, fallback, _ = solve(network, drops, refinements, NEGLIGIBLE)  # type: ignore[arg-type]
        exact, _, _ = solve(network, UserGram.exact(channels.numpy(), 100.0), refinements, NEGLIGIBLE)  # type: ignore[arg-type]
        np.testing.assert_allclose(best.sum_rate[~fallback], exact.sum_rate[~fallback], rtol=2e-4)
