"""Compute the estimate of each method with its estimated squared error, from fewer pilot symbols than antennas.

Misfit says nothing about the channel outside the pilots' span. Errors are therefore cross-validated: an estimate from
three quarters of the symbols predicts the others, y_m = phi_m^H h + n_m, and its error there is that of the channel in
the directions phi_m. Pilots that excite all directions alike are assumed in the step to ||h_hat - h||^2. The number of
atoms is the one of least error, and the estimate f is shrunk by the factor of least error, at most 1. Where noise is
the smaller error within the pilots' span, f + Phi (Phi^H Phi)^-1 (y - Phi^H f) is returned, which explains all pilots.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from simulator.csi.estimation.candidates import Candidate
from simulator.csi.estimation.least_squares import least_squares
from simulator.csi.estimation.lmmse import lmmse
from simulator.csi.estimation.matching_pursuit import Dictionary, SparseEstimate, matching_pursuit
from simulator.csi.estimation.pilots import Observation

_FOLDS = 4


def compressed_sparse(scaled: Observation, dictionary: Dictionary, most: int) -> Candidate:
    """Estimate by `matching_pursuit` with a cross-validated number of atoms.

    Parameters
    ----------
    scaled : Observation
        Received pilots of unit noise variance.
    dictionary : Dictionary
        Atoms.
    most : int
        Largest number of atoms; half the number of symbols, if that is less.

    Returns
    -------
    Candidate
    """
    most = max(1, min(most, scaled.received.shape[-1] // 2))

    def fit(observation: Observation) -> Tensor:
        return _path(matching_pursuit(observation, dictionary, most, at_least_one=True), most)

    sparse = _cross_validated(scaled, fit)
    noise, unseen = _least_squares_error(scaled)
    misfit = Observation(scaled.received - scaled.observed(sparse.channels), scaled.noise_variance, scaled.pilots)
    consistent = noise + unseen * sparse.risk
    better = consistent < sparse.risk
    channels = sparse.channels + better[:, None, None] * least_squares(misfit)
    return Candidate(channels, torch.where(better, consistent, sparse.risk))


def compressed_least_squares(scaled: Observation) -> Candidate:
    """Estimate by least squares of minimum norm; the error is noise, and the energy that the pilots do not see.

    Parameters
    ----------
    scaled : Observation
        Received pilots of unit noise variance.

    Returns
    -------
    Candidate
    """
    noise, unseen = _least_squares_error(scaled)
    return Candidate(least_squares(scaled), noise + unseen * channel_energy(scaled))


def compressed_lmmse(scaled: Observation, covariance: Tensor) -> Candidate:
    """Estimate by LMMSE, whose error has the covariance C - C Phi (Phi^H C Phi + I)^-1 Phi^H C.

    Parameters
    ----------
    scaled : Observation
        Received pilots of unit noise variance.
    covariance : Tensor
        C in units of the noise variance, complex (series or 1, antennas, antennas).

    Returns
    -------
    Candidate
    """
    wide = covariance.to(torch.complex128)
    pilots = torch.as_tensor(scaled.pilots).to(wide.dtype)
    cross = wide @ pilots
    inner = pilots.mH @ cross + torch.eye(pilots.shape[1], dtype=wide.dtype, device=wide.device)
    explained = (cross.conj() * torch.linalg.solve(inner, cross.mH).mT.conj()).sum((-2, -1)).real
    error = wide.diagonal(dim1=-2, dim2=-1).real.sum(-1) - explained
    received = scaled.received
    return Candidate(lmmse(scaled, covariance), (received.shape[1] * error).float().expand(len(received)))


def energy_ratio(scaled: Observation) -> float:
    """Compute the energy of a channel per energy of its pilots, averaged over all directions: N / ||Phi||^2.

    Parameters
    ----------
    scaled : Observation
        Received pilots.

    Returns
    -------
    float
        1 for orthogonal pilots.
    """
    return 1.0 if scaled.pilots is None else scaled.antennas / float(scaled.pilots.abs().square().sum())


def channel_energy(scaled: Observation) -> Tensor:
    """Estimate the energy of the channels over all snapshots; at least the uncertainty of the noise's energy.

    Parameters
    ----------
    scaled : Observation
        Received pilots of unit noise variance.

    Returns
    -------
    Tensor
        float32 (series,).
    """
    size = scaled.received.shape[1] * scaled.received.shape[2]
    energy = (scaled.received.abs().square().sum((1, 2)) - size).clamp(min=math.sqrt(size))
    return energy * energy_ratio(scaled)


def _least_squares_error(scaled: Observation) -> tuple[float, float]:
    """Compute the squared error of least squares within the pilots' span, and the part of all directions outside it."""
    pilots = torch.as_tensor(scaled.pilots).to(torch.complex128)
    noise = float(torch.linalg.svdvals(pilots).pow(-2).sum()) * scaled.received.shape[1]
    return noise, 1 - pilots.shape[1] / pilots.shape[0]


def _path(result: SparseEstimate, most: int) -> Tensor:
    """Return the estimates by 1 to ``most`` atoms, (series, snapshots, most, antennas)."""
    steps = (result.gains.unsqueeze(-1) * result.basis.unsqueeze(1)).cumsum(2)
    return torch.cat([steps, steps[:, :, -1:].expand(-1, -1, most - steps.shape[2], -1)], 2)


def _cross_validated(scaled: Observation, fit: Callable[[Observation], Tensor]) -> Candidate:
    """Choose among the estimates (series, snapshots, choices, antennas) of a method, and shrink the chosen one."""
    pilots = torch.as_tensor(scaled.pilots)
    received, symbols = scaled.received, scaled.received.shape[-1]
    choices = fit(scaled)
    folds = min(_FOLDS, symbols)
    overlap = torch.zeros_like(choices[:, 0, :, 0].real)
    power = torch.zeros_like(overlap)
    for fold in range(folds if symbols > 1 else 0):
        held = torch.arange(symbols, device=received.device) % folds == fold
        part = Observation(received[..., ~held], scaled.noise_variance, pilots[:, ~held])
        predicted = fit(part) @ pilots[:, held].conj()
        predicted = predicted[:, :, : choices.shape[2]]
        overlap = overlap + (predicted.conj() * received[..., held].unsqueeze(2)).real.sum((1, 3))
        power = power + predicted.abs().square().sum((1, 3))
    factor = (overlap / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(0, 1)
    gained = 2 * factor * overlap - factor.square() * power  # energy of the pilots that the prediction explains
    most, index = gained.max(-1)
    picked = choices.gather(2, index[:, None, None, None].expand(-1, choices.shape[1], 1, choices.shape[3])).squeeze(2)
    shrink = factor.gather(1, index.unsqueeze(1)).unsqueeze(1)
    # A channel of zero has no direction: where nothing is predicted, the first estimate is kept, small.
    shrink = shrink.clamp(min=0.1)
    energy = received.abs().square().sum((1, 2)) - received.shape[1] * symbols
    return Candidate(shrink * picked, (energy - most).clamp(min=0) * energy_ratio(scaled))
