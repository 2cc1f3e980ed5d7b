"""Measure CSI by the sum rate of the precoders computed from it, by NMSE and by SGCS."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr, rates

USERS = 6  # per drop
BUDGET = LinkBudget(1.0, 0.01)  # P / sigma^2 = 20 dB for ||h|| = 1
_RESAMPLES = 1_000


def sum_rates(truth: Tensor, csi: Tensor, scheme: Scheme, users: int = USERS) -> Tensor:
    """Compute the sum rates that precoders computed from CSI reach on the true channels.

    Parameters
    ----------
    truth
        h with a mean ||h||^2 of 1, complex64 (series, antennas); ``users`` successive series form a drop, and
        an incomplete last drop is left out.
    csi
        The transmitter's CSI, complex64 (series, antennas).
    scheme
        Scheme that computes the precoders.
    users
        K.

    Returns
    -------
    Tensor
        Sum rate per drop, float64 (drops,), bps/Hz.
    """
    drops = len(truth) // users

    def grouped(series: Tensor) -> Tensor:
        return series[: drops * users].reshape(drops, users, -1).contiguous()

    answer = scheme(ChannelBatch(grouped(csi)), BUDGET)
    reached = achieved_sinr(grouped(truth), answer.precoder.cpu(), answer.power.cpu(), BUDGET.noise_power)
    return rates(reached).sum(-1).double()


def nmse_db(truth: Tensor, csi: Tensor) -> float:
    """Return the mean over series of 10 log10(||h_hat - h||^2 / ||h||^2).

    Parameters
    ----------
    truth, csi
        complex (series, antennas).

    Returns
    -------
    float
        dB.
    """
    error = torch.linalg.vector_norm(csi - truth, dim=-1) / torch.linalg.vector_norm(truth, dim=-1)
    return float(20 * torch.log10(error.double().clamp(min=1e-6)).mean())


def sgcs(truth: Tensor, csi: Tensor) -> float:
    """Return the mean squared generalised cosine similarity |h_hat^H h|^2 / (||h_hat||^2 ||h||^2).

    Parameters
    ----------
    truth, csi
        complex (series, antennas).

    Returns
    -------
    float
        0 to 1; a common phase does not change it.
    """
    inner = (csi.conj() * truth).sum(-1).abs()
    norms = torch.linalg.vector_norm(csi, dim=-1) * torch.linalg.vector_norm(truth, dim=-1)
    return float((inner / norms.clamp(min=1e-30)).double().square().mean())


def ratio_interval(values: Tensor, reference: Tensor, seed: int = 0) -> tuple[float, float, float]:
    """Compute the ratio of two means with its 95 % interval, by a bootstrap over pairs.

    Parameters
    ----------
    values, reference
        Real (drops,), of the same drops.
    seed
        Seed of the resampling.

    Returns
    -------
    ratio, low, high : float
        mean(values) / mean(reference), and the 2.5 % and 97.5 % quantiles of the resampled ratios.
    """

    def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
        return numerator.mean(-1) / denominator.mean(-1)

    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(len(values), (_RESAMPLES, len(values)), generator=generator)
    low, high = torch.quantile(ratio(values[picked], reference[picked]), torch.tensor([0.025, 0.975]).double()).tolist()
    return float(ratio(values, reference)), low, high
