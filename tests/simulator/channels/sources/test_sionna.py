"""Channels from Sionna PHY: shapes, seeds, gains, subcarriers, and the sign of the convention."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.channels.sources import channels, sionna
from simulator.channels.sources.shared.frequency_response import subcarrier_offsets
from tests.channel_files import Run

if importlib.util.find_spec("sionna") is None:
    reason = "sionna-no-rt is not installed (pip install 'nflae-bridge[test]', Python 3.11 or 3.12)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)

CARRIER_ALONE = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("name", ["umi", "uma", "rma", "cdl"])
def test_shape_seed_and_gains(name: str) -> None:
    """The same seed the same drops, another seed others; gains at most 20 dB apart and 1 on average."""
    asked = {"drops": 3, "users": 4, "antennas": 16}
    drawn = channels(name, **asked, seed=5)
    assert drawn.shape == (3, 4, 16)
    assert drawn.dtype == np.complex64
    np.testing.assert_array_equal(drawn, channels(name, **asked, seed=5))
    assert not np.allclose(drawn, channels(name, **asked, seed=6))
    power = (np.abs(drawn.astype(np.complex128)) ** 2).sum(-1)
    spread = 10 * np.log10(power.max(-1) / power.min(-1))
    assert spread.max() <= 20 + 1e-3
    assert spread.min() > 0.1
    np.testing.assert_allclose(power.mean(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["umi", "cdl"])
def test_subcarriers_are_drops_around_the_carrier(name: str) -> None:
    """The middle one of an odd number is the channel at the carrier, but for the common gain of a user."""
    asked = {"drops": 2, "users": 3, "antennas": 16, "seed": 8}
    alone = channels(name, **asked)
    band = channels(name, **asked, subcarriers=5, bandwidth=20e6)
    assert band.shape == (10, 3, 16)
    middle = band[2::5]
    coherence = np.abs((middle.conj() * alone).sum(-1))
    norms = np.linalg.norm(middle, axis=-1) * np.linalg.norm(alone, axis=-1)
    np.testing.assert_allclose(coherence, norms, rtol=1e-5)
    power = (np.abs(band) ** 2).sum(-1).reshape(2, 5, 3).mean((1, 2))
    np.testing.assert_allclose(power, 1, rtol=1e-5)
    assert not np.allclose(band[0], band[4], atol=1e-3)


def test_response_is_sionnas_conjugated() -> None:
    """The same paths through Sionna's own cir_to_ofdm_channel give H of y = H x, whose rows are h^H."""
    from sionna.phy.channel import cir_to_ofdm_channel

    generator = torch.Generator().manual_seed(1)
    a = torch.randn(2, 3, 1, 1, 8, 20, 1, dtype=torch.complex64, generator=generator)
    tau = 1e-6 * torch.rand(2, 3, 1, 20, generator=generator)
    offsets = subcarrier_offsets(6, 20e6)
    theirs = cir_to_ofdm_channel(offsets.float(), a, tau)[:, :, 0, 0, :, 0].swapaxes(-1, -2)
    torch.testing.assert_close(sionna.to_hermitian(a, tau, offsets), theirs.conj().resolve_conj(), rtol=0, atol=1e-3)


def test_blocks_of_unequal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block of drops may be shorter than the others."""
    monkeypatch.setattr(sionna, "_LINKS", 4)
    for name in ("umi", "cdl"):
        drawn = channels(name, drops=3, users=2, antennas=8, seed=1)
        assert drawn.shape == (3, 2, 8)
        assert (np.abs(drawn).max(-1) > 0).all()


def test_draws_leave_the_global_generator_alone() -> None:
    """A source's channels must not decide what is drawn after them."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    channels("cdl", drops=1, users=2, antennas=8, seed=9)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)


@pytest.mark.parametrize("bearing", [-0.7, 0.5])
def test_beam_that_undoes_the_propagation_delays_is_the_matched_one(bearing: float) -> None:
    """CDL-D is 13.3 dB line of sight along azimuth 0, zenith 98.5 degrees: a user we can place in space.

    Element n is heard exp(-j 2 pi r_n / lambda); weights exp(+j 2 pi r_n / lambda) add up in phase at the user, so
    y = h^H w must be large for them, and small for their conjugates. No array response is taken from Sionna.
    """
    antennas, links, carrier = 64, 20, 7e9
    turned = (torch.full((links,), bearing), torch.zeros(links, 3))
    h = sionna.cdl_links("D", *turned, antennas, 1, carrier, CARRIER_ALONE).squeeze(1)
    wavelength = 299_792_458.0 / carrier
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


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"antennas": 10}, "a panel of 4 rows: antennas has to be a multiple, not 10"),
        ({"antennas": 8, "carrier": 60e9}, "from 0.5 to 30 GHz, not at 60 GHz"),
    ],
)
def test_what_the_standard_does_not_have(asked: dict[str, float], told: str) -> None:
    with pytest.raises(NflaeError, match=told):
        channels("rma", drops=1, users=2, **asked)


