"""Model CSI that is estimated from noisy pilots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.csi.estimation.estimate import estimate_channels
from simulator.csi.estimation.pilots import Observation
from simulator.csi.estimation.users import LINE
from simulator.csi.models import CsiContext, Stage
from simulator.csi.registry import register


@dataclass(frozen=True)
class PilotCsi:
    """`CsiPart` of CSI estimated from pilots of unit power by the average of classical methods, over a line array.

    Pilots of at least N symbols are orthogonal, and h + n is observed with noise averaged over symbols / N repetitions.
    Of fewer symbols, the transmit vectors have independent uniform phases and constant modulus, drawn once per call.

    Parameters
    ----------
    symbols
        Pilot symbols.
    snr_db
        SNR per antenna, dB: mean of |h_n|^2 / sigma^2, for symbols of unit power.
    """

    symbols: int
    snr_db: float
    stage = Stage.ESTIMATION
    slots = 0
    history = 1

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`."""
        antennas = snapshots.shape[-1]
        channels = snapshots.reshape(-1, 1, antennas)
        power = channels.abs().square().mean((1, 2))
        variance = power / 10 ** (self.snr_db / 10) / max(1.0, self.symbols / antennas)
        pilots = None
        if self.symbols < antennas:
            phase = 2 * math.pi * torch.rand(antennas, self.symbols, generator=context.generator)
            pilots = torch.polar(torch.full_like(phase, 1 / math.sqrt(antennas)), phase)
        observed = Observation(channels, variance, pilots).observed(channels)
        noise = torch.randn(observed.shape, dtype=observed.dtype, generator=context.generator)
        received = observed + variance.sqrt()[:, None, None] * noise
        # A channel of zero stays one: it has no SNR.
        variance = variance.clamp(min=torch.finfo(variance.dtype).tiny)
        return estimate_channels(Observation(received, variance, pilots), LINE).channels.reshape(snapshots.shape)

    def __str__(self) -> str:
        return f"pilots:{self.symbols},{self.snr_db:g}"


@register("pilots", form="pilots:SYMBOLS,DB")
def pilots(arguments: Sequence[str]) -> PilotCsi:
    """Parse CSI from pilots.

    Parameters
    ----------
    arguments
        Pilot symbols, and SNR per antenna, dB.

    Returns
    -------
    PilotCsi
        The part.

    Raises
    ------
    ValueError
        If they are anything else.
    """
    try:
        symbols, snr = (float(each) for each in arguments)
    except ValueError:
        symbols = snr = math.nan
    if not (abs(snr) <= 300 and 1 <= symbols < 1e6 and symbols == int(symbols)):
        raise ValueError("expected the number of pilot symbols and the SNR per antenna in dB, e.g. pilots:64,10")
    return PilotCsi(int(symbols), snr)
