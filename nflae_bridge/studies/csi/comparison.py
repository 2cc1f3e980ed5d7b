"""Compare methods of CSI acquisition by what the precoder makes of their CSI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.studies.csi.measures import USERS, nmse_db, ratio_interval, sgcs, sum_rates
from nflae_bridge.studies.csi.settings import Setting, draw_series
from simulator.downlink.precoding import Scheme

HISTORY = 16
Row = dict[str, str | float | int | None]


@dataclass(frozen=True)
class Observation:
    """Hold the noisy history of independent users.

    Parameters
    ----------
    history
        complex64 (users, history, antennas), oldest first.
    noise_variance
        sigma^2 per antenna and snapshot, real (users,).
    geometry
        As in `Setting`.
    """

    history: Tensor
    noise_variance: Tensor
    geometry: str


# Predicts complex64 (users, ahead, antennas), 1 to ``ahead`` snapshots after the history.
Method = Callable[[Observation, int], Tensor]


def hold(observed: Observation, ahead: int) -> Tensor:
    """Return the last snapshot for every horizon; the reference of all comparisons.

    Parameters
    ----------
    observed
        The history.
    ahead
        Number of snapshots.

    Returns
    -------
    Tensor
        complex64 (users, ahead, antennas).
    """
    return observed.history[:, -1:].expand(-1, ahead, -1)


def compare_csi(
    truth: Tensor, csi: Mapping[str, Tensor], scheme: Scheme, reference: str = "hold", users: int = USERS
) -> list[Row]:
    """Compare several sets of CSI of the same channels.

    Parameters
    ----------
    truth
        h with a mean ||h||^2 of 1, complex64 (series, antennas).
    csi
        CSI of each method by name, complex64 (series, antennas), ``reference`` among them.
    scheme
        Scheme that computes the precoders.
    reference
        Method with which the others are compared per drop.
    users
        Users per drop.

    Returns
    -------
    list of dict
        One row per method: ``method``, ``drops``, ``sum_rate`` (bps/Hz), ``percent`` of the sum rate from perfect CSI
        with its 95 % interval ``low`` to ``high``, ``nmse_db``, ``sgcs``, and ``worse_percent``: drops whose sum rate
        is more than 1 % below that of the reference.
    """
    perfect = sum_rates(truth, truth, scheme, users)
    floor = sum_rates(truth, csi[reference], scheme, users)
    rows: list[Row] = []
    for name, estimate in csi.items():
        reached = sum_rates(truth, estimate, scheme, users)
        percent, low, high = (100 * value for value in ratio_interval(reached, perfect))
        rows.append(
            {
                "method": name,
                "drops": len(reached),
                "sum_rate": float(reached.mean()),
                "percent": percent,
                "low": low,
                "high": high,
                "nmse_db": nmse_db(truth, estimate),
                "sgcs": sgcs(truth, estimate),
                "worse_percent": 100 * float((reached < 0.99 * floor).double().mean()),
            }
        )
    return rows


def observe(series: Tensor, snr_db: float, geometry: str, seed: int, history: int = HISTORY) -> Observation:
    """Add estimation noise to the first snapshots of series.

    Parameters
    ----------
    series
        h, complex64 (users, snapshots, antennas).
    snr_db
        SNR per antenna, below the mean power of a user over all snapshots, dB.
    geometry
        As in `Setting`.
    seed
        Seed of the noise.
    history
        Number of snapshots observed.

    Returns
    -------
    Observation
        Noisy history with its noise variance.
    """
    generator = torch.Generator().manual_seed(seed)
    noise_variance = series.abs().square().mean((1, 2)) / 10 ** (snr_db / 10)
    noise = torch.randn(series[:, :history].shape, dtype=torch.complex64, generator=generator)
    noisy = series[:, :history] + noise * noise_variance.sqrt()[:, None, None]
    return Observation(noisy, noise_variance, geometry)


def compare_predictors(
    setting: Setting,
    methods: Mapping[str, Method],
    scheme: Scheme,
    snr_db: float,
    horizons: Sequence[int] = (1, 4),
    users: int = 240,
    seed: int = 1,
) -> list[Row]:
    """Compare predictors on one set of sequences and SNR.

    Parameters
    ----------
    setting
        Set of sequences.
    methods
        Predictors by name; ``hold`` is added.
    scheme
        Scheme that computes the precoders.
    snr_db
        SNR per antenna of the history, dB.
    horizons
        Numbers of snapshots ahead to evaluate.
    users
        Number of series; drops of six are formed of them.
    seed
        Seed of channels and noise.

    Returns
    -------
    list of dict
        Rows of `compare_csi` with ``setting``, ``snr_db`` and ``ahead``, one per method and horizon.
    """
    ahead = max(horizons)
    series = draw_series(setting, users, HISTORY + ahead, seed)
    observed = observe(series, snr_db, setting.geometry, seed + 1)
    predicted = {name: method(observed, ahead) for name, method in {"hold": hold, **methods}.items()}
    rows: list[Row] = []
    for horizon in horizons:
        csi = {name: channels[:, horizon - 1] for name, channels in predicted.items()}
        where: Row = {"setting": setting.name, "snr_db": snr_db, "ahead": horizon}
        rows += [where | row for row in compare_csi(series[:, HISTORY + horizon - 1], csi, scheme)]
    return rows
