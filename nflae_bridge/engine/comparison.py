"""Compare the network's answer with the same without redundant users and with regularised zero forcing, per drop.

Regularised zero forcing serves all users; in overloaded cells (`user_selection`) selected ones are tried as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.near_parallel import are_switched_off, redundant_users, without_users
from nflae_bridge.engine.user_selection import is_overloaded, select_users
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from simulator.downlink.candidates import Candidate, project_powers
from simulator.downlink.constraints import Limits
from simulator.downlink.rounding import loses_digits, measure_gains, measured
from simulator.downlink.structure import Beams, structured_beams, wmmse_step
from simulator.interruption import check_interrupt

Measure = Callable[[Tensor], Tensor]
"""Function from C to the gains F of the beams as they are returned."""

NEGLIGIBLE = 1e-5
"""Relative difference in sum rate, and in SINR, that may be rounding.

Where the network has switched a redundant user off already, the answers with and without it differ by next to nothing,
and rounding must not choose between them.
"""


@dataclass(frozen=True)
class Chosen:
    """Hold the best answer per drop.

    Attributes
    ----------
    best
        The answer.
    fallback
        bool (drops,), drops on which it is not the network's.
    power_fractions
        P_k / P as the network gives them, float64 (drops, users).
    near_field
        bool (drops, users), users that count under C3.
    score
        Near-field scores, float64 (drops, users), where they were computed; else None.
    unmet
        bool (drops,), drops on which C4 fails for every answer without WMMSE steps.
    """

    best: Candidate
    fallback: Tensor
    power_fractions: Tensor
    near_field: Tensor
    score: Tensor | None
    unmet: Tensor


@dataclass(frozen=True)
class Allocation:
    """Hold lambda / P and P_k / P, real (drops, users), each summing to 1.

    Attributes
    ----------
    dual_power_fractions, power_fractions
        The fractions.
    """

    dual_power_fractions: Tensor
    power_fractions: Tensor

    def without(self, users: Tensor) -> Allocation:
        """Return the allocation with users, bool (drops, users), switched off."""
        return Allocation(without_users(users, self.dual_power_fractions), without_users(users, self.power_fractions))

    def select(self, drops: Tensor) -> Allocation:
        """Return the drops where ``drops``, bool (drops,), is true."""
        return Allocation(self.dual_power_fractions[drops], self.power_fractions[drops])


class Comparison:
    """Choose the best answer per drop.

    Parameters
    ----------
    network
        The network.
    scores
        Function from channels to near-field scores, float64 (drops, users), of a network whose encoder classifies.
    with_fallback
        False: the network's answer under the constraints, without any comparison.
    """

    def __init__(self, network: PrecodingNetwork, scores: Callable[[Tensor], Tensor], with_fallback: bool) -> None:
        self._network, self._scores, self._with_fallback = network, scores, with_fallback

    def best(self, problem: DeviceProblem, gram: Tensor, refinements: int, suspects: Tensor | None = None) -> Chosen:
        """Choose the best answer per drop.

        Drops on which K x K algebra loses digits are compared by the gains of the beams in single precision.

        Parameters
        ----------
        problem
            Channels and constraints.
        gram
            Gamma, complex128 (drops, users, users).
        refinements
            WMMSE steps from the network's answer. They raise the sum rate under the total power alone: under C3 or C4
            the network's own answer is returned where it is better.
        suspects
            Drops that may lose digits, bool (drops,). None: no value may be read on the host, as in a captured CUDA
            graph, and no drop is measured.

        Returns
        -------
        Chosen
        """
        equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
        regularised = None
        if self._with_fallback or self._network.encoder.classifies:
            regularised = structured_beams(gram, equal)
        output, near, score = self._run_network(problem, gram, regularised)
        allocation = Allocation(output.dual_power_fractions.double(), output.power_fractions.double())
        target = allocation.power_fractions
        if regularised is None or not self._with_fallback:
            serve = partial(_serve, gram, allocation, near, problem.limits)
            best, met = _refined_or_not(serve, refinements, problem.limits)
            return Chosen(best, torch.zeros_like(best.feasible), target, near, score, ~met)
        redundant = redundant_users(gram, problem.channels, near, target)
        select = _pruned_everywhere if suspects is None or gram.is_cuda else _pruned_where_needed
        serve = partial(select, gram, allocation, redundant, near, problem.limits)
        own, met = _refined_or_not(serve, refinements, problem.limits)
        shares, rivals = _textbook(gram, problem, regularised, near)
        best, fallback, met = _best_of(own, met, rivals)
        if suspects is not None and bool(suspects.any()):
            lossy = suspects & loses_digits(gram, regularised)
            if bool(lossy.any()):
                part, target_part = problem.select(lossy), allocation.select(lossy)
                measure = partial(measure_gains, part.channels, part.amplitude_scale)
                given = (gram[lossy], target_part, redundant[lossy], near[lossy], part.limits)
                own, found = _refined_or_not(
                    partial(_pruned_everywhere, *given, measure=measure), refinements, part.limits
                )
                rivals = [
                    measured(rival.select(lossy), measure, share[lossy], near[lossy], part.limits)
                    for rival, share in zip(rivals, shares, strict=True)
                ]
                exact, fallback[lossy], met[lossy] = _best_of(own, found, rivals)
                best = best.replaced(lossy, exact)
        return Chosen(best, fallback, target, near, score, ~met)

    def _run_network(
        self, problem: DeviceProblem, gram: Tensor, regularised: Beams | None
    ) -> tuple[NetworkOutput, Tensor, Tensor | None]:
        """Return the network's output, the labels that C3 goes by, and near-field scores where computed."""
        score, near, channels = None, problem.near_field, None
        if not self._network.encoder.classifies:
            channels = (problem.channels * problem.amplitude_scale.reshape(-1, 1, 1)).to(torch.complex64)
        elif near is None:
            score = self._scores(problem.channels)
            near = (score > 0.5) & (problem.alpha_c < 1).unsqueeze(-1)
        inputs = UserInputs(channels, gram, problem.alpha_c, problem.min_rate, near, regularised)
        output: NetworkOutput = self._network(inputs)
        if score is None and output.near_field_logit is not None:
            score = torch.sigmoid(output.near_field_logit.double())
            near = score > 0.5 if near is None else near
        assert near is not None
        return output, near, score


