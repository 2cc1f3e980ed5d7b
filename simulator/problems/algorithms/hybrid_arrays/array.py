"""Hold the problem of a hybrid array, project channels on the range of its phases, and form solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import (
    TINY,
    Complex,
    Real,
    diagonal,
    rates,
    sinr,
    squares,
    structured_coefficients,
)
from simulator.problems.algorithms.hybrid_arrays.analog import DROPS_IN_CACHE, PhaseShifters
from simulator.problems.algorithms.weights import optional_weights, textbook_allocation, weighted_start, weighted_sum
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution
from simulator.problems.structured import Allocation, per_drop_column, user_gram
from simulator.problems.user_gram import UserGram
from simulator.problems.wmmse import wmmse_steps

_RIDGE = 1e-5  # of the mean gain of a chain: directions below it would cost the digits of single precision

_MAX_CANCELLATION = 10.0
_RIVAL_STEPS = 200  # weighted WMMSE iterations after a scheme that replaces no start


@dataclass(frozen=True)
class Projection:
    """Hold channels projected on the range of phases F: those of the plain problem behind a hybrid array.

    With A = F^H H, X = (F^H F)^-1 A, digital columns are those of X C, and the inner products A^H X.

    Parameters
    ----------
    analog : ndarray
        F, complex64 (drops, R, antennas).
    digital : ndarray
        X, complex128 (drops, R, users).
    gram : ndarray
        Gamma of the projected channels, complex128 (drops, users, users).
    energy : ndarray
        X^H F^H F X P / sigma^2, which differs from Gamma where F has nearly equal chains, complex128 (drops, users,
        users).
    """

    analog: npt.NDArray[np.complex64]
    digital: Complex
    gram: Complex
    energy: Complex

    def effective_gains(self, coefficients: Complex) -> Real:
        """Compute F_kj of unit-norm beams of coefficients C, float64 (drops, users, users)."""
        energy = (coefficients.conj() * (self.energy @ coefficients)).real.sum(1)
        gains: Real = squares(self.gram @ coefficients) / np.maximum(energy, TINY)[:, None]
        return gains


@dataclass(frozen=True)
class HybridArray:
    """Hold a problem with a hybrid array.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    shifters : PhaseShifters
        Hardware.
    users : UserGram
        Inner products of the channels h_k, complex64 (drops, users, antennas).
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    shifters: PhaseShifters
    users: UserGram

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> HybridArray:
        """Return the problem of a batch.

        Parameters
        ----------
        batch, budget, problem
            Channels, link budget and problem.

        Returns
        -------
        HybridArray
            Problem with its hardware.
        """
        return cls(batch, budget, problem, PhaseShifters.of(problem), user_gram(batch, budget))

    @property
    def channels(self) -> npt.NDArray[np.complex64]:
        """Channels h_k, complex64 (drops, users, antennas)."""
        assert self.users.channels is not None
        return self.users.channels

    @property
    def weights(self) -> Real | None:
        """Weights of the users' rates, float64 (drops, users); None for the plain sum rate."""
        return optional_weights(self.problem, self.users)

    def digital_beams(self, inner: Scheme, steps: int = 5) -> tuple[npt.NDArray[np.complex64], Allocation]:
        """Precode by a scheme for a fully digital array.

        Parameters
        ----------
        inner : Scheme
            Scheme.
        steps : int
            Weighted WMMSE iterations after it, where there are weights.

        Returns
        -------
        beams : ndarray
            Unit-norm w_k in rows, complex64 (drops, users, antennas).
        allocation : Allocation
            Its allocation.
        """
        found = weighted_start(self.users.gram, self.weights, inner, steps)
        coefficients, _ = structured_coefficients(self.users.gram, found.dual)
        return self.users.unit_beams(coefficients), found

    def user_phases(self) -> npt.NDArray[np.complex64]:
        """Take the phases of the users' channels, one user per chain, in turn where chains are sub-connected.

        Returns
        -------
        ndarray
            F, complex64 (drops, users or R, antennas).
        """
        phases = self.shifters.phases(self.channels)
        if not self.shifters.sub_connected:
            return phases
        served = np.arange(self.shifters.chains) % phases.shape[1]
        connected: npt.NDArray[np.complex64] = phases[:, served] * self.shifters.connected(phases.shape[-1])
        return connected

    def rzf_sum_rate(self) -> Real:
        """Compute the (weighted) sum rate of regularised zero forcing behind the phases of the users, (drops,)."""
        projection = self.projected(self.user_phases())
        equal = textbook_allocation(projection.gram, self.weights)
        gains = projection.effective_gains(structured_coefficients(projection.gram, equal.dual)[0])
        return weighted_sum(rates(sinr(gains, equal.power)), self.weights)

    def projected(self, analog: npt.NDArray[np.complex64]) -> Projection:
        """Project the channels on the range of phases.

        Sums over antennas are in single precision, but for drops in which those of the channels are not, and those in
        which a projected channel is much shorter than the sum of its chains' parts: rounding puts a part outside the
        range of nearly equal chains, which single precision would magnify.

        Parameters
        ----------
        analog : ndarray
            F, complex64 (drops, R, antennas).

        Returns
        -------
        Projection
        """
        gram, steered, digital = _projected(analog, self.channels)
        exact = np.abs(digital).sum(1) ** 2 * analog.shape[2] > _MAX_CANCELLATION**2 * _energies(gram, digital)
        exact = exact.any(1) if self.users.needs_float64 is None else exact.any(1) | self.users.needs_float64
        if exact.any():
            gram[exact], steered[exact], digital[exact] = _projected(analog[exact], self.channels[exact], np.complex128)
        snr = np.reshape(per_drop_column(self.budget.power) / per_drop_column(self.budget.noise_power), (-1, 1, 1))
        adjoint = digital.conj().transpose(0, 2, 1)
        return Projection(
            analog, digital, steered.conj().transpose(0, 2, 1) @ digital * snr, adjoint @ gram @ digital * snr
        )

    def precoded(
        self, analog: npt.NDArray[np.complex64], inner: Scheme, start: Allocation | None = None, steps: int = 0
    ) -> ProblemSolution:
        """Precode digitally behind given phases.

        Parameters
        ----------
        analog : ndarray
            F, complex64 (drops, R, antennas).
        inner : Scheme
            Scheme for the projected channels.
        start : Allocation, optional
            Allocation that WMMSE iterations on the projected channels start from, instead of the scheme's.
        steps : int
            Number of iterations.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        projection = self.projected(analog)
        in_range = self.users.needs_float64 is None
        weights = self.weights
        found = weighted_start(projection.gram, weights, inner, _RIVAL_STEPS) if start is None else start
        _, beams, power = wmmse_steps(projection.gram, found.dual, found.power, steps, weights, in_range=in_range)
        reached = sinr(projection.effective_gains(beams.coefficients), power) if in_range else None
        return self.solution(analog, projection.digital @ beams.coefficients, power, reached)

    def solution(
        self, analog: npt.NDArray[np.complex64], digital: Complex, power: Real, reached: Real | None = None
    ) -> ProblemSolution:
        """Form the solution of an analog and a digital part.

        Parameters
        ----------
        analog : ndarray
            F, complex64 (drops, R or fewer, antennas); the digital part of chains beyond is 0.
        digital : ndarray
            D, complex (drops, R or fewer, users), of columns of any length but zero.
        power : ndarray
            q, float64 (drops, users).
        reached : ndarray, optional
            SINRs, float64 (drops, users), where they are known.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        spare = self.shifters.chains - analog.shape[1]
        if spare:
            analog = np.pad(analog, ((0, 0), (0, spare), (0, 0)), constant_values=1)
            digital = np.pad(digital, ((0, 0), (0, spare), (0, 0)))
        shifted = analog * np.float32(analog.shape[-1] ** -0.5)
        largest = np.maximum(np.abs(digital).max(1, keepdims=True), TINY)
        rounded = (digital / largest).astype(np.complex64)
        rows = rounded.transpose(0, 2, 1) @ shifted
        if self.users.needs_float64 is not None or _cancels(rounded, rows):
            # The digital part is rounded last, and F D is the precoder to its last digit whatever the condition of F.
            double = shifted.astype(np.complex128)
            exact = digital.astype(np.complex128) / largest
            exact /= _norms(exact.transpose(0, 2, 1) @ double)[:, None]
            rounded = exact.astype(np.complex64)
            rows = rounded.transpose(0, 2, 1).astype(np.complex128) @ double
        else:
            scale = 1 / _norms(rows)
            rows *= scale[..., None]
            rounded *= scale[:, None]
        device = self.batch.channels.device

        def moved(array: npt.NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        return make_solution(
            self.batch,
            self.budget,
            self.problem,
            moved(rows.astype(np.complex64, copy=False)),
            moved(power * per_drop_column(self.budget.power)),
            sinr=None if reached is None else moved(reached),
            analog=moved(shifted).transpose(1, 2),
            digital=moved(rounded),
        )


def _projected(
    analog: npt.NDArray[np.complex64],
    channels: npt.NDArray[np.complex64],
    precision: type[np.complex64 | np.complex128] = np.complex64,
) -> tuple[Complex, Complex, Complex]:
    """Return F^H F, A = F^H H and X = (F^H F)^-1 A, complex128, with sums over antennas in the given precision."""
    drops, chains, _ = analog.shape
    gram = np.empty((drops, chains, chains), np.complex128)
    steered = np.empty((drops, chains, channels.shape[1]), np.complex128)
    for start in range(0, drops, DROPS_IN_CACHE):
        part = slice(start, start + DROPS_IN_CACHE)
        rows: Complex = analog[part].astype(precision, copy=False)
        own: Complex = channels[part].astype(precision, copy=False)
        conjugate = rows.conj()
        gram[part] = conjugate @ rows.transpose(0, 2, 1)
        steered[part] = conjugate @ own.transpose(0, 2, 1)
    regular = gram.copy()
    gains = diagonal(regular)
    gains += _RIDGE * gains.real.mean(1, keepdims=True)
    return gram, steered, np.linalg.solve(regular, steered)


def _energies(gram: Complex, digital: Complex) -> Real:
    """Return ||F x_k||^2 of the columns of X, float64 (drops, users)."""
    result: Real = np.vecdot(digital, gram @ digital, axis=1).real  # type: ignore[call-overload]  # its stub lacks axis
    return result


def _norms(rows: Complex) -> npt.NDArray[np.floating[Any]]:
    parts = rows.view(rows.real.dtype)
    norm: npt.NDArray[np.floating[Any]] = np.sqrt(np.vecdot(parts, parts))
    norm[norm == 0] = 1
    return norm


def _cancels(digital: Complex, rows: Complex) -> bool:
    """Return whether beams are much shorter than the sum of their chains' parts."""
    return bool((np.abs(digital).sum(1) > _MAX_CANCELLATION * _norms(rows)).any())
