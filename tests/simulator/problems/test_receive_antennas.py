"""Several receive antennas: closed forms, definitions by loops, textbook kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.problems.algorithms.receive_antennas import block_wmmse as block_wmmse_module
from simulator.problems.algorithms.receive_antennas import joint as joint_module
from simulator.problems.algorithms.receive_antennas.block_wmmse import block_wmmse, sum_rates
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.problems.solution import ProblemSolution
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

JOINT = PrecodingProblem(joint_receivers=True)


@pytest.fixture(scope="module")
def inner() -> Scheme:
    return scheme("wmmse:iterations=20")


def draw(seed: int, users: int, receive: int, antennas: int, kind: str = "gaussian", drops: int = 4) -> torch.Tensor:
    """Channels complex64 (drops, users, receive antennas, antennas)."""
    rows = draw_channels(seed, users * receive, antennas, kind=kind, spread_db=10, drops=drops)
    return rows.reshape(drops, users, receive, antennas)


def waterfilled_capacity(h: np.ndarray, snr: float) -> float:
    """Capacity of one user by bisection of the water level over the eigenmodes, bps/Hz."""
    gains = snr * np.linalg.svd(h, compute_uv=False) ** 2
    low, high = 0.0, 1.0 + (1 / gains).max()
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(level - 1 / gains, 0).sum() < 1 else (low, level)
    return float(np.log2(1 + gains * np.maximum(level - 1 / gains, 0)).sum())


@pytest.mark.parametrize(("spec", "least"), [("bd", 1 - 1e-6), ("wmmse:iterations=1000", 0.9999), ("nflae", 0.995)])
@pytest.mark.parametrize("snr", [0.5, 100.0])
def test_one_user_has_the_capacity_of_its_eigenmodes(inner: Scheme, spec: str, least: float, snr: float) -> None:
    channels = draw(1, users=1, receive=3, antennas=5)
    found = solve(ChannelBatch(channels), LinkBudget(2.0, 2.0 / snr), JOINT, inner, spec).objective.numpy()
    capacity = [waterfilled_capacity(h, snr) for h in channels[:, 0].numpy().astype(complex)]
    assert (found <= np.array(capacity) * (1 + 1e-6)).all()
    assert (found >= least * np.array(capacity)).all()


def test_one_receive_antenna_is_the_plain_problem(inner: Scheme) -> None:
    channels = draw(2, users=4, receive=1, antennas=6)
    budget = LinkBudget(1.0, 0.01)
    found = solve(ChannelBatch(channels), budget, JOINT, inner)
    plain = inner(ChannelBatch(channels[:, :, 0]), budget).sum_rate
    assert (found.objective >= plain * (1 - 1e-6)).all()
    assert torch.allclose(found.objective, plain, rtol=0.02)
    assert np.allclose(found.receive_combiner.abs(), 1)  # type: ignore[union-attr]


def rates_by_definition(channels: torch.Tensor, found: ProblemSolution, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Per-stream SINRs behind the combiners, and sum of log2 det of joint decoding, by loops."""
    h = channels.numpy().astype(complex)
    drops, users, receive, _ = h.shape
    streams = found.streams
    assert found.receive_combiner is not None
    combiners = found.receive_combiner.numpy().astype(complex)
    weighted = found.precoder.numpy().astype(complex) * np.sqrt(found.power.numpy())[..., None]
    sinr, joint = np.zeros((drops, users * streams)), np.zeros(drops)
    for d in range(drops):
        for k in range(users):
            received = h[d, k].conj() @ weighted[d].T
            own = received[:, k * streams : (k + 1) * streams]
            others = np.delete(received, np.s_[k * streams : (k + 1) * streams], axis=1)
            quiet = others @ others.conj().T + noise * np.eye(receive)
            matrix = np.eye(receive) + own @ own.conj().T @ np.linalg.inv(quiet)
            joint[d] += np.log2(np.linalg.det(matrix).real)
            for j in range(k * streams, (k + 1) * streams):
                gains = np.abs(combiners[d, j].conj() @ received) ** 2
                sinr[d, j] = gains[j] / (gains.sum() - gains[j] + noise)
    return sinr, joint


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
@pytest.mark.parametrize("streams", [None, 1, 2])
def test_streams_are_decoded_one_by_one_at_the_joint_rate(inner: Scheme, kind: str, streams: int | None) -> None:
    channels = draw(3, users=3, receive=2, antennas=8, kind=kind)
    problem = PrecodingProblem(joint_receivers=True, streams=streams)
    for noise in (0.5, 1e-3):
        textbook = None
        for spec in ("rzf", "eigen", "wmmse:iterations=20", "nflae"):
            found = solve(ChannelBatch(channels), LinkBudget(2.0, noise), problem, inner, spec)
            sinr, joint = rates_by_definition(channels, found, noise)
            assert np.allclose(found.sinr, sinr, rtol=1e-6, atol=1e-9)
            assert np.allclose(found.objective, joint, rtol=1e-5)
            assert np.allclose(found.power.sum(-1), 2, rtol=1e-6)
            assert np.allclose(np.linalg.norm(found.precoder, axis=-1), 1, atol=1e-6)
            assert np.allclose(np.linalg.norm(found.receive_combiner, axis=-1), 1, atol=1e-6)  # type: ignore[arg-type]
            assert found.near_field.shape == found.power.shape == (4, 3 * (streams or 2))
            textbook = found.objective if textbook is None else textbook
        assert (found.objective >= textbook * (1 - 1e-9)).all()


