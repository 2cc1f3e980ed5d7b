"""Estimate channels by the name of a method; ``auto`` averages methods by their estimated errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.estimation.candidates import (
    PLANE_WAVE_CHOICE,
    SPHERICAL_WAVE_CHOICE,
    Candidate,
    GainNetwork,
    least_squares_candidate,
    lmmse_candidate,
    network_candidate,
    soft_gain_candidate,
    sparse_candidate,
)
from simulator.csi.estimation.canonical import CanonicalBeams, canonical_beams
from simulator.csi.estimation.compressed import (
    channel_energy,
    compressed_least_squares,
    compressed_lmmse,
    compressed_sparse,
    energy_ratio,
)
from simulator.csi.estimation.matching_pursuit import Dictionary, dft_dictionary, polar_dictionary
from simulator.csi.estimation.pilots import Observation

METHODS = ("auto", "ls", "beam-gain", "omp", "polar-omp", "lmmse", "nflae")
NEEDS_BEAMS = ("beam-gain", "omp", "polar-omp", "nflae")
COMPRESSED = ("auto", "ls", "omp", "polar-omp", "lmmse")
"""Methods for fewer symbols than antennas."""
_PLANE_OVERSAMPLING = 8
_MOST_ATOMS = 32
_TEMPERATURE = 8.0  # of the weights, in noise variances; Leung and Barron's bound holds from 2 on
_PREFERENCE = {"nflae": 1.0, "lmmse": 1.0}  # logarithms of factors of the weights
_SPARSE_PREFERENCE = 1.5  # of omp beside the network: the smallest errors on a line of sight at -5 dB
_CREDIT = 1.5  # of LS, in standard deviations of ||n||^2 / sigma^2
_FALSE_ALARM = 0.01  # of the atoms of omp
_DOUBT, _MOST_DOUBT = 0.8, 0.3  # of a variance from few drops: per share of the beams that hold signal, and at most


@dataclass(frozen=True)
class Estimate:
    """Hold estimated channels with their expected error and origin.

    Attributes
    ----------
    channels : Tensor
        complex64 (series, snapshots, antennas).
    csi_error_db : Tensor
        Estimate of 10 log10(||h_hat - h||^2 / ||h||^2) over the snapshots, float32 (series,), dB.
    method : list of str
        Method of each series; of the largest weight where several are averaged.
    noise_share : Tensor, optional
        Estimated noise variance over the mean received power, float32 (series,); None for a stated or unused one.
    """

    channels: Tensor
    csi_error_db: Tensor
    method: list[str]
    noise_share: Tensor | None = None


def check_method(method: str, geometry: ArrayGeometry, compressed: bool, has_covariance: bool) -> None:
    """Check that a method exists and has what it needs.

    Parameters
    ----------
    method : str
        Name.
    geometry : ArrayGeometry
        Arrangement of the antennas.
    compressed : bool
        A pilot matrix is given.
    has_covariance : bool
        A covariance is given.

    Raises
    ------
    NflaeError
        If it does not; the message says what to do.
    """
    if method not in METHODS:
        raise NflaeError(f"no estimation method {method[:60]!r}: there are {', '.join(METHODS)}")
    if method in NEEDS_BEAMS and geometry.kind == "none":
        raise NflaeError(
            f"method {method} computes beams, which need the geometry: give --geometry line or panel:ROWSxCOLUMNS"
        )
    if compressed and method not in COMPRESSED:
        raise NflaeError(
            f"method {method} needs orthogonal pilots; with a pilot matrix there are {', '.join(COMPRESSED)}"
        )
    if method == "lmmse" and not has_covariance:
        raise NflaeError("method lmmse needs a covariance: give --covariance VAR")
    if has_covariance and method not in ("auto", "lmmse"):
        raise NflaeError(f"a covariance is for methods auto and lmmse: leave it out with method {method}")


def estimate_channels(
    observation: Observation,
    geometry: ArrayGeometry,
    method: str = "auto",
    network: GainNetwork | None = None,
    covariance: Tensor | None = None,
    known: Tensor | None = None,
    confidence: Tensor | None = None,
) -> Estimate:
    """Estimate channels from received pilots.

    ``auto`` averages the estimates f_i of all methods that the geometry, the covariance and the network allow,

        h = sum_i w_i f_i,   w_i ~ exp(-R_i / (8 sigma^2)),

    with Stein's unbiased risk estimates R_i (with a pilot matrix, cross-validated errors), and e w_i for nflae and
    lmmse. A method whose error is larger by some tens of noise variances has no weight. Averaging by weights loses less
    to the noise of the R_i than a choice does. From orthogonal pilots, R of LS is taken as 1.5 sqrt(N T) sigma^2 lower
    than N T sigma^2: the R_i of others err by as much, LS does not. Beside nflae, omp has the weight e^1.5 w_i.

    Parameters
    ----------
    observation : Observation
        Received pilots.
    geometry : ArrayGeometry
        Arrangement of the antennas; ``none`` leaves LS and LMMSE.
    method : str
        One of ``METHODS``.
    network : GainNetwork, optional
        The network of method ``nflae``.
    covariance : Tensor, optional
        E h h^H, complex (series or 1, antennas, antennas), for ``lmmse``.
    known : Tensor, optional
        1 where the noise variance is known, 0 where it is estimated, float32 (series,); known by default.
    confidence : Tensor, optional
        Of a noise variance estimated from one or two drops, 0 to 1, float32 (series,); for orthogonal pilots. The R_i
        are computed with at most this share of sigma^2.

    Returns
    -------
    Estimate
        Channels.

    Raises
    ------
    NflaeError
        If the method does not exist or something that it needs is missing.
    """
    geometry.check(observation.antennas)
    check_method(method, geometry, observation.pilots is not None, covariance is not None)
    if method == "nflae" and network is None:
        raise NflaeError("method nflae needs a network")
    scaled, scale = observation.normalised()
    relative = None if covariance is None else covariance / observation.noise_variance.double()[:, None, None]
    makers = _makers(scaled, geometry, network, relative, known)
    names = [name for name in makers if method in ("auto", name)]
    candidates = {name: makers[name]() for name in names}
    chosen, best = _mixture(candidates, _log_preference(names, observation), scaled.received, confidence)
    error_db = _relative_error_db(best.risk, scaled)
    return Estimate(best.channels * scale, error_db, [names[index] for index in chosen.tolist()])


def _relative_error_db(risk: Tensor, scaled: Observation) -> Tensor:
    """Return the estimated error over the energy of the channels, dB (series,), for a noise variance of 1."""
    least = scaled.received.shape[1] * energy_ratio(scaled)  # one gain per snapshot is estimated
    return 10 * torch.log10(risk.clamp(min=least) / channel_energy(scaled))


def _makers(
    scaled: Observation,
    geometry: ArrayGeometry,
    network: GainNetwork | None,
    covariance: Tensor | None,
    known: Tensor | None,
) -> dict[str, Callable[[], Candidate]]:
    """Return the methods for the pilots, by preference."""
    if scaled.pilots is not None:
        return _compressed_makers(scaled, geometry, covariance)
    known = torch.ones_like(scaled.noise_variance) if known is None else known
    return _orthogonal_makers(scaled, geometry, network, covariance, known)


def _orthogonal_makers(
    scaled: Observation, geometry: ArrayGeometry, network: GainNetwork | None, covariance: Tensor | None, known: Tensor
) -> dict[str, Callable[[], Candidate]]:
    """Return the methods for orthogonal pilots, by preference."""
    received = scaled.received
    makers: dict[str, Callable[[], Candidate]] = {}
    beams: list[CanonicalBeams] = []

    def shared_beams() -> CanonicalBeams:
        if not beams:
            beams.append(canonical_beams(scaled, geometry))
        return beams[0]

    if geometry.kind != "none" and network is not None:
        makers["nflae"] = lambda: network_candidate(shared_beams(), network, known)
    if covariance is not None:
        makers["lmmse"] = lambda: lmmse_candidate(received, covariance)
    if geometry.kind != "none":
        plane, spherical = _dictionaries(geometry, scaled.antennas)
        most = max(1, min(_MOST_ATOMS, scaled.antennas // 2))
        makers["beam-gain"] = lambda: soft_gain_candidate(shared_beams())
        makers["omp"] = lambda: sparse_candidate(received, plane, most, PLANE_WAVE_CHOICE, _FALSE_ALARM)
        makers["polar-omp"] = lambda: sparse_candidate(received, spherical, most, SPHERICAL_WAVE_CHOICE)
    makers["ls"] = lambda: least_squares_candidate(received)
    return makers


def _compressed_makers(
    scaled: Observation, geometry: ArrayGeometry, covariance: Tensor | None
) -> dict[str, Callable[[], Candidate]]:
    """Return the methods for fewer symbols than antennas, by preference."""
    makers: dict[str, Callable[[], Candidate]] = {}
    if covariance is not None:
        makers["lmmse"] = lambda: compressed_lmmse(scaled, covariance)
    if geometry.kind != "none":
        plane, spherical = _dictionaries(geometry, scaled.antennas)
        makers["omp"] = lambda: compressed_sparse(scaled, plane, _MOST_ATOMS)
        makers["polar-omp"] = lambda: compressed_sparse(scaled, spherical, _MOST_ATOMS)
    makers["ls"] = lambda: compressed_least_squares(scaled)
    return makers


def _dictionaries(geometry: ArrayGeometry, antennas: int) -> tuple[Dictionary, Dictionary]:
    sizes = geometry.grid(antennas)
    return dft_dictionary(sizes, _PLANE_OVERSAMPLING), polar_dictionary(sizes)


def _log_preference(names: list[str], observation: Observation) -> list[float]:
    """Return the logarithms of the factors of the weights."""
    preference = dict(_PREFERENCE)
    if observation.pilots is None:
        size = observation.received.shape[-1] * observation.received.shape[-2]
        preference["ls"] = _CREDIT * math.sqrt(size) / _TEMPERATURE
        preference["omp"] = _SPARSE_PREFERENCE if "nflae" in names else 0.0
    return [preference.get(name, 0.0) for name in names]


def _mixture(
    candidates: dict[str, Candidate], preference: list[float], received: Tensor, confidence: Tensor | None
) -> tuple[Tensor, Candidate]:
    """Average candidates with weights exp(preference - risk / _TEMPERATURE); return the largest weight's number, too.

    The error of the average is below that of its members by their spread about it.

    References
    ----------
    * G. Leung, A. R. Barron, "Information theory and mixing least-squares regressions", IEEE Transactions on
      Information Theory, 2006.
    """
    risks = torch.stack([each.risk for each in candidates.values()], -1)
    estimates = torch.stack([each.channels for each in candidates.values()], -1)
    factors = torch.tensor(preference, device=risks.device)
    judged = risks
    if confidence is not None:
        misfit = (estimates - received.unsqueeze(-1)).abs().square().sum((1, 2))
        judged = _cautious_risks(risks, misfit, factors, received[0].numel(), confidence)
    weights = torch.softmax(factors - judged / _TEMPERATURE, -1)
    channels = (estimates * weights[:, None, None]).sum(-1)
    spread = (estimates - channels.unsqueeze(-1)).abs().square().sum((1, 2))
    return weights.argmax(-1), Candidate(channels, (weights * (risks - spread)).sum(-1))


def _cautious_risks(risks: Tensor, misfit: Tensor, factors: Tensor, size: int, confidence: Tensor) -> Tensor:
    """Return risk estimates with c sigma^2 in place of sigma^2, (series, candidates); SURE is linear in it.

    A noise variance estimated too high makes every other method seem better than LS. c is the confidence, at most
    1 - min(0.3, 0.8 d / N T) with the degrees of freedom d of the average: the more beams hold signal, the higher the
    floor of the others is.
    """
    weights = torch.softmax(factors - risks / _TEMPERATURE, -1)
    freedom = (weights * (risks - misfit + size)).sum(-1) / (2 * size)
    counted = torch.minimum(1 - (_DOUBT * freedom).clamp(0, _MOST_DOUBT), confidence).unsqueeze(-1)
    return counted * risks + (1 - counted) * misfit
