"""Methods by name, their average, noise variances, compressed pilots and the CSI model ``pilots``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.estimation.candidates import GainNetwork
from simulator.csi.estimation.canonical import CanonicalBeams, canonical_beams
from simulator.csi.estimation.estimate import estimate_channels
from simulator.csi.estimation.pilots import Observation
from simulator.csi.estimation.users import LINE, EstimationMethod, estimate_users
from simulator.csi.models import CsiContext, parse_csi
from simulator.csi.noise_variance import noise_variance_of_beams


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def rays(series: int, antennas: int, paths: int, seed: int = 0) -> Tensor:
    """Plane waves of any direction with Gaussian gains, unit mean power: (series, 1, antennas)."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * torch.rand(series, paths, 1, generator=generator) * torch.arange(antennas)
    gains = torch.randn(series, 1, paths, dtype=torch.complex64, generator=generator) / math.sqrt(paths)
    return gains @ torch.polar(torch.ones_like(phase), phase)


def error_db(estimate: Tensor, channels: Tensor) -> float:
    ratio = (estimate - channels).abs().square().sum((-2, -1)) / channels.abs().square().sum((-2, -1))
    return float((10 * torch.log10(ratio)).mean())


def observed(channels: Tensor, variance: float, pilots: Tensor | None = None, seed: int = 9) -> Observation:
    sigma2 = torch.full(channels.shape[:1], variance)
    y = Observation(channels, sigma2, pilots).observed(channels)
    return Observation(y + math.sqrt(variance) * gaussian(*y.shape, seed=seed), sigma2, pilots)


@pytest.mark.parametrize("method", ["beam-gain", "omp", "polar-omp", "auto"])
def test_sparse_channels_are_estimated_with_their_error(method: str) -> None:
    channels = rays(60, 64, 3, seed=1)
    found = estimate_channels(observed(channels, 0.3), LINE, method)
    error = error_db(found.channels, channels)
    assert error < error_db(observed(channels, 0.3).received, channels) - 5
    assert float(found.csi_error_db.mean()) == pytest.approx(error, abs=3)


def test_channels_without_structure_are_left_as_received() -> None:
    channels = gaussian(20, 1, 64, seed=2)
    observation = observed(channels, 0.01)
    found = estimate_channels(observation, LINE)
    assert error_db(found.channels, channels) < error_db(observation.received, channels) + 0.1
    assert float(found.csi_error_db.mean()) == pytest.approx(-20, abs=0.5)


class Wrong:
    """A network that answers with the opposite of what it receives."""

    def __call__(self, beams: CanonicalBeams, received: Tensor, fit: Tensor, known: Tensor) -> Tensor:
        return -3 * received


def test_a_wrong_network_has_no_weight() -> None:
    channels, network = rays(20, 32, 2, seed=3), Wrong()
    observation = observed(channels, 0.1)
    guarded: GainNetwork = network
    found = estimate_channels(observation, LINE, "auto", guarded)
    assert "nflae" not in found.method
    assert error_db(found.channels, channels) < error_db(estimate_channels(observation, LINE).channels, channels) + 0.1


def test_snapshots_with_common_directions_are_estimated_together() -> None:
    channels = rays(60, 64, 3, seed=4).expand(60, 8, 64) * gaussian(60, 8, 1, seed=5)
    together = observed(channels, 0.5)
    apart = Observation(together.received.reshape(480, 1, 64), together.noise_variance.repeat_interleave(8))
    one = estimate_channels(apart, LINE, "beam-gain").channels.reshape(60, 8, 64)
    assert error_db(estimate_channels(together, LINE, "beam-gain").channels, channels) < error_db(one, channels) - 1


def test_a_covariance_helps() -> None:
    factor = gaussian(32, 2, seed=6)
    channels = (factor @ gaussian(40, 2, 1, seed=7)).mT
    covariance = (factor @ factor.mH)[None].to(torch.complex128)
    observation = observed(channels, 4.0)
    found = estimate_channels(observation, ArrayGeometry(), "auto", covariance=covariance)
    assert set(found.method) == {"lmmse"}
    assert error_db(found.channels, channels) < error_db(observation.received, channels) - 8
    assert float(found.csi_error_db.mean()) == pytest.approx(error_db(found.channels, channels), abs=1.5)


