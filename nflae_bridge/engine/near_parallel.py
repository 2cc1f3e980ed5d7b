"""Users side by side: of several with nearly parallel channels, which ones a beam of their own is wasted on.

Two users alike in gain and in their coherences to everybody else look the same to any network that doesn't care in
which order users come, so it can only treat them alike; yet serving one of them is often better than half-serving
both. The engine therefore also tries the answer without the second one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.network.encoders.wavefront import mean_phase_step
from simulator.downlink.gram import squared_magnitude

COHERENCE = 0.5
ALIKE = 1e-4
ALIKE_STEPS = 1e-6
ALIKE_POWER = 0.1  # copies of one user get powers that rounding moves apart by 1e-3 or so


def redundant_users(gram: Tensor, channels: Tensor, near_field: Tensor, power_fractions: Tensor) -> Tensor:
    """Users beside whom, |h_i^H h_j|^2 > COHERENCE ||h_i||^2 ||h_j||^2, stands one who comes first.

    First comes who was given more power; of equals the one with more gain, then the far-field one (C3 doesn't bind
    it), then the one with the larger mean phase step, which neither the users' order nor their phases change.
    Identical users go by their index.

    gram: complex (drops, users, users); channels: complex (drops, users, antennas); near_field: bool, shares: real
    (drops, users). Returns bool (drops, users).
    """
    gain = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
    users = gain.shape[-1]
    index = torch.arange(users, device=gram.device)
    apart = index.unsqueeze(-1) != index
    parallel = (squared_magnitude(gram) > COHERENCE * gain.unsqueeze(-1) * gain.unsqueeze(-2)) & apart
    first, open_pairs = _ahead(torch.log(power_fractions.clamp(min=1e-30)), ALIKE_POWER, parallel)
    for value in (torch.log(gain), (~near_field).to(gain.dtype)):
        ahead, open_pairs = _ahead(value, ALIKE, open_pairs)
        first = first | ahead
    tied = open_pairs.any(-1)
    steps = torch.zeros_like(gain)
    if channels.is_cuda:  # to ask the GPU takes longer than to read all channels again
        steps = mean_phase_step(channels.to(torch.complex128))
    elif bool(tied.any()):
        steps[tied] = mean_phase_step(channels[tied].to(torch.complex128))
    else:
        return first.any(-2)
    ahead, left = _ahead(steps, ALIKE_STEPS, open_pairs)
    return (first | ahead | (left & (index.unsqueeze(-1) < index))).any(-2)


def switched_off(redundant: Tensor, wanted: Tensor, gram: Tensor, negligible: float) -> Tensor:
    """Drops on which the network has switched the doubled users off itself, so that one try without them will do.

    A share q of P moves SINRs by q max(1, ||h||^2 P / sigma^2), as a share of them; ``negligible``: up to which it is.

    doubled: bool, wanted: q, their lambda / P and P_k / P added up; real (drops, users). gram: complex (drops, users,
    users). Returns bool (drops,).
    """
    loudest = gram.diagonal(dim1=-2, dim2=-1).real.amax(-1).clamp(min=1)
    return (redundant * wanted).sum(-1) * loudest <= negligible


def _ahead(value: Tensor, alike: float, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Of these pairs [k, j], those in which k is ahead of j, and those in which the two are alike."""
    difference = value.unsqueeze(-1) - value.unsqueeze(-2)
    same = difference.abs() <= alike
    return pairs & ~same & (difference > 0), pairs & same
