"""Detect drops on which K x K algebra loses digits, and measure the gains of the beams that are returned instead.

Beams of near-parallel users are small differences of large vectors: from Gamma alone their energy has a relative error
of 1e-16 times the ratio of the vectors' energies to the difference's. The beams themselves, formed from the channels in
double precision, keep their digits. Further, beams are returned in single precision: at 80 dB the rounding of their
nulls is no longer far below the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate, form_beams, project_powers
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import MAX_FP32_SNR, compute_amplitude_scale, squared_magnitude
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.structure import Beams, structured_beams

MAX_CANCELLATION = 1e7
MAX_ALGEBRA_SNR = 1e8


def loses_digits(gram: Tensor, beams: Beams) -> Tensor:
    """Mark drops whose effective gains must be measured on the beams themselves.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex128 (drops, users, users).
    beams : Beams
        Beams of regularised zero forcing.

    Returns
    -------
    Tensor
        bool (drops,).
    """
    gains = gram.diagonal(dim1=-2, dim2=-1).real
    parts = (squared_magnitude(beams.coefficients) * gains.unsqueeze(-1)).sum(-2)
    cancels = (parts > MAX_CANCELLATION * beams.energy).any(-1)
    strongest = gains.amax(-1)
    return (strongest > MAX_ALGEBRA_SNR) | (cancels & (strongest > MAX_FP32_SNR))


def measure_gains(channels: Tensor, amplitude_scale: Tensor, coefficients: Tensor) -> Tensor:
    """Compute F of the beams in single precision, as they are returned.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex64 (drops, users, antennas).
    amplitude_scale : Tensor
        sqrt(P / sigma^2), float64 (drops or 1,).
    coefficients : Tensor
        C, complex128 (drops, users, users).

    Returns
    -------
    Tensor
        F, float64 (drops, users, users).
    """
    beams = form_beams(channels, coefficients).to(torch.complex128)
    scaled = channels.to(torch.complex128) * amplitude_scale.reshape(-1, 1, 1)
    return squared_magnitude(scaled.conj() @ beams.transpose(-1, -2))


def measured(
    candidate: Candidate,
    measure: Callable[[Tensor], Tensor],
    target_power_fractions: Tensor,
    near_field: Tensor,
    limits: Limits,
) -> Candidate:
    """Compute a candidate of the same directions from the gains of the beams as they are returned.

    Parameters
    ----------
    candidate : Candidate
        Candidate of every drop.
    measure : callable
        Function from C to F: `measure_gains` of the drops' channels.
    target_power_fractions, near_field, limits
        As in `candidates.project_powers`.

    Returns
    -------
    Candidate
        Candidate of every drop.
    """
    gains = measure(candidate.coefficients)
    dual = candidate.dual_power_fractions
    return project_powers(candidate.coefficients, gains, target_power_fractions, near_field, limits, dual)


def measured_where_lossy(
    candidate: Candidate,
    batch: ChannelBatch,
    gram: Tensor,
    needs_float64: Tensor,
    target_power_fractions: Tensor,
    near_field: Tensor,
    budget: LinkBudget,
) -> Candidate:
    """Replace a candidate by `measured` on the drops that `loses_digits` marks.

    Parameters
    ----------
    candidate : Candidate
        Candidate of every drop.
    batch : ChannelBatch
        Channels.
    gram, needs_float64 : Tensor
        As from `gram.mixed_precision_gram`.
    target_power_fractions, near_field
        As in `candidates.project_powers`.
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Candidate
        Candidate of every drop.
    """
    if not bool(needs_float64.any()):
        return candidate
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    lossy = needs_float64.clone()
    lossy[needs_float64] = loses_digits(
        gram[needs_float64], structured_beams(gram[needs_float64], equal[needs_float64])
    )
    if not bool(lossy.any()):
        return candidate
    part = budget.select(lossy)
    measure = partial(measure_gains, batch.channels[lossy], compute_amplitude_scale(part, gram.device))
    exact = measured(
        candidate.select(lossy), measure, target_power_fractions[lossy], near_field[lossy], part.limits(equal)
    )
    return candidate.replaced(lossy, exact)
