"""Evaluation of CSI methods: sequences, sum rate, NMSE, SGCS and intervals against their definitions."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.studies.csi.comparison import HISTORY, Observation, compare_csi, compare_predictors, hold, observe
from nflae_bridge.studies.csi.measures import BUDGET, nmse_db, ratio_interval, sgcs, sum_rates
from nflae_bridge.studies.csi.ray_traced import munich_channels
from nflae_bridge.studies.csi.settings import Setting, draw_series
from simulator.schemes import scheme
from tests.simulator.definitions import sinr_by_definition

FLIGHT = Setting("flight", 16, 30e9, 20.0, 0.25e-3)


def complex_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def test_series_of_flights() -> None:
    """Mean power 1 per user; equal seeds equal series; phases turn no faster than the speed allows."""
    series = draw_series(FLIGHT, 12, 20, 3)
    assert series.shape == (12, 20, 16)
    torch.testing.assert_close(series.abs().square().sum(-1).mean(-1), torch.ones(12))
    draw_series.cache_clear()
    assert torch.equal(series, draw_series(FLIGHT, 12, 20, 3))
    assert not torch.equal(series, draw_series(FLIGHT, 12, 20, 4))
    turned = (series[:, :-1].conj() * series[:, 1:]).sum((1, 2)).angle().abs()
    largest = 2 * math.pi * FLIGHT.speed / (299792458.0 / FLIGHT.carrier) * FLIGHT.slot_seconds
    assert turned.max() < 1.01 * largest
    assert turned.max() > 0.5 * largest


def test_unknown_source() -> None:
    with pytest.raises(NflaeError, match="no set of sequences 'train': there are flight, cdl, umi, munich"):
        draw_series(Setting("train", 16, 1e9, 1.0, 1e-3), 6, 20, 0)


def test_sum_rates_by_definition() -> None:
    """Precoders come from the CSI, rates from the channels; series past the last whole drop are left out."""
    truth, csi = complex_normal(7, 8) / 8**0.5, complex_normal(7, 8, seed=1) / 8**0.5
    found = sum_rates(truth, csi, scheme("rzf"), users=3)
    for drop in range(2):
        part = slice(3 * drop, 3 * drop + 3)
        gram = csi[part].conj() @ csi[part].T
        loaded = csi[part].T.to(torch.complex128) @ torch.linalg.inv(
            torch.eye(3) + gram.to(torch.complex128) / (3 * BUDGET.noise_power)
        )
        precoder = (loaded / loaded.norm(dim=0)).T
        sinr = sinr_by_definition(
            truth[part], precoder.to(torch.complex64), torch.full((3,), 1 / 3), BUDGET.noise_power
        )
        assert float(found[drop]) == pytest.approx(float(torch.log2(1 + torch.as_tensor(sinr)).sum()), rel=1e-4)
    assert len(found) == 2


def test_errors_by_definition() -> None:
    truth, csi = complex_normal(5, 8), complex_normal(5, 8, seed=1)
    h, g = truth.numpy().astype(complex), csi.numpy().astype(complex)
    each = [10 * math.log10(np.linalg.norm(b - a) ** 2 / np.linalg.norm(a) ** 2) for a, b in zip(h, g, strict=True)]
    assert nmse_db(truth, csi) == pytest.approx(np.mean(each), rel=1e-5)
    like = [abs(np.vdot(b, a)) ** 2 / np.vdot(a, a).real / np.vdot(b, b).real for a, b in zip(h, g, strict=True)]
    assert sgcs(truth, csi) == pytest.approx(np.mean(like), rel=1e-5)
    assert sgcs(truth, csi * torch.polar(torch.ones(5, 1), torch.arange(5.0)[:, None])) == pytest.approx(
        np.mean(like), rel=1e-5
    )


def test_interval_of_a_ratio() -> None:
    """About 1.96 standard errors to either side; pairs that differ by a factor have none."""
    generator = torch.Generator().manual_seed(4)
    reference = 10 + torch.rand(400, generator=generator, dtype=torch.float64)
    noise = torch.randn(400, generator=generator, dtype=torch.float64)
    ratio, low, high = ratio_interval(0.9 * reference + noise, reference)
    error = 1.96 * float(noise.std()) / math.sqrt(400) / float(reference.mean())
    assert ratio - low == pytest.approx(error, rel=0.15)
    assert high - ratio == pytest.approx(error, rel=0.15)
    assert ratio_interval(0.5 * reference, reference) == pytest.approx((0.5, 0.5, 0.5))


def test_noise_of_the_history() -> None:
    """White, of the stated SNR per antenna, on the history alone."""
    series = draw_series(FLIGHT, 60, 20, 5)
    observed = observe(series, 3.0, "line", 1)
    assert observed.history.shape == (60, HISTORY, 16)
    error = (observed.history - series[:, :HISTORY]).abs().square()
    torch.testing.assert_close(observed.noise_variance, torch.full((60,), 1 / 16 / 10**0.3), rtol=1e-4, atol=0)
    assert float(error.mean()) == pytest.approx(1 / 16 / 10**0.3, rel=0.03)


def test_comparison_of_predictors() -> None:
    """Perfect CSI has 100 %, zero-error worse drops none; a bad one is worse than hold in every drop."""
    series = draw_series(FLIGHT, 24, HISTORY + 2, 6)

    def perfect(observed: Observation, ahead: int) -> Tensor:
        assert observed.geometry == "line"
        return series[:, HISTORY : HISTORY + ahead] * torch.polar(torch.ones(1), torch.tensor(0.3))

    def unrelated(observed: Observation, ahead: int) -> Tensor:
        return complex_normal(24, ahead, 16) / 4

    methods = {"perfect": perfect, "unrelated": unrelated}
    rows = compare_predictors(FLIGHT, methods, scheme("rzf"), 20.0, horizons=(1, 2), users=24, seed=6)
    assert [(row["method"], row["ahead"]) for row in rows] == [
        (name, ahead) for ahead in (1, 2) for name in ("hold", "perfect", "unrelated")
    ]
    by = {(row["method"], row["ahead"]): row for row in rows}
    for ahead in (1, 2):
        best = by["perfect", ahead]
        assert [best[key] for key in ("percent", "low", "high")] == pytest.approx([100, 100, 100], abs=1e-3)
        assert (best["drops"], best["worse_percent"]) == (4, 0)
        assert best["sgcs"] == pytest.approx(1, abs=1e-5)
        assert best["nmse_db"] == pytest.approx(20 * math.log10(2 * math.sin(0.15)), abs=1e-3)
        assert by["unrelated", ahead]["worse_percent"] == 100
        assert float(str(by["hold", ahead]["percent"])) < 99
    assert rows[0]["setting"] == "flight N=16 30 GHz 20 m/s 0.25 ms"


def test_reference_is_named() -> None:
    truth = complex_normal(6, 8) / 8**0.5
    rows = compare_csi(truth, {"mine": truth, "other": complex_normal(6, 8, seed=2)}, scheme("mrt"), "mine")
    assert [row["worse_percent"] for row in rows] == [0, 100]


def test_hold_repeats_the_last_snapshot() -> None:
    observed = observe(draw_series(FLIGHT, 3, 20, 1), 10.0, "line", 0)
    assert torch.equal(hold(observed, 3), observed.history[:, [-1, -1, -1]])


@pytest.mark.skipif(importlib.util.find_spec("mitsuba") is None, reason="Sionna RT is not installed")
def test_rays_to_moving_users() -> None:
    """Snapshots of a shorter slot duration meet those of a longer one: Doppler shifts of one set of paths."""
    fine = munich_channels(8, 5, 16, 28e9, 20.0, 0.5e-3, 1)
    coarse = munich_channels(8, 3, 16, 28e9, 20.0, 1e-3, 1)
    assert fine.shape[1:] == (5, 16)
    torch.testing.assert_close(fine[:, ::2], coarse, rtol=1e-3, atol=1e-3 * float(fine.abs().max()))
    assert not torch.allclose(fine[:, 0], fine[:, 1], rtol=1e-3)


def test_rays_need_their_package() -> None:
    if importlib.util.find_spec("mitsuba") is None:
        with pytest.raises(NflaeError, match=r"pip install 'nflae-bridge\[rt\]'"):
            munich_channels(1, 1, 4, 28e9, 1.0, 1e-3, 0)
