"""Choose the phases of an analog precoder: continuous or of a few bits, fully or sub-connected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.problems.problem import PrecodingProblem

_RIDGE = 1e-9


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

    def phases(self, values: Tensor) -> Tensor:
        """Return exp(j phi) nearest in phase to values, complex; 1 for the value 0."""
        return unit_phases(values) if self.bits is None else self.nearest(values)

    def nearest(self, values: Tensor) -> Tensor:
        """Return `phases`, but 0 for the value 0 where phases are continuous."""
        if self.bits is None:
            return torch.sgn(values)
        step = 2 * math.pi / 2**self.bits
        angle = torch.round(values.angle() / step) * step
        return torch.polar(torch.ones_like(angle), angle)

    def connected(self, antennas: int, like: Tensor) -> Tensor:
        """Return which antenna is fed by which chain.

        Parameters
        ----------
        antennas : int
            Number of antennas, a multiple of the chains where these are sub-connected.
        like : Tensor
            Tensor whose device and real precision the result has.

        Returns
        -------
        Tensor
            Real (antennas, R) of zeros and ones.
        """
        if not self.sub_connected:
            return torch.ones(antennas, self.chains, dtype=like.real.dtype, device=like.device)
        blocks = torch.eye(self.chains, dtype=like.real.dtype, device=like.device)
        return blocks.repeat_interleave(antennas // self.chains, 0)


def unit_phases(values: Tensor) -> Tensor:
    """Scale complex values to modulus 1.

    Parameters
    ----------
    values : Tensor
        Complex, of any shape.

    Returns
    -------
    Tensor
        Of the same shape; 1 for the value 0.
    """
    unit = torch.sgn(values)
    return torch.where(unit == 0, 1, unit)


def fitted_digital(analog: Tensor, target: Tensor) -> Tensor:
    """Solve min_D ||W - F D||_F.

    Parameters
    ----------
    analog : Tensor
        F, complex (drops, antennas, R).
    target : Tensor
        W, complex (drops, antennas, streams).

    Returns
    -------
    Tensor
        D, complex (drops, R, streams).
    """
    conjugate = analog.conj().transpose(-1, -2).resolve_conj()
    gram = (conjugate @ analog).to(torch.complex128)
    level = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1).reshape(-1, 1, 1)
    # Equal columns of F would make the system singular.
    regular = gram + _RIDGE * level * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    solution: Tensor = torch.linalg.solve_ex(regular, (conjugate @ target).to(torch.complex128))[0]
    return solution.to(target.dtype)


def initial_phases(target: Tensor, shifters: PhaseShifters) -> Tensor:
    """Take the phases of the target's columns, strongest first, then of what they leave unexplained.

    Parameters
    ----------
    target : Tensor
        Weighted digital precoder, complex (drops, antennas, streams).
    shifters : PhaseShifters
        Hardware.

    Returns
    -------
    Tensor
        F, complex (drops, antennas, R).
    """
    if shifters.sub_connected:
        # A block of antennas can serve one direction: that of most energy within it.
        blocks = target.reshape(len(target), shifters.chains, -1, target.shape[-1])
        strongest = torch.linalg.eigh(blocks.mH @ blocks)[1][..., -1:]
        phases = shifters.phases((blocks @ strongest).flatten(-3, -2))
        return phases * shifters.connected(target.shape[-2], target)
    order = squared_magnitude(target).sum(-2).argsort(-1, descending=True)
    ranked = target.gather(-1, order.unsqueeze(-2).expand_as(target))
    analog = shifters.phases(ranked[..., : shifters.chains])
    while analog.shape[-1] < shifters.chains:
        rest = target - analog @ fitted_digital(analog, target)
        strongest = torch.linalg.eigh(rest.mH @ rest)[1][..., -1:]
        analog = torch.cat([analog, shifters.phases(rest @ strongest)], -1)
    return analog


def descend_phases(target: Tensor, analog: Tensor, shifters: PhaseShifters, sweeps: int) -> Tensor:
    """Minimise ||W - F D||_F by coordinate descent over D and the phases of each chain.

    For given D and other chains, the phase of every antenna in chain r that minimises the error is that of the
    remaining target times d_r^H; rounded to the bits, it is the nearest allowed one and minimises the error too.

    Parameters
    ----------
    target : Tensor
        W, complex (drops, antennas, streams).
    analog : Tensor
        F to start from, complex (drops, antennas, R).
    shifters : PhaseShifters
        Hardware.
    sweeps : int
        Sweeps over all chains, each with its own D.

    Returns
    -------
    Tensor
        F, complex (drops, antennas, R).
    """
    if shifters.sub_connected:
        connected = shifters.connected(target.shape[-2], target)
        for _ in range(sweeps):
            # Chains share no antenna, so that all phases are updated at once.
            pull = (target @ fitted_digital(analog, target).mH * connected).sum(-1, keepdim=True)
            analog = shifters.phases(pull) * connected
        return analog
    # With chains in rows each update works on contiguous memory.
    rows, columns = analog.transpose(-1, -2).contiguous(), target.transpose(-1, -2)
    for _ in range(sweeps):
        digital = fitted_digital(rows.transpose(-1, -2), target)
        pull = digital.conj() @ columns
        coupling = digital.conj() @ digital.transpose(-1, -2)
        coupling = coupling - torch.diag_embed(coupling.diagonal(dim1=-2, dim2=-1))
        for chain in range(shifters.chains):
            row = slice(chain, chain + 1)
            rows[:, row] = shifters.nearest(torch.baddbmm(pull[:, row], coupling[:, row], rows, alpha=-1))
    return shifters.phases(rows).transpose(-1, -2) if shifters.bits is None else rows.transpose(-1, -2)


def two_phase_form(target: Tensor) -> tuple[Tensor, Tensor]:
    """Write each column as the sum of two columns of unit-modulus entries, exactly.

    w_n = c u_n ((s_n + j t_n) + (s_n - j t_n)) / 2 with u_n = w_n / |w_n|, s_n = |w_n| / c, t_n = (1 - s_n^2)^(1/2),
    and c the largest |w_n| of the column.

    Parameters
    ----------
    target : Tensor
        W, complex (drops, antennas, streams).

    Returns
    -------
    analog : Tensor
        F, complex (drops, antennas, 2 x streams).
    digital : Tensor
        D with W = F D, complex (drops, 2 x streams, streams).

    References
    ----------
    * F. Sohrabi, W. Yu, "Hybrid digital and analog beamforming design for large-scale antenna arrays", IEEE Journal of
      Selected Topics in Signal Processing, 2016.
    """
    size = squared_magnitude(target).sqrt()
    largest = size.amax(-2, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    cosine = size / largest
    turn = torch.complex(cosine, (1 - cosine.square()).clamp(min=0).sqrt())
    unit = unit_phases(target)
    half = torch.diag_embed(largest.squeeze(-2) / 2).to(target.dtype)
    return torch.cat([unit * turn, unit * turn.conj()], -1), torch.cat([half, half], -2)
