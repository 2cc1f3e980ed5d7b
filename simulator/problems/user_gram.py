"""Hold drops by the inner products of their users, in the precision that they need."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.gram import MAX_FP32_COHERENCE, MAX_FP32_SNR, MIN_FP32_ENERGY
from simulator.problems.algebra import (
    TINY,
    Bool,
    Complex,
    Real,
    diagonal,
    exact_gram,
    extremes,
    gains_and_coherence,
    squares,
)

_MIN_FP32_SNR = 1e-2  # below it 1 - B_kk has few digits


class UserGram(NamedTuple):
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
    nearest
        Its maximum over the other users, real (drops, users).
    needs_float64
        bool (drops,), drops whose sums over antennas, of Gamma and of the beams, are in double precision, as in
        `simulator.downlink.gram.mixed_precision_gram`; None: no drop.
    """

    channels: npt.NDArray[np.complex64] | None
    gram: Complex
    gains: Real
    coherence: Real
    nearest: Real
    needs_float64: Bool | None

    @property
    def is_single(self) -> bool:
        """State that the inner products are in single precision."""
        return self.gram.dtype == np.complex64

    @property
    def largest_coherence(self) -> float:
        """Return the largest coherence of any two users of a drop."""
        return extremes(self.nearest)[1]

    def in_double(self) -> UserGram:
        """Return the same with all but the sums over antennas in double precision."""
        if not self.is_single:
            return self
        gram = self.gram.astype(np.complex128)
        return UserGram(self.channels, gram, *_coherences(gram), self.needs_float64)

    @staticmethod
    def of(channels: npt.NDArray[np.complex64], snr: float | Real) -> UserGram:
        """Compute the inner products as complex128, summed in single precision where that suffices.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).
        snr
            P / sigma^2, linear, a number or float64 (drops or 1, 1).

        Returns
        -------
        UserGram
        """
        drops, users, antennas = channels.shape
        if antennas < 2 * users:
            return UserGram.exact(channels, snr)
        factor = np.asarray(snr).reshape(-1, 1, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # values beyond single precision fail the range check
            rough = np.vecdot(channels[:, :, None], channels[:, None]).astype(np.complex128)
            energy = diagonal(rough).real
            gram = rough * factor
            gains, coherence, nearest = _coherences(gram)
            in_range = np.minimum.reduce(energy, 1) > MIN_FP32_ENERGY
            in_range &= np.maximum.reduce(energy, 1) < np.minimum(MAX_FP32_SNR / factor[:, 0, 0], 1 / MIN_FP32_ENERGY)
            in_range &= np.maximum.reduce(nearest, 1) <= MAX_FP32_COHERENCE
        if np.logical_and.reduce(in_range):
            return UserGram(channels, gram, gains, coherence, nearest, None)
        gram[~in_range] = exact_gram(channels[~in_range], np.broadcast_to(factor, (drops, 1, 1))[~in_range])
        return UserGram(channels, gram, *_coherences(gram), ~in_range)

    @staticmethod
    def exact(channels: npt.NDArray[np.complex64], snr: float | Real) -> UserGram:
        """Compute the inner products in double precision.

        Parameters
        ----------
        channels, snr
            As in `of`.

        Returns
        -------
        UserGram
        """
        gram = exact_gram(channels, np.asarray(snr, np.float64).reshape(-1, 1, 1))
        return UserGram(channels, gram, *_coherences(gram), np.ones(len(gram), np.bool_))

    @staticmethod
    def of_gram(gram: Complex) -> UserGram:
        """Return the same of inner products alone.

        Parameters
        ----------
        gram
            Gamma, complex128 (drops, users, users), contiguous.

        Returns
        -------
        UserGram
        """
        return UserGram(None, gram, *_coherences(gram), np.ones(len(gram), np.bool_))

    def unit_beams(
        self, coefficients: Complex, out: npt.NDArray[np.complex64] | None = None
    ) -> npt.NDArray[np.complex64]:
        """Form W = H C with unit-norm columns.

        Parameters
        ----------
        coefficients
            C, complex (drops, users, users).
        out
            Array for the beams.

        Returns
        -------
        ndarray
            Beams in rows, complex64 (drops, users, antennas); ``out`` if that is given.
        """
        assert self.channels is not None
        out = np.empty_like(self.channels) if out is None else out
        exact = self.needs_float64
        if exact is None:
            _form_beams(coefficients.astype(np.complex64, copy=False), self.channels, out)
        elif exact.all():
            out[:] = _exact_beams(coefficients, self.channels)
        else:
            out[exact] = _exact_beams(coefficients[exact], self.channels[exact])
            single = np.empty_like(self.channels[~exact])
            _form_beams(coefficients[~exact].astype(np.complex64), self.channels[~exact], single)
            out[~exact] = single
        return out


def in_single_precision(channels: npt.NDArray[np.complex64], snr: float | Real) -> tuple[UserGram | None, Bool | None]:
    """Compute inner products in single precision, and find the drops that need double, as in `simulator.downlink.gram`.

    Parameters
    ----------
    channels
        complex64 (drops, users, antennas).
    snr
        P / sigma^2, linear, a number or float64 (drops or 1, 1).

    Returns
    -------
    drops : UserGram or None
        All drops; those that need double precision have the inner products of orthonormal users instead of their own.
        None: all do.
    exact : Bool or None
        bool (drops,), those drops; None: none does.
    """
    count, users, antennas = channels.shape
    if antennas < 2 * users:
        return None, np.ones(count, np.bool_)
    factor = snr if isinstance(snr, float) else np.asarray(snr).reshape(-1, 1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such values fail the check of the range
        # One sum per pair, which the order of users does not change.
        gram = np.vecdot(channels[:, :, None], channels[:, None], order="C")
        parts = gram.view(np.float32)  # a product of parts takes less time than one of complex and real numbers
        parts *= np.float32(factor) if isinstance(factor, float) else factor[:, :, None].astype(np.float32)
        gains = diagonal(gram).real.copy()
        coherence: Real = squares(gram) / (gains[:, :, None] * gains[:, None])  # contiguous, unlike the squares
        diagonal(coherence)[:] = 0
        # The first axis is reduced in a tenth of the time that an inner one takes.
        nearest = np.maximum.reduce(np.ascontiguousarray(coherence.transpose(1, 0, 2)), 0)
        whole = UserGram(channels, gram, gains, coherence, nearest, None)
        if isinstance(factor, float):
            high, low = min(MAX_FP32_SNR, factor / MIN_FP32_ENERGY), max(_MIN_FP32_SNR, factor * MIN_FP32_ENERGY)
            smallest, largest = extremes(gains)
            if largest < high and smallest > low and whole.largest_coherence <= MAX_FP32_COHERENCE:
                return whole, None
        suffices = gains < np.minimum(MAX_FP32_SNR, factor / MIN_FP32_ENERGY)
        suffices &= gains > np.maximum(_MIN_FP32_SNR, factor * MIN_FP32_ENERGY)
        suffices &= nearest <= MAX_FP32_COHERENCE
        exact = ~np.logical_and.reduce(suffices, 1)
    if not np.logical_or.reduce(exact):
        return whole, None
    if np.logical_and.reduce(exact):
        return None, exact
    gram[exact], gains[exact], coherence[exact], nearest[exact] = np.eye(users), 1, 0, 0
    return whole, exact


def _coherences(gram: Complex) -> tuple[Real, Real, Real]:
    gains, coherence = gains_and_coherence(gram)
    return gains, coherence, np.maximum.reduce(coherence, 1)


def _form_beams(coefficients: Complex, channels: Complex, out: Complex) -> None:
    if len(out) == 1:
        np.matmul(coefficients[0].T, channels[0], out=out[0])
    else:
        torch.bmm(torch.from_numpy(coefficients).mT, torch.from_numpy(channels), out=torch.from_numpy(out))
    _normalise(out)


def _exact_beams(coefficients: Complex, channels: Complex) -> Complex:
    # Gains may be so large that coefficients of nulling beams leave the range.
    coefficients = coefficients / np.maximum(np.abs(coefficients).max(1, keepdims=True), TINY)
    beams: Complex = coefficients.transpose(0, 2, 1) @ channels.astype(np.complex128)
    _normalise(beams)
    return beams


def _normalise(beams: Complex) -> None:
    """Divide beams by their norms, in place."""
    parts = beams.view(beams.real.dtype)
    norm = np.sqrt(np.vecdot(parts, parts))
    np.maximum(norm, _TINY[norm.dtype], out=norm)
    parts *= np.reciprocal(norm, out=norm)[..., None]


_TINY = {kind: np.array(np.finfo(kind).tiny, kind) for kind in map(np.dtype, ("f4", "f8"))}
