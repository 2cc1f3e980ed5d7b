"""Turn beam directions and target powers into candidates that hold the constraints, and a candidate into a precoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import DROPS_IN_CACHE
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.precoding import ChannelBatch, Precoding, near_field_labels
from simulator.downlink.sinr import achieved_sinr, effective_gain_matrix, precoder_gain_matrix, rates, sinr


@dataclass(frozen=True)
class Candidate:
    """Beam directions with powers that meet C1-C3, and C4 where ``feasible``; see `make_candidate`.

    coefficients: complex (drops, users, users), w_j ~ sum_i coefficients_ij h_i. shares: P_k / P (drops, users).
    uplink_shares: lambda_k / P (drops, users), NaN where there is none. sinr: linear (drops, users).
    """

    coefficients: Tensor
    power_fractions: Tensor
    dual_power_fractions: Tensor
    sinr: Tensor
    feasible: Tensor

    @property
    def sum_rate(self) -> Tensor:
        """Sum of log2(1 + SINR) over users, bps/Hz, (drops,)."""
        return rates(self.sinr).sum(-1)

    def select(self, drops: Tensor) -> Candidate:
        """The drops where ``drops`` (bool) is true."""
        return Candidate(*(getattr(self, field.name)[drops] for field in fields(self)))

    def replaced(self, drops: Tensor, other: Candidate) -> Candidate:
        """This with ``other``, which has as many drops as ``drops`` (bool) has true ones, put in their place."""

        def put(ours: Tensor, theirs: Tensor) -> Tensor:
            both = ours.clone()
            both[drops] = theirs
            return both

        return Candidate(*(put(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)))

    def better_of(self, other: Candidate, margin: float = 1e-9) -> tuple[Candidate, Tensor]:
        """Per drop the feasible one, or of two alike the one with the larger sum rate; and where ``other`` won.

        margin: the share of the sum rate by which ``other`` must be better; by default so little that only a
        difference in the last digits (one user: every scheme is the same) counts as none.
        """
        only_other = other.feasible & ~self.feasible
        alike = other.feasible == self.feasible
        other_wins = only_other | (alike & (other.sum_rate > self.sum_rate * (1 + margin)))
        # What is no number never wins against what is one, whatever it says of its rates.
        other_wins = (other_wins & other.sum_rate.isfinite()) | ~self.sum_rate.isfinite()

        def pick(ours: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(other_wins.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

        best = Candidate(
            pick(self.coefficients, other.coefficients),
            pick(self.power_fractions, other.power_fractions),
            pick(self.dual_power_fractions, other.dual_power_fractions),
            pick(self.sinr, other.sinr),
            pick(self.feasible, other.feasible),
        )
        return best, other_wins


def make_candidate(
    gram: Tensor,
    coefficients: Tensor,
    target_power_fractions: Tensor,
    near_field: Tensor,
    budget: LinkBudget,
    dual_power_fractions: Tensor | None = None,
) -> Candidate:
    """Hold the budget's constraints for these directions: `powers.project_power_fractions` on the wanted shares.

    gram: Gamma (see `gram.normalised_gram`); the other shapes as in `Candidate`; near_field: bool (drops, users).
    """
    effective_gains = effective_gain_matrix(gram, coefficients)
    return project_powers(
        coefficients,
        effective_gains,
        target_power_fractions,
        near_field,
        budget.limits(effective_gains),
        dual_power_fractions,
    )


def project_powers(
    coefficients: Tensor,
    effective_gains: Tensor,
    target_power_fractions: Tensor,
    near_field: Tensor,
    limits: Limits,
    dual_power_fractions: Tensor | None = None,
) -> Candidate:
    """`make_candidate` where the couplings F of the directions are known already; real (drops, users, users)."""
    power_fractions, feasible = project_power_fractions(
        effective_gains, target_power_fractions, near_field, limits.alpha_c, limits.min_rate
    )
    if dual_power_fractions is None:
        dual_power_fractions = torch.full_like(power_fractions, torch.nan)
    return Candidate(
        coefficients, power_fractions, dual_power_fractions, sinr(effective_gains, power_fractions), feasible
    )


def assemble(
    batch: ChannelBatch,
    chosen: Candidate,
    budget: LinkBudget,
    fallback: Tensor | None = None,
    compute_labels: Callable[[], tuple[Tensor, Tensor]] | None = None,
    needs_float64: Tensor | None = None,
) -> Precoding:
    """Form the N-dimensional precoders of a candidate: W = H C with unit-norm columns.

    compute_labels: as in `Precoding`; by default `near_field_labels` the batch. careful: bool (drops,), where sums over antennas
    have to be in double precision, see `gram.mixed_precision_gram`; by default everywhere.
    """

    def labels() -> tuple[Tensor, Tensor]:
        near = near_field_labels(batch)
        return near, near.double()

    power = per_drop(budget.power, chosen.power_fractions).unsqueeze(-1)
    return Precoding(
        precoder=form_beams(batch.channels, chosen.coefficients, needs_float64),
        power=chosen.power_fractions * power,
        uplink_power=chosen.dual_power_fractions * power,
        feasible=chosen.feasible,
        fallback=torch.zeros_like(chosen.feasible) if fallback is None else fallback,
        compute_labels=labels if compute_labels is None else compute_labels,
        compute_sinr=lambda: chosen.sinr,
    )


def form_beams(channels: Tensor, coefficients: Tensor, needs_float64: Tensor | None = None) -> Tensor:
    """W = H C with unit-norm columns, complex64 (drops, users, antennas); arguments as in `answer` and `Candidate`."""
    scaled = (coefficients / _largest(coefficients)).transpose(-1, -2)
    count = len(scaled) if needs_float64 is None else int(needs_float64.sum())
    if count == len(scaled):
        return _unit_beams(channels, scaled)
    beams = _unit_beams(channels, scaled.to(torch.complex64))
    if needs_float64 is not None and count:
        beams[needs_float64] = _unit_beams(channels[needs_float64], scaled[needs_float64])
    return beams


def _unit_beams(channels: Tensor, coefficients: Tensor) -> Tensor:
    """Beams that null strong users come out of cancellation; they're formed in the precision of the coefficients."""
    if coefficients.dtype != channels.dtype or channels.is_cuda:
        beams = coefficients @ channels.to(coefficients.dtype)
        return _normalise(beams).to(torch.complex64)
    beams = torch.empty(channels.shape, dtype=channels.dtype)
    # A few drops at a time: their beams are in the cache still when they are normalised.
    for chosen, seen, place in zip(
        *(torch.split(whole, DROPS_IN_CACHE) for whole in (coefficients, channels, beams)), strict=True
    ):
        _normalise(torch.matmul(chosen, seen, out=place))
    return beams


