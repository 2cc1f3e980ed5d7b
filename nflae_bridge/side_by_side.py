"""Users side by side: of several with nearly parallel channels, which ones a beam of their own is wasted on.

Two users alike in gain and in their coherences to everybody else look the same to any network that doesn't care in
which order users come, so it can only treat them alike; yet serving one of them is often better than half-serving
both. The engine therefore also tries the answer without the second one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.network.wavefront import mean_phase_step

COHERENCE = 0.5
_ALIKE = 1e-4


def redundant_users(gram: Tensor, channels: Tensor, near_field: Tensor, shares: Tensor) -> Tensor:
    """Users beside whom, |h_i^H h_j|^2 > COHERENCE ||h_i||^2 ||h_j||^2, stands one who comes first.

    First comes who was given more power; of equals the one with more gain, then the far-field one (C3 doesn't bind
    it), then the one with the larger mean phase step, which neither the users' order nor their phases change.
    Identical users go by their index.

    gram: complex (drops, users, users); channels: complex (drops, users, antennas); near_field: bool, shares: real
    (drops, users). Returns bool (drops, users).
    """
    gain = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
    parallel = gram.abs().square() > COHERENCE * gain.unsqueeze(-1) * gain.unsqueeze(-2)
    index = torch.arange(gain.shape[-1], device=gram.device)

    def ahead(value: Tensor) -> Tensor:
        return value.unsqueeze(-1) - value.unsqueeze(-2)  # [k, j] > 0: k ahead of j

    first = (index.unsqueeze(-1) < index).expand_as(parallel)
    power = torch.log(shares.clamp(min=1e-30))
    # The last decides. Copies of one user get powers that rounding moves apart by 1e-3 or so: alike within 10 %.
    for value, alike in (
        (mean_phase_step(channels.to(torch.complex128)), 1e-6),
        ((~near_field).float(), _ALIKE),
        (torch.log(gain), _ALIKE),
        (power, 0.1),
    ):
        difference = ahead(value)
        first = torch.where(difference.abs() > alike, difference > 0, first)
    return (parallel & first).any(-2)