def _textbook(
    gram: Tensor, problem: DeviceProblem, regularised: Beams, near_field: Tensor
) -> tuple[list[Tensor], list[Candidate]]:
    """Return regularised zero forcing of all users, and of selected ones where there are too many, with its powers."""
    users, antennas = problem.channels.shape[1:]
    shares, beams = [torch.full_like(gram.real[..., 0], 1 / users)], [regularised]
    if is_overloaded(users, antennas):
        shares.append(select_users(gram, antennas))
        beams.append(structured_beams(gram, shares[1]))
    return shares, [
        project_powers(each.coefficients, each.effective_gains, share, near_field, problem.limits, share)
        for each, share in zip(beams, shares, strict=True)
    ]


def _best_of(own: Candidate, met: Tensor, rivals: list[Candidate]) -> tuple[Candidate, Tensor, Tensor]:
    """Return the best candidate per drop, whether it is a rival, and whether a rival or ``met`` says that C4 holds."""
    fallback = torch.zeros_like(own.feasible)
    for rival in rivals:
        own, wins = own.better_of(rival)
        fallback, met = fallback | wins, met | rival.feasible
    return own, fallback, met


def _refined_or_not(serve: Callable[[int], Candidate], refinements: int, limits: Limits) -> tuple[Candidate, Tensor]:
    """Return the better of the answers with and without WMMSE steps, and the drops on which the latter is feasible.

    Without C3 and C4 no step lowers the sum rate, and the answer without steps is not computed.
    """
    best = serve(refinements)
    if not refinements or limits == Limits():
        return best, best.feasible
    plain = serve(0)
    return best.better_of(plain)[0], plain.feasible


def _pruned_everywhere(
    gram: Tensor,
    allocation: Allocation,
    redundant: Tensor,
    near_field: Tensor,
    limits: Limits,
    refinements: int,
    measure: Measure | None = None,
) -> Candidate:
    """Return the better of the answers with and without redundant users, both computed on every drop.

    On a GPU that takes less time than finding the drops on which both are needed.
    """
    own = _serve(gram, allocation, near_field, limits, refinements, measure)
    pruned = _serve(gram, allocation.without(redundant), near_field, limits, refinements, measure)
    return own.better_of(pruned, margin=-NEGLIGIBLE)[0]


def _pruned_where_needed(
    gram: Tensor, allocation: Allocation, redundant: Tensor, near_field: Tensor, limits: Limits, refinements: int
) -> Candidate:
    """Return the same, with both answers computed only on drops where they can differ."""
    drops = redundant.any(-1)
    if limits == Limits():
        fractions = allocation.dual_power_fractions + allocation.power_fractions
        off = are_switched_off(redundant, fractions, gram, NEGLIGIBLE)
        allocation = allocation.without(redundant & off.unsqueeze(-1))
        drops = ~off
    own = _serve(gram, allocation, near_field, limits, refinements)
    if not drops.any():
        return own
    part = allocation.select(drops).without(redundant[drops])
    pruned = _serve(gram[drops], part, near_field[drops], limits.select(drops), refinements)
    return own.replaced(drops, own.select(drops).better_of(pruned, margin=-NEGLIGIBLE)[0])


def _serve(
    gram: Tensor,
    allocation: Allocation,
    near_field: Tensor,
    limits: Limits,
    refinements: int,
    measure: Measure | None = None,
) -> Candidate:
    """Turn an allocation into directions and powers, after WMMSE steps; by measured gains where given."""
    uplink, power_fractions = allocation.dual_power_fractions, allocation.power_fractions
    beams = structured_beams(gram, uplink)
    for _ in range(refinements):
        check_interrupt()
        uplink, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
    gains = beams.effective_gains if measure is None else measure(beams.coefficients)
    return project_powers(beams.coefficients, gains, power_fractions, near_field, limits, uplink)