def test_block_wmmse_is_the_one_of_all_transmit_antennas() -> None:
    channels, snr = draw(4, users=2, receive=2, antennas=5, drops=1), 1e4  # in double precision
    h = channels[0].numpy().astype(complex) * np.sqrt(snr)
    rng = np.random.default_rng(0)
    beams = rng.normal(size=(4, 5)) + 1j * rng.normal(size=(4, 5))
    beams /= np.linalg.norm(beams)
    flat = h.reshape(1, 4, 5)
    gram = flat.conj() @ np.swapaxes(flat, 1, 2)
    received, owner = (h.conj() @ beams.T)[None], np.repeat(np.eye(2, dtype=bool), 2, 1)[None]
    for _ in range(3):
        left, right, trace = np.zeros((5, 5), complex), np.zeros((5, 4), complex), 0.0
        for k in range(2):
            amplitude = h[k].conj() @ beams.T
            u = np.linalg.inv(amplitude @ amplitude.conj().T + np.eye(2)) @ amplitude[:, 2 * k : 2 * k + 2]
            weight = np.linalg.inv(np.eye(2) - amplitude[:, 2 * k : 2 * k + 2].conj().T @ u)
            # h is received as h^H w: the channel matrix of user k is conj(h).
            left += h[k].T @ u @ weight @ u.conj().T @ h[k].conj()
            right[:, 2 * k : 2 * k + 2] = h[k].T @ u @ weight
            trace += np.trace(weight @ u.conj().T @ u).real
        beams = np.linalg.solve(left + trace * np.eye(5), right).T
        beams /= np.linalg.norm(beams)
        before = sum_rates(received, owner)
        coefficients, received, last = block_wmmse(gram, received, owner, 1)
        assert np.allclose(sum_rates(last, owner), before)
        assert np.allclose(coefficients[0].T @ h.reshape(4, 5), beams, atol=1e-9)
        assert sum_rates(received, owner) >= before


