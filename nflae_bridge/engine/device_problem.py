"""What an engine is asked, as tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from simulator.downlink.constraints import Limits


@dataclass(frozen=True)
class DeviceProblem:
    """Channels of several drops and what may be spent on each.

    channels: complex64 (drops, users, antennas). units: sqrt(P / sigma^2), float64 (drops or 1,).
    alpha_c, min_rate: as in `simulator.downlink.budget.LinkBudget`, float64 (drops,); limits: the same for those that can bind.
    near_field: bool (drops, users), who counts under C3; None: whom the network says.
    """

    channels: Tensor
    amplitude_scale: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    limits: Limits
    near_field: Tensor | None
