"""Estimate the noise variance of channel estimates from a history of snapshots, without knowing signal or geometry."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.prediction.temporal import temporal_gram

_PASSES = 8


def noise_variance_of_history(snapshots: Tensor) -> Tensor:
    """Estimate the noise variance per antenna and snapshot from the weak eigenvalues of the temporal Gram matrix.

    White noise gives min(P, N) eigenvalues within max(P, N) sigma^2 (1 +- sqrt(c))^2, c = min / max (Marchenko and
    Pastur). Eigenvalues above the upper edge count as signal, r in number; the others have the mean (max - r) sigma^2.
    The estimate starts from the weaker half and is repeated until r stays.

    Parameters
    ----------
    snapshots
        Complex (series, history, antennas).

    Returns
    -------
    Tensor
        sigma^2, float64 (series,); 0 for a single snapshot or antenna.
    """
    series, history, antennas = snapshots.shape
    few, many = sorted((history, antennas))
    if few == 1:
        return torch.zeros(series, dtype=torch.float64, device=snapshots.device)
    values = torch.linalg.eigvalsh(temporal_gram(snapshots))[:, history - few :].clamp(min=0)  # rising
    means = values.cumsum(1) / torch.arange(1, few + 1, device=values.device)
    edge = many * (1 + (few / many) ** 0.5) ** 2
    count = torch.full((series,), max(1, few // 2), device=values.device)
    variance: Tensor = means.gather(1, count.unsqueeze(1) - 1).squeeze(1) / (many - few + few // 2)
    for _ in range(_PASSES):
        count = (values <= edge * variance.unsqueeze(1)).sum(1).clamp(min=max(1, few // 4))
        variance = means.gather(1, count.unsqueeze(1) - 1).squeeze(1) / (many - few + count)
    return variance
