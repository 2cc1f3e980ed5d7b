"""The task "estimate": its network, data and shipped model."""

from __future__ import annotations

import pytest
import torch

from nflae_bridge.network.csi.beam_gain import BeamGainConfig, BeamGainNetwork, CircularConvolution
from nflae_bridge.network.shipped import load_model
from nflae_bridge.tasks.estimate import ESTIMATE, error_db
from nflae_bridge.training.pilot_data import PilotBatch, PilotDistribution
from simulator.csi.beams import ArrayGeometry
from simulator.csi.estimation.canonical import canonical_beams
from simulator.csi.estimation.estimate import estimate_channels
from simulator.csi.estimation.pilots import Observation

KNOWN = PilotDistribution(
    series=64, antennas=(64,), panels=((4, 8),), estimated_noise=0.0, snapshots=(1,), snr_db=(0.0, 10.0)
)


@pytest.fixture(scope="module")
def network() -> BeamGainNetwork:
    found = load_model("estimate-tiny", torch.device("cpu"), "estimate").network
    assert isinstance(found, BeamGainNetwork)
    return found.requires_grad_(False)


def batches(distribution: PilotDistribution, count: int) -> list[PilotBatch]:
    return [distribution.training(99, step) for step in range(count)]


def test_the_shipped_model_is_small_and_better_than_its_rivals_on_fresh_channels(network: BeamGainNetwork) -> None:
    assert network.parameter_counts()[1] <= 200_000
    figures: dict[str, list[float]] = {}
    assert ESTIMATE.compare is not None
    for batch in batches(KNOWN, 4):
        found = ESTIMATE.compare(network, batch)
        for name, figure in {**found.figures, "guarded": found.guarded}.items():
            figures.setdefault(name, []).append(float(figure.mean()))
    means = {name: sum(values) / len(values) for name, values in figures.items()}
    rivals = max(means[name] for name in ESTIMATE.rivals)
    assert means["nflae"] > rivals + 0.7
    assert means["guarded"] > means["nflae"] - 0.1


@pytest.mark.parametrize(("variance", "gain"), [(0.3, 0.6), (0.1, 0.05)], ids=["5 dB", "10 dB"])
def test_rich_channels_are_seldom_worse_than_as_received(
    network: BeamGainNetwork, variance: float, gain: float
) -> None:
    """Estimated risks err by sqrt(N) noise variances; LS, whose error is known, has the benefit of the doubt."""
    generator = torch.Generator().manual_seed(8)
    channels, noise = torch.randn(2, 400, 1, 64, dtype=torch.complex64, generator=generator)
    received = channels + variance**0.5 * noise
    observation = Observation(received, torch.full((400,), variance))
    found = estimate_channels(observation, ArrayGeometry("line"), "auto", network).channels
    excess = error_db(found, channels) - error_db(received, channels)
    assert float((excess > 0.1).float().mean()) <= 0.01
    assert float(excess.mean()) < -gain


def test_an_estimated_noise_variance_costs_little(network: BeamGainNetwork) -> None:
    known = estimated = 0.0
    for batch in batches(PilotDistribution(estimated_noise=1.0, antennas=(64,), panel_share=0.0), 3):
        for variance, flag in ((torch.ones(48), 1.0), (batch.observation.noise_variance, 0.0)):
            observation = Observation(batch.observation.received, variance)
            found = estimate_channels(observation, batch.geometry, "nflae", network, known=torch.full((48,), flag))
            error = float(error_db(found.channels, batch.channels).mean()) / 3
            known, estimated = (known + error, estimated) if flag else (known, estimated + error)
    assert known < estimated < known + 1.2


def test_the_network_serves_any_number_of_beams_and_shifts_with_them(network: BeamGainNetwork) -> None:
    generator = torch.Generator().manual_seed(3)
    for antennas in (5, 31, 200):
        received = 3 * torch.randn(4, 2, antennas, dtype=torch.complex64, generator=generator)
        beams = canonical_beams(Observation(received, torch.ones(4)), ArrayGeometry("line"))
        known = torch.ones(4)
        plain = network(beams, beams.received, beams.fit, known)
        moved = network(beams, beams.received.roll(2, -1), beams.fit.roll(2, -1), known)
        assert torch.allclose(moved, plain.roll(2, -1), atol=1e-4)


def test_a_panel_of_one_row_or_turned_gives_the_same() -> None:
    torch.manual_seed(1)
    layer = CircularConvolution(2, 3, 5)
    values = torch.randn(2, 2, 6, 4)
    assert torch.allclose(layer(values.mT).mT, layer(values), atol=1e-6)
    ends = layer.along.weight
    by_hand = sum(
        torch.einsum("sicr,oi->socr", values.roll(2 - tap, 2) + values.roll(2 - tap, 3), ends[..., tap]) / 2
        for tap in range(5)
    )
    assert torch.allclose(layer(values) - layer.along.bias[:, None, None], torch.as_tensor(by_hand), atol=1e-5)


def test_the_estimate_follows_scale_and_phase(network: BeamGainNetwork) -> None:
    batch = KNOWN.training(5, 1)
    turn = 1e-4 * torch.exp(torch.tensor(2.1j))
    scaled = Observation(batch.observation.received * turn, torch.full((64,), 1e-8))
    plain = estimate_channels(batch.observation, batch.geometry, "nflae", network).channels
    turned = estimate_channels(scaled, batch.geometry, "nflae", network).channels
    assert torch.allclose(turned / turn, plain, atol=1e-3 * float(plain.abs().max()))


def test_batches_repeat_and_are_as_noisy_as_they_say() -> None:
    for step in range(6):
        batch, again = (PilotDistribution().training(1, step) for _ in range(2))
        assert torch.equal(batch.observation.received, again.observation.received)
        noise = batch.observation.received - batch.channels
        assert float(noise.abs().square().mean()) == pytest.approx(1, abs=0.1)
        assert bool(((batch.observation.noise_variance == 1) | (batch.known == 0)).all())


def test_a_training_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network, batch = BeamGainNetwork(BeamGainConfig(width=8, layers=2)), KNOWN.training(7, 0)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    losses = []
    for _ in range(8):
        parts = ESTIMATE.loss(network, ESTIMATE.prepare(network, batch, None), None)
        optimiser.zero_grad()
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(parts["loss"].detach()))
    assert losses[-1] < losses[0] - 0.1
