"""Estimate by orthogonal matching pursuit (OMP) over plane waves (DFT) or spherical waves (polar domain).

Per step the atom a of largest |a^H Phi r|^2 / ||Phi^H a||^2, summed over snapshots, joins the selection, and the
residual r = y - Phi^H A c is that of least squares over all selected atoms. An atom is a `codebooks` codeword,

    a_n = exp(j 2 pi (k n / (O N) - q (n / N)^2)) / sqrt(N),   k = 0 ... O N - 1,

of direction k on a grid O times as fine as the DFT's and curvature q; over a panel, a product of two of them.
Correlation with all directions of one curvature is one FFT. The selection ends where noise alone would reach as far.

References
----------
* M. Cui, L. Dai, "Channel estimation for extremely large-scale MIMO: far-field or near-field?", IEEE Transactions on
  Communications, 2022.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from simulator.csi.estimation.pilots import Observation
from simulator.schemes.codebooks import DFT_CURVATURES, polar_domain_curvatures

OVERSAMPLING = 4
COHERENCE = 0.8
"""Of neighbouring curvatures of one direction."""
MOST_ATOMS = 16
FALSE_ALARM = 0.1
"""Bound on the probability that noise alone adds an atom, per step."""
_BLOCK = 1 << 17  # correlations computed at once: 1 MiB, which a cache holds


@dataclass(frozen=True)
class Dictionary:
    """Describe the atoms of a line array or panel.

    Attributes
    ----------
    dims : tuple of int
        Antennas along each dimension of the array, slowest first; their product is N.
    curvatures : tuple of tuple of float
        Curvatures q of each dimension.
    oversampling : int
        O, of the directions.
    """

    dims: tuple[int, ...]
    curvatures: tuple[tuple[float, ...], ...]
    oversampling: int = OVERSAMPLING

    @property
    def directions(self) -> int:
        """Directions per curvature."""
        return math.prod(size * self.oversampling for size in self.dims)

    @property
    def atoms(self) -> int:
        """Atoms in all."""
        return self.directions * math.prod(map(len, self.curvatures))

    def chirps(self) -> Tensor:
        """Compute exp(-j 2 pi q (n / N)^2) for every combination of curvatures, complex64 (combinations, N)."""
        return _chirps(self.dims, self.curvatures)

    def spectrum(self, channels: Tensor) -> Tensor:
        """Correlate with exp(j 2 pi k n / (O N)), sqrt(N) times the plane waves.

        Parameters
        ----------
        channels : Tensor
            complex64 (..., N).

        Returns
        -------
        Tensor
            complex64 (..., directions).
        """
        axes = tuple(range(-len(self.dims), 0))
        sizes = [size * self.oversampling for size in self.dims]
        field = channels.reshape(*channels.shape[:-1], *self.dims)
        transformed: Tensor = torch.fft.fftn(field, sizes, axes)
        return transformed.flatten(-len(self.dims))

    def plane_waves(self, directions: Tensor) -> Tensor:
        """Form exp(j 2 pi k n / (O N)) / sqrt(N) by number of the direction.

        Parameters
        ----------
        directions : Tensor
            k, int64 (series,), over a panel row-major over both dimensions.

        Returns
        -------
        Tensor
            complex64 (series, N).
        """
        wave = torch.ones(len(directions), 1, dtype=torch.complex64, device=directions.device)
        rest = directions
        for size in reversed(self.dims):
            fine = size * self.oversampling
            turns = torch.outer(rest % fine, torch.arange(size, device=rest.device)) % fine
            phase = 2 * math.pi * turns.double() / fine
            along = torch.polar(torch.full_like(phase, 1 / math.sqrt(size)), phase).to(wave.dtype)
            wave = (along.unsqueeze(-1) * wave.unsqueeze(-2)).flatten(-2)
            rest = rest // fine
        return wave


def dft_dictionary(dims: tuple[int, ...], oversampling: int = OVERSAMPLING) -> Dictionary:
    """Return the dictionary of plane waves.

    Parameters
    ----------
    dims : tuple of int
        Antennas along each dimension of the array, slowest first.
    oversampling : int
        Directions per DFT beam and dimension.

    Returns
    -------
    Dictionary
    """
    return Dictionary(dims, (DFT_CURVATURES,) * len(dims), oversampling)


def polar_dictionary(dims: tuple[int, ...], oversampling: int = OVERSAMPLING) -> Dictionary:
    """Return the dictionary of spherical waves: `polar_domain_curvatures` of every dimension.

    Parameters
    ----------
    dims : tuple of int
        Antennas along each dimension of the array, slowest first.
    oversampling : int
        Directions per DFT beam and dimension.

    Returns
    -------
    Dictionary
    """
    return Dictionary(dims, tuple(polar_domain_curvatures(size, COHERENCE) for size in dims), oversampling)


@dataclass(frozen=True)
class SparseEstimate:
    """Hold an estimate by matching pursuit.

    Attributes
    ----------
    channels : Tensor
        complex64 (series, snapshots, antennas).
    atoms : Tensor
        Number of selected atoms, int64 (series,).
    basis : Tensor
        Combinations of the selected atoms that are orthonormal as observed, complex64 (series, steps, antennas); zero
        in the steps after the last atom of a series.
    gains : Tensor
        Coefficients of the channels in the basis, complex64 (series, snapshots, steps). The first j of them give the
        estimate by j atoms.
    """

    channels: Tensor
    atoms: Tensor
    basis: Tensor
    gains: Tensor


def matching_pursuit(
    observation: Observation,
    dictionary: Dictionary,
    most: int = MOST_ATOMS,
    false_alarm: float = FALSE_ALARM,
    at_least_one: bool = False,
) -> SparseEstimate:
    """Estimate channels as sums of few atoms.

    Parameters
    ----------
    observation : Observation
        Received pilots.
    dictionary : Dictionary
        Atoms.
    most : int
        Largest number of atoms per series.
    false_alarm : float
        Bound on the probability that noise alone adds an atom, per step.
    at_least_one : bool
        Select the strongest atom in any case: a channel of zero has no direction.

    Returns
    -------
    SparseEstimate
        Channels and number of atoms; zero channels where no atom exceeds the noise.
    """
    scaled, scale = observation.normalised()
    received = scaled.received
    series, snapshots, symbols = received.shape
    threshold = noise_peak(dictionary.atoms, snapshots, false_alarm)
    chirps, norms = dictionary.chirps().to(received.device), _observed_norms(scaled, dictionary)
    # Series that still gain atoms, what is left of them, and their selected atoms, orthonormal as observed.
    rows, residual = torch.arange(series, device=received.device), received
    seen, sent = received.new_zeros(series, 0, symbols), received.new_zeros(series, 0, scaled.antennas)
    selected: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(min(most, symbols)):
        strength, index = _best_atoms(scaled.back_projected(residual), dictionary, chirps, norms)
        go = (strength > threshold) | (at_least_one and step == 0)
        rows, index, residual, seen, sent = _kept(go, rows, index, residual, seen, sent)
        atom = dictionary.plane_waves(index % dictionary.directions) * chirps[index // dictionary.directions]
        view, atom, go = _orthogonalised(scaled.observed(atom), atom, seen, sent, scaled.pilots is None)
        rows, view, atom, residual, seen, sent = _kept(go, rows, view, atom, residual, seen, sent)
        if not len(rows):
            break
        gain = residual @ view.conj().unsqueeze(-1)  # (series, snapshots, 1)
        residual = residual - gain * view.unsqueeze(1)
        selected.append((rows, atom, gain.squeeze(-1)))
        seen = torch.cat([seen, view.unsqueeze(1)], 1)
        sent = seen if scaled.pilots is None else torch.cat([sent, atom.unsqueeze(1)], 1)
    basis = received.new_zeros(series, len(selected), scaled.antennas)
    gains = received.new_zeros(series, snapshots, len(selected))
    for step, (members, atom, gain) in enumerate(selected):
        basis[members, step], gains[members, :, step] = atom, gain
    gains = scale * gains
    return SparseEstimate(gains @ basis, (basis != 0).any(-1).sum(-1), basis, gains)


def _kept(go: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of tensors where the series goes on."""
    return values if bool(go.all()) else tuple(value[go] for value in values)


