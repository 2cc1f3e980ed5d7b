"""Decide the sign of phase of a track's channels from its snapshots."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.localization import conclusive_sign, sign_evidence

__all__ = ["PhaseSign"]

_SNAPSHOTS = 32  # weighed, at most


class PhaseSign:
    """Weigh the likelihoods of both signs over the first snapshots, in a block over some that are spread evenly.

    Parameters
    ----------
    array
        The array.
    """

    def __init__(self, array: UniformLinearArray) -> None:
        self._array = array
        self._total = torch.zeros(0, dtype=torch.float64)  # nats, of each user
        self._weighed = torch.zeros(0, dtype=torch.float64)  # channels of each user
        self._snapshots = 0
        self.conjugated: bool | None = None
        """Whether the channels h have phases exp(+j k r); None while the waves are too plane to tell."""

    def weigh(self, channels: Tensor, known: Tensor) -> bool:
        """Weigh further channels until there are enough.

        Parameters
        ----------
        channels
            complex64 (steps, users, antennas).
        known
            Which of them are finite and not zero, bool (steps, users).

        Returns
        -------
        bool
            Whether a sign was assumed before that is not the one now.
        """
        if not self._snapshots:
            self._total = self._weighed = torch.zeros(channels.shape[1], dtype=torch.float64)
        usable = torch.nonzero(known.any(-1))[:, 0]
        count = min(len(usable), _SNAPSHOTS - self._snapshots)
        if not count:
            return False
        chosen = usable[torch.linspace(0, len(usable) - 1, count).round().long()]
        held = known[chosen]
        evidence = torch.zeros(held.shape, dtype=torch.float64)
        evidence[held] = sign_evidence(self._array, channels[chosen][held])
        self._total, self._weighed = self._total + evidence.sum(0), self._weighed + held.sum(0)
        self._snapshots += count
        seen = self._weighed > 0
        before, found = bool(self.conjugated), conclusive_sign(self._total[seen] / self._weighed[seen])
        self.conjugated = self.conjugated if found is None else found
        return bool(self.conjugated) != before
