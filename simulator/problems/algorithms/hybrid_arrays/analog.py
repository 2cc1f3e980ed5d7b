"""Choose the phases of an analog precoder: continuous or of a few bits, fully or sub-connected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.problems.problem import PrecodingProblem


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
        if self.bits is None:
            return torch.polar(torch.ones_like(values.real), values.angle())
        step = 2 * math.pi / 2**self.bits
        return torch.polar(torch.ones_like(values.real), torch.round(values.angle() / step) * step)

    def connected(self, antennas: int, device: torch.device) -> Tensor:
        """Return which antenna is fed by which chain.

        Parameters
        ----------
        antennas : int
            Number of antennas, a multiple of the chains where these are sub-connected.
        device : torch.device
            Device of the result.

        Returns
        -------
        Tensor
            float64 (antennas, R) of zeros and ones.
        """
        if not self.sub_connected:
            return torch.ones(antennas, self.chains, dtype=torch.float64, device=device)
        blocks = torch.eye(self.chains, dtype=torch.float64, device=device)
        return blocks.repeat_interleave(antennas // self.chains, 0)


def fitted_digital(analog: Tensor, target: Tensor) -> Tensor:
    """Solve min_D ||W - F D||_F.

    Parameters
    ----------
    analog : Tensor
        F, complex128 (drops, antennas, R).
    target : Tensor
        W, complex128 (drops, antennas, streams).

    Returns
    -------
    Tensor
        D, complex128 (drops, R, streams).
    """
    gram = analog.mH @ analog
    level = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1).reshape(-1, 1, 1)
    # Equal columns of F would make the system singular.
    regular = gram + 1e-9 * level * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    solution: Tensor = torch.linalg.solve_ex(regular, analog.mH @ target)[0]
    return solution


def initial_phases(target: Tensor, shifters: PhaseShifters) -> Tensor:
    """Take the phases of the target's columns, strongest first, then of what they leave unexplained.

    Parameters
    ----------
    target : Tensor
        Weighted digital precoder, complex128 (drops, antennas, streams).
    shifters : PhaseShifters
        Hardware.

    Returns
    -------
    Tensor
        F, complex128 (drops, antennas, R).
    """
    connected = shifters.connected(target.shape[-2], target.device)
    order = target.abs().square().sum(-2).argsort(-1, descending=True)
    ranked = target.gather(-1, order.unsqueeze(-2).expand_as(target))
    if shifters.sub_connected:
        # A block of antennas can serve one direction: that of most energy within it.
        blocks = target.reshape(len(target), shifters.chains, -1, target.shape[-1])
        strongest = torch.linalg.eigh(blocks.mH @ blocks)[1][..., -1:]
        return shifters.phases((blocks @ strongest).flatten(-3, -2)) * connected
    analog = shifters.phases(ranked[..., : shifters.chains])
    while analog.shape[-1] < shifters.chains:
        rest = target - analog @ fitted_digital(analog, target)
        strongest = torch.linalg.eigh(rest.mH @ rest)[1][..., -1:]
        analog = torch.cat([analog, shifters.phases(rest @ strongest)], -1)
    return analog


def descend_phases(target: Tensor, analog: Tensor, shifters: PhaseShifters, sweeps: int) -> Tensor:
    """Minimise ||target - F D||_F by coordinate descent over D and the phases of each chain.

    For given D and other chains, the phase of every antenna in chain r that minimises the error is that of the
    remaining target times d_r^H; rounded to the bits, it is the nearest allowed one and minimises the error too.

    Parameters
    ----------
    target : Tensor
        Weighted digital precoder, complex128 (drops, antennas, streams).
    analog : Tensor
        F to start from, complex128 (drops, antennas, R).
    shifters : PhaseShifters
        Hardware.
    sweeps : int
        Sweeps over all chains, each with its own D.

    Returns
    -------
    Tensor
        F, complex128 (drops, antennas, R).
    """
    connected = shifters.connected(target.shape[-2], target.device)
    for _ in range(sweeps):
        digital = fitted_digital(analog, target)
        if shifters.sub_connected:
            # Chains share no antenna, so that all phases are updated at once.
            analog = shifters.phases((target @ digital.mH * connected).sum(-1, keepdim=True)) * connected
            continue
        pull = target @ digital.mH
        coupling = digital @ digital.mH
        analog = analog.clone()
        for chain in range(shifters.chains):
            own = coupling[:, chain, chain].reshape(-1, 1, 1)
            column = coupling[:, :, chain : chain + 1]
            others = analog @ column - analog[..., chain : chain + 1] * own
            analog[..., chain] = shifters.phases(pull[..., chain] - others.squeeze(-1))
    return analog


def two_phase_form(target: Tensor) -> tuple[Tensor, Tensor]:
    """Write each column as the sum of two columns of unit-modulus entries, exactly.

    w_n = c (exp(j (phi_n + psi_n)) + exp(j (phi_n - psi_n))) / 2 with phi_n = arg w_n, cos psi_n = |w_n| / c and c the
    largest |w_n| of the column.

    Parameters
    ----------
    target : Tensor
        W, complex128 (drops, antennas, streams).

    Returns
    -------
    analog : Tensor
        F, complex128 (drops, antennas, 2 x streams).
    digital : Tensor
        D with W = F D, complex128 (drops, 2 x streams, streams).

    References
    ----------
    * F. Sohrabi, W. Yu, "Hybrid digital and analog beamforming design for large-scale antenna arrays", IEEE Journal of
      Selected Topics in Signal Processing, 2016.
    """
    size = target.abs()
    largest = size.amax(-2, keepdim=True)
    spread = torch.acos((size / largest.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1))
    ones = torch.ones_like(size)
    analog = torch.cat([torch.polar(ones, target.angle() + sign * spread) for sign in (1, -1)], -1)
    half = torch.diag_embed(largest.squeeze(-2) / 2).to(target.dtype)
    return analog, torch.cat([half, half], -2)
