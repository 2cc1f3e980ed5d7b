"""Hybrid arrays: exact forms, brute force over few phases, hardware of the analog part, textbook kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr
from simulator.problems.algorithms.hybrid_arrays.analog import PhaseShifters, descend_phases, two_phase_form
from simulator.problems.algorithms.hybrid_arrays.array import HybridArray
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

SCHEMES = ("nflae", "wmmse", "omp", "pe-altmin", "rzf")


@pytest.fixture(scope="module")
def inner() -> Scheme:
    return scheme("wmmse:iterations=20")


def random_rows(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def test_two_phase_form_is_exact() -> None:
    target = random_rows(4, 3, 9)
    target[0, 1, :4] = 0
    analog, digital = two_phase_form(target)
    assert np.allclose(np.abs(analog), 1, rtol=0, atol=1e-14)
    assert np.allclose(np.swapaxes(digital, 1, 2) @ analog, target, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_phases_of_few_bits_are_the_nearest(bits: int) -> None:
    values = random_rows(1, 1, 500)
    allowed = np.exp(2j * np.pi * np.arange(2**bits) / 2**bits)
    nearest = allowed[(values[..., None] * allowed.conj()).real.argmax(-1)]
    found = PhaseShifters(1, bits).phases(values)
    assert np.allclose(found, nearest, rtol=0, atol=1e-7)
    assert np.array_equal(PhaseShifters(1, bits).phases(np.zeros((1, 2), complex)), np.ones((1, 2)))


@pytest.mark.parametrize("bits", [None, 1, 3, 6])
def test_phases_of_parts_are_those_of_complex_values(bits: int | None) -> None:
    values, shifters = random_rows(3, 2, 50), PhaseShifters(1, bits)
    values[1, 0, :3] = 0
    parts, out = np.stack([values.real, values.imag], 2), np.empty((3, 2, 2, 50))
    shifters.turn(parts, out)
    assert np.allclose(out[:, :, 0] + 1j * out[:, :, 1], shifters.phases(values), rtol=0, atol=1e-15)


def test_projection_on_nearly_equal_chains_keeps_its_digits() -> None:
    rng = np.random.default_rng(2)
    angle = rng.uniform(-np.pi, np.pi, (2, 3, 64))
    angle[1, 1] = angle[1, 0] + 3e-2 * rng.normal(size=64)
    analog = np.exp(1j * angle).astype(np.complex64)
    channels = (np.array([[1, -1, 0], [0, 0, 1]]) @ analog + 0.01 * random_rows(2, 2, 64)).astype(np.complex64)
    batch, problem = ChannelBatch(torch.from_numpy(channels)), PrecodingProblem(rf_chains=3)
    array = HybridArray.of(batch, LinkBudget(1.0, 1.0), problem)
    range_of_f, h = analog.astype(complex), channels.astype(complex)
    gram = range_of_f.conj() @ range_of_f.swapaxes(1, 2)
    gram += 1e-5 * 64 * np.eye(3)
    steered = range_of_f.conj() @ h.swapaxes(1, 2)
    exact = steered.conj().swapaxes(1, 2) @ np.linalg.solve(gram, steered)
    found = array.projected(analog).gram
    assert np.allclose(found[0], exact[0], rtol=1e-5)  # in single precision
    assert np.allclose(found[1], exact[1], rtol=1e-9)


@pytest.mark.parametrize("chains", [8, 11])
def test_twice_as_many_chains_as_users_reach_the_digital_array(inner: Scheme, chains: int) -> None:
    batch, budget = ChannelBatch(draw_channels(2, users=4, antennas=16, drops=5)), LinkBudget(2.0, 1e-3)
    found = solve(batch, budget, PrecodingProblem(rf_chains=chains), inner)
    assert torch.allclose(found.objective, inner(batch, budget).sum_rate, rtol=1e-5)


@pytest.mark.parametrize(("connection", "bits"), [("full", None), ("sub", None), ("sub", 1)])
def test_as_many_chains_as_antennas_reach_the_digital_array(inner: Scheme, connection: str, bits: int | None) -> None:
    # A square sub-connected F is diagonal, hence any precoder is F D.
    batch, budget = ChannelBatch(draw_channels(3, users=5, antennas=8, drops=5)), LinkBudget(2.0, 1e-2)
    problem = PrecodingProblem(rf_chains=8, connection=connection, phase_bits=bits)  # type: ignore[arg-type]
    found = solve(batch, budget, problem, inner)
    assert torch.allclose(found.objective, inner(batch, budget).sum_rate, rtol=1e-4)


def test_one_bit_phases_against_all_combinations(inner: Scheme) -> None:
    drops, users, antennas = 6, 2, 5
    batch = ChannelBatch(draw_channels(4, users=users, antennas=antennas, drops=drops))
    budget, problem = LinkBudget(1.0, 0.02), PrecodingProblem(rf_chains=2, phase_bits=1)
    found = solve(batch, budget, problem, inner).objective
    best = torch.zeros(drops, dtype=torch.float64)
    array = HybridArray.of(batch, budget, problem)
    # The sign of a column of F is that of a row of D: the first antenna's phases are fixed.
    for signs in itertools.product((1.0, -1.0), repeat=2 * (antennas - 1)):
        analog = np.ones((drops, 2, antennas), np.complex64)
        analog[:, :, 1:] = np.reshape(signs, (2, antennas - 1))
        if np.linalg.matrix_rank(analog[0]) == 2:
            best = torch.maximum(best, array.precoded(analog, inner).objective)
    assert (found <= best * (1 + 1e-6)).all()
    assert (found > 0.85 * best).all()
    assert found.mean() > 0.95 * best.mean()


@pytest.mark.parametrize("bits", [None, 1, 3])
@pytest.mark.parametrize("sub", [False, True])
def test_descent_never_raises_the_error(bits: int | None, sub: bool) -> None:
    target, shifters = random_rows(6, 3, 12), PhaseShifters(4, bits, sub)
    connected = shifters.connected(12)
    analog = shifters.phases(random_rows(6, 4, 12)) * connected
    errors = []
    for _ in range(6):
        fits = [np.linalg.lstsq(f.T, w.T)[0] for f, w in zip(analog, target, strict=True)]
        errors.append([np.linalg.norm(w.T - f.T @ d) for f, w, d in zip(analog, target, fits, strict=True)])
        analog = descend_phases(target, analog, shifters, 1)
    assert (np.diff(errors, axis=0) < 1e-6).all()
    assert np.mean(errors[-1]) < 0.99 * np.mean(errors[0])


def squared_error(target: np.ndarray, analog: np.ndarray) -> float:
    fits = [np.linalg.lstsq(f.T, w.T)[0] for f, w in zip(analog, target, strict=True)]
    return float(sum(np.linalg.norm(w.T - f.T @ d) ** 2 for f, w, d in zip(analog, target, fits, strict=True)))


@pytest.mark.parametrize("bits", [None, 3])
def test_sweeps_that_continue_the_last_change_save_one_of_four(bits: int | None) -> None:
    target = random_rows(12, 4, 96)
    shifters = PhaseShifters(6, bits)
    start = shifters.phases(np.concatenate([target, random_rows(12, 2, 96)[:, ::-1]], 1))
    one_by_one = start
    for _ in range(5):
        one_by_one = descend_phases(target, one_by_one, shifters, 1)
    found = descend_phases(target, start, shifters, 4)
    assert squared_error(target, found) < squared_error(target, one_by_one) < 0.9 * squared_error(target, start)


def test_phases_of_a_drop_do_not_depend_on_other_drops() -> None:
    target, shifters = random_rows(40, 4, 32), PhaseShifters(4)
    start = shifters.phases(target)
    together = descend_phases(target, start, shifters, 3)
    for drop in (0, 31, 32, 39):
        alone = descend_phases(target[[drop]], start[[drop]], shifters, 3)
        np.testing.assert_allclose(together[[drop]], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("connection", ["full", "sub"])
@pytest.mark.parametrize("bits", [None, 1, 3])
def test_analog_part_is_what_the_hardware_allows(inner: Scheme, connection: str, bits: int | None) -> None:
    channels = draw_channels(5, users=3, antennas=12, spread_db=15, drops=4) * 1e-5
    problem = PrecodingProblem(rf_chains=6 if bits is None else 4, connection=connection, phase_bits=bits)  # type: ignore[arg-type]
    budget = LinkBudget(2.0, 1e-12)
    for spec in SCHEMES if connection == "full" else ("nflae", "wmmse", "rzf"):
        found = solve(ChannelBatch(channels), budget, problem, inner, spec)
        assert found.analog is not None
        assert found.digital is not None
        analog, digital = found.analog.numpy().astype(complex), found.digital.numpy().astype(complex)
        chains = analog.shape[-1]
        fed = np.kron(np.eye(chains), np.ones((12 // chains, 1))) if connection == "sub" else np.ones((12, chains))
        assert np.allclose(np.abs(analog), fed / 12**0.5, rtol=1e-6, atol=0)
        if bits is not None:
            steps = np.angle(analog) * 2**bits / (2 * np.pi)
            assert np.abs(steps - np.round(steps))[:, fed > 0].max() < 1e-5
        product = np.swapaxes(analog @ digital, -1, -2)
        assert np.allclose(product, found.precoder.numpy(), rtol=0, atol=3e-7)
        assert np.allclose(np.linalg.norm(product, axis=-1), 1, rtol=0, atol=1e-6)
        assert (found.power.sum(-1) <= 2 * (1 + 1e-9)).all()
        measured = achieved_sinr(channels, torch.from_numpy(product), found.power, 1e-12)
        assert torch.allclose(found.sinr, measured, rtol=1e-3)


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
@pytest.mark.parametrize("chains", [4, 6])
def test_never_below_the_textbook(inner: Scheme, kind: str, chains: int) -> None:
    batch = ChannelBatch(draw_channels(6, users=4, antennas=12, kind=kind, spread_db=15, drops=8))
    for noise in (1.0, 1e-3):
        problem, budget = PrecodingProblem(rf_chains=chains, phase_bits=2), LinkBudget(1.0, noise)
        found, textbook = (solve(batch, budget, problem, inner, spec) for spec in ("nflae", "rzf"))
        assert found.objective.isfinite().all()
        assert (found.objective >= textbook.objective * (1 - 1e-9)).all()
        assert torch.equal(found.fallback, found.fallback & (found.objective == textbook.objective))


def test_rivals_on_steering_vectors(inner: Scheme) -> None:
    # Channels on the grid of the dictionary: matching pursuit finds their span, and loses nothing.
    grid = np.exp(2j * np.pi * np.outer([3, 9, 20], np.arange(16)) / 32) / 4
    batch = ChannelBatch(torch.from_numpy(grid[None].astype(np.complex64)))
    budget, problem = LinkBudget(1.0, 1e-2), PrecodingProblem(rf_chains=3)
    digital = scheme("wmmse")(batch, budget).sum_rate
    assert torch.allclose(solve(batch, budget, problem, inner, "omp").objective, digital, rtol=1e-4)
    # Against random channels the alternation beats both its start and the dictionary.
    batch = ChannelBatch(draw_channels(7, users=3, antennas=16, drops=12))
    start, found, pursued = (
        solve(batch, budget, problem, inner, spec).objective.mean() for spec in ("rzf", "pe-altmin", "omp")
    )
    assert found > start
    assert found > pursued


def test_rivals_refuse_sub_connected_arrays(inner: Scheme) -> None:
    batch = ChannelBatch(draw_channels(8, users=2, antennas=8))
    problem = PrecodingProblem(rf_chains=4, connection="sub")
    for spec in ("omp", "pe-altmin"):
        with pytest.raises(ProblemError, match=rf"scheme {spec} does not solve hybrid array with connection='sub'"):
            solve(batch, LinkBudget(), problem, inner, spec)