@cache
def noise_peak(atoms: int, snapshots: int, false_alarm: float) -> float:
    """Compute the power that noise alone exceeds with a bounded probability on any of the atoms.

    Per atom the sum over T snapshots of |a^H n|^2 / sigma^2 is a Gamma(T) variable; v solves
    P(Gamma(T) > v) = false_alarm / atoms. For T = 1 it is v = log(atoms / false_alarm).

    Parameters
    ----------
    atoms : int
        Atoms in all.
    snapshots : int
        T.
    false_alarm : float
        Bound on the probability.

    Returns
    -------
    float
        v, in units of the noise variance.
    """
    wanted = math.log(false_alarm / atoms)
    low, high = 0.0, 4.0 * snapshots + 4.0 * abs(wanted)
    for _ in range(60):
        middle = (low + high) / 2
        # log of exp(-v) sum_{t<T} v^t / t!, the tail of Gamma(T)
        terms = [step * math.log(max(middle, 1e-300)) - math.lgamma(step + 1) for step in range(snapshots)]
        tail = max(terms) + math.log(sum(math.exp(term - max(terms)) for term in terms)) - middle
        low, high = (middle, high) if tail > wanted else (low, middle)
    return high


def _best_atoms(
    projected: Tensor, dictionary: Dictionary, chirps: Tensor, norms: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Find the atom of largest normalised correlation per series.

    Returns
    -------
    strength : Tensor
        sum_t |a^H Phi r_t|^2 / ||Phi^H a||^2, float32 (series,).
    index : Tensor
        Combination of curvatures times number of directions, plus direction, int64 (series,).
    """
    series, snapshots, antennas = projected.shape
    strength = torch.full((series,), -1.0, device=projected.device)
    index = torch.zeros(series, dtype=torch.int64, device=projected.device)
    at_once = max(1, _BLOCK // max(1, series * snapshots * dictionary.directions))
    scaled = chirps.conj() / math.sqrt(antennas)
    for start in range(0, len(chirps), at_once):
        spectra = dictionary.spectrum(projected.unsqueeze(1) * scaled[start : start + at_once, None])
        power = _squared(spectra).sum(2)  # (series, curvatures, directions)
        power = power if norms is None else power / norms[start : start + at_once]
        value, place = power.flatten(1).max(-1)
        better = value > strength
        strength = torch.where(better, value, strength)
        index = torch.where(better, place + start * dictionary.directions, index)
    return strength, index


def _observed_norms(observation: Observation, dictionary: Dictionary) -> Tensor | None:
    """Compute ||Phi^H a||^2 of all atoms, float32 (combinations, directions); None if it is 1."""
    if observation.pilots is None:
        return None
    columns = observation.pilots.T
    norms = torch.stack(
        [
            _squared(dictionary.spectrum(columns * chirp.conj() / math.sqrt(observation.antennas))).sum(0)
            for chirp in dictionary.chirps().to(columns.device)
        ]
    )
    # An atom that the pilots hardly excite cannot be told from noise; its gain would be arbitrary.
    return norms.clamp(min=1e-3 * float(norms.max()))


def _orthogonalised(
    view: Tensor, atom: Tensor, seen: Tensor, sent: Tensor, same: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Orthogonalise observed atoms against the basis (twice: float32), with the same combination of the atoms."""
    start = torch.linalg.vector_norm(view, dim=-1, keepdim=True)
    total = torch.zeros_like(seen[:, None, :, 0])
    for _ in range(2):
        overlap = (seen.conj() @ view.unsqueeze(-1)).mT
        view, total = view - (overlap @ seen).squeeze(1), total + overlap
    length = torch.linalg.vector_norm(view, dim=-1, keepdim=True)
    independent = (length > 1e-3 * start).squeeze(-1)
    safe = length.clamp(min=1e-6)
    view = view / safe
    return view, view if same else (atom - (total @ sent).squeeze(1)) / safe, independent


def _squared(values: Tensor) -> Tensor:
    real, imaginary = values.real, values.imag
    return torch.addcmul(real.square(), imaginary, imaginary)


@cache
def _chirps(dims: tuple[int, ...], curvatures: tuple[tuple[float, ...], ...]) -> Tensor:
    rows = []
    for combination in itertools.product(*curvatures):
        cycles = torch.zeros(1, dtype=torch.float64)
        for size, curvature in zip(dims, combination, strict=True):
            position = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / size
            cycles = (cycles.unsqueeze(-1) - curvature * position.square()).flatten()
        rows.append(torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles))
    return torch.stack(rows).to(torch.complex64)