@pytest.mark.parametrize("geometry", [LINE, ArrayGeometry("panel", 4, 16)], ids=str)
def test_noise_variance_of_beams(geometry: ArrayGeometry) -> None:
    noise = noise_variance_of_beams(gaussian(1_000, 1, 64, seed=8), geometry)
    assert float(noise.mean()) == pytest.approx(1, abs=0.15)  # never above the mean power, hence biased here
    sparse = observed(30 * rays(400, 256, 2, seed=9), 1.0).received
    assert float(noise_variance_of_beams(sparse, LINE).log10().mean()) == pytest.approx(0, abs=0.05)
    together = noise_variance_of_beams(gaussian(500, 6, 64, seed=10), geometry)
    assert float(together.mean()) == pytest.approx(1, abs=0.08)
    assert float(together.std()) < 0.6 * float(noise.std())
    scaled = noise_variance_of_beams(1e-5 * sparse, LINE) * 1e10
    assert torch.allclose(scaled, noise_variance_of_beams(sparse, LINE), rtol=1e-3)


def test_weak_curvature_is_not_flattened_without_evidence() -> None:
    """Noise alone looks bent half of the time; a wave in noise is no more bent than it is."""
    wave = 1.5 * torch.exp(2j * math.pi * 0.2 * torch.arange(64)).expand(200, 1, 64).to(torch.complex64)
    beams = canonical_beams(observed(wave, 1.0), LINE)
    phases = beams.phases[:, 0]
    bend = (phases[:, 2:] * phases[:, :-2] * phases[:, 1:-1].conj().square()).angle().abs().amax(-1)
    assert float((bend > 1e-3).float().mean()) < 0.02


@pytest.mark.parametrize("method", ["ls", "omp", "auto"])
def test_fewer_symbols_than_antennas(method: str) -> None:
    channels, phase = rays(40, 64, 2, seed=11), 2 * math.pi * torch.rand(64, 24)
    pilots = torch.polar(torch.full_like(phase, 0.125), phase)
    observation = observed(channels, 0.01, pilots)
    found = estimate_channels(observation, LINE, method)
    error = error_db(found.channels, channels)
    assert error < (-1 if method == "ls" else -14)
    assert float(found.csi_error_db.mean()) == pytest.approx(error, abs=2)


def test_pilots_that_explain_nothing_are_not_overfitted() -> None:
    """A channel without structure: what few symbols do not see stays unknown, and is not invented."""
    channels = gaussian(20, 1, 64, seed=12)
    phase = 2 * math.pi * torch.rand(64, 32, generator=torch.Generator().manual_seed(13))
    observation = observed(channels, 0.01, torch.polar(torch.full_like(phase, 0.125), phase))
    for method in ("omp", "auto"):
        found = estimate_channels(observation, LINE, method)
        assert error_db(found.channels, channels) < 0
        assert float(found.csi_error_db.mean()) == pytest.approx(error_db(found.channels, channels), abs=2)


@pytest.mark.parametrize("method", ["auto", "omp", "beam-gain"])
def test_users_keep_scale_and_phase(method: str) -> None:
    received = observed(rays(6, 32, 2, seed=13), 0.1).received.reshape(2, 1, 3, 32)
    turn = torch.tensor([1.0, 1j, -1.0]).reshape(3, 1) * torch.tensor([1e-6, 1.0, 1e6]).reshape(3, 1)
    chosen = EstimationMethod(method)
    plain, turned = estimate_users(received, chosen), estimate_users(received * turn, chosen)
    assert torch.allclose(turned.channels / turn, plain.channels, rtol=1e-3, atol=1e-3)
    assert plain.method == turned.method
    assert plain.csi_error_db.shape == (2, 3)


def test_channels_without_waves_are_left_as_received_if_the_noise_is_unknown() -> None:
    rich = observed(gaussian(40, 1, 64, seed=20), 0.03).received.reshape(20, 1, 2, 64)
    found = estimate_users(rich, EstimationMethod())
    assert set(found.method) == {"ls"}
    assert torch.equal(found.channels, rich)
    assert bool(found.csi_error_db.isnan().all())
    assert set(estimate_users(rich, EstimationMethod("beam-gain")).method) == {"beam-gain"}
    small = observed(30 * rays(20, 8, 1, seed=21), 0.03).received.reshape(20, 1, 1, 8)
    assert torch.equal(estimate_users(small, EstimationMethod()).channels, small)


def test_channels_that_fill_the_beams_are_not_taken_for_noise_beside_sparse_ones_of_one_drop() -> None:
    """5 dB; without the confidence nine in ten are made worse than LS by more than 0.1 dB."""
    channels = torch.cat([rays(40, 64, 2, seed=26), gaussian(40, 1, 64, seed=27)])
    received = observed(channels, 0.3).received.reshape(1, 1, 80, 64)
    found = estimate_users(received, EstimationMethod()).channels.reshape(80, 1, 64)
    errors = [
        10 * torch.log10((each.reshape(80, 64) - channels[:, 0]).abs().square().sum(1)) for each in (found, received)
    ]
    excess = errors[0] - errors[1]
    assert float((excess[40:] > 0.1).float().mean()) < 0.15
    assert float(excess[:40].mean()) < -6


