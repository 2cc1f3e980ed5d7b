"""Classical estimators against closed forms, exact sparse sums and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from simulator.csi.estimation.least_squares import least_squares
from simulator.csi.estimation.lmmse import lmmse
from simulator.csi.estimation.matching_pursuit import (
    dft_dictionary,
    matching_pursuit,
    noise_peak,
    polar_dictionary,
)
from simulator.csi.estimation.pilots import Observation, check_pilots
from simulator.csi.estimation.soft_gain import soft_gain
from simulator.csi.estimation.sure import probed_divergence, risk
from simulator.schemes.codebooks import codewords, polar_domain_curvatures


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=generator(seed))


def test_lmmse_is_the_conditional_mean_of_a_jointly_gaussian_vector() -> None:
    """E[h | y] from the precision matrix of the joint distribution, not from the formula of the module."""
    factor = gaussian(6, 3, seed=1).to(torch.complex128).numpy()
    covariance = factor @ factor.conj().T + 0.1 * np.eye(6)
    pilots = gaussian(6, 4, seed=2).to(torch.complex128).numpy()
    y = gaussian(2, 3, 4, seed=3)
    precision = np.linalg.inv(covariance) + pilots @ pilots.conj().T / 0.3
    expected = np.einsum("nm,stm->stn", np.linalg.solve(precision, pilots) / 0.3, y.numpy())
    observation = Observation(y, torch.full((2,), 0.3), torch.from_numpy(pilots).to(torch.complex64))
    result = lmmse(observation, torch.from_numpy(covariance)[None])
    assert np.allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_least_squares_explains_the_pilots_and_is_the_shortest_such_channel() -> None:
    pilots, y = gaussian(8, 5, seed=4), gaussian(3, 2, 5, seed=5)
    channels = least_squares(Observation(y, torch.ones(3), pilots))
    assert torch.allclose(channels @ pilots.conj(), y, atol=1e-4)
    null = torch.linalg.svd(pilots.mH).Vh[5:]  # directions that the pilots do not see
    assert torch.allclose(channels @ null.mT, torch.zeros(3, 2, 3, dtype=torch.complex64), atol=1e-4)
    assert least_squares(Observation(y, torch.ones(3))) is y


def test_noise_is_white_in_the_convention_of_the_pilots() -> None:
    """A user that receives y_m = h^H phi_m: the conjugates are Phi^H h."""
    h, pilots = gaussian(8, seed=6), gaussian(8, 5, seed=7)
    received = torch.stack([(h.conj() * pilots[:, m]).sum() for m in range(5)])
    observed = Observation(received.conj()[None, None], torch.ones(1), pilots).observed(h)
    assert torch.allclose(observed, received.conj(), atol=1e-5)


@pytest.mark.parametrize("symbols", [None, 24], ids=["orthogonal", "24 of 64 symbols"])
def test_matching_pursuit_recovers_an_exact_sum_of_spherical_waves(symbols: int | None) -> None:
    curvatures = polar_domain_curvatures(64, 0.8)
    chosen = torch.tensor([[5 + 64 * 2, 40 + 64 * 0, 21 + 64 * 3], [60, 30 + 64 * 4, 11]])
    words = codewords(chosen, curvatures, 64).to(torch.complex64)
    gains = torch.tensor([[3.0, 2.0j, -1.0], [1.0, 4.0, 2.0 - 1.0j]], dtype=torch.complex64)
    channels = (gains.unsqueeze(1) @ words).expand(2, 2, 64) * torch.tensor([1.0, 1.0j]).reshape(1, 2, 1)
    pilots = None if symbols is None else gaussian(64, symbols, seed=8) / 8
    observation = Observation(channels, torch.full((2,), 1e-9), pilots)
    observation = Observation(observation.observed(channels), observation.noise_variance, pilots)
    polar = matching_pursuit(observation, polar_dictionary((64,)), most=16)
    error = (polar.channels - channels).abs().square().sum() / channels.abs().square().sum()
    assert error < 1e-6
    plane = matching_pursuit(observation, dft_dictionary((64,)), most=3)
    assert (plane.channels - channels).abs().square().sum() > 0.05 * channels.abs().square().sum()


def test_matching_pursuit_over_a_panel_matches_products_of_plane_waves() -> None:
    """Antenna r + R c of R x C: direction 3 of 4 oversampled down the rows, 10 of 32 along the columns."""
    rows = torch.exp(2j * math.pi * 3 * torch.arange(4) / 16)
    columns = torch.exp(2j * math.pi * 10 * torch.arange(8) / 32)
    wave = (columns[:, None] * rows[None, :]).flatten().to(torch.complex64)
    found = matching_pursuit(Observation(wave[None, None], torch.full((1,), 1e-6)), dft_dictionary((8, 4)))
    assert torch.allclose(found.channels[0, 0], wave, atol=1e-4)
    assert found.atoms.tolist() == [1]


def test_noise_alone_rarely_makes_an_atom() -> None:
    noise = gaussian(400, 3, 32, seed=9)
    dictionary = dft_dictionary((32,), oversampling=1)
    wrong = matching_pursuit(Observation(noise, torch.ones(400)), dictionary, false_alarm=0.1).atoms > 0
    assert 0.06 < float(wrong.float().mean()) < 0.14  # orthogonal atoms: the bound is the probability itself
    assert noise_peak(128, 1, 0.1) == pytest.approx(math.log(1280))


def test_estimates_scale_with_the_received_pilots() -> None:
    y = gaussian(4, 1, 32, seed=10) + 4 * torch.exp(1j * torch.arange(32))
    plain = matching_pursuit(Observation(y, torch.ones(4)), dft_dictionary((32,)))
    scaled = matching_pursuit(Observation(1e-6 * y, torch.full((4,), 1e-12)), dft_dictionary((32,)))
    assert torch.allclose(scaled.channels * 1e6, plain.channels, rtol=1e-3, atol=1e-3)


def test_sure_of_the_soft_gain_is_unbiased_by_monte_carlo() -> None:
    for snapshots in (1, 3):
        h = torch.zeros(1, snapshots, 16, dtype=torch.complex64)
        h[..., 2], h[..., 7], h[..., 8] = 4.0, 1.5j, 0.7
        y = h + gaussian(20_000, snapshots, 16, seed=11)
        result = soft_gain(y, torch.ones(20_000), factors=(1.5,))
        true = (result.beams - h).abs().square().sum((1, 2))
        spread = float((true - result.risk).std()) / math.sqrt(20_000)
        assert abs(float((true - result.risk).mean())) < 4 * spread


def test_soft_gain_takes_the_threshold_of_least_risk() -> None:
    y = gaussian(50, 1, 64, seed=12)
    single = [soft_gain(y, torch.ones(50), factors=(factor,)).risk for factor in (0.5, 4.5)]
    both = soft_gain(y, torch.ones(50), factors=(0.5, 4.5))
    assert torch.equal(both.risk, torch.minimum(*single))
    assert float((both.factor == 4.5).float().mean()) > 0.9  # noise alone: the high threshold


def test_probed_divergence_matches_the_exact_one() -> None:
    def smooth(y: Tensor) -> Tensor:
        return y * y.abs().square() / (1 + y.abs().square())

    y = gaussian(2_000, 1, 8, seed=13)
    power = y.abs().square().double()
    # d/dy of y |y|^2 / (1 + |y|^2) with the conjugate of y held fixed
    exact = ((2 * power * (1 + power) - power.square()) / (1 + power).square()).sum((1, 2))
    probed = probed_divergence(smooth, y, smooth(y), generator(1)).double()
    assert float((probed - exact).mean()) == pytest.approx(0, abs=0.03)
    assert float(exact.mean()) > 3
    kept = risk(y, y, torch.full((2_000,), 8.0), torch.ones(2_000))
    assert torch.allclose(kept, torch.full((2_000,), 8.0), atol=1e-4)  # least squares: N sigma^2


@pytest.mark.parametrize(
    ("pilots", "message"),
    [
        (gaussian(8, 4), r"8 x 4, expected N x 5"),
        (gaussian(4, 5), "5 symbols for 4 antennas"),
        (gaussian(8, 5) * torch.nan, "NaN or Inf"),
        (gaussian(8, 1).expand(8, 5), "rank 1, expected 5"),
    ],
    ids=["size", "too many", "nan", "rank"],
)
def test_bad_pilot_matrices_are_refused(pilots: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_pilots(pilots, 5)
