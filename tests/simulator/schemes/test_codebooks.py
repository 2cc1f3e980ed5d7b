"""Codebooks against inner products, exact spherical waves and exhaustive search, hybrid zero forcing against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import beam_gain
from simulator.geometry.panels import UniformPlanarArray, spherical_wave
from simulator.geometry.steering import far_field_steering, near_field_steering
from simulator.schemes import scheme
from simulator.schemes.codebooks import (
    DFT_CURVATURES,
    codewords,
    distinct_codewords,
    hybrid_zero_forcing,
    polar_domain_curvatures,
)
from tests.simulator.definitions import Array, channel_sets, draw_channels, unit_rows


def whole_codebook(curvatures: tuple[float, ...], antennas: int) -> Array:
    """(curvatures, directions, antennas)."""
    numbers = torch.arange(len(curvatures) * antennas)
    return codewords(numbers, curvatures, antennas).numpy().reshape(len(curvatures), antennas, antennas)


@pytest.mark.parametrize("antennas", [1, 2, 7, 32])
def test_plane_waves_are_the_dft_grid_and_orthogonal(antennas: int) -> None:
    book = whole_codebook(DFT_CURVATURES, antennas)[0]
    np.testing.assert_allclose(book.conj() @ book.T, np.eye(antennas), atol=1e-12)
    sine = (2 * np.arange(antennas) / antennas + 1) % 2 - 1
    waves = far_field_steering(UniformLinearArray(antennas), torch.from_numpy(np.arcsin(sine))).numpy()
    np.testing.assert_allclose(np.abs(np.sum(book.conj() * waves, -1)), 1, atol=1e-6)


@pytest.mark.parametrize("antennas", [16, 64, 256, 1000])
@pytest.mark.parametrize("coherence", [0.3, 0.5, 0.8])
def test_distance_beams_of_one_direction_have_bounded_coherence(antennas: int, coherence: float) -> None:
    curvatures = polar_domain_curvatures(antennas, coherence)
    assert curvatures[0] == 0
    ordered = sorted(range(len(curvatures)), key=lambda place: curvatures[place])
    assert [curvatures[place] for place in ordered] == pytest.approx([-curvatures[place] for place in ordered[::-1]])
    numbers = torch.tensor([place * antennas + 3 for place in ordered])
    beams = codewords(numbers, curvatures, antennas).numpy()
    overlap = np.abs(beams.conj() @ beams.T)
    # The bound is that of a continuous aperture; N elements sample it, which errs by less than 2 / N here.
    assert (overlap - np.eye(len(beams)) <= coherence + 2 / antennas).all()
    assert np.diagonal(overlap, 1) == pytest.approx(coherence, abs=2 / antennas)
    gaps = np.abs(np.subtract.outer(np.array(curvatures)[ordered], np.array(curvatures)[ordered]))
    np.testing.assert_allclose(overlap, beam_gain(np.sqrt(gaps)), atol=2 / antennas)


def test_the_exact_waves_of_neighbouring_distances_have_that_coherence_too() -> None:
    """r_s = Z cos^2(theta) / s. Up to 15 degrees off boresight and s = 4 the Fresnel form is good to 0.02 here."""
    array = UniformLinearArray(256, 30e9)
    curvatures = [curvature for curvature in polar_domain_curvatures(256, 0.5) if curvature > 0][:4]
    for angle in np.radians([0.0, -8.0, 15.0]):
        reach = (array.aperture * np.cos(angle)) ** 2 / (2 * array.wavelength)
        distance = torch.tensor([1e9] + [reach / curvature for curvature in curvatures], dtype=torch.float64)
        waves = near_field_steering(array, torch.full_like(distance, angle), distance).numpy()
        overlap = np.abs(waves.conj() @ waves.T)
        np.testing.assert_allclose(np.diagonal(overlap, 1), 0.5, atol=0.02)
        assert (np.triu(overlap, 2) < 0.5).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_spherical_codewords_explain_waves_from_far_to_a_few_metres(sign: int) -> None:
    """The share of the exact wave's amplitude that the best codeword has, beside the best plane wave's.

    Half-way between two codewords in direction and in curvature (1.2 of beta^2) 0.637 and |G(1.1)| = 0.85 remain.
    """
    array = UniformLinearArray(256, 30e9)
    curvatures = polar_domain_curvatures(256, 0.5)
    polar, plane = (whole_codebook(book, 256).reshape(-1, 256).conj() for book in (curvatures, DFT_CURVATURES))
    angle, distance = torch.meshgrid(
        torch.deg2rad(torch.linspace(-20, 20, 41, dtype=torch.float64)),
        torch.tensor([2.6, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 1e6], dtype=torch.float64),
        indexing="ij",
    )
    waves = near_field_steering(array, angle, distance).numpy()
    waves = waves if sign > 0 else waves.conj()
    best = np.abs(waves @ polar.T).max(-1)
    assert (best >= 0.637 * 0.85 * 0.75).all()
    near = distance[0].numpy() < 7
    assert best[:, near].min() > 1.5 * np.abs(waves @ plane.T).max(-1)[:, near].max()


@pytest.mark.parametrize("antennas", [1, 2, 5, 8])
def test_small_arrays_see_plane_waves_only(antennas: int) -> None:
    assert polar_domain_curvatures(antennas, 0.5) == DFT_CURVATURES


@pytest.mark.parametrize("coherence", [0.2, 1.0, 1.5])
def test_coherence_out_of_range_is_refused(coherence: float) -> None:
    with pytest.raises(ValueError, match="loss must lie in"):
        polar_domain_curvatures(64, coherence)


@settings(max_examples=40)
@given(channels=channel_sets(max_users=6, max_antennas=20), curved=st.booleans())
def test_codewords_are_those_of_an_exhaustive_search(channels: torch.Tensor, curved: bool) -> None:
    antennas = channels.shape[-1]
    curvatures = (0.0, 1.7, -1.7) if curved else DFT_CURVATURES
    book = whole_codebook(curvatures, antennas).reshape(-1, antennas)
    found = distinct_codewords(channels, curvatures).numpy()
    for drop, h in enumerate(channels.numpy()):
        strength = np.abs(h @ book.conj().T)
        waiting, free = set(range(len(h))), set(range(len(book)))
        # What was given out has to be, at its turn, the strongest pair left (ties and rounding aside).
        for user in sorted(waiting, key=lambda user: -strength[user, found[drop, user]]):
            free = free or set(range(len(book)))
            best = max(strength[u, word] for u in waiting for word in free)
            if len(h) <= len(book):
                assert found[drop, user] in free
                assert strength[user, found[drop, user]] >= best * (1 - 1e-4) - 1e-6 * strength.max()
                waiting.discard(user)
                free.discard(found[drop, user])
        counts = np.bincount(found[drop], minlength=len(book))
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("curved", [False, True])
def test_hybrid_zero_forcing_is_the_effective_channels_pseudo_inverse(curved: bool) -> None:
    channels = draw_channels(1, users=5, antennas=64, drops=3, spread_db=40)
    curvatures = polar_domain_curvatures(64, 0.5) if curved else DFT_CURVATURES
    beams = hybrid_zero_forcing(channels, curvatures).numpy()
    analog = codewords(distinct_codewords(channels, curvatures), curvatures, 64).numpy()
    for h, f, w in zip(channels.numpy().astype(complex), analog, beams, strict=True):
        expected = unit_rows((f.T @ np.linalg.pinv(h.conj() @ f.T)).T)
        np.testing.assert_allclose(np.abs(np.sum(unit_rows(w).conj() * expected, -1)), 1, rtol=1e-9)
        received = np.abs(unit_rows(h).conj() @ unit_rows(w).T)
        assert (received - np.diag(np.diag(received))).max() < 1e-9 * np.diag(received).min()


def test_users_of_one_channel_share_its_beam_and_more_users_than_codewords_find_one() -> None:
    """Two antennas, four users: three with the channel of one codeword, one with the other's."""
    book = codewords(torch.arange(2), DFT_CURVATURES, 2)
    channels = torch.stack([book[0], book[0], 1e-3 * book[0], book[1]]).unsqueeze(0).to(torch.complex64)
    beams = unit_rows(hybrid_zero_forcing(channels, DFT_CURVATURES)[0].numpy())
    overlap = np.abs(beams.conj() @ book.numpy().T)
    np.testing.assert_allclose(overlap, [[1, 0], [1, 0], [1, 0], [0, 1]], atol=1e-6)


