"""What a precoding scheme takes and gives, and how beam directions and wanted powers become an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.link import ChannelBatch, LinkBudget, coupling, per_drop, rates, sinr
from simulator.near_field import far_field_test
from simulator.powers import project_shares


@dataclass(frozen=True)
class Precoding:
    """A scheme's answer for a batch of drops.

    precoder: complex64 (drops, users, antennas), rows w_k of unit norm.
    power: P_k, float64 (drops, users), W.
    uplink_power: lambda of the optimal structure, float64 (drops, users), W; NaN where a scheme has none.
    near_field: bool (drops, users); near_field_score: float64 (drops, users), in [0, 1].
    sinr: linear; rate: bps/Hz; float64 (drops, users). sum_rate: float64 (drops,), bps/Hz.
    feasible: bool (drops,), C4 holds. fallback: bool (drops,), RZF was better than the network and is returned.
    """

    precoder: Tensor
    power: Tensor
    uplink_power: Tensor
    near_field: Tensor
    near_field_score: Tensor
    sinr: Tensor
    rate: Tensor
    sum_rate: Tensor
    feasible: Tensor
    fallback: Tensor


Scheme = Callable[[ChannelBatch, LinkBudget], Precoding]


@dataclass(frozen=True)
class Candidate:
    """Beam directions with powers that meet C1-C3, and C4 where ``feasible``; see `candidate`.

    coefficients: complex (drops, users, users), w_j ~ sum_i coefficients_ij h_i. shares: P_k / P (drops, users).
    uplink_shares: lambda_k / P (drops, users), NaN where there is none. sinr: linear (drops, users).
    """

    coefficients: Tensor
    shares: Tensor
    uplink_shares: Tensor
    sinr: Tensor
    feasible: Tensor

    @property
    def sum_rate(self) -> Tensor:
        """Sum of log2(1 + SINR) over users, bps/Hz, (drops,)."""
        return rates(self.sinr).sum(-1)

    def better_of(self, other: Candidate, margin: float = 1e-9) -> tuple[Candidate, Tensor]:
        """Per drop the feasible one, or of two alike the one with the larger sum rate; and where ``other`` won.

        margin: the share of the sum rate by which ``other`` must be better; by default so little that only a
        difference in the last digits (one user: every scheme is the same) counts as none.
        """
        only_other = other.feasible & ~self.feasible
        alike = other.feasible == self.feasible
        other_wins = only_other | (alike & (other.sum_rate > self.sum_rate * (1 + margin)))
        other_wins = other_wins | ~self.sum_rate.isfinite()

        def pick(ours: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(other_wins.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

        best = Candidate(
            pick(self.coefficients, other.coefficients),
            pick(self.shares, other.shares),
            pick(self.uplink_shares, other.uplink_shares),
            pick(self.sinr, other.sinr),
            pick(self.feasible, other.feasible),
        )
        return best, other_wins


def candidate(
    gram: Tensor,
    coefficients: Tensor,
    wanted_shares: Tensor,
    near_field: Tensor,
    budget: LinkBudget,
    uplink_shares: Tensor | None = None,
) -> Candidate:
    """Hold the budget's constraints for these directions: `powers.project_shares` on the wanted shares.

    gram: Gamma (see `link.normalised_gram`); the other shapes as in `Candidate`; near_field: bool (drops, users).
    """
    couplings = coupling(gram, coefficients)
    shares, feasible = project_shares(
        couplings, wanted_shares, near_field, per_drop(budget.alpha_c, gram), per_drop(budget.min_rate, gram)
    )
    if uplink_shares is None:
        uplink_shares = torch.full_like(shares, torch.nan)
    return Candidate(coefficients, shares, uplink_shares, sinr(couplings, shares), feasible)


def answer(
    channels: Tensor,
    chosen: Candidate,
    budget: LinkBudget,
    near_field: Tensor,
    near_field_score: Tensor | None = None,
    fallback: Tensor | None = None,
) -> Precoding:
    """Form the N-dimensional precoders of a candidate: W = H C with unit-norm columns."""
    # Beams that null strong users come out of cancellation: in single precision they'd miss the SINR just promised.
    scaled = chosen.coefficients / _largest(chosen.coefficients)
    beams = scaled.transpose(-1, -2) @ channels.to(scaled.dtype)
    parts = torch.view_as_real(beams).flatten(-2)  # a complex norm takes three times as long
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    power = per_drop(budget.power, chosen.shares).unsqueeze(-1)
    rate = rates(chosen.sinr)
    drops = channels.shape[0]
    return Precoding(
        precoder=(beams / norm).to(torch.complex64),
        power=chosen.shares * power,
        uplink_power=chosen.uplink_shares * power,
        near_field=near_field,
        near_field_score=near_field.double() if near_field_score is None else near_field_score,
        sinr=chosen.sinr,
        rate=rate,
        sum_rate=rate.sum(-1),
        feasible=chosen.feasible,
        fallback=torch.zeros(drops, dtype=torch.bool, device=channels.device) if fallback is None else fallback,
    )


def labels_of(batch: ChannelBatch) -> Tensor:
    """The batch's near-field labels, or those of the far-field test where none were given; bool (drops, users)."""
    return far_field_test(batch.channels) if batch.near_field is None else batch.near_field


def _largest(coefficients: Tensor) -> Tensor:
    return coefficients.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
