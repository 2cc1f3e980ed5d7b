"""Combine beam directions with powers that meet the constraints, and form the precoding of a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import DROPS_IN_CACHE
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.precoding import ChannelBatch, Precoding, labels_and_scores, near_field_labels, with_drops
from simulator.downlink.sinr import achieved_sinr, effective_gain_matrix, precoder_gain_matrix, rates, sinr


@dataclass(frozen=True)
class Candidate:
    """Hold beam directions with powers that meet C1-C3, and C4 where feasible; see `make_candidate`.

    Parameters
    ----------
    coefficients : Tensor
        C, complex (drops, users, users): w_j ~ sum_i c_ij h_i.
    power_fractions : Tensor
        q = P_k / P, real (drops, users).
    dual_power_fractions : Tensor
        lambda_k / P, real (drops, users); NaN where there is none.
    sinr : Tensor
        SINRs, linear, real (drops, users).
    feasible : Tensor
        C4 holds, bool (drops,).
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
        """Return the drops where `drops`, bool (drops,), is true."""
        return Candidate(*(getattr(self, field.name)[drops] for field in fields(self)))

    def replaced(self, drops: Tensor, other: Candidate) -> Candidate:
        """Return a copy with some drops replaced by those of another candidate.

        Parameters
        ----------
        drops : Tensor
            Drops to replace, bool (drops,).
        other : Candidate
            As many drops as `drops` has true elements.

        Returns
        -------
        Candidate
            Candidate of all drops.
        """
        names = [field.name for field in fields(self)]
        return Candidate(*(with_drops(getattr(self, name), drops, getattr(other, name)) for name in names))

    def better_of(self, other: Candidate, margin: float = 1e-9) -> tuple[Candidate, Tensor]:
        """Choose per drop the feasible candidate, or of two equally feasible the one with the larger sum rate.

        Parameters
        ----------
        other : Candidate
            Candidate of the same drops.
        margin : float
            Fraction of the sum rate by which `other` has to be better. By default only differences in the last digits
            are disregarded (with one user all schemes are equal).

        Returns
        -------
        candidate : Candidate
            Better candidate of every drop.
        other_wins : Tensor
            Drops taken from `other`, bool (drops,).
        """
        only_other = other.feasible & ~self.feasible
        equally_feasible = other.feasible == self.feasible
        other_wins = only_other | (equally_feasible & (other.sum_rate > self.sum_rate * (1 + margin)))
        # A sum rate that is not finite never wins against a finite one, feasible or not.
        other_wins = (other_wins & other.sum_rate.isfinite()) | ~self.sum_rate.isfinite()

        def pick(name: str) -> Tensor:
            ours, theirs = getattr(self, name), getattr(other, name)
            return torch.where(other_wins.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

        return Candidate(*(pick(field.name) for field in fields(self))), other_wins


def make_candidate(
    gram: Tensor,
    coefficients: Tensor,
    target_power_fractions: Tensor,
    near_field: Tensor,
    budget: LinkBudget,
    dual_power_fractions: Tensor | None = None,
) -> Candidate:
    """Compute the candidate of given beam directions and target powers under the constraints of a budget.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users), see `gram.normalised_gram`.
    coefficients : Tensor
        C, complex (drops, users, users), see `Candidate`.
    target_power_fractions : Tensor
        Target q, real (drops, users); `powers.project_power_fractions` moves them onto the constraints.
    near_field : Tensor
        Near-field labels, bool (drops, users).
    budget : LinkBudget
        Link budget.
    dual_power_fractions : Tensor, optional
        lambda / P to record, real (drops, users); NaN by default.

    Returns
    -------
    Candidate
        Candidate of every drop.
    """
    effective_gains = effective_gain_matrix(gram, coefficients)
    limits = budget.limits(effective_gains)
    return project_powers(
        coefficients, effective_gains, target_power_fractions, near_field, limits, dual_power_fractions
    )


def project_powers(
    coefficients: Tensor,
    effective_gains: Tensor,
    target_power_fractions: Tensor,
    near_field: Tensor,
    limits: Limits,
    dual_power_fractions: Tensor | None = None,
) -> Candidate:
    """Compute a candidate as `make_candidate` does, from effective gains that are known already.

    Parameters
    ----------
    coefficients, target_power_fractions, near_field, dual_power_fractions
        As in `make_candidate`.
    effective_gains : Tensor
        F of the directions, real (drops, users, users).
    limits : Limits
        C3 and C4.

    Returns
    -------
    Candidate
        Candidate of every drop.
    """
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
    """Form the precoding of a candidate, with the N-dimensional beams W = H C of unit norm.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    chosen : Candidate
        Candidate of every drop.
    budget : LinkBudget
        Link budget.
    fallback : Tensor, optional
        As in `Precoding`, bool (drops,); false by default.
    compute_labels : callable, optional
        As in `Precoding`; by default `precoding.labels_and_scores` of the batch.
    needs_float64 : Tensor, optional
        As in `form_beams`.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    power = per_drop(budget.power, chosen.power_fractions).unsqueeze(-1)
    return Precoding(
        precoder=form_beams(batch.channels, chosen.coefficients, needs_float64),
        power=chosen.power_fractions * power,
        uplink_power=chosen.dual_power_fractions * power,
        feasible=chosen.feasible,
        fallback=torch.zeros_like(chosen.feasible) if fallback is None else fallback,
        compute_labels=(lambda: labels_and_scores(batch)) if compute_labels is None else compute_labels,
        compute_sinr=lambda: chosen.sinr,
    )


def form_beams(channels: Tensor, coefficients: Tensor, needs_float64: Tensor | None = None) -> Tensor:
    """Compute W = H C with unit-norm columns.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex64 (drops, users, antennas).
    coefficients : Tensor
        C, complex (drops, users, users), see `Candidate`.
    needs_float64 : Tensor, optional
        Drops whose sums are formed in double precision, bool (drops,), see `gram.mixed_precision_gram`; all by
        default.

    Returns
    -------
    Tensor
        Beams in rows, complex64 (drops, users, antennas).
    """
    largest = coefficients.abs().amax(-2, keepdim=True)
    largest = largest.clamp(min=torch.finfo(largest.dtype).tiny)
    scaled = (coefficients / largest).transpose(-1, -2)
    count = len(scaled) if needs_float64 is None else int(needs_float64.sum())
    if count == len(scaled):
        return _unit_beams(channels, scaled)
    beams = _unit_beams(channels, scaled.to(torch.complex64))
    if needs_float64 is not None and count:
        beams[needs_float64] = _unit_beams(channels[needs_float64], scaled[needs_float64])
    return beams


def _unit_beams(channels: Tensor, coefficients: Tensor) -> Tensor:
    """Form unit-norm beams in the precision of the coefficients: nulls towards strong users come from cancellation."""
    if coefficients.dtype != channels.dtype or channels.is_cuda or channels.requires_grad:
        beams = coefficients @ channels.to(coefficients.dtype)
        return _normalise(beams).to(torch.complex64)
    beams = torch.empty(channels.shape, dtype=channels.dtype)
    # A few drops at a time: their beams are still in the cache when they are normalised.
    blocks = (torch.split(each, DROPS_IN_CACHE) for each in (coefficients, channels, beams))
    for coefficient_block, channel_block, beam_block in zip(*blocks, strict=True):
        _normalise(torch.matmul(coefficient_block, channel_block, out=beam_block))
    return beams


def _normalise(beams: Tensor) -> Tensor:
    """Scale rows to unit norm, in place where no gradient is recorded."""
    parts = torch.view_as_real(beams).flatten(-2)  # a complex norm takes three times as long
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True)
    norm = norm.clamp(min=torch.finfo(norm.dtype).tiny)
    if beams.requires_grad:
        return torch.div(beams, norm)
    parts.div_(norm)
    return beams


def equal_power_precoding(batch: ChannelBatch, beams: Tensor, budget: LinkBudget) -> Precoding:
    """Form the precoding of beams of any structure with equal powers, moved onto the constraints where they bind.

    Under a budget with neither C3 nor C4 no K x K matrix is formed before the SINRs are read, which are then computed
    from their definition.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    beams : Tensor
        Beams of any length but zero, complex (drops, users, antennas).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    parts = torch.view_as_real(beams.resolve_conj()).flatten(-2).double()
    unit = parts / torch.linalg.vector_norm(parts, dim=-1, keepdim=True)
    precoder = torch.view_as_complex(unit.float().view(*beams.shape, 2))
    drops, users, _ = beams.shape
    power_fractions = torch.full((drops, users), 1 / users, dtype=torch.float64, device=beams.device)
    feasible = torch.ones(drops, dtype=torch.bool, device=beams.device)
    if budget.constrains_near_field or budget.demands_rates:
        near_field = near_field_labels(batch)
        batch, limits = ChannelBatch(batch.channels, near_field), budget.limits(power_fractions)
        power_fractions, feasible = project_power_fractions(
            precoder_gain_matrix(batch.channels, precoder, budget),
            power_fractions,
            near_field,
            limits.alpha_c,
            limits.min_rate,
        )
    power = power_fractions * per_drop(budget.power, power_fractions).unsqueeze(-1)
    return Precoding(
        precoder=precoder,
        power=power,
        uplink_power=torch.full_like(power, torch.nan),
        feasible=feasible,
        fallback=torch.zeros_like(feasible),
        compute_labels=lambda: labels_and_scores(batch),
        compute_sinr=lambda: achieved_sinr(batch.channels, precoder, power, budget.noise_power),
    )