@pytest.mark.parametrize("receive", [1, 2, 3, 4])
def test_single_precision_and_momentum_lead_to_the_same_optimum(receive: int) -> None:
    """Gains of 100 allow single precision, with the digits that it has; momentum reaches more in as many steps."""
    channels = draw(11, users=3, receive=receive, antennas=8, drops=6).numpy().astype(complex)
    rows = 2 * channels.reshape(6, 3 * receive, 8)
    gram = rows.conj() @ rows.transpose(0, 2, 1)
    assert np.linalg.norm(rows, axis=-1).max() ** 2 < 2e3
    owner = np.repeat(np.eye(3, dtype=bool), receive, 1)[None]
    start = (gram / np.sqrt(np.trace(gram, axis1=1, axis2=2).real)[:, None, None]).reshape(6, 3, receive, -1)
    deaf = 1e6 * np.eye(3 * receive)  # receive antennas of such gains that no beam reaches force double precision
    double = np.zeros((6, 6 * receive, 6 * receive), complex)
    double[:, : 3 * receive, : 3 * receive], double[:, 3 * receive :, 3 * receive :] = gram, deaf
    padded = np.concatenate([start, np.zeros_like(start)], 1)
    owners = np.concatenate([owner, np.zeros_like(owner)], 1)
    single = block_wmmse(gram, start, owner, 5)[1]
    exact = block_wmmse(double, padded, owners, 5)[1][:, :3]
    assert 0 < np.abs(single - exact).max() < 1e-3 * np.abs(exact).max()
    plain, moved = (sum_rates(block_wmmse(gram, start, owner, 8, beta)[1], owner) for beta in (0.0, 0.8))
    converged = sum_rates(block_wmmse(gram, start, owner, 200)[1], owner)
    _, seventh, sixth = block_wmmse(gram, start, owner, 7, 0.8)
    _, eighth, before = block_wmmse(gram, start, owner, 8, 0.8)
    assert np.array_equal(before, seventh)
    assert np.array_equal(block_wmmse(gram, seventh, owner, 1, 0.8, sixth)[1], eighth)
    if receive > 1:
        assert (converged - moved).mean() < 0.7 * (converged - plain).mean()


