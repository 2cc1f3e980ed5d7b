"""Choose the phases of an analog precoder: continuous or of a few bits, fully or sub-connected.

Matrices are transposed, so that every operation runs along antennas: F has RF chains in rows, W streams, and D^T
streams, W = D^T F.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulator.interruption import check_interrupt
from simulator.problems.algebra import TINY, Bool, Complex, Real, diagonal, squares
from simulator.problems.problem import PrecodingProblem

_RIDGE = 1e-9
_MANY_CHAINS = 4
_MOMENTUM, _MOMENTUM_OF_BITS = 0.8, 0.5
DROPS_IN_CACHE = 32
_COMPARED_BITS = 4  # up to which comparisons with the borders between phases take less time than angles
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PhaseShifters:
    """Hold the hardware of a hybrid array.

    Parameters
    ----------
    chains : int
        RF chains R.
    bits : int or None
        Bits of the phase shifters, whose phases are multiples of 2 pi / 2^bits; None for continuous phases.
    sub_connected : bool
        Chain r feeds only the antennas of block r of R blocks of equal size.
    """

    chains: int
    bits: int | None = None
    sub_connected: bool = False

    @classmethod
    def of(cls, problem: PrecodingProblem) -> PhaseShifters:
        """Return the hardware of a problem."""
        assert problem.rf_chains is not None
        return cls(problem.rf_chains, problem.phase_bits, problem.connection == "sub")

    def phases(self, values: Complex) -> Complex:
        """Return exp(j phi) nearest in phase to values, complex; 1 for the value 0."""
        if self.bits is None:
            return unit_phases(values)
        nearest = np.empty_like(values)
        self._rounded(values.real, values.imag, nearest.real, nearest.imag)
        return nearest

    def turn(self, parts: Real, out: Real) -> None:
        """Write exp(j phi) nearest in phase to values; 1 for the value 0.

        Parameters
        ----------
        parts : ndarray
            Real and imaginary parts of the values, real (drops, rows, 2, antennas); overwritten.
        out : ndarray
            The same of exp(j phi).
        """
        if self.bits is not None:
            self._rounded(parts[:, :, 0], parts[:, :, 1], out[:, :, 0], out[:, :, 1])
            return
        square = parts * parts
        size = square[:, :, 0]
        size += square[:, :, 1]
        if size.min(initial=1) < np.finfo(size.dtype).tiny:
            none = size < np.finfo(size.dtype).tiny
            parts[:, :, 0][none], parts[:, :, 1][none], size[none] = 1, 0, 1
        np.sqrt(size, out=size)
        np.divide(1, size, out=size)
        np.multiply(parts, size[:, :, None], out=out)

    def _rounded(self, real: Real, imaginary: Real, real_out: Real, imaginary_out: Real) -> None:
        assert self.bits is not None
        cosine, sine = np.abs(real), np.abs(imaginary)
        step = 2 * math.pi / 2**self.bits
        angle = step * np.arange(2 ** max(self.bits - 2, 0) + 1)
        if self.bits <= _COMPARED_BITS:
            index = np.zeros(real.shape, np.intp)
            for border in range(2 ** (self.bits - 2) if self.bits > 1 else 0):
                index += sine > math.tan((border + 0.5) * step) * cosine
        else:
            index = np.rint(np.arctan2(sine, cosine) / step).astype(np.intp)
        np.copysign(np.cos(angle).astype(cosine.dtype)[index], real, out=real_out)
        np.copysign(np.sin(angle).astype(cosine.dtype)[index], imaginary, out=imaginary_out)

    def connected(self, antennas: int) -> Bool:
        """Return which antenna is fed by which chain.

        Parameters
        ----------
        antennas : int
            Number of antennas, a multiple of the chains where these are sub-connected.

        Returns
        -------
        ndarray
            bool (R, antennas).
        """
        if not self.sub_connected:
            return np.ones((self.chains, antennas), np.bool_)
        return np.repeat(np.eye(self.chains, dtype=np.bool_), antennas // self.chains, 1)


def unit_phases(values: Complex) -> Complex:
    """Scale complex values to modulus 1.

    Parameters
    ----------
    values : ndarray
        Complex, of any shape.

    Returns
    -------
    ndarray
        Of the same shape; 1 for the value 0.
    """
    size = np.abs(values)
    if size.min(initial=1) < _TINY:
        angles: Complex = np.exp(1j * np.angle(values)).astype(values.dtype)
        return angles
    np.divide(1, size, out=size)
    result: Complex = values * size
    return result


def fitted_digital(analog: Complex, target: Complex) -> Complex:
    """Solve min_D ||W - F D||_F.

    Parameters
    ----------
    analog : ndarray
        F, complex (drops, R, antennas).
    target : ndarray
        W, complex (drops, streams, antennas).

    Returns
    -------
    ndarray
        D, complex (drops, R, streams), of the precision of W.
    """
    return _fitted(analog, target)[0].astype(target.dtype)


def _fitted(analog: Complex, target: Complex) -> tuple[Complex, Complex]:
    """Return D and F^H W, complex128 (drops, R, streams)."""
    conjugate = analog.conj()
    gram = (conjugate @ analog.transpose(0, 2, 1)).astype(np.complex128)
    steered: Complex = (conjugate @ target.transpose(0, 2, 1)).astype(np.complex128)
    return _solved(gram, steered), steered


def _solved(gram: Complex, steered: Complex) -> Complex:
    """Return D of F^H F, which is overwritten, and F^H W, complex128 (drops, R, streams)."""
    own = diagonal(gram)
    # Equal columns of F would make the system singular.
    own += _RIDGE / own.shape[1] * np.add.reduce(own.real, 1, keepdims=True)
    solution: Complex = np.linalg.solve(gram, steered)
    return solution


def initial_phases(target: Complex, shifters: PhaseShifters) -> Complex:
    """Take the phases of the target's streams, strongest first, then of what they leave unexplained.

    Parameters
    ----------
    target : ndarray
        Weighted digital precoder W, complex (drops, streams, antennas).
    shifters : PhaseShifters
        Hardware.

    Returns
    -------
    ndarray
        F, complex (drops, R, antennas).
    """
    drops, streams, antennas = target.shape
    if shifters.sub_connected:
        # A block of antennas can serve one direction: that of most energy within it.
        blocks = target.reshape(drops, streams, shifters.chains, -1).transpose(0, 2, 1, 3)
        strongest = _strongest(blocks.conj() @ np.swapaxes(blocks, -1, -2))
        joined: Complex = (strongest @ blocks).reshape(drops, 1, antennas)
        return shifters.phases(joined) * shifters.connected(antennas)
    analog = np.empty((drops, shifters.chains, antennas), target.dtype)
    for start in range(0, drops, DROPS_IN_CACHE):
        part = slice(start, start + DROPS_IN_CACHE)
        analog[part] = _fully_connected(target[part], shifters)
    return analog


def _fully_connected(target: Complex, shifters: PhaseShifters) -> Complex:
    order = np.argsort(-squares(target).sum(2), axis=1, kind="stable")
    ranked = np.take_along_axis(target, order[..., None], 1)
    analog = shifters.phases(np.ascontiguousarray(ranked[:, : shifters.chains]))
    own = None
    while analog.shape[1] < shifters.chains:
        own = target.conj() @ target.transpose(0, 2, 1) if own is None else own
        digital, steered = _fitted(analog, target)
        # Inner products of what F D leaves of the streams; its strongest combination is formed without all of it.
        combination = _strongest(own - steered.conj().transpose(0, 2, 1) @ digital)
        fitted = (combination @ digital.transpose(0, 2, 1)).astype(target.dtype)
        rest = combination.astype(target.dtype) @ target - fitted @ analog
        analog = np.concatenate([analog, shifters.phases(rest)], 1)
    return analog


def _strongest(gram: Complex) -> Complex:
    """Return the unit-norm combination of rows of most energy from their inner products, (..., 1, rows)."""
    vectors = np.linalg.eigh(gram)[1]
    return np.swapaxes(vectors[..., -1:], -1, -2)


def descend_phases(target: Complex, analog: Complex, shifters: PhaseShifters, sweeps: int) -> Complex:
    """Minimise ||W - F D||_F by coordinate descent over D and the phases of each chain.

    For given D and other chains, the phase of every antenna in chain r that minimises the error is that of the
    remaining target times d_r^H; rounded to the bits, it is the nearest allowed one and minimises the error too. With
    four chains or more, two are updated at a time, which costs no sum rate and a third less time. A sweep starts from
    the phases of the last one and part of their change in it, which saves about half of the sweeps.

    Parameters
    ----------
    target : ndarray
        W, complex (drops, streams, antennas).
    analog : ndarray
        F to start from, complex (drops, R, antennas).
    shifters : PhaseShifters
        Hardware.
    sweeps : int
        Sweeps over all chains, each with its own D.

    Returns
    -------
    ndarray
        F, complex (drops, R, antennas).
    """
    if shifters.sub_connected:
        connected = shifters.connected(target.shape[-1])
        for _ in range(sweeps):
            check_interrupt()
            # Chains share no antenna, so that all phases are updated at once.
            pull = (fitted_digital(analog, target).conj() @ target * connected).sum(1, keepdims=True)
            analog = shifters.phases(pull) * connected
        return analog
    found = np.empty_like(analog)
    for start in range(0, len(target), DROPS_IN_CACHE):
        part = slice(start, start + DROPS_IN_CACHE)
        found[part] = _swept(target[part], analog[part], shifters, sweeps)
    return found


def _swept(target: Complex, analog: Complex, shifters: PhaseShifters, sweeps: int) -> Complex:
    """Perform the sweeps of `descend_phases` for a fully connected array.

    F and W are joined in rows of real and imaginary parts: real products take half the time of complex ones here.
    """
    drops, chains, antennas = analog.shape
    joined = np.empty((drops, chains + target.shape[1], 2, antennas), target.real.dtype)
    for part, rows in ((slice(chains), analog), (slice(chains, None), target)):
        joined[:, part, 0], joined[:, part, 1] = rows.real, rows.imag
    flat = joined.reshape(drops, -1, antennas)
    phases = joined[:, :chains]
    previous = None
    momentum = joined.dtype.type(_MOMENTUM if shifters.bits is None else _MOMENTUM_OF_BITS)
    together = 1 if chains < _MANY_CHAINS else 2
    for _ in range(sweeps):
        check_interrupt()
        last = phases.copy()
        if previous is not None:
            phases += momentum * (last - previous)
        previous = last
        pull = _pull(flat, chains)
        for start in range(0, chains, together):
            end = min(start + together, chains)
            values = (pull[:, 2 * start : 2 * end] @ flat).reshape(drops, end - start, 2, antennas)
            shifters.turn(values, phases[:, start:end])
    found = np.empty_like(analog)
    found.real, found.imag = phases[:, :, 0], phases[:, :, 1]
    return found


def _pull(rows: Real, chains: int) -> Real:
    """Return the matrix that forms, from F and W, the values whose phases the chains take next.

    These are conj(d_r) (W - sum of the other chains' parts), up to a factor per chain, with D fitted to F.

    Parameters
    ----------
    rows : ndarray
        Real and imaginary part of every row of F, then of W, real (drops, 2 x (R + streams), antennas).
    chains : int
        R.

    Returns
    -------
    ndarray
        Real (drops, 2 x R, 2 x (R + streams)).
    """
    drops, count = len(rows), rows.shape[1] // 2
    parts = (rows[:, : 2 * chains] @ rows.swapaxes(1, 2)).reshape(drops, chains, 2, count, 2)
    products = np.empty((drops, chains, count), np.complex128)
    np.add(parts[:, :, 0, :, 0], parts[:, :, 1, :, 1], out=products.real)
    np.subtract(parts[:, :, 0, :, 1], parts[:, :, 1, :, 0], out=products.imag)
    digital = _solved(products[:, :, :chains].copy(), products[:, :, chains:])
    factors = np.empty_like(products)
    coupling, own = factors[:, :, :chains], factors[:, :, chains:]
    np.conjugate(digital, out=own)
    np.matmul(own, digital.swapaxes(1, 2), out=coupling)
    index = np.arange(chains)
    coupling[:, index, index] = 0
    largest = np.maximum.reduce(np.abs(factors.view(np.float64)), 2, keepdims=True)
    np.maximum(largest, TINY, out=largest)  # squares of the values stay in range
    own /= largest
    coupling /= -largest
    pull = np.empty((drops, chains, 2, count, 2), rows.dtype)
    pull[:, :, 0, :, 0] = pull[:, :, 1, :, 1] = factors.real
    pull[:, :, 1, :, 0] = factors.imag
    np.negative(pull[:, :, 1, :, 0], out=pull[:, :, 0, :, 1])
    return pull.reshape(drops, 2 * chains, 2 * count)


def two_phase_form(target: Complex) -> tuple[Complex, Complex]:
    """Write each stream's beam as the sum of two of unit-modulus entries, exactly.

    w_n = c u_n ((s_n + j t_n) + (s_n - j t_n)) / 2 with u_n = w_n / |w_n|, s_n = |w_n| / c, t_n = (1 - s_n^2)^(1/2),
    and c the largest |w_n| of the beam.

    Parameters
    ----------
    target : ndarray
        W, complex (drops, streams, antennas), contiguous.

    Returns
    -------
    analog : ndarray
        F, complex (drops, 2 x streams, antennas).
    digital : ndarray
        D with W = F D, complex (drops, 2 x streams, streams).

    References
    ----------
    * F. Sohrabi, W. Yu, "Hybrid digital and analog beamforming design for large-scale antenna arrays", IEEE Journal of
      Selected Topics in Signal Processing, 2016.
    """
    drops, streams, antennas = target.shape
    size = np.sqrt(squares(target))
    largest = np.maximum(size.max(2, keepdims=True), np.finfo(size.dtype).tiny)
    turn = np.empty_like(target)
    turn.real = size / largest
    turn.imag = np.sqrt(np.maximum(1 - turn.real * turn.real, 0))
    unit = unit_phases(target)
    analog = np.empty((drops, 2 * streams, antennas), target.dtype)
    np.multiply(unit, turn, out=analog[:, :streams])
    np.multiply(unit, turn.conj(), out=analog[:, streams:])
    digital = np.zeros((drops, 2 * streams, streams), target.dtype)
    index = np.arange(streams)
    digital[:, index, index] = digital[:, streams + index, index] = largest[..., 0] / 2
    return analog, digital
