"""Near-field labels of channels of any scale, and with dead antennas."""

from __future__ import annotations

import pytest
import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.encoders.wavefront import scaled_to_range
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

CHANNELS = scenario("uav", 6).draw(6, torch.Generator().manual_seed(1)).channels
CHANNELS = CHANNELS / CHANNELS.abs().amax()


@pytest.mark.parametrize("alive", [slice(None), slice(1, None), slice(128, None), slice(0, 6)])
@pytest.mark.parametrize("backend", ["torch", None])
def test_labels_do_not_depend_on_scale(alive: slice, backend: str | None) -> None:
    channels = torch.zeros_like(CHANNELS)
    channels[..., alive] = CHANNELS[..., alive]
    engine = Engine(load_model("tiny", torch.device("cpu")), backend=backend)
    engine.near_field(channels)  # from the second call on by the exported classifier
    expected = engine(ChannelBatch(channels), LinkBudget()).near_field_score
    assert bool(expected.isfinite().all())
    for exponent in (-100, -83, -60, -20, 30, 60, 100):
        scores = engine(ChannelBatch(channels * 2.0**exponent), LinkBudget()).near_field_score
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_users_out_of_range_are_scaled_by_powers_of_two_and_others_not_at_all() -> None:
    assert scaled_to_range(CHANNELS) is CHANNELS
    mixed = CHANNELS.clone()
    mixed[0, 0] *= 2.0**-110
    mixed[1, 2] *= 2.0**110
    scaled = scaled_to_range(mixed)
    ratio = torch.view_as_real(scaled)[..., 0] / torch.view_as_real(CHANNELS)[..., 0]
    exponents = ratio.log2()
    torch.testing.assert_close(exponents, exponents.round(), rtol=0, atol=1e-6)
    untouched = torch.ones(6, 6, dtype=torch.bool)
    untouched[0, 0] = untouched[1, 2] = False
    assert torch.equal(scaled[untouched], CHANNELS[untouched])
    for drop, user in ((0, 0), (1, 2)):
        assert 0.25 <= float(scaled[drop, user].abs().amax()) <= 2