def test_codewords_of_a_panel_are_products_of_those_of_its_sides() -> None:
    curvatures = (0.0, 1.5, -1.5)
    numbers = torch.arange(3 * 8 * 4)
    panel = codewords(numbers, curvatures, (8, 4)).numpy()
    for number in (0, 5, 37, 95):
        curvature, direction = divmod(number, 32)
        column, row = divmod(direction, 4)
        wide = codewords(torch.tensor([curvature * 8 + column]), curvatures, 8).numpy()[0]
        short = codewords(torch.tensor([curvature * 4 + row]), tuple(q / 4 for q in curvatures), 4).numpy()[0]
        np.testing.assert_allclose(panel[number], np.kron(wide, short), atol=1e-12)
    book = panel[:32]
    np.testing.assert_allclose(book.conj() @ book.T, np.eye(32), atol=1e-12)


def test_focused_codewords_of_a_panel_explain_its_spherical_waves() -> None:
    array = UniformPlanarArray(16, 24)
    direction = 0.3 * (torch.rand(60, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5)
    channels = spherical_wave(array, direction, torch.full((60,), 0.35, dtype=torch.float64)).unsqueeze(1)
    shares = []
    for book in (DFT_CURVATURES, polar_domain_curvatures(24, 0.5)):
        words = codewords(distinct_codewords(channels, book, (24, 16)), book, (24, 16))
        everything = codewords(torch.arange(len(book) * 384), book, (24, 16))
        gains = (everything.conj() @ channels[:, 0].to(torch.complex128).T).abs()
        np.testing.assert_allclose((words.conj() * channels).sum(-1).abs()[:, 0], gains.amax(0), atol=1e-6)
        shares.append(float(gains.amax(0).square().mean()))
    assert shares[0] < 0.3
    assert shares[1] > 2 * shares[0]


def test_schemes_with_codebooks_serve_panels() -> None:
    array = UniformPlanarArray(32, 32)
    direction = 0.4 * (torch.rand(30, 4, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5)
    waves = spherical_wave(array, direction, torch.full((30, 4), 0.6, dtype=torch.float64))
    names = ("ldma:panel=32x32", "sdma:panel=32x32", "ldma", "sdma")
    rates = [float(scheme(name)(ChannelBatch(waves), LinkBudget()).sum_rate.mean()) for name in names]
    assert rates[0] > 1.2 * max(rates[1:])
    for wrong, told in (("16", "is no size: give ROWSxCOLUMNS"), ("8x16", "has 128 antennas, the channels have 1024")):
        with pytest.raises(NflaeError, match=told):
            scheme(f"ldma:panel={wrong}")(ChannelBatch(waves), LinkBudget())