def test_one_noise_variance_serves_all_drops_of_a_user() -> None:
    """Drops that fill the beams are not taken for noise beside sparse ones; another user does not matter."""
    channels = torch.cat([rays(30, 64, 2, seed=22), gaussian(10, 1, 64, seed=23)])
    received = observed(channels, 0.01).received.reshape(40, 1, 1, 64)
    found = estimate_users(received, EstimationMethod()).channels
    assert error_db(found[30:, 0], channels[30:]) < -19
    other = torch.cat([received, 1e3 * gaussian(40, 1, 1, 64, seed=24)], 2)
    assert torch.allclose(estimate_users(other, EstimationMethod()).channels[:, :, :1], found, rtol=1e-4, atol=1e-4)


def test_users_have_covariances_of_their_own() -> None:
    directions = gaussian(3, 1, 16, seed=14)
    covariance = (directions.mT @ directions.conj()).to(torch.complex128)
    received = observed((gaussian(20, 3, 1, seed=15) * directions[:, 0]).reshape(20, 3, 16), 0.5).received
    method = EstimationMethod("lmmse", covariance=covariance, noise_variance=0.5)
    found = estimate_users(received.reshape(20, 1, 3, 16), method).channels[:, 0]
    for user in range(3):  # each on the line of its own covariance
        unit = directions[user, 0] / torch.linalg.vector_norm(directions[user, 0])
        rest = found[:, user] - (found[:, user] @ unit.conj()).unsqueeze(-1) * unit
        assert float(rest.abs().max()) < 1e-4 * float(found.abs().max())


def test_least_squares_needs_no_noise_variance() -> None:
    received = gaussian(2, 1, 3, 16, seed=16)
    found = estimate_users(received, EstimationMethod("ls", ArrayGeometry()))
    assert torch.allclose(found.channels, received, rtol=1e-5)
    assert bool(found.csi_error_db.isnan().all())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (EstimationMethod("magic"), "no estimation method 'magic': there are auto, ls"),
        (EstimationMethod("omp", ArrayGeometry()), "needs the geometry|need the geometry"),
        (EstimationMethod("lmmse"), "needs a covariance"),
        (EstimationMethod("nflae"), "needs a network"),
        (EstimationMethod("nflae", pilots=gaussian(32, 16)), "needs orthogonal pilots"),
        (EstimationMethod(csi_snr_db=math.nan), "-300 to 300"),
        (EstimationMethod(csi_snr_db=1.0, noise_variance=1.0), "the same quantity"),
        (EstimationMethod(noise_variance=0.0), "positive and finite"),
        (EstimationMethod(geometry=ArrayGeometry("panel", 5, 3)), "panel:5x3 has 15 antennas"),
        (EstimationMethod(geometry=ArrayGeometry()), "without geometry, of one snapshot"),
        (EstimationMethod(pilots=gaussian(32, 16)), "with a pilot matrix"),
    ],
)
def test_what_does_not_fit_is_said(method: EstimationMethod, message: str) -> None:
    with pytest.raises(NflaeError, match=message):
        estimate_users(gaussian(1, 1, 2, 16), method)


def test_the_csi_model_of_pilots() -> None:
    channels = rays(50, 32, 2, seed=17).reshape(50, 1, 1, 32)
    context = CsiContext(torch.Generator().manual_seed(1))
    errors = {}
    for text in ("noisy:10", "pilots:32,10", "pilots:128,10", "pilots:12,10"):
        (part,) = parse_csi(text).parts
        assert str(parse_csi(text)) == text
        errors[text] = error_db(part(channels, context)[:, 0], channels[:, 0])
    assert errors["pilots:32,10"] < errors["noisy:10"] - 3
    assert errors["pilots:128,10"] == pytest.approx(errors["pilots:32,10"] - 6, abs=1.5)  # four times the energy
    assert errors["pilots:32,10"] < errors["pilots:12,10"] < -4
    assert bool((parse_csi("pilots:8,0").parts[0](torch.zeros(1, 1, 1, 16) + 0j, context) == 0).all())


@pytest.mark.parametrize(
    "text", ["pilots", "pilots:64", "pilots:0,10", "pilots:1.5,10", "pilots:64,x", "pilots:64,1e9"]
)
def test_csi_models_of_pilots_that_are_none(text: str) -> None:
    with pytest.raises(NflaeError, match="pilots:SYMBOLS,DB"):
        parse_csi(text)