def test_the_better_of_two_starts_is_kept(inner: Scheme) -> None:
    """A first start of one stream costs nothing beside that of regularised zero forcing, which is marked."""
    batch, budget = ChannelBatch(draw(12, users=3, receive=2, antennas=8)), LinkBudget(1.0, 1e-2)
    mrt = scheme("mrt")

    def alone(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        found = mrt(batch, budget)
        return replace(found, power=found.power.sum(-1, keepdim=True) * torch.eye(found.power.shape[1])[0])

    rzf, poor, best = (solve(batch, budget, JOINT, each) for each in (scheme("rzf"), alone, inner))
    assert poor.fallback.all()
    assert torch.allclose(poor.objective, rzf.objective, rtol=1e-4)
    assert (best.objective >= rzf.objective * (1 - 1e-2)).all()
    assert torch.equal(best.fallback, solve(batch, budget, JOINT, inner, "nflae:steps=6").fallback)


def test_iterations_stop_on_the_drops_whose_sum_rate_no_longer_rises(
    inner: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drop 0, of one user with a rank of one, is solved by its first start; the others still rise."""
    channels = draw(13, users=3, receive=3, antennas=8, drops=12)
    channels[0, 1:] *= 1e-6
    channels[0, 0] = channels[0, 0, :1] * torch.tensor([[1.0], [1e-6], [1e-6]])
    iterated = []

    def recorded(gram: np.ndarray, received: np.ndarray, owner: np.ndarray, steps: int, *rest: object) -> object:
        iterated.append((len(gram), steps))
        return block_wmmse(gram, received, owner, steps, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(joint_module, "block_wmmse", recorded)
    solve(ChannelBatch(channels), LinkBudget(1.0, 1e-3), JOINT, inner, "nflae:steps=16")
    drops = [count for count, _ in iterated]
    assert iterated[0] == (24, 6)
    assert 0 < drops[1] < 12
    assert drops[1:] == sorted(drops[1:], reverse=True)
    assert {steps for _, steps in iterated[1:]} <= {1, 3}
    assert sum(steps for _, steps in iterated) <= 16


def test_block_diagonalisation_leaves_no_interference(inner: Scheme) -> None:
    channels = draw(5, users=3, receive=2, antennas=8)
    found = solve(ChannelBatch(channels), LinkBudget(1.0, 1e-3), JOINT, inner, "bd")
    received = np.abs(np.einsum("dkmn,djn->dkmj", channels.numpy().conj(), found.precoder.numpy()))
    for user in range(3):
        assert np.delete(received[:, user], np.s_[2 * user : 2 * user + 2], axis=-1).max() < 1e-5
    with pytest.raises(ProblemError, match="bd needs at least 8 antennas, 2 for each other user and 2 for the streams"):
        solve(ChannelBatch(draw(6, users=4, receive=2, antennas=7)), LinkBudget(), JOINT, inner, "bd")


def test_a_poor_inner_scheme_falls_back() -> None:
    batch, budget = ChannelBatch(draw(7, users=4, receive=2, antennas=8)), LinkBudget(1.0, 1e-3)
    mrt = scheme("mrt")

    def first_stream_alone(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        found = mrt(batch, budget)
        return replace(found, power=found.power.sum(-1, keepdim=True) * torch.eye(found.power.shape[1])[0])

    found = solve(batch, budget, JOINT, first_stream_alone, "nflae:steps=0")
    textbook = solve(batch, budget, JOINT, mrt, "rzf")
    assert found.fallback.all()
    assert torch.equal(found.objective, textbook.objective)


def test_a_dead_receive_antenna_changes_no_rate(inner: Scheme) -> None:
    channels, budget = draw(8, users=3, receive=2, antennas=8), LinkBudget(1.0, 1e-9)
    channels[:, 0, 1] = 0
    for spec in ("nflae", "rzf", "eigen"):
        found = solve(ChannelBatch(channels), budget, JOINT, inner, spec)
        assert np.allclose(np.linalg.norm(found.precoder, axis=-1), 1, atol=1e-6)
        assert np.allclose(np.linalg.norm(found.receive_combiner, axis=-1), 1, atol=1e-6)  # type: ignore[arg-type]
        assert (found.power[:, 1] < 1e-9).all()
        assert np.allclose(found.sinr, rates_by_definition(channels, found, 1e-9)[0], rtol=1e-3, atol=1e-6)


def test_streams_that_an_inner_scheme_leaves_without_power(inner: Scheme) -> None:
    # At low SNR converged schemes switch streams off, whose combiners then have no direction.
    batch = ChannelBatch(draw(9, users=4, receive=3, antennas=4, drops=20))
    budget = LinkBudget(1.0, 3.0)
    converged = scheme("wmmse:iterations=200")
    found = solve(batch, budget, JOINT, converged, "nflae:steps=150")
    assert (found.power < 1e-15).any()
    assert found.objective.isfinite().all()
    assert np.allclose(found.sinr, rates_by_definition(batch.channels, found, 3.0)[0], rtol=1e-5, atol=1e-9)
    assert (found.objective >= solve(batch, budget, JOINT, converged, "rzf").objective * (1 - 1e-9)).all()


@pytest.mark.parametrize("spec", ["nflae", "wmmse", "eigen", "rzf"])
def test_equal_receive_antennas_are_one_antenna_of_half_the_noise(spec: str) -> None:
    channels = draw_channels(9, users=3, antennas=8, drops=3)
    both = ChannelBatch(channels.unsqueeze(2).expand(-1, -1, 2, -1).contiguous())
    inner = scheme("wmmse:iterations=50")
    found = solve(both, LinkBudget(1.0, 0.1), PrecodingProblem(joint_receivers=True), inner, spec)
    assert found.sum_rate.isfinite().all()
    if spec != "rzf":  # which gives power to the streams that do not exist
        alone = scheme("wmmse:iterations=200")(ChannelBatch(channels), LinkBudget(1.0, 0.05)).sum_rate
        assert torch.allclose(found.sum_rate, alone, rtol=5e-3)


@pytest.mark.parametrize("drops", [1, 4, 5])
@pytest.mark.parametrize("precision", [np.complex64, np.complex128])
def test_systems_of_few_and_many_drops_are_solved_alike(drops: int, precision: type) -> None:
    rng = np.random.default_rng(3)
    left, right = (rng.normal(size=(drops, 6, 6)) + 1j * rng.normal(size=(drops, 6, 6)) for _ in range(2))
    systems = left @ left.conj().swapaxes(1, 2) + np.eye(6)
    found = block_wmmse_module._solved(systems.astype(precision), right.astype(precision))
    assert found.dtype == precision
    np.testing.assert_allclose(found, np.linalg.solve(systems, right), rtol=0, atol=1e-4)
