"""Find users with nearly parallel channels, only one of which is worth a beam.

Two users alike in gain and in their coherences to all others are the same to any network that is equivariant to the
order of users, so it can only treat them alike; yet serving one of them often gives more than serving both by half. The
engine therefore also computes the answer without the redundant one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.network.encoders.wavefront import mean_phase_step
from simulator.downlink.gram import squared_magnitude

COHERENCE = 0.5
SAME_GAIN = 1e-4
SAME_PHASE_STEP = 1e-6
SAME_POWER = 0.1
"""Difference of log powers up to which they count as equal: rounding moves powers of identical users by some 1e-3."""


def redundant_users(gram: Tensor, channels: Tensor | None, near_field: Tensor, power_fractions: Tensor) -> Tensor:
    """Mark users with |h_i^H h_j|^2 > COHERENCE ||h_i||^2 ||h_j||^2 to a user of higher priority.

    Priority is by power; among equals by gain; then far-field users precede near-field ones (C3 does not bind them);
    then by the mean phase step, which neither the users' order nor their phases change. Identical users are ranked by
    their index.

    Parameters
    ----------
    gram
        Gamma, complex (drops, users, users).
    channels
        complex (drops, users, antennas); None: without the mean phase step.
    near_field
        bool (drops, users).
    power_fractions
        P_k / P, real (drops, users).

    Returns
    -------
    Tensor
        bool (drops, users).
    """
    gain = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
    users = gain.shape[-1]
    index = torch.arange(users, device=gram.device)
    distinct = index.unsqueeze(-1) != index
    parallel = (squared_magnitude(gram) > COHERENCE * gain.unsqueeze(-1) * gain.unsqueeze(-2)) & distinct
    first, tied_pairs = _rank(torch.log(power_fractions.clamp(min=1e-30)), SAME_POWER, parallel)
    for value in (torch.log(gain), (~near_field).to(gain.dtype)):
        ahead, tied_pairs = _rank(value, SAME_GAIN, tied_pairs)
        first = first | ahead
    if channels is None:
        return (first | (tied_pairs & (index.unsqueeze(-1) < index))).any(-2)
    tied = tied_pairs.any(-1)
    steps = torch.zeros_like(gain)
    if channels.is_cuda:  # a transfer to the host takes longer than reading all channels again
        steps = mean_phase_step(channels.to(torch.complex128))
    elif bool(tied.any()):
        steps[tied] = mean_phase_step(channels[tied].to(torch.complex128))
    else:
        return first.any(-2)
    ahead, tied_pairs = _rank(steps, SAME_PHASE_STEP, tied_pairs)
    return (first | ahead | (tied_pairs & (index.unsqueeze(-1) < index))).any(-2)


def are_switched_off(redundant: Tensor, fractions: Tensor, gram: Tensor, negligible: float) -> Tensor:
    """Mark drops on which the network has switched redundant users off itself: the answer without them suffices.

    A fraction q of P changes SINRs by q max(1, ||h||^2 P / sigma^2), relative to them.

    Parameters
    ----------
    redundant
        bool (drops, users).
    fractions
        q, the sum of lambda / P and P_k / P, real (drops, users).
    gram
        Gamma, complex (drops, users, users).
    negligible
        Relative change up to which a user counts as switched off.

    Returns
    -------
    Tensor
        bool (drops,).
    """
    loudest = gram.diagonal(dim1=-2, dim2=-1).real.amax(-1).clamp(min=1)
    return (redundant * fractions).sum(-1) * loudest <= negligible


def without_users(users: Tensor, fractions: Tensor) -> Tensor:
    """Switch users off and distribute the whole power among the others in proportion.

    Parameters
    ----------
    users
        Users to switch off, bool (drops, users).
    fractions
        lambda / P or P_k / P, real (drops, users).

    Returns
    -------
    Tensor
        real (drops, users).
    """
    kept = fractions * ~users
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)


def _rank(value: Tensor, same: float, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return of these pairs [k, j] those in which k precedes j, and those in which the two are equal."""
    difference = value.unsqueeze(-1) - value.unsqueeze(-2)
    equal = difference.abs() <= same
    return pairs & ~equal & (difference > 0), pairs & equal
