"""Estimate the channels of several users and drops from received pilots of known or unknown noise variance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.estimation.candidates import GainNetwork
from simulator.csi.estimation.estimate import Estimate, check_method, estimate_channels
from simulator.csi.estimation.least_squares import least_squares
from simulator.csi.estimation.pilots import Observation
from simulator.csi.noise_variance import (
    PooledNoise,
    noise_variance_of_history,
    pooled_noise,
)

_SERIES_AT_A_TIME = 512
_HIGHEST_SNR_DB = 300.0
_DOUBTFUL_SHARE = 2 / 3  # of the received power; Rayleigh fading: median 0.95 of single drops, 0.82 of 20 (N = 64)
LINE = ArrayGeometry("line")


@dataclass(frozen=True)
class EstimationMethod:
    """Describe how channels are estimated.

    Attributes
    ----------
    name : str
        Method, see `estimate_channels`.
    geometry : ArrayGeometry
        Arrangement of the antennas.
    pilots : Tensor, optional
        Phi, complex64 (antennas, symbols); orthogonal pilots, one observation per antenna, by default.
    noise_variance : float, optional
        sigma^2 per antenna or pilot symbol.
    csi_snr_db : float, optional
        SNR per antenna or pilot symbol, dB, instead. Neither: estimated from the noise floor of all drops of a user,
        or, of several snapshots without geometry, from the weak eigenvalues. ``auto`` then leaves pilots as received
        that show no wave beyond noise or no floor of noise, and arrays of less than 16 antennas.
    covariance : Tensor, optional
        E h h^H, complex (users or 1, antennas, antennas).
    network : GainNetwork, optional
        The network of method ``nflae``; without it, ``auto`` is the average of the others.
    device : torch.device
        Device of the computation, that of the tensors and the network above.
    """

    name: str = "auto"
    geometry: ArrayGeometry = LINE
    pilots: Tensor | None = None
    noise_variance: float | None = None
    csi_snr_db: float | None = None
    covariance: Tensor | None = None
    network: GainNetwork | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    def check(self) -> None:
        """Check the method and the noise level.

        Raises
        ------
        NflaeError
            If there is no such method, it lacks something, or a level is out of range.
        """
        check_method(self.name, self.geometry, self.pilots is not None, self.covariance is not None)
        snr, variance = self.csi_snr_db, self.noise_variance
        if snr is not None and variance is not None:
            raise NflaeError("the SNR and the noise variance state the same quantity; give one of them")
        if snr is not None and not abs(snr) <= _HIGHEST_SNR_DB:
            raise NflaeError(f"the SNR of the pilots must be a number of dB from -300 to 300, got {snr:g}")
        if variance is not None and not 0 < variance < float("inf"):
            raise NflaeError(f"the noise variance of the pilots must be positive and finite, got {variance:g}")

    @property
    def pools_noise(self) -> bool:
        """Return whether the noise variance is estimated from the beams of all drops of a user."""
        stated = self.csi_snr_db is not None or self.noise_variance is not None
        return not stated and self.pilots is None and self.geometry.kind != "none"

    def scaled(self, factor: float) -> EstimationMethod:
        """Return the method for channels that are multiplied by a factor."""
        power = factor**2
        variance, spread = self.noise_variance, self.covariance
        return replace(
            self,
            noise_variance=None if variance is None else variance * power,
            covariance=None if spread is None else spread * power,
        )


def estimate_users(received: Tensor, method: EstimationMethod, noise: PooledNoise | None = None) -> Estimate:
    """Estimate channels.

    Parameters
    ----------
    received : Tensor
        Conjugated received pilots y = Phi^H h + n, complex64 (groups, snapshots, users, symbols), none of them zero;
        the snapshots of a group have the directions of each user in common.
    method : EstimationMethod
        How to estimate.
    noise : PooledNoise, optional
        Noise of these groups, where they are part of more; by default that of ``received`` alone is estimated. Ignored
        unless the method pools the noise.

    Returns
    -------
    Estimate
        Channels, complex64 (groups, snapshots, users, antennas); error and estimated share of the noise, float32
        (groups, users), the error NaN if the noise variance is unknown; method per group and user, users fastest.

    Raises
    ------
    NflaeError
        If the noise variance is needed and cannot be estimated, or as `EstimationMethod.check`.
    """
    method.check()
    received = received.to(method.device)
    if not method.pools_noise:
        noise = None
    elif noise is None:
        noise = pooled_noise([received], method.geometry)
    scale = 2.0 ** math.frexp(float(torch.view_as_real(received).abs().max()))[1]
    if noise is not None:
        noise = replace(noise, variance=noise.variance / scale / scale)
    # no digit changes, float32 holds the squares
    found = _estimate_scaled(received / scale, method.scaled(1 / scale), noise)
    return replace(found, channels=found.channels * scale)


def _estimate_scaled(received: Tensor, method: EstimationMethod, noise: PooledNoise | None) -> Estimate:
    groups, snapshots, users, symbols = received.shape
    series = received.transpose(1, 2).reshape(groups * users, snapshots, symbols)
    parts = []
    for start in range(0, len(series), _SERIES_AT_A_TIME):
        part = series[start : start + _SERIES_AT_A_TIME]
        owner = (torch.arange(start, start + len(part), device=part.device)) % users
        within = slice(start, start + len(part))
        pooled = None if noise is None else _flat_part(noise, within)
        parts.append(_estimate(part, owner, method, pooled))
    channels = torch.cat([part.channels for part in parts])
    shares = [part.noise_share for part in parts if part.noise_share is not None]
    return Estimate(
        channels.reshape(groups, users, snapshots, -1).transpose(1, 2),
        torch.cat([part.csi_error_db for part in parts]).reshape(groups, users),
        [name for part in parts for name in part.method],
        torch.cat(shares).reshape(groups, users) if shares else None,
    )


def _flat_part(noise: PooledNoise, within: slice) -> PooledNoise:
    """Return the noise of series, users fastest."""
    confidence = None if noise.confidence is None else noise.confidence.flatten()[within]
    return PooledNoise(noise.variance.flatten()[within], noise.unknown.flatten()[within], confidence)


def doubt_noise(median_share: float) -> str | None:
    """Doubt an estimated noise variance that takes most of the received power.

    Parameters
    ----------
    median_share : float
        Median over users and drops of `Estimate.noise_share`.

    Returns
    -------
    str or None
        A line to be shown to the user; None without a doubt.
    """
    if not median_share > _DOUBTFUL_SHARE:
        return None
    return (
        f"the estimated noise is {100 * median_share:.0f} % of the received power: either the pilots are that noisy, or"
        " the channels fill all beams (rich scattering, another geometry) and are taken for noise; pilots without a"
        " significant wave are left as received; state --csi-snr-db or --noise-dbw (csi_snr_db or noise_variance in"
        " Python)"
    )


def _estimate(series: Tensor, owner: Tensor, method: EstimationMethod, pooled: PooledNoise | None) -> Estimate:
    power = series.abs().square().mean((1, 2), keepdim=True)
    unit = series / power.sqrt()  # whatever the unit of the file, float32 holds the squares
    variance, known = _noise_variance(unit, power[:, 0, 0], method, pooled)
    if variance is None:
        channels = least_squares(Observation(unit, torch.ones_like(power[:, 0, 0]), method.pilots))
        unknown = torch.full_like(power[:, 0, 0], torch.nan)
        return Estimate(channels * power.sqrt(), unknown, ["ls"] * len(series))
    covariance = method.covariance
    if covariance is not None:
        covariance = covariance if len(covariance) == 1 else covariance[owner]
        covariance = covariance / power.double()
    with torch.inference_mode():
        found = estimate_channels(
            Observation(unit, variance, method.pilots),
            method.geometry,
            method.name,
            method.network,
            covariance,
            known,
            None if pooled is None or pooled.confidence is None else pooled.confidence.to(variance.dtype),
        )
    estimated = method.csi_snr_db is None and method.noise_variance is None
    found = replace(found, channels=found.channels * power.sqrt(), noise_share=variance if estimated else None)
    if pooled is None or method.name != "auto" or covariance is not None:
        return found
    return Estimate(
        torch.where(pooled.unknown[:, None, None], series, found.channels),
        torch.where(pooled.unknown, torch.nan, found.csi_error_db),
        ["ls" if left else name for left, name in zip(pooled.unknown.tolist(), found.method, strict=True)],
        found.noise_share,
    )


def _noise_variance(
    unit: Tensor, power: Tensor, method: EstimationMethod, pooled: PooledNoise | None
) -> tuple[Tensor | None, Tensor]:
    """Return sigma^2 relative to the mean power, None where it is unknown and not needed, and if it is known."""
    known = torch.ones_like(power)
    least = torch.finfo(torch.float32).eps ** 2
    if method.csi_snr_db is not None:
        return (known / (1 + 10 ** (method.csi_snr_db / 10))).clamp(min=least), known
    if method.noise_variance is not None:
        return (method.noise_variance / power).clamp(min=least), known
    if pooled is not None:
        return (pooled.variance / power).float().clamp(least, 1), torch.zeros_like(power)
    if method.pilots is None and unit.shape[1] > 1:
        return noise_variance_of_history(unit).float().clamp(min=least), torch.zeros_like(power)
    if method.name == "ls":
        return None, known
    reason = "with a pilot matrix" if method.pilots is not None else "without geometry, of one snapshot,"
    raise NflaeError(
        f"the noise variance cannot be estimated {reason} and method {method.name} needs it: give --csi-snr-db or"
        " --noise-dbw (csi_snr_db or noise_variance in Python)"
    )
