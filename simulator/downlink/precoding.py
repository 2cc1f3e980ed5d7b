"""What a precoding scheme takes and gives, and how beam directions and wanted powers become an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.problem import (
    IN_CACHE,
    ChannelBatch,
    Limits,
    achieved_sinr,
    effective_gains_of,
    effective_gains_of_beams,
    per_drop,
    rates,
    sinr,
)
from simulator.geometry.near_field import far_field_test

# What an answer holds as tensors, unlike what it works out when asked.
_STORED = ("precoder", "power", "uplink_power", "feasible", "fallback")


@dataclass(frozen=True)
class Precoding:
    """A scheme's answer for a batch of drops: what to send, and, worked out when first read, what it does.

    A transmitter that wants only beams and powers doesn't wait for the labels of users or for their rates.

    precoder: complex64 (drops, users, antennas), rows w_k of unit norm.
    power: P_k, float64 (drops, users), W.
    uplink_power: lambda of the optimal structure, float64 (drops, users), W; NaN where a scheme has none.
    feasible: bool (drops,), C4 holds. fallback: bool (drops,), what is returned is not the network's answer
        but a better one: RZF's, or, where C4 asks for it, one over directions balanced for the weakest user.
    find_labels: gives near_field, bool (drops, users), and near_field_score, float64 (drops, users), in [0, 1].
    find_sinr: gives the SINRs, linear, float64 (drops, users).
    needs_sic: the SINRs are those of receivers that decode and cancel other users' messages first; any other receiver
        gets less. They aren't `link.achieved_sinr`'s then.
    """

    precoder: Tensor
    power: Tensor
    uplink_power: Tensor
    feasible: Tensor
    fallback: Tensor
    find_labels: Callable[[], tuple[Tensor, Tensor]]
    find_sinr: Callable[[], Tensor]
    needs_sic: bool = False

    def to(self, device: torch.device) -> Precoding:
        """The same on another device."""

        def labels() -> tuple[Tensor, Tensor]:
            near, score = self._labels
            return near.to(device), score.to(device)

        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in _STORED}
        return replace(self, **moved, find_labels=labels, find_sinr=lambda: self.sinr.to(device))

    def replaced(self, drops: Tensor, other: Precoding) -> Precoding:
        """This with ``other``, which has as many drops as ``drops`` (bool) has true ones, put in their place."""

        def put(ours: Tensor, theirs: Tensor) -> Tensor:
            both = ours.clone()
            both[drops] = theirs
            return both

        def labels() -> tuple[Tensor, Tensor]:
            return put(self.near_field, other.near_field), put(self.near_field_score, other.near_field_score)

        stored: dict[str, Any] = {name: put(getattr(self, name), getattr(other, name)) for name in _STORED}
        return replace(self, **stored, find_labels=labels, find_sinr=lambda: put(self.sinr, other.sinr))

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor]:
        return self.find_labels()

    @property
    def near_field(self) -> Tensor:
        """The labels C3 goes by, bool (drops, users)."""
        return self._labels[0]

    @property
    def near_field_score(self) -> Tensor:
        """How sure they are, float64 (drops, users), in [0, 1]."""
        return self._labels[1]

    @cached_property
    def sinr(self) -> Tensor:
        """Linear, float64 (drops, users)."""
        return self.find_sinr()

    @cached_property
    def rate(self) -> Tensor:
        """log2(1 + SINR), bps/Hz, float64 (drops, users)."""
        return rates(self.sinr)

    @cached_property
    def sum_rate(self) -> Tensor:
        """Sum of the rates, bps/Hz, float64 (drops,)."""
        return self.rate.sum(-1)


Scheme = Callable[[ChannelBatch, LinkBudget], Precoding]


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

    gram: Gamma (see `link.normalised_gram`); the other shapes as in `Candidate`; near_field: bool (drops, users).
    """
    effective_gains = effective_gains_of(gram, coefficients)
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
    find_labels: Callable[[], tuple[Tensor, Tensor]] | None = None,
    needs_float64: Tensor | None = None,
) -> Precoding:
    """Form the N-dimensional precoders of a candidate: W = H C with unit-norm columns.

    find_labels: as in `Precoding`; by default `labels_of` the batch. careful: bool (drops,), where sums over antennas
    have to be in double precision, see `link.mixed_precision_gram`; by default everywhere.
    """

    def labels() -> tuple[Tensor, Tensor]:
        near = labels_of(batch)
        return near, near.double()

    power = per_drop(budget.power, chosen.power_fractions).unsqueeze(-1)
    return Precoding(
        precoder=beams_of(batch.channels, chosen.coefficients, needs_float64),
        power=chosen.power_fractions * power,
        uplink_power=chosen.dual_power_fractions * power,
        feasible=chosen.feasible,
        fallback=torch.zeros_like(chosen.feasible) if fallback is None else fallback,
        find_labels=labels if find_labels is None else find_labels,
        find_sinr=lambda: chosen.sinr,
    )


def beams_of(channels: Tensor, coefficients: Tensor, needs_float64: Tensor | None = None) -> Tensor:
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
        *(torch.split(whole, IN_CACHE) for whole in (coefficients, channels, beams)), strict=True
    ):
        _normalise(torch.matmul(chosen, seen, out=place))
    return beams


def _normalise(beams: Tensor) -> Tensor:
    """Rows of unit norm, in place."""
    parts = torch.view_as_real(beams).flatten(-2)  # a complex norm takes three times as long
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    parts.div_(norm)
    return beams


def equal_powers(batch: ChannelBatch, beams: Tensor, budget: LinkBudget) -> Precoding:
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
        batch = ChannelBatch(batch.channels, labels_of(batch))
        assert batch.near_field is not None
        effective_gains, limits = (
            effective_gains_of_beams(batch.channels, precoder, budget),
            budget.limits(power_fractions),
        )
        power_fractions, feasible = project_power_fractions(
            effective_gains, power_fractions, batch.near_field, limits.alpha_c, limits.min_rate
        )
    power = power_fractions * per_drop(budget.power, power_fractions).unsqueeze(-1)

    def labels() -> tuple[Tensor, Tensor]:
        near = labels_of(batch)
        return near, near.double()

    return Precoding(
        precoder=precoder,
        power=power,
        uplink_power=torch.full_like(power, torch.nan),
        feasible=feasible,
        fallback=torch.zeros_like(feasible),
        find_labels=labels,
        find_sinr=lambda: achieved_sinr(batch.channels, precoder, power, budget.noise_power),
    )


def labels_of(batch: ChannelBatch) -> Tensor:
    """The batch's near-field labels, or those of the far-field test where none were given; bool (drops, users)."""
    return far_field_test(batch.channels) if batch.near_field is None else batch.near_field


def constrained_labels(batch: ChannelBatch, budget: LinkBudget) -> Tensor:
    """The labels that powers depend on, bool (drops, users): `labels_of` the batch, or nobody's where C3 can't bind."""
    if budget.constrains_near_field:
        return labels_of(batch)
    return torch.zeros(batch.channels.shape[:2], dtype=torch.bool, device=batch.channels.device)


def _largest(coefficients: Tensor) -> Tensor:
    return coefficients.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
