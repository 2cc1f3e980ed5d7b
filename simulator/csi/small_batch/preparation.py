"""Centre, denoise and remove the mean Doppler of windows in NumPy, as `simulator.csi.prediction.linear` does.

The equations stand there and in `simulator.csi.beams`; `tests/simulator/csi/prediction/test_small_batch.py` compares
both forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft

from simulator.csi.beams import FLAT_BONUS, LEAKAGE, ZERO_PADDING, ArrayGeometry, bends
from simulator.csi.prediction.linear import COMMON_WEIGHT, NEAR, PASSES, POWERS
from simulator.csi.small_batch.arrays import Complex, Index, Problem, Real, diagonal, gram_of, squares

_TINY = float(np.finfo(np.float64).tiny)
_TINY_SINGLE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class PreparedArrays:
    """Hold a window in beams, without its mean Doppler shift; see `simulator.csi.prediction.linear.PreparedWindow`.

    Parameters
    ----------
    values
        complex64 (series, history, antennas).
    phases
        complex64 (series, antennas), or None.
    advance
        Mean Doppler, float64 (series,), rad per snapshot.
    strong
        Numbers of the strong beams, the strongest first, (series, beams).
    shares
        Weight of each row in hindsight, float64 (series, 1 + beams).
    problem
        Gram matrices and noise.
    geometry
        Arrangement of the antennas.
    """

    values: Complex
    phases: Complex | None
    advance: Real
    strong: Index
    shares: Real
    problem: Problem
    geometry: ArrayGeometry

    def apply(self, coefficients: Complex) -> Complex:
        """Combine the snapshots and return to antennas.

        Parameters
        ----------
        coefficients
            Complex (series, 1 + beams, history, ahead).

        Returns
        -------
        Complex
            complex64 (series, ahead, antennas).
        """
        ahead = coefficients.shape[-1]
        used = coefficients.astype(np.complex64)
        result: Complex = used[:, 0].swapaxes(1, 2) @ self.values
        each = np.arange(len(result))[:, None]
        if self.strong.shape[1]:
            series = self.values[each, :, self.strong]  # (series, beams, history)
            result[each, :, self.strong] = (series[..., None, :] @ used[:, 1:])[:, :, 0]
        rotation = np.exp(1j * self.advance[:, None] * np.arange(1, ahead + 1)).astype(np.complex64)
        result *= rotation[..., None]
        if self.phases is None:
            return result
        sizes = self.geometry.grid(result.shape[-1])
        axes = tuple(range(2, 2 + len(sizes)))
        result = fft.ifftn(result.reshape(*result.shape[:2], *sizes), axes=axes, norm="ortho").reshape(result.shape)
        result *= self.phases.conj()[:, None]
        return result


def prepare_arrays(
    values: Complex,
    variance: Real,
    geometry: ArrayGeometry,
    beams: int,
    mixture: bool = False,
) -> PreparedArrays:
    """Centre, denoise and remove the mean Doppler of a window, and compute its Gram matrices.

    Parameters
    ----------
    values
        complex64 (series, history, antennas).
    variance
        sigma^2, float64 (series,).
    geometry
        Arrangement of the antennas.
    beams
        Strong beams with coefficients of their own, where the geometry is known.
    mixture
        See `simulator.csi.prediction.linear.prepare_window`.

    Returns
    -------
    PreparedArrays
        The window's parts.
    """
    series, history, antennas = values.shape
    phases, energy, strength = None, variance * antennas, None
    common = gram_of(values)
    if geometry.kind != "none":
        phases = _canonical_phases(values, common, geometry)
        values, gains = _denoised_beams(values * phases[:, None], variance, geometry.grid(antennas), mixture)
        strength = gains.astype(np.float64) ** 2
        energy = variance * strength.sum(1)
        common = gram_of(values)
    advance = np.angle(np.trace(common, 1, 1, 2))
    steps = np.exp(1j * advance[:, None] * np.arange(1 - history, 1))
    values = values * steps.conj().astype(np.complex64)[..., None]
    common = common * (steps[:, :, None] * steps.conj()[:, None])
    grams, noise = common[:, None], energy[:, None]
    strong, shares = np.empty((series, 0), np.intp), np.ones((series, 1))
    if strength is not None and beams:
        power = squares(values).sum(1)
        count = min(beams, antennas)
        strong = np.argsort(power, 1)[:, : -count - 1 : -1]
        own, own_noise = _local(values, strength * variance[:, None], strong, geometry.grid(antennas))
        grams, shared = np.empty((series, 1 + count, history, history), common.dtype), COMMON_WEIGHT * grams
        grams[:, 0] = common
        np.add(own, shared, out=grams[:, 1:])
        noise = np.concatenate([noise, own_noise + COMMON_WEIGHT * noise], 1)
        chosen = np.take_along_axis(power, strong, 1).astype(np.float64)
        chosen /= np.maximum(chosen.sum(1, keepdims=True), _TINY)
        shares = np.concatenate([np.zeros((series, 1)), chosen], 1)
    level = np.maximum(diagonal(grams).real.mean(-1), _TINY)
    problem = Problem(grams * (1 / level)[..., None, None], noise / level, 0)
    return PreparedArrays(values, phases, advance, strong, shares, problem, geometry)


@cache
def _bends(antennas: int) -> Complex:
    result: Complex = bends(antennas).numpy()
    return result


def _canonical_phases(values: Complex, gram: Complex, geometry: ArrayGeometry) -> Complex:
    """Return the factors of `simulator.csi.beams.canonical_phases`, complex64 (series, antennas)."""
    scale = np.maximum(diagonal(gram).real.sum(-1), _TINY_SINGLE)
    vector = np.linalg.eigh(gram / scale[:, None, None])[1][:, :, -1]
    weights = (vector / np.sqrt(scale)[:, None]).astype(np.complex64)
    main = (weights[:, None] @ values)[:, 0]
    if geometry.kind != "line":
        return _onto_grid(main, geometry.grid(values.shape[-1]))
    curved = _bends(values.shape[-1])
    power = squares(fft.fft(main[:, None] * curved, norm="ortho", overwrite_x=True))
    focus = np.vecdot(power, power)
    focus[:, 0] *= FLAT_BONUS
    factors = curved[focus.argmax(-1)]
    result: Complex = factors * _onto_grid(main * factors, (values.shape[-1],))
    return result


def _denoised_beams(centred: Complex, variance: Real, sizes: tuple[int, ...], mixture: bool) -> tuple[Complex, Real]:
    """Return the denoised beams of centred windows, complex64, and their gains, float32 (series, antennas)."""
    axes = tuple(range(2, 2 + len(sizes)))
    grid = centred.reshape(*centred.shape[:2], *sizes)
    values = fft.fftn(grid, axes=axes, norm="ortho", overwrite_x=True).reshape(centred.shape)
    gains = (_mixture_gains if mixture else _temporal_gains)(values, variance, sizes)
    return values * gains[:, None], gains


def _onto_grid(waves: Complex, sizes: tuple[int, ...]) -> Complex:
    axes = tuple(range(1, 1 + len(sizes)))
    padded = tuple(size * ZERO_PADDING for size in sizes)
    spectra = squares(fft.fftn(waves.reshape(-1, *sizes), padded, axes))
    peak = spectra.reshape(len(waves), -1).argmax(-1)
    factors = np.ones((len(waves), 1), np.complex64)
    for size, length in zip(reversed(sizes), reversed(padded), strict=True):
        fraction, peak = peak % length % ZERO_PADDING, peak // length
        ramp = np.exp((-2j * np.pi / length) * (fraction[:, None] * np.arange(size))).astype(np.complex64)
        factors = (ramp[:, :, None] * factors[:, None]).reshape(len(waves), -1)
    return factors


def _temporal_gains(values: Complex, variance: Real, sizes: tuple[int, ...]) -> Real:
    """Return the gains per beam of the signal within the temporal signal space, float32 (series, antennas)."""
    single = variance.astype(np.float32)[:, None]
    spread, signal, components = _temporal_components(values, variance, sizes)
    share = (signal / np.maximum(spread, _TINY)).astype(np.float32)
    power = (share[:, None] @ (components - single[..., None]))[:, 0] / values.shape[1]
    return _gains(power, single, sizes)


def _mixture_gains(values: Complex, variance: Real, sizes: tuple[int, ...]) -> Real:
    """Return the gains per beam of `simulator.csi.prediction.linear.prepare_window` with ``mixture``, float32."""
    _, signal, components = _temporal_components(values, variance, sizes)
    beams, total = values.shape[-1], signal.mean(-1, keepdims=True)
    least = np.finfo(np.float32).eps * total[:, 0] / beams
    noise = np.maximum(np.maximum(variance, least), _TINY_SINGLE).astype(np.float32)
    ratio = components / noise[:, None, None]
    shares = np.divide(signal, total, out=np.ones_like(signal), where=total > 0).astype(np.float32)
    powers = np.asarray(POWERS, np.float32)
    scaled = powers[:, None] * shares[:, None]
    evidence = (scaled / (1 + scaled)) @ ratio - np.log1p(scaled).sum(-1, keepdims=True)
    likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
    posterior = likelihood / likelihood.sum(1, keepdims=True)
    for _ in range(PASSES):
        prior = (posterior.sum(-1, keepdims=True) + 0.5) / np.float32(beams + 0.5 * len(POWERS))
        grid = posterior.reshape(*posterior.shape[:2], *sizes)
        beside = sum(np.roll(grid, step, axis) for axis in range(2, grid.ndim) for step in (-1, 1))
        near = np.asarray(beside).reshape(posterior.shape) / np.float32(2 * len(sizes))
        posterior = likelihood * ((1 - NEAR) * prior + NEAR * near + 1e-6)
        posterior /= posterior.sum(1, keepdims=True)
    strongest = np.maximum(ratio.mean(1) - 1, powers[-1])
    gains = ((powers / (powers + 0.5))[None, None, :-1] @ posterior[:, :-1])[:, 0]
    result: Real = gains + posterior[:, -1] * strongest / (strongest + 0.5)
    return result


def _temporal_components(values: Complex, variance: Real, sizes: tuple[int, ...]) -> tuple[Real, Real, Real]:
    """Return eigenvalues, the signal in them and squared components of `simulator.csi.prediction.linear`."""
    history, single = values.shape[1], variance.astype(np.float32)[:, None]
    first = _gains(squares(values).sum(1) / history - single, single, sizes)
    noise = variance * (first.astype(np.float64) ** 2).sum(1)
    spread, vectors = np.linalg.eigh(gram_of(values * first[:, None]))
    components = squares(vectors.swapaxes(1, 2).astype(np.complex64) @ values)
    return spread, np.maximum(spread - noise[:, None], 0), components


def _gains(signal: Real, noise: Real, sizes: tuple[int, ...]) -> Real:
    """Return `simulator.csi.beams.gains_of_power`, float32 (series, antennas)."""
    signal = np.maximum(signal, 0)
    grid = signal.reshape(-1, *sizes)
    beside = sum(np.roll(grid, step, axis) for axis in range(1, grid.ndim) for step in (-1, 1))
    signal = signal + np.float32(LEAKAGE / (2 * len(sizes))) * np.asarray(beside).reshape(signal.shape)
    result: Real = signal / np.maximum(signal + noise, _TINY_SINGLE)
    return result


def _local(values: Complex, noise: Real, strong: Index, sizes: tuple[int, ...]) -> tuple[Complex, Real]:
    """Sum Gram matrices and noise over each strong beam and its neighbours, cyclically."""
    found, stride = [strong], 1
    for size in reversed(sizes):
        place = strong // stride % size
        found += [strong + ((place + step) % size - place) * stride for step in (-1, 1) if size > abs(step)]
        stride *= size
    near = np.stack(found, -1)
    each = np.arange(len(values))[:, None, None]
    parts = values[each, :, near].astype(np.complex128)  # (series, beams, neighbours, history)
    return parts.conj().swapaxes(-1, -2) @ parts, noise[each, near].sum(-1)
