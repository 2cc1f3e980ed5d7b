"""The noise variance of a history, against the noise that was added."""

from __future__ import annotations

import pytest
import torch

from simulator.csi.noise_variance import noise_variance_of_history


@pytest.mark.parametrize(("antennas", "paths"), [(64, 0), (64, 4), (256, 8), (8, 2)])
def test_noise_variance_is_found_beside_a_signal_of_low_rank(antennas: int, paths: int) -> None:
    g = torch.Generator().manual_seed(1)
    phase = torch.rand(50, 1, paths, generator=g) * torch.arange(16.0)[:, None]
    waves = torch.polar(torch.ones_like(phase), phase) @ torch.randn(
        50, paths, antennas, dtype=torch.complex64, generator=g
    )
    noise = torch.randn(50, 16, antennas, dtype=torch.complex64, generator=g)
    found = noise_variance_of_history(waves + 0.3 * noise) / 0.09
    assert found.mean() == pytest.approx(1, abs=0.05 if antennas > 8 else 0.15)
    assert found.std() < (0.08 if antennas > 8 else 0.25)


def test_no_noise_and_a_single_snapshot_give_none() -> None:
    x = torch.ones(2, 16, 32, dtype=torch.complex64)
    assert noise_variance_of_history(x).max() < 1e-9
    assert noise_variance_of_history(x[:, :1]).tolist() == [0, 0]
