"""Predict the channels of several users from histories with gaps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.noise_variance import noise_variance_of_history
from simulator.csi.prediction.paths import Paths, find_paths
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Prediction, Predictor, Window
from simulator.csi.sequences.history import fill_gaps
from simulator.downlink.gram import squared_magnitude

DEFAULT_HISTORY, DEFAULT_AHEAD = 16, 4
_LEAST_SIDE = 6  # snapshots on one side of a gap from which it is predicted


@dataclass(frozen=True)
class PredictionMethod:
    """Describe how channels are predicted.

    Parameters
    ----------
    ahead
        Number A of snapshots to predict.
    name
        Method, see `predict_window`.
    geometry
        Arrangement of the antennas.
    csi_snr_db
        SNR per antenna of the snapshots, dB; None: estimated from the history.
    network
        Learned predictor, for the methods that use one.
    """

    ahead: int = DEFAULT_AHEAD
    name: str = "auto"
    geometry: ArrayGeometry = ArrayGeometry()  # noqa: RUF009 - frozen
    csi_snr_db: float | None = None
    network: Predictor | None = None


def check_ahead(ahead: int, history: int) -> None:
    """Check that no more than half the length of the history is predicted; any number from a single snapshot.

    Parameters
    ----------
    ahead
        Snapshots to predict.
    history
        Snapshots of the history.

    Raises
    ------
    NflaeError
        If ``ahead`` is less than 1 or more than half of ``history``.
    """
    if ahead < 1:
        raise NflaeError(f"ahead must be at least 1 snapshot, got {ahead}")
    if history > 1 and 2 * ahead > history:
        raise NflaeError(
            f"{ahead} snapshots ahead is beyond half the history of {history}: give at most {max(1, history // 2)}, or"
            f" a history of {2 * ahead} snapshots or more"
        )


def predict_users(histories: Tensor, missing: Tensor, method: PredictionMethod) -> Prediction:
    """Predict the snapshots that follow each history of each user.

    Parameters
    ----------
    histories
        complex64 (windows, history, users, antennas), oldest first, equally spaced; zero in gaps.
    missing
        Gaps, bool (windows, history, users).
    method
        How to predict.

    Returns
    -------
    Prediction
        Channels, complex64 (windows, ahead, users, antennas); error, (windows, ahead, users); method per window and
        user, users fastest. A user without any snapshot has NaN. Gaps after the last known snapshot of a user are
        predicted too, with those that follow; gaps before the first one shorten the history.
    """
    windows, history, users, antennas = histories.shape
    series = histories.transpose(1, 2).reshape(windows * users, history, antennas)
    gaps = missing.transpose(1, 2).reshape(windows * users, history)
    scale = _scale(series)
    found = _predict_series(series * scale.reciprocal(), gaps, method)
    empty = gaps.all(-1)
    channels = torch.where(empty[:, None, None], torch.nan, found.channels * scale)
    error = torch.where(empty[:, None], torch.nan, found.csi_error_db.to(torch.float64))
    return Prediction(
        channels.reshape(windows, users, method.ahead, antennas).transpose(1, 2),
        error.reshape(windows, users, method.ahead).transpose(1, 2),
        found.method,
    )


def _predict_series(series: Tensor, gaps: Tensor, method: PredictionMethod) -> Prediction:
    """Predict each series from its snapshots between the first and the last known one, gaps in between filled."""
    if not bool(gaps.any()):
        return _predict_filled(series, 0, method)
    count, history, antennas = series.shape
    filled = _bridged(fill_gaps(series, gaps), gaps, method.csi_snr_db)
    channels = series.new_empty(count, method.ahead, antennas)
    error = torch.empty(count, method.ahead, dtype=torch.float64)
    names = [""] * count
    for first, stop, rows in _known_spans(gaps):
        found = _predict_filled(filled[rows, first:stop], history - stop, method)
        channels[rows], error[rows.cpu()] = found.channels, found.csi_error_db.to(error)
        for row, name in zip(rows.tolist(), found.method, strict=True):
            names[row] = name
    return Prediction(channels, error, names)


def _known_spans(gaps: Tensor) -> list[tuple[int, int, Tensor]]:
    """Return the first known snapshot and the one after the last, and the series that have them; all of gaps alone."""
    known = (~gaps | gaps.all(-1, keepdim=True)).to(torch.int8)
    spans = torch.stack([known.argmax(-1), gaps.shape[1] - known.flip(-1).argmax(-1)], -1)
    return [
        (first, stop, (spans == spans.new_tensor([first, stop])).all(-1).nonzero().squeeze(-1))
        for first, stop in sorted({(first, stop) for first, stop in spans.tolist()})
    ]


def _bridged(series: Tensor, gaps: Tensor, csi_snr_db: float | None) -> Tensor:
    """Predict interpolated gaps anew from the side with more snapshots, where these suffice, one run after another.

    Interpolation is linear: of users of several paths it leaves an error that a later prediction would amplify.
    """
    for pattern in sorted({tuple(row) for row in gaps.tolist()}):
        known = [place for place, missing in enumerate(pattern) if not missing]
        rows = (gaps == gaps.new_tensor(pattern)).all(-1).nonzero().squeeze(-1)
        for last, after in pairwise(known):
            if after - last == 1:
                continue
            first, stop = known[0], known[-1] + 1
            filled = series[rows, last + 1 : after]
            if stop - after > last + 1 - first and not any(pattern[after:stop]):
                filled = _before(series[rows, after:stop], filled, csi_snr_db)
            else:
                filled = _after(series[rows, first : last + 1], filled, csi_snr_db)
            series[rows, last + 1 : after] = filled
    return series


def _extended(series: Tensor, gaps: Tensor, csi_snr_db: float | None) -> Tensor:
    """Predict the gaps before the first and after the last known snapshot anew, too, from those in between."""
    for first, stop, rows in _known_spans(gaps):
        known = series[rows, first:stop]
        series[rows, stop:] = _after(known, series[rows, stop:], csi_snr_db)
        series[rows, :first] = _before(known, series[rows, :first], csi_snr_db)
    return series


def _after(known: Tensor, filled: Tensor, csi_snr_db: float | None) -> Tensor:
    """Return a prediction of the gaps after known snapshots, or where these are too few, as they are filled."""
    count = filled.shape[1]
    if not count or known.shape[1] < max(_LEAST_SIDE, 2 * count):
        return filled
    return _predict_filled(known, 0, PredictionMethod(count, "ar", csi_snr_db=csi_snr_db)).channels


def _before(known: Tensor, filled: Tensor, csi_snr_db: float | None) -> Tensor:
    """Return the same of the gaps before known snapshots."""
    return _after(known.flip(1), filled.flip(1), csi_snr_db).flip(1)


def _predict_filled(series: Tensor, skipped: int, method: PredictionMethod) -> Prediction:
    """Predict the snapshots that follow the ``skipped`` ones after each series without gaps."""
    window = Window(series, _noise_variance(series, method.csi_snr_db), method.geometry)
    found = predict_window(window, skipped + method.ahead, method.name, method.network)
    return Prediction(found.channels[:, skipped:], found.csi_error_db[:, skipped:], found.method)


def paths_of_users(histories: Tensor, missing: Tensor, csi_snr_db: float | None) -> Paths:
    """Find the paths of each user in each history, of the responses h^H from the antennas to the user.

    Parameters
    ----------
    histories
        h, complex64 (windows, history, subcarriers, users, antennas), oldest first, equally spaced; zero in gaps.
    missing
        Gaps, bool (windows, history, subcarriers, users).
    csi_snr_db
        SNR per antenna of the snapshots, dB; None: estimated.

    Returns
    -------
    Paths
        Arrays of (windows, users, paths); NaN where a user has no snapshot, or one alone.
    """
    windows, history, carriers, users, antennas = histories.shape
    series = histories.permute(0, 3, 2, 1, 4).conj().resolve_conj()  # windows, users, subcarriers, history, antennas
    scale = _scale(series.reshape(windows * users, -1, antennas))
    gaps = missing.permute(0, 3, 2, 1).reshape(-1, history)
    each = (series.reshape(windows * users, -1, antennas) / scale).reshape(-1, history, antennas)
    if bool(gaps.any()):
        each = _extended(_bridged(fill_gaps(each, gaps), gaps, csi_snr_db), gaps, csi_snr_db)
    variance = _noise_variance(each, csi_snr_db).reshape(-1, carriers).mean(-1)
    found = find_paths(each.reshape(-1, carriers, history, antennas).transpose(1, 2).cpu(), variance.cpu())
    power = found.power * scale.double().cpu()[:, :, 0].square()
    shape = (windows, users, -1)
    return Paths(found.doppler.reshape(shape), found.delay.reshape(shape), power.reshape(shape))


def _scale(series: Tensor) -> Tensor:
    """Return the power of two above the largest part of each series, (series, 1, 1), so that no product overflows."""
    largest = torch.view_as_real(series.resolve_conj()).abs().amax((1, 2, 3))
    _, exponent = torch.frexp(largest)
    return torch.ldexp(torch.ones_like(largest), exponent.clamp(-125, 127))[:, None, None]


def _noise_variance(series: Tensor, csi_snr_db: float | None) -> Tensor:
    """Return sigma^2 per series: the estimate, or that of an SNR at the mean power, which contains the noise."""
    if csi_snr_db is None:
        return noise_variance_of_history(series)
    power = squared_magnitude(series).mean((1, 2)).double()
    return power / (1 + 10 ** (csi_snr_db / 10))
