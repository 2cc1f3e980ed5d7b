"""Estimate the squared error of an estimator without the truth (Stein's unbiased risk estimate, SURE).

For y = h + n, n ~ CN(0, sigma^2 I), and an estimator f that is weakly differentiable,

    E ||f(y) - h||^2 = E [ ||f(y) - y||^2 - N sigma^2 + 2 sigma^2 Re sum_n df_n / dy_n ]

with Wirtinger derivatives: the sum counts the observations that f keeps (its degrees of freedom).

References
----------
* C. M. Stein, "Estimation of the mean of a multivariate normal distribution", The Annals of Statistics, 1981.
* S. Ramani, T. Blu, M. Unser, "Monte-Carlo SURE", IEEE Transactions on Image Processing, 2008.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_STEP = 0.01  # of the probe, in units of the noise amplitude


def risk(received: Tensor, estimate: Tensor, divergence: Tensor, noise_variance: Tensor) -> Tensor:
    """Compute SURE of an estimate.

    Parameters
    ----------
    received : Tensor
        y, complex (series, snapshots, antennas).
    estimate : Tensor
        f(y), complex (series, snapshots, antennas).
    divergence : Tensor
        Re sum df / dy over snapshots and antennas, real (series,).
    noise_variance : Tensor
        sigma^2, real (series,).

    Returns
    -------
    Tensor
        Estimated ||f(y) - h||^2 over all snapshots, real (series,); it may be negative.
    """
    misfit = (estimate - received).abs().square().sum((-2, -1))
    size = received.shape[-1] * received.shape[-2]
    return misfit + noise_variance * (2 * divergence - size)


def probed_divergence(
    estimator: Callable[[Tensor], Tensor], received: Tensor, estimate: Tensor, generator: torch.Generator
) -> Tensor:
    """Estimate the divergence of an estimator by one random probe of both quadratures.

    Parameters
    ----------
    estimator : Callable
        f, of y in units of the noise amplitude.
    received : Tensor
        y, complex64 (series, snapshots, antennas).
    estimate : Tensor
        f(y), complex64 (series, snapshots, antennas).
    generator : torch.Generator
        Source of the probe, on the CPU.

    Returns
    -------
    Tensor
        Re sum df / dy, float32 (series,).
    """
    # One probe for all series: an estimate does not depend on the place of its user.
    quarter = torch.randint(4, received.shape[1:], generator=generator).expand(received.shape).to(received.device)
    probe = torch.polar(torch.ones_like(received.real), quarter * (torch.pi / 2))
    change = (estimator(received + _STEP * probe) - estimate) / _STEP
    # Quarter turns have E p^2 = 0: the part of f that depends on the conjugate of y averages out.
    return (probe.conj() * change).real.sum((-2, -1))
