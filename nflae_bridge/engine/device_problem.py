"""Hold a batch and its budget as tensors on the engine's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import compute_amplitude_scale
from simulator.downlink.precoding import ChannelBatch


@dataclass(frozen=True)
class DeviceProblem:
    """Hold channels of several drops and the constraints on each.

    Attributes
    ----------
    channels
        complex64 (drops, users, antennas).
    amplitude_scale
        sqrt(P / sigma^2), float64 (drops or 1,).
    alpha_c, min_rate
        As in `simulator.downlink.budget.LinkBudget`, float64 (drops,).
    limits
        The same, without those that bind on no drop.
    near_field
        bool (drops, users), users that count under C3; None: by the network's labels.
    """

    channels: Tensor
    amplitude_scale: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    limits: Limits
    near_field: Tensor | None

    @staticmethod
    def of(batch: ChannelBatch, budget: LinkBudget) -> DeviceProblem:
        """Make the problem of a batch on its device.

        Parameters
        ----------
        batch
            Channels, and labels where they are known.
        budget
            Link budget.

        Returns
        -------
        DeviceProblem
        """
        drops, users, _ = batch.channels.shape
        device, near = batch.channels.device, batch.near_field
        one = torch.ones(drops, dtype=torch.float64, device=device)
        alpha_c = per_drop(budget.alpha_c, one).expand(drops)
        if not budget.constrains_near_field:
            near = torch.zeros(drops, users, dtype=torch.bool, device=device)
        elif near is not None:
            near = near & (alpha_c < 1).unsqueeze(-1)
        min_rate = per_drop(budget.min_rate, one).expand(drops)
        scale = compute_amplitude_scale(budget, device)
        return DeviceProblem(batch.channels, scale, alpha_c, min_rate, budget.limits(one), near)

    def select(self, drops: Tensor) -> DeviceProblem:
        """Return the drops where ``drops``, bool (drops,), is true."""
        scale = self.amplitude_scale if len(self.amplitude_scale) == 1 else self.amplitude_scale[drops]
        near = None if self.near_field is None else self.near_field[drops]
        limits = self.limits.select(drops)
        return DeviceProblem(self.channels[drops], scale, self.alpha_c[drops], self.min_rate[drops], limits, near)
