"""The engine: the network with its promises kept, as a scheme like any other.

Network -> directions by the optimal structure -> powers projected onto C1-C4 -> compared, drop by drop, with the same
answer less the users who only double another, and with regularised zero forcing under the same constraints; where none
of them reaches the minimum rates, with directions balanced for the weakest user. The best is returned, and marked where
it is not the network's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.devices import choose_device
from nflae_bridge.models import load_model
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.encoder import UserInputs
from nflae_bridge.one_drop import OneDrop
from nflae_bridge.side_by_side import redundant_users
from simulator.balancing import balanced_candidate
from simulator.link import ChannelBatch, LinkBudget, noise_units, per_drop, quick_gram
from simulator.precoding import Candidate, Precoding, Scheme, answer, powered
from simulator.schemes import register, scheme
from simulator.structure import structured_beams, wmmse_step

# Where the network has switched a doubled user off already, the answers with and without it differ by next to nothing:
# rounding must not choose between them.
_NEGLIGIBLE = 1e-5


class Engine:
    """A trained network as a precoding scheme: ``engine(batch, budget) -> Precoding``.

    checkpoint: the model. device: where it runs; channels on another device are moved there and the answer stays.
    refinements: WMMSE steps r >= 0 started from the network's answer; each costs two K x K solves a drop.
    guarded: compare with the other answers; False: the network's own, under the same constraints, for experiments that
        ask what a network is worth by itself.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        refinements: int = 0,
        guarded: bool = True,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.network = copy.deepcopy(checkpoint.network).to(self.device).eval()
        self.refinements = refinements
        self.guarded = guarded
        self.one_drop = OneDrop.of(self.network) if guarded and self.device.type == "cpu" else None

    def refined(self, refinements: int) -> Engine:
        """The same network with another number of refinement steps."""
        other = copy.copy(self)
        other.refinements = refinements
        return other

    @torch.no_grad()
    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Precode. Labels given with the batch replace the network's; C3 goes by the labels returned.

        Where C3 can't bind, labels change nothing, and the network's own are worked out when first read.
        """
        given = None if batch.near_field is None else batch.near_field.to(self.device)
        batch = ChannelBatch(batch.channels.to(self.device), given)
        if self.one_drop is not None and len(batch.channels) == 1 and _unconstrained(budget):
            return self._single(self.one_drop, batch, budget)
        gram, careful = quick_gram(batch.channels, budget)
        users = gram.real[..., 0]
        alpha_c = per_drop(budget.alpha_c, users).expand(len(users))
        min_rate = per_drop(budget.min_rate, users).expand(len(users))
        equal = torch.full_like(users, 1 / users.shape[-1])
        regularised = structured_beams(gram, equal)
        inputs = UserInputs(None, gram, alpha_c, min_rate, None, regularised)
        if self.network.encoder.classifies:
            scores = cache(lambda: self._scores(batch.channels))
            near = torch.zeros_like(users, dtype=torch.bool)
            if budget.constrains_shares:
                near = (scores() > 0.5 if given is None else given) & (alpha_c < 1).unsqueeze(-1)
            output = self.network(replace(inputs, near_field=near))
        else:
            output = self.network(replace(inputs, channels=self._in_noise_units(batch.channels, budget)))
            assert output.near_field_logit is not None
            score = torch.sigmoid(output.near_field_logit.double())
            scores = cache(lambda: score)
            near = score > 0.5 if given is None else given

        def labels() -> tuple[Tensor, Tensor]:
            return scores() > 0.5 if given is None else given, scores()

        uplink, shares = output.uplink_shares.double(), output.shares.double()
        ours = self._served(gram, uplink, shares, near, budget)
        if not self.guarded:
            return answer(batch, ours, budget, None, labels, careful)
        ours = self._less_doubled_users(ours, gram, batch.channels, uplink, shares, near, budget)
        textbook = powered(regularised.coefficients, regularised.couplings, equal, near, budget, equal)
        best, fallback = ours.better_of(textbook)
        if budget.demands_rates:
            unmet = ~best.feasible
            if bool(unmet.any()):
                balanced = balanced_candidate(gram[unmet], shares[unmet], near[unmet], budget.select(unmet))
                chosen, rescued = best.select(unmet).better_of(balanced)
                best = best.replaced(unmet, chosen)
                fallback[unmet] |= rescued
        return answer(batch, best, budget, fallback, labels, careful)

    def _single(self, one_drop: OneDrop, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """The answer for one drop without constraints."""
        channels = batch.channels[0].numpy().astype(np.complex128) * float(noise_units(budget, self.device))
        best, fallback = one_drop.solve(channels, self.refinements, _NEGLIGIBLE)
        parts = (best.coefficients, best.shares, best.uplink_shares, best.sinr)
        coefficients, shares, uplink, sinr = (torch.from_numpy(part)[None] for part in parts)
        chosen = Candidate(coefficients, shares, uplink, sinr, torch.ones(1, dtype=torch.bool))
        return answer(batch, chosen, budget, torch.tensor([fallback]), self._labels(batch))

    def _labels(self, batch: ChannelBatch) -> Callable[[], tuple[Tensor, Tensor]]:
        def labels() -> tuple[Tensor, Tensor]:
            score = self._scores(batch.channels)
            return score > 0.5 if batch.near_field is None else batch.near_field, score

        return labels

    def _served(
        self, gram: Tensor, uplink: Tensor, shares: Tensor, near_field: Tensor, budget: LinkBudget
    ) -> Candidate:
        beams = structured_beams(gram, uplink)
        for _ in range(self.refinements):
            uplink, beams, shares = wmmse_step(gram, beams, shares)
        return powered(beams.coefficients, beams.couplings, shares, near_field, budget, uplink)

    def _less_doubled_users(
        self,
        ours: Candidate,
        gram: Tensor,
        channels: Tensor,
        uplink: Tensor,
        shares: Tensor,
        near_field: Tensor,
        budget: LinkBudget,
    ) -> Candidate:
        """On drops where some users only double others, the better of the answers with and without them."""
        doubled = redundant_users(gram, channels, near_field, shares)
        drops = doubled.any(-1)
        count = int(drops.sum())
        if not count:
            return ours
        if count < len(drops):
            gram, uplink, shares = gram[drops], uplink[drops], shares[drops]
            doubled, near_field, budget = doubled[drops], near_field[drops], budget.select(drops)
        alone = self._served(gram, _without(doubled, uplink), _without(doubled, shares), near_field, budget)
        if count == len(drops):
            return ours.better_of(alone, margin=-_NEGLIGIBLE)[0]
        return ours.replaced(drops, ours.select(drops).better_of(alone, margin=-_NEGLIGIBLE)[0])

    @torch.no_grad()
    def _scores(self, channels: Tensor) -> Tensor:
        return torch.sigmoid(self.network.near_field_logit(channels).double())

    def _in_noise_units(self, channels: Tensor, budget: LinkBudget) -> Tensor:
        return (channels * noise_units(budget, self.device).reshape(-1, 1, 1)).to(torch.complex64)

    def near_field(self, channels: Tensor) -> Tensor:
        """The network's near-field labels for channels, bool (drops, users)."""
        return self(ChannelBatch(channels), LinkBudget()).near_field


def _unconstrained(budget: LinkBudget) -> bool:
    return not budget.constrains_shares and not budget.demands_rates


def _without(users: Tensor, shares: Tensor) -> Tensor:
    kept = shares * ~users
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)


def load_scheme(name: str, model: str = "auto", device: str = "auto", refinements: int = 0) -> Scheme:
    """The scheme called ``name``, ready to use; ``nflae`` with the given model, see `models.load_model`.

    Raises NflaeError if the model or device can't be had, ValueError for an unknown scheme.
    """
    if name == "nflae":
        chosen = choose_device(device)
        return register("nflae")(Engine(load_model(model, chosen), chosen, refinements))
    return scheme(name)
