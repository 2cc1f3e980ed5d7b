"""The task ``mask``: what is hidden, what the embedding does not depend on, labels, and a falling training error."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.masked import MaskConfig, MaskedChannelNetwork, canonical_channels
from nflae_bridge.tasks.mask import MASK, MaskedSnapshots
from nflae_bridge.training.sources.snapshots import draw_plane_waves, draw_snapshots
from simulator.geometry.near_field import far_field_test

SMALL = MaskConfig(patch=4, tokens=8, backbone=BackboneConfig(width=16, layers=1, heads=2))


def network(config: MaskConfig = SMALL) -> MaskedChannelNetwork:
    torch.manual_seed(0)
    return MaskedChannelNetwork(config).eval()


def channels(rows: int, antennas: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, antennas, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def test_canonical_channels() -> None:
    """Unit mean power and a strongest beam of phase 0; zero stays zero."""
    h = channels(5, 12)
    found = canonical_channels(torch.cat([1e-6 * h, torch.zeros(1, 12)]))
    spectrum = torch.fft.fft(found[:5])
    largest = spectrum[torch.arange(5), spectrum.abs().argmax(-1)]
    torch.testing.assert_close(found[:5].abs().square().mean(-1), torch.ones(5))
    torch.testing.assert_close(largest.angle(), torch.zeros(5), rtol=0, atol=1e-5)
    ratio = found[:5] / h
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 12), rtol=1e-4, atol=1e-4)
    assert (found[5] == 0).all()


@torch.no_grad()
def test_embedding_ignores_scale_and_phase() -> None:
    h = channels(3, 30).reshape(3, 1, 30)
    net = network()
    found = net.embed(h)
    assert found.shape == (3, 1, 32)
    turned = 1e-5 * h * torch.polar(torch.tensor(1.0), torch.tensor(2.0))
    torch.testing.assert_close(net.embed(turned), found, rtol=1e-3, atol=1e-4)
    assert (net.embed(channels(3, 30, 1).reshape(3, 1, 30)) - found).abs().max() > 1e-3
    states = net.hidden(net.tokens_of(h[:, 0]))
    torch.testing.assert_close(found[:, 0, :16], states.mean(1))
    torch.testing.assert_close(found[:, 0, 16:], states.var(1, correction=0).sqrt())


@torch.no_grad()
def test_hidden_tokens_are_not_seen() -> None:
    """Antennas of a hidden token change nothing; those of a visible one do."""
    net = network()
    tokens = net.tokens_of(channels(2, 32))
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[:, 3] = True
    changed = tokens.clone()
    changed[:, 3] += 1
    torch.testing.assert_close(net(changed, mask), net(tokens, mask), rtol=0, atol=0)
    changed[:, 4] += 1
    assert (net(changed, mask) - net(tokens, mask)).abs().max() > 1e-4


def test_too_many_antennas() -> None:
    with pytest.raises(NflaeError, match="up to 32 antennas, not 33; train one with more tokens"):
        network().tokens_of(channels(1, 33))


def test_batches() -> None:
    """The share of hidden tokens, equal seeds, and validation that training does not contain."""
    data = MaskedSnapshots(rows=20, antennas=(32, 64), patch=4, hidden=0.5)
    batch = data.training(1, 2)
    again = data.training(1, 2)
    assert torch.equal(batch.channels, again.channels)
    assert torch.equal(batch.mask, again.mask)
    assert not torch.equal(batch.mask[0], batch.mask[1])
    assert (batch.mask.sum(-1) * 8 == batch.channels.shape[-1]).all()
    assert [fixed.channels.shape for fixed in data.validation()] == [(20, 32), (20, 64)]


def test_snapshots_have_their_labels() -> None:
    """Blocked users lose most of the coherence with a spherical wave; visible ones near and far pass the FFT test."""
    drawn = draw_snapshots(400, 256, (30.0, 30.0), torch.Generator().manual_seed(1))
    power = drawn.channels.abs().square().mean(-1)
    torch.testing.assert_close(power, torch.full((400,), 1 + 1e-3), rtol=0.02, atol=0)
    assert 0.5 < float(drawn.line_of_sight.float().mean()) < 0.7
    seen = drawn.line_of_sight
    right = far_field_test(drawn.channels[:, None])[:, 0] == drawn.near_field
    assert float(right[seen].float().mean()) > 0.7 > 0.4 > float(right[~seen].float().mean())
    spectrum = torch.fft.fft(drawn.channels[~drawn.near_field]).abs().square()
    share = spectrum.amax(-1) / spectrum.sum(-1)
    assert share[seen[~drawn.near_field]].mean() > 1.3 * share[~seen[~drawn.near_field]].mean()


def test_plane_waves_have_few_directions() -> None:
    h = draw_plane_waves(50, 128, (60.0, 60.0), torch.Generator().manual_seed(1))
    spectrum = torch.fft.fft(h * torch.hann_window(128)).abs().square().sort(-1, descending=True).values
    assert float((spectrum[:, :24].sum(-1) / spectrum.sum(-1)).min()) > 0.99


def test_training_lowers_the_error_on_hidden_antennas() -> None:
    torch.manual_seed(0)
    net = MaskedChannelNetwork(replace(SMALL, tokens=16))
    data = MaskedSnapshots(rows=64, antennas=(32,), patch=4, snr_db=(20.0, 20.0))
    measure = MASK.validation(data.validation(), None)
    before = measure(net)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    for step in range(80):
        loss = MASK.loss(net, data.training(1, step), None)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = measure(net)
    assert after["hidden_nmse_db"] < before["hidden_nmse_db"] - 0.5
    assert after["hidden_nmse_db"] == pytest.approx(10 * math.log10(after["loss"]), abs=1e-4)
