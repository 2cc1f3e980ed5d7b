"""Hold drops by the inner products of their users, in the precision that they need, and their solutions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.downlink.gram import MAX_FP32_COHERENCE, MAX_FP32_SNR, MIN_FP32_ENERGY
from simulator.problems.algebra import Bool, Complex, diagonal, exact_gram, gains_and_coherence, squares

Real = npt.NDArray[np.floating[Any]]

_MIN_FP32_SNR = 1e-2  # below it 1 - B_kk has few digits


@dataclass(frozen=True)
class Drops:
    """Hold drops and the inner products of their users, all in single or all in double precision.

    Attributes
    ----------
    channels
        complex64 (drops, users, antennas); None where the inner products alone are known.
    gram
        Gamma, complex64 or complex128 (drops, users, users).
    gains
        Its diagonal, real (drops, users).
    coherence
        |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 on the diagonal, real (drops, users, users).
    single_sums
        True where the sums over antennas, of Gamma and of the beams, are in single precision.
    """

    channels: npt.NDArray[np.complex64] | None
    gram: Complex
    gains: Real
    coherence: Real
    single_sums: bool

    @property
    def is_single(self) -> bool:
        """State that the inner products are in single precision."""
        return self.gram.dtype == np.complex64

    def in_double(self) -> Drops:
        """Return the same with all but the sums over antennas in double precision."""
        if not self.is_single:
            return self
        gram = self.gram.astype(np.complex128)
        return Drops(self.channels, gram, *gains_and_coherence(gram), self.single_sums)

    @staticmethod
    def exact(channels: npt.NDArray[np.complex64], snr: float | Real) -> Drops:
        """Compute the inner products in double precision.

        Parameters
        ----------
        channels, snr
            As in `split`.

        Returns
        -------
        Drops
        """
        gram = exact_gram(channels, np.asarray(snr, np.float64).reshape(-1, 1, 1))
        return Drops(channels, gram, *gains_and_coherence(gram), False)

    @staticmethod
    def of_gram(gram: Complex) -> Drops:
        """Return the same of inner products alone.

        Parameters
        ----------
        gram
            Gamma, complex128 (drops, users, users), contiguous.

        Returns
        -------
        Drops
        """
        return Drops(None, gram, *gains_and_coherence(gram), False)


def split(channels: npt.NDArray[np.complex64], snr: float | Real) -> list[tuple[Bool | None, Drops]]:
    """Compute inner products in single precision where they suffice, as in `simulator.downlink.gram`, else in double.

    Parameters
    ----------
    channels
        complex64 (drops, users, antennas).
    snr
        P / sigma^2, linear, a number or float64 (drops or 1, 1).

    Returns
    -------
    list
        Of the drops in single and of those in double precision, as far as there are some: the places, bool (drops,),
        and the inner products. None in place of the places: all drops.
    """
    drops, users, antennas = channels.shape
    if antennas < 2 * users:
        return [(None, Drops.exact(channels, snr))]
    factor = snr if isinstance(snr, float) else np.asarray(snr).reshape(-1, 1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such values fail the check of the range
        # One sum per pair, which the order of users does not change.
        gram = np.vecdot(channels[:, :, None], channels[:, None])
        gram *= np.float32(factor) if isinstance(factor, float) else factor[:, :, None].astype(np.float32)
        gains = diagonal(gram).real.copy()
        inverse = 1 / gains
        coherence = squares(gram)
        coherence *= inverse[:, :, None]
        coherence *= inverse[:, None]
        diagonal(coherence)[:] = 0
        if isinstance(factor, float):
            largest, least, nearest = (
                f.reduce(v.reshape(-1)) for f, v in ((np.maximum, gains), (np.minimum, gains), (np.maximum, coherence))
            )
            high, low = min(MAX_FP32_SNR, factor / MIN_FP32_ENERGY), max(_MIN_FP32_SNR, factor * MIN_FP32_ENERGY)
            if largest < high and least > low and nearest <= MAX_FP32_COHERENCE:
                return [(None, Drops(channels, gram, gains, coherence, True))]
        suffices = gains < np.minimum(MAX_FP32_SNR, factor / MIN_FP32_ENERGY)
        suffices &= gains > np.maximum(_MIN_FP32_SNR, factor * MIN_FP32_ENERGY)
        if suffices.all() and coherence.max() <= MAX_FP32_COHERENCE:
            return [(None, Drops(channels, gram, gains, coherence, True))]
        single = suffices.all(1) & (coherence.reshape(drops, -1).max(1) <= MAX_FP32_COHERENCE)
    ratio = np.broadcast_to(np.asarray(snr).reshape(-1, 1), (drops, 1))
    found: list[tuple[Bool | None, Drops]] = []
    if single.any():
        found.append((single, Drops(channels[single], gram[single], gains[single], coherence[single], True)))
    if not single.all():
        found.append((~single, Drops.exact(channels[~single], ratio[~single])))
    return found


@dataclass(frozen=True)
class Solution:
    """Hold beams and powers of drops, as `simulator.downlink.candidates.Candidate` does.

    Attributes
    ----------
    coefficients
        C up to the scale of its columns, complex (drops, users, users).
    power_fractions, dual_power_fractions, sinr
        real (drops, users).
    """

    coefficients: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real

    @property
    def sum_rate(self) -> Real:
        """Sum of log2(1 + SINR), bps/Hz, (drops,)."""
        result: Real = np.add.reduce(np.log2(1 + self.sinr), 1)
        return result

    def put(self, drops: npt.NDArray[np.intp] | Bool, other: Solution, chosen: Bool) -> None:
        """Replace drops by chosen ones of another solution, in place.

        Parameters
        ----------
        drops
            The drops to replace, as indices or bool (drops,).
        other
            The other solution.
        chosen
            bool, as many true ones as ``drops`` selects.
        """
        for field in fields(self):
            getattr(self, field.name)[drops] = getattr(other, field.name)[chosen]
