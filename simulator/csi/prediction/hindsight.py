"""Combine predictors by hindsight: by the error with which each would have predicted the last known snapshots.

Every predictor computes coefficients from the history without its last A' snapshots. With v_l = [a_l; -1 at snapshot
Q - 1 + l], Q = P - A', its error at horizon l is v_l^H R v_l less the noise of the target, within the Gram matrices
alone; the strongest beams count by their power. From e_m, the mean of predictor m over the horizons, at least a tenth
of the noise, the coefficients of the whole history are combined with the weights

    w_m ~ p_m / e_m^1.5,   p_m = 8 for a learned predictor, 1 for others.

The same errors, at the weights chosen, estimate the error of the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from simulator.csi.prediction.linear import PreparedWindow
from simulator.csi.prediction.window import Predictor
from simulator.downlink.gram import squared_magnitude

LEAST_HISTORY = 4
JUDGED_ROWS = 5  # the window and its four strongest beams; more bring no sum rate
SHARE = 4  # at most a fourth of the history is predicted in hindsight
LEAST_ERROR = 1e-9
EXPONENT = 1.5  # of the errors
LEAST_NOISE_SHARE = 0.1  # of the noise of a target, below which errors are not told apart


@dataclass(frozen=True)
class Hindsight:
    """Hold the errors of predictors on the last known snapshots.

    Parameters
    ----------
    cross
        Products v_m^H R v_n of the errors of two predictors less the noise of the target, relative to the signal's
        power, real (series, horizons, predictors, predictors).
    noise
        Noise of a target relative to the signal's power, real (series,).
    """

    cross: Tensor
    noise: Tensor

    def errors(self) -> Tensor:
        """Return the mean relative error of each predictor over the horizons, real (series, predictors)."""
        least = (LEAST_NOISE_SHARE * self.noise + LEAST_ERROR).unsqueeze(1)
        return torch.maximum(self.cross.diagonal(dim1=-2, dim2=-1).mean(1), least)

    def weights(self, priority: Sequence[float]) -> Tensor:
        """Compute the weights with which predictions are combined.

        Parameters
        ----------
        priority
            p_m of each predictor.

        Returns
        -------
        Tensor
            Real (series, predictors), with the sum 1.
        """
        errors = self.errors()
        scores = torch.tensor(priority, dtype=errors.dtype, device=errors.device) / errors**EXPONENT
        return scores / scores.sum(-1, keepdim=True)

    def error_db(self, weights: Tensor, ahead: int) -> Tensor:
        """Estimate the error of a combination.

        Parameters
        ----------
        weights
            Real (series, predictors).
        ahead
            Number of horizons; those beyond the ones judged have the error of the last.

        Returns
        -------
        Tensor
            10 log10(||e||^2 / ||h||^2), real (series, ahead), dB; at least that of a tenth of the noise.
        """
        pair = weights.unsqueeze(2) * weights.unsqueeze(1)
        least = (LEAST_NOISE_SHARE * self.noise + LEAST_ERROR).unsqueeze(1)
        error = torch.maximum((self.cross * pair.unsqueeze(1)).sum((-2, -1)), least)
        last = torch.arange(ahead, device=error.device).clamp(max=error.shape[1] - 1)
        return 10 * torch.log10(error[:, last])


def look_back(prepared: PreparedWindow, predictors: Sequence[Predictor], ahead: int) -> Hindsight:
    """Predict the last known snapshots and compare.

    Parameters
    ----------
    prepared
        The window, of `LEAST_HISTORY` snapshots at least.
    predictors
        Predictors to compare.
    ahead
        Number of snapshots that will be predicted; at most a fourth of the history is judged.

    Returns
    -------
    Hindsight
        Their errors.
    """
    gram, noise = prepared.gram[:, :JUDGED_ROWS], prepared.noise[:, :JUDGED_ROWS]
    history = gram.shape[-1]
    judged = max(1, min(ahead, history // SHARE))
    known = history - judged
    early = gram[..., :known, :known]
    found = torch.stack([predictor(early, noise, judged) for predictor in predictors], 2)
    steps = torch.arange(judged, device=gram.device)
    deviation = pad(found.mT, (0, judged))  # (series, rows, predictors, judged, history)
    deviation[..., steps, known + steps] -= 1
    seen = (deviation.flatten(2, 3) @ gram.mT).view_as(deviation)
    cross = (deviation.conj().transpose(2, 3) @ seen.permute(0, 1, 3, 4, 2)).real - noise[..., None, None, None]
    share = _beam_shares(prepared)[:, :JUDGED_ROWS]
    signal = ((1 - noise).clamp(min=0.02) * share).sum(1)
    relative = (cross * share[..., None, None, None]).sum(1) / signal[:, None, None, None]
    return Hindsight(relative, (noise * share).sum(1) / signal)


def _beam_shares(prepared: PreparedWindow) -> Tensor:
    """Return the weight of each Gram matrix, real (series, rows): the power of its beam, or 1 of the only one."""
    if not prepared.strong.shape[1]:
        return torch.ones_like(prepared.noise)
    power = squared_magnitude(prepared.values).sum(1).gather(1, prepared.strong).to(prepared.noise.dtype)
    tiny = torch.finfo(power.dtype).tiny
    return pad(power / power.sum(1, keepdim=True).clamp(min=tiny), (1, 0))
