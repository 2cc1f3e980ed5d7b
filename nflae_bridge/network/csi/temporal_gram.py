"""Predict from temporal Gram matrices: the network states a small least-squares problem per matrix, which is solved.

Rows are the Gram matrices R of a user's window: that of all antennas, and those of its strong beams where the geometry
is known, without mean Doppler and with a mean diagonal of 1, averaged over both directions of time. They are the tokens
of GPT-2's blocks. The network sees nothing else, so it is equivariant under unitary maps of the antennas and
indifferent to N, scale, carrier and phase.
Per row it outputs a Doppler spectrum S_f, log-ridges u_i and v_l, window weights w_d and shares c_l, which define

    r_k = sum_f S_f exp(j 2 pi f k),   W = (T + s I)^-1 [r_{l+P-1-t}],   T_ts = r_{s-t}            (Wiener prediction)
    A_l = (M_l + D_l)^-1 (b_l + D_l W'_l),   D_l = diag(exp(u_i + v_l)),  W' = W of the last p snapshots (correction)
    result: c_l A_l + (1 - c_l) W,

M_l, b_l the sums over all windows of p snapshots with a known target, weighted by w_d
(`simulator.csi.prediction.temporal.window_sums`). Any number of horizons follows from r_k. Histories shorter than 16
are padded with zeros in the features; of longer ones the last 16 snapshots count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nflae_bridge.network.csi.temporal_features import LEAST_NOISE, periodogram_weights, waves
from nflae_bridge.network.csi.temporal_gram_arrays import Run, TemporalGramArrays
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.trunk import UserTrunk
from simulator.csi.prediction.temporal import forward_backward, toeplitz, window_sums


@dataclass(frozen=True)
class TemporalGramConfig:
    """Configure the network.

    Parameters
    ----------
    history
        Snapshots that the features hold.
    order
        Length p of the windows of the correction.
    horizons
        Horizons with a log-ridge and a share of their own; later ones share the last.
    bins
        Bins of the Doppler spectrum.
    width, layers, heads
        Size of the trunk.
    """

    history: int = 16
    order: int = 10
    horizons: int = 8
    bins: int = 64
    width: int = 64
    layers: int = 3
    heads: int = 4


class TemporalGramNetwork(TaskNetwork):
    """Compute prediction coefficients from Gram matrices.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: TemporalGramConfig) -> None:
        super().__init__()
        self.config = config
        size = config.history
        self.embed = nn.Linear(size * size + config.bins + 3, config.width)
        self.trunk = UserTrunk(config.width, config.layers, config.heads, 1)
        self.parts = (config.bins, config.order, size - config.order, config.horizons, config.horizons, 2)
        self.head = nn.Linear(config.width, sum(self.parts))
        nn.init.normal_(self.head.weight, std=1e-2)
        nn.init.zeros_(self.head.bias)
        self._arrays: TemporalGramArrays | None = None

    def forward(self, gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
        """Compute coefficients.

        Parameters
        ----------
        gram
            R, complex128 (series, rows, history, history), mean diagonal 1; the first row is that of all antennas.
        noise
            Noise in the diagonals, float64 (series, rows).
        ahead
            Number of horizons.

        Returns
        -------
        Tensor
            complex128 (series, rows, history, ahead).
        """
        series, rows, full, _ = gram.shape
        history = min(full, self.config.history)
        gram = forward_backward(gram[:, :, full - history :, full - history :])
        noise = noise.clamp(min=LEAST_NOISE)
        spectrum, features = self._features(gram, noise)
        bias = features.new_zeros(series, self.config.heads, rows, rows)
        outputs = torch.split(self.outputs(features, bias).double(), list(self.parts), -1)
        gram, noise = gram.flatten(0, 1), noise.flatten()
        unit = self._correlation(spectrum.flatten(0, 1).double(), outputs[0], history + ahead)
        levels = outputs[5].clamp(-3, 3).exp()
        power = (1 - noise).clamp(min=0.02) * levels[:, 0]
        floor = noise * levels[:, 1] + LEAST_NOISE
        scaled = unit * power.unsqueeze(-1)
        order = max(1, history * self.config.order // self.config.history)
        wiener, prior = _solve_wiener(scaled, floor, history, order)
        corrected = self._correct(gram, prior, noise, outputs, ahead)
        share = torch.sigmoid(_extended(outputs[4], ahead)).unsqueeze(1)
        result = (1 - share) * wiener + nn.functional.pad(share * corrected, (0, 0, history - order, 0))
        return nn.functional.pad(result, (0, 0, full - history, 0)).view(series, rows, full, ahead)

    def outputs(self, features: Tensor, bias: Tensor) -> Tensor:
        """Compute what defines the coefficients.

        Parameters
        ----------
        features
            float32 (series, rows, features).
        bias
            Zero, float32 (series, heads, rows, rows).

        Returns
        -------
        Tensor
            Spectrum, ridges, weights and shares, float32 (series * rows, sum of ``parts``).
        """
        result: Tensor = self.head(self.trunk(self.embed(features), bias)).flatten(0, 1)
        return result

    def freeze(self, run: Run | None = None) -> None:
        """Fix the weights and allow the form for NumPy arrays.

        Parameters
        ----------
        run
            `outputs` for NumPy arrays; None: `outputs` itself.
        """
        self.requires_grad_(False)
        self._arrays = TemporalGramArrays(self, run)

    def array_predictor(self) -> TemporalGramArrays | None:
        """Return the form for NumPy arrays.

        Returns
        -------
        TemporalGramArrays or None
            None unless the network is frozen and on the CPU.
        """
        return self._arrays if self.head.weight.device.type == "cpu" else None

    def _features(self, gram: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithmic periodogram and all features, float32 (series, rows, bins) and (..., features)."""
        history, size = gram.shape[-1], self.config.history
        padded = nn.functional.pad(gram, (size - history, 0, size - history, 0))
        halves = (padded.real.triu() + padded.imag.tril(-1)).flatten(-2)
        power = halves @ periodogram_weights(self.config.bins, size, halves.device) / history**2
        spectrum = torch.log(power.clamp(min=0) + noise.unsqueeze(-1) / history + 1e-4).float()
        level = torch.log10(noise.clamp(max=2)).float()
        common = torch.zeros_like(level)
        common[:, 0] = 1
        extra = torch.stack([level, common, torch.full_like(level, history / size)], -1)
        return spectrum, torch.cat([halves.float(), spectrum / 4, extra], -1)

    def _correlation(self, periodogram: Tensor, logits: Tensor, lags: int) -> Tensor:
        """Return the autocorrelation of unit power of the Doppler spectrum, complex128 (rows, lags)."""
        shares = torch.softmax(periodogram + 10 * logits, -1)
        parts = shares @ waves(self.config.bins, lags, shares.device)
        return torch.complex(*parts.chunk(2, -1))

    def _correct(self, gram: Tensor, prior: Tensor, noise: Tensor, outputs: tuple[Tensor, ...], ahead: int) -> Tensor:
        """Return the prior corrected by the least-squares problem of the windows, (rows, order, ahead)."""
        order, history = prior.shape[1], gram.shape[-1]
        direct = min(ahead, history - order)
        if direct < 1:
            return prior
        count = history - order
        weights = outputs[2][:, :count].clamp(-6, 6).exp().flip(-1)
        normal, cross = window_sums(gram, order, direct, weights)
        taps, levels = outputs[1][:, self.config.order - order :], _extended(outputs[3], direct)
        ridge = (taps.unsqueeze(1) + levels.unsqueeze(2)).clamp(-8, 10).exp() * (noise[:, None, None] + 1e-5)
        normal.diagonal(dim1=-2, dim2=-1).add_(ridge)
        corrected = torch.linalg.solve_ex(normal, cross + ridge * prior[:, :, :direct].mT)[0].mT
        return torch.cat([corrected, prior[:, :, direct:]], -1)


def _extended(values: Tensor, ahead: int) -> Tensor:
    """Return values per horizon, the last repeated, (rows, ahead)."""
    return values[:, torch.arange(ahead, device=values.device).clamp(max=values.shape[1] - 1)]


def _solve_wiener(correlation: Tensor, floor: Tensor, history: int, order: int) -> tuple[Tensor, Tensor]:
    """Return the Wiener coefficients of the last ``history`` and ``order`` snapshots, oldest first.

    Newest first, the equations of fewer snapshots are the leading ones: both have one Cholesky factor in common.

    Parameters
    ----------
    correlation
        complex128 (rows, history + ahead).
    floor
        Added to the diagonal, float64 (rows,).
    history, order
        Numbers of snapshots, ``order`` the smaller.

    Returns
    -------
    tuple of Tensor
        complex128 (rows, history, ahead) and (rows, order, ahead).
    """
    matrix, target = toeplitz(correlation, history)
    noise = torch.diag_embed(floor.unsqueeze(-1).expand(-1, history)).to(matrix.dtype)
    factor = torch.linalg.cholesky_ex(matrix + noise).L
    half = torch.linalg.solve_triangular(factor, target, upper=False)
    longer, shorter = (
        torch.linalg.solve_triangular(factor[:, :size, :size].mH, half[:, :size], upper=True).flip(1)
        for size in (history, order)
    )
    return longer, shorter
