"""Define the network that estimates channels by two gains per beam, for any number of antennas.

Received beams b (after the canonical step, unit noise variance) and their fit f by few plane waves give

    h_m = g_m f_m + k_m (b_m - f_m),   0 < g_m, k_m < 1

with g the confidence in the fit and k that in its residual. Fit and residual powers of the beam and its neighbours
determine the gains: circular convolutions, so that the weights serve any number of beams. Over a panel the same
convolutions run along both dimensions, and their mean is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from nflae_bridge.network.interface import TaskNetwork
from simulator.csi.estimation.canonical import CanonicalBeams

_LOCAL, _GLOBAL = 5, 8
_RESIDUAL_OFFSET, _FIT_OFFSET = -1.5, 2.0


@dataclass(frozen=True)
class BeamGainConfig:
    """Size of the network.

    Attributes
    ----------
    width : int
        Channels of the convolutions.
    layers : int
        Convolutions.
    taps : int
        Beams under a convolution, odd.
    """

    width: int = 32
    layers: int = 4
    taps: int = 7


class CircularConvolution(nn.Module):
    """Convolve along each dimension of the array, with one kernel, and average over the dimensions.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    taps : int
        Beams under the kernel, odd.
    """

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__()
        self.taps = taps
        self.along = nn.Conv1d(inputs, outputs, taps)

    def forward(self, values: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        values : Tensor
            float32 (series, inputs, beams) or (series, inputs, columns, rows).

        Returns
        -------
        Tensor
            float32 (series, outputs, ...).
        """
        if values.ndim == 3:
            return self._convolve(values)
        series, _, columns, rows = values.shape
        down = self._convolve(values.transpose(1, 2).flatten(0, 1)).reshape(series, columns, -1, rows)
        across = self._convolve(values.permute(0, 3, 1, 2).flatten(0, 1)).reshape(series, rows, -1, columns)
        return (down.transpose(1, 2) + across.permute(0, 2, 3, 1)) / 2

    def _convolve(self, values: Tensor) -> Tensor:
        beams, half = values.shape[-1], self.taps // 2
        wrapped = torch.arange(-half, beams + half, device=values.device) % beams
        result: Tensor = self.along(values[..., wrapped])
        return result


class BeamGainNetwork(TaskNetwork):
    """Network of circular convolutions from powers per beam to two gains per beam.

    Parameters
    ----------
    config : BeamGainConfig
        Size of the network.
    """

    def __init__(self, config: BeamGainConfig) -> None:
        super().__init__()
        self.config = config
        self.local = CircularConvolution(_LOCAL, config.width, config.taps)
        self.whole = nn.Linear(_GLOBAL, config.width)
        self.layers = nn.ModuleList(
            [CircularConvolution(config.width, config.width, config.taps) for _ in range(config.layers - 1)]
        )
        self.gains = nn.Conv1d(config.width, 2, 1)
        nn.init.normal_(self.gains.weight, std=1e-2)
        nn.init.zeros_(self.gains.bias)  # type: ignore[arg-type]

    def forward(self, beams: CanonicalBeams, received: Tensor, fit: Tensor, known: Tensor) -> Tensor:
        """Estimate beams.

        Parameters
        ----------
        beams : CanonicalBeams
            Geometry and number of atoms.
        received : Tensor
            Beams b, complex64 (series, snapshots, beams), with unit noise variance.
        fit : Tensor
            Their fit f, complex64 (series, snapshots, beams).
        known : Tensor
            1 where the noise variance is known, 0 where it is estimated from the same beams, float32 (series,).

        Returns
        -------
        Tensor
            Estimated beams, complex64 (series, snapshots, beams).
        """
        residual = received - fit
        total, fitted, left = (values.abs().square().mean(1) for values in (received, fit, residual))
        local = torch.stack(
            [(total + 0.1).log(), (fitted + 0.1).log(), (left + 0.1).log(), (fitted + 1e-3).log() / 3, left.log1p()], 1
        )
        count = beams.atoms.to(total.dtype)
        powers = [total.mean(-1), total.amax(-1), fitted.mean(-1), left.mean(-1), left.amax(-1)]
        whole = [(power + 0.01).log() for power in powers]
        whole += [torch.full_like(count, math.log(received.shape[1])), count.log1p(), known]
        hidden = self.local(local.reshape(*local.shape[:2], *beams.geometry.grid(total.shape[-1])))
        shift = self.whole(torch.stack(whole, -1))
        hidden = gelu(hidden + shift.reshape(*shift.shape, *[1] * (hidden.ndim - 2)))
        for layer in self.layers:
            hidden = hidden + gelu(layer(hidden))
        logits = self.gains(hidden.flatten(2))
        confidence = torch.sigmoid(logits[:, 0] + _FIT_OFFSET)
        rest = torch.sigmoid(logits[:, 1] + (left + 1e-3).log() + _RESIDUAL_OFFSET)
        return confidence.unsqueeze(1) * fit + rest.unsqueeze(1) * residual


def build(config: BeamGainConfig, offline: bool) -> BeamGainNetwork:
    """Build the network with random weights.

    Parameters
    ----------
    config : BeamGainConfig
        Size of the network.
    offline : bool
        Without effect: no part is pretrained.

    Returns
    -------
    BeamGainNetwork
    """
    return BeamGainNetwork(config)
