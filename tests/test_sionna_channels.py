"""The benchmark's channels from Sionna PHY: shapes, seeds, gains, and the sign of the convention."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

if importlib.util.find_spec("sionna") is None:
    reason = "sionna-no-rt is not installed (pip install 'nflae-bridge[test]', Python 3.11 or 3.12)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)

_path = Path(__file__).parent.parent / "benchmarks" / "sionna_channels.py"
_spec = importlib.util.spec_from_file_location("sionna_channels", _path)
assert _spec is not None
assert _spec.loader is not None
sionna_channels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sionna_channels)


@pytest.mark.parametrize("family", ["UMi", "CDL"])
def test_shape_seed_and_gains(family: str) -> None:
    """The same seed the same drops, another seed others; gains at most 20 dB apart and 1 on average."""
    draw = sionna_channels.SOURCES[family]
    channels: Tensor = draw(3, 4, 16, 5)
    assert channels.shape == (3, 4, 16)
    assert channels.dtype == torch.complex64
    assert torch.equal(channels, draw(3, 4, 16, 5))
    assert not torch.allclose(channels, draw(3, 4, 16, 6))
    gains = sionna_channels.gains_db(channels)
    spread = gains.amax(-1) - gains.amin(-1)
    assert float(spread.max()) <= 20 + 1e-3
    assert float(spread.min()) > 0.1
    mean = torch.linalg.vector_norm(channels, dim=-1).square().mean(-1)
    torch.testing.assert_close(mean, torch.ones(3), rtol=1e-5, atol=0)


def test_blocks_of_unequal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block of drops may be shorter than the others."""
    monkeypatch.setattr(sionna_channels, "_LINKS", 4)
    for draw in sionna_channels.SOURCES.values():
        channels = draw(3, 2, 8, 1)
        assert channels.shape == (3, 2, 8)
        assert bool((channels.abs().amax(-1) > 0).all())


def test_draws_leave_the_global_generator_alone() -> None:
    """A benchmark's channels must not decide what is drawn after them."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    sionna_channels.cdl_channels(1, 2, 8, 9)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)


@pytest.mark.parametrize("bearing", [-0.7, 0.5])
def test_beam_that_undoes_the_propagation_delays_is_the_matched_one(bearing: float) -> None:
    """CDL-D is 13.3 dB line of sight along azimuth 0, zenith 98.5 degrees: a user we can place in space.

    Element n is heard exp(-j 2 pi r_n / lambda); weights exp(+j 2 pi r_n / lambda) add up in phase at the user, so
    y = h^H w must be large for them, and small for their conjugates. No array response is taken from Sionna.
    """
    antennas, links = 64, 20
    h = sionna_channels.cdl_links("D", torch.full((links,), bearing), torch.zeros(links, 3), antennas, seed=1)
    wavelength = 299_792_458.0 / sionna_channels.CARRIER
    zenith = math.radians(98.5)
    user = 1e6 * torch.tensor([math.sin(zenith), 0.0, math.cos(zenith)], dtype=torch.float64)
    offset = (torch.arange(antennas, dtype=torch.float64) - (antennas - 1) / 2) * wavelength / 2
    along = torch.tensor([-math.sin(bearing), math.cos(bearing), 0.0], dtype=torch.float64)
    distance = torch.linalg.vector_norm(user - offset.unsqueeze(-1) * along, dim=-1)
    cycles = (distance - 1e6) / wavelength
    focus = torch.polar(torch.full_like(cycles, antennas**-0.5), 2 * math.pi * cycles).to(torch.complex64)

    def received(weights: Tensor) -> Tensor:
        return (h.conj() @ weights).abs().square() / torch.linalg.vector_norm(h, dim=-1).square()

    assert float(received(focus).mean()) > 0.85
    assert float(received(focus.conj().resolve_conj()).mean()) < 0.05
