"""CSI that is late or coarse: how far it is from the truth, by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import j0
from torch import Tensor

from simulator.csi.impairments import aged_csi, jakes_correlation, quantised_csi


def rayleigh(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def test_jakes_correlation() -> None:
    assert jakes_correlation(0.0, 30e9, 1.0) == 1.0
    # 10 m/s at 29.9792458 GHz: 1 kHz of Doppler
    assert jakes_correlation(10.0, 29.9792458e9, 125e-6) == pytest.approx(float(j0(2 * math.pi * 0.125)), abs=1e-12)


def test_aged_csi_has_the_gain_and_the_correlation_it_should() -> None:
    now = rayleigh(400, 3, 64) * torch.tensor([1e-6, 1.0, 1e3]).reshape(3, 1)
    then = aged_csi(now, 0.9, 3, torch.Generator().manual_seed(1))
    gain = torch.linalg.vector_norm(now, dim=-1).square().double()
    inner = (now.conj() * then).sum(-1)
    np.testing.assert_allclose((inner / gain).mean(0).real, 0.9**3, atol=0.01)
    np.testing.assert_allclose((then.abs().double().square().sum(-1) / gain).mean(0), 1.0, atol=0.02)


def test_csi_of_now_is_the_channel() -> None:
    now = rayleigh(2, 3, 8)
    torch.testing.assert_close(aged_csi(now, 0.5, 0, torch.Generator()), now)
    torch.testing.assert_close(aged_csi(now, 1.0, 7, torch.Generator()), now)


@pytest.mark.parametrize("bits", [1, 2, 5, 12])
def test_quantised_csi_takes_so_many_levels_and_errs_by_half_a_step(bits: int) -> None:
    channels = rayleigh(5, 3, 64) * torch.tensor([1e-6, 1.0, 1e3]).reshape(3, 1)
    coarse = quantised_csi(channels, bits)
    parts, rounded = torch.view_as_real(channels).flatten(-2), torch.view_as_real(coarse).flatten(-2)
    step = 2 * parts.abs().amax(-1, keepdim=True) / 2**bits
    assert float(((rounded - parts).abs() / step).max()) <= 0.5 + 1e-3
    for user in range(3):
        assert len(torch.unique((rounded[0, user] / step[0, user]).round(decimals=2))) <= 2**bits


def test_quantised_csi_of_nothing_is_nothing() -> None:
    assert not quantised_csi(torch.zeros(1, 2, 4, dtype=torch.complex64), 3).abs().any()