def _normalise(beams: Tensor) -> Tensor:
    """Rows of unit norm, in place."""
    parts = torch.view_as_real(beams).flatten(-2)  # a complex norm takes three times as long
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    parts.div_(norm)
    return beams


def equal_power_precoding(batch: ChannelBatch, beams: Tensor, budget: LinkBudget) -> Precoding:
    """Beams of any kind and length with equal powers, moved where the budget's constraints ask for it, as an answer.

    beams: complex (drops, users, antennas), none of them zero. Under a budget that constrains neither shares nor rates
    no K x K matrix is formed until somebody asks what the users get, which is then computed from the definition.
    """
    parts = torch.view_as_real(beams.resolve_conj()).flatten(-2).double()
    unit = parts / torch.linalg.vector_norm(parts, dim=-1, keepdim=True)
    precoder = torch.view_as_complex(unit.float().view(*beams.shape, 2))
    drops, users, _ = beams.shape
    power_fractions = torch.full((drops, users), 1 / users, dtype=torch.float64, device=beams.device)
    feasible = torch.ones(drops, dtype=torch.bool, device=beams.device)
    if budget.constrains_near_field or budget.demands_rates:
        batch = ChannelBatch(batch.channels, near_field_labels(batch))
        assert batch.near_field is not None
        effective_gains, limits = (
            precoder_gain_matrix(batch.channels, precoder, budget),
            budget.limits(power_fractions),
        )
        power_fractions, feasible = project_power_fractions(
            effective_gains, power_fractions, batch.near_field, limits.alpha_c, limits.min_rate
        )
    power = power_fractions * per_drop(budget.power, power_fractions).unsqueeze(-1)

    def labels() -> tuple[Tensor, Tensor]:
        near = near_field_labels(batch)
        return near, near.double()

    return Precoding(
        precoder=precoder,
        power=power,
        uplink_power=torch.full_like(power, torch.nan),
        feasible=feasible,
        fallback=torch.zeros_like(feasible),
        compute_labels=labels,
        compute_sinr=lambda: achieved_sinr(batch.channels, precoder, power, budget.noise_power),
    )


def _largest(coefficients: Tensor) -> Tensor:
    return coefficients.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
