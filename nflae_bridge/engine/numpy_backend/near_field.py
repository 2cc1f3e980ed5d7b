"""Score users near-field: on a CPU by the curvature of a wave that is clear and off the border, else by the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.engine.onnx_graphs import WavefrontGraph
from nflae_bridge.network.encoders.wavefront import scaled_to_range
from nflae_bridge.network.model import PrecodingNetwork
from simulator.geometry.clear_waves import LEAST_CLEAR_ANTENNAS, ClearWaves, clear_waves

LEAST_USERS = 160
"""Users below which the network alone takes less time, were none of them doubtful."""

_FAR = (0.0, 0.3, 0.6, 0.75, 0.86, 0.89, 0.92)
_NEAR = (1.04, 1.07, 1.1, 1.2, 1.4, 1.65, 2.0, 4.0, 8.0, 20.0)
# The less of the energy a wave explains, the further other waves can move its curvature across the border at 0.97.
_SHARES = (0.99, 0.995)
_FAR_BELOW, _NEAR_ABOVE = np.array([0.6, 0.86, _FAR[-1]]), np.array([1.4, 1.1, _NEAR[0]])
_BORDER = 0.5  # of scores
_SLOPE = 0.1  # cycles per antenna

Real = npt.NDArray[np.float64]


class NearFieldScores:
    """Compute near-field scores.

    Parameters
    ----------
    network
        Network whose encoder classifies.
    exported
        Its exported classifier, used on a CPU from the second call on, up to as many antennas as it is faster. None:
        PyTorch computes all scores, and no curvature decides.
    """

    def __init__(self, network: PrecodingNetwork, exported: WavefrontGraph | None) -> None:
        self._network, self._exported = network, exported
        self._known: dict[int, _Known | None] = {}

    def __call__(self, channels: Tensor, clear: ClearWaves | None = None) -> Tensor:
        """Compute near-field scores.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).
        clear
            Their clear waves, where these are known.

        Returns
        -------
        Tensor
            Near-field scores, float64 (drops, users). Of users whose wave explains 0.97, 0.99 or 0.995 of the energy,
            with a curvature below 0.6, 0.86 or 0.92, or above 1.4, 1.1 or 1.04 and below 20, they are the scores of the
            classifier for waves of the same curvature without scattering.
        """
        channels = channels.detach()
        users, antennas = channels.reshape(-1, channels.shape[-1]), channels.shape[-1]
        many = clear is not None or len(users) >= LEAST_USERS
        known = self._known_scores(antennas) if many and self._has_curvature(users) else None
        if known is None:
            return self.classify(channels)
        score, doubtful = known.scores(clear_waves(channels) if clear is None else clear)
        if len(doubtful) == len(score):
            return self.classify(channels)
        if len(doubtful):
            score[doubtful] = self.classify(users[torch.from_numpy(doubtful)].unsqueeze(0))[0].numpy()
        return torch.from_numpy(score).reshape(channels.shape[:-1])

    def _has_curvature(self, users: Tensor) -> bool:
        """Return whether the curvature can decide, on a CPU."""
        return self._exported is not None and users.device.type == "cpu" and users.shape[1] >= LEAST_CLEAR_ANTENNAS

    def _known_scores(self, antennas: int) -> _Known | None:
        """Return the scores of known curvatures; None where the border of the network lies elsewhere."""
        if antennas not in self._known:
            self._known[antennas] = _Known.of(self.classify, antennas)
        return self._known[antennas]

    def classify(self, channels: Tensor) -> Tensor:
        """Compute the scores of the network.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).

        Returns
        -------
        Tensor
            float64 (drops, users).
        """
        channels, exported = scaled_to_range(channels), self._exported
        if exported is not None and channels.device.type == "cpu" and channels.shape[-1] <= exported.max_antennas:
            if exported.requested and not exported.unusable:
                computed = exported.scores(channels.resolve_conj().contiguous().numpy())
                if computed is not None:
                    return torch.from_numpy(computed)
            exported.requested = True
        with torch.no_grad():
            return torch.sigmoid(self._network.near_field_logit(channels).double())


class _Known(NamedTuple):
    """Hold the scores of a classifier for the curvatures `_FAR` and `_NEAR`."""

    far: Real
    near: Real

    @staticmethod
    def of(classify: Callable[[Tensor], Tensor], antennas: int) -> _Known | None:
        """Classify waves of these curvatures; None for a classifier of another border."""
        found = classify(_reference_waves(antennas))[0].numpy()
        known = _Known(found[: len(_FAR)], found[len(_FAR) :])
        return known if known.far.max() <= _BORDER < known.near.min() else None

    def scores(self, clear: ClearWaves) -> tuple[Real, npt.NDArray[np.intp]]:
        """Return the scores of curvatures, (users,), and the indices of users to be classified."""
        curvature, clearness = clear.curvature.reshape(-1), np.searchsorted(_SHARES, clear.share.reshape(-1))
        far = curvature < _FAR_BELOW.take(clearness)
        near = (curvature > _NEAR_ABOVE.take(clearness)) & (curvature < _NEAR[-1])
        score = np.where(far, np.interp(curvature, _FAR, self.far), np.interp(curvature, _NEAR, self.near))
        return score, np.flatnonzero(~(far | near))


@lru_cache(8)
def _reference_waves(antennas: int) -> Tensor:
    """Return waves of the curvatures `_FAR`, then `_NEAR`, at a slope, complex64 (1, curvatures, antennas)."""
    t = (torch.arange(antennas, dtype=torch.float64) + 0.5) / antennas - 0.5
    cycles = torch.tensor([*_FAR, *_NEAR], dtype=torch.float64)[:, None] * t.square() + _SLOPE * antennas * t
    return torch.polar(torch.ones_like(cycles), -2 * math.pi * cycles).to(torch.complex64)[None]