def test_snapshots_of_a_sequence_are_sionnas() -> None:
    """Sionna's own CDL, sampled at 1 / T with the same seed, sums to the conjugated snapshots, phases included."""
    from sionna.phy.channel.tr38901 import CDL, PanelArray

    slots, seconds, speed, carrier = 6, 1e-3, 20.0, 7e9
    bearing, orientation = torch.tensor([0.3, -0.2]), torch.zeros(2, 3)
    motion = sionna.Motion(slots, seconds, speed)
    ours = sionna.cdl_links("D", bearing, orientation, 8, 4, carrier, CARRIER_ALONE, motion)
    assert ours.shape == (2, slots, 8)
    with sionna._sionna(4):
        panel = {"polarization": "single", "polarization_type": "V", "carrier_frequency": carrier, "device": "cpu"}
        array = PanelArray(num_rows_per_panel=1, num_cols_per_panel=8, antenna_pattern="38.901", **panel)
        user = PanelArray(num_rows_per_panel=1, num_cols_per_panel=1, antenna_pattern="omni", **panel)
        tilt = torch.stack([bearing, 0 * bearing, 0 * bearing], -1)
        speeds = {"min_speed": speed, "max_speed": speed, "bs_orientation": tilt, "ut_orientation": orientation}
        a, _ = CDL("D", 100e-9, carrier, user, array, "downlink", **speeds, device="cpu")(2, slots, 1 / seconds)
    theirs = a[:, 0, 0, 0].sum(-2).movedim(-1, 1).conj().resolve_conj()  # the carrier: no delay's phase
    torch.testing.assert_close(ours, theirs)
    turned = (ours[:, 1:] * ours[:, :-1].conj()).sum(-1).angle()
    assert (turned.abs() > 0.05).all()  # the users move


@pytest.mark.parametrize("name", ["umi", "cdl"])
def test_sequences_of_two_slot_durations_meet(name: str) -> None:
    """Every second snapshot of a sequence is that of one sampled half as often: phases are continuous in time."""
    asked = {"users": 3, "antennas": 16, "speed": 15.0, "seed": 3}
    fine = channels(name, **asked, slots=9, slot_seconds=0.5e-3)
    coarse = channels(name, **asked, slots=5, slot_seconds=1e-3)
    assert (fine.shape, coarse.shape) == ((9, 3, 16), (5, 3, 16))
    inner = (fine[::2].conj() * coarse).sum(-1)
    norms = np.linalg.norm(fine[::2], axis=-1) * np.linalg.norm(coarse, axis=-1)
    np.testing.assert_allclose(inner, norms, rtol=1e-4)
    later = np.abs((coarse[0].conj() * coarse[-1]).sum(-1))
    assert (later < 0.999 * np.linalg.norm(coarse[0], axis=-1) * np.linalg.norm(coarse[-1], axis=-1)).any()


def test_a_sequence_is_marked_in_its_file(nflae: Run, tmp_path: Path) -> None:
    """The file states that its drops are snapshots, and the time between them."""
    file = tmp_path / "walk.mat"
    asked = ("--source", "cdl", "--users", "2", "--antennas", "8", "--slots", "5", "--slot-ms", "2", "--speed", "4")
    run = nflae("simulate", "-o", str(file), *asked)
    assert "5 slots of 2 ms at 4 m/s" in run.output
    saved = scipy.io.loadmat(file, simplify_cells=True)
    assert saved["H"].shape == (8, 2, 5)
    assert saved["nflae_info"]["drop_axis"] == "time"
    assert (saved["slot_seconds"], saved["speed_mps"]) == (0.002, 4)
    drawn = channels("cdl", users=2, antennas=8, slots=5, slot_seconds=2e-3, speed=4.0)
    np.testing.assert_array_equal(saved["H"].transpose(2, 1, 0), drawn)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"speed": 3.0}, "source cdl: a speed and a slot duration need the number of slots: give --slots too"),
        ({"slots": 4, "drops": 2}, "the drops are the snapshots of one sequence at the carrier; leave out drops and"),
        ({"slots": 4, "subcarriers": 2, "bandwidth": 1e6}, "leave out drops and subcarriers"),
        ({"slots": 4, "speed": -1.0}, "speed has to be a positive number, got -1.0"),
    ],
)
def test_sequences_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(NflaeError, match=re.escape(told)):
        channels("cdl", users=2, antennas=8, **asked)
