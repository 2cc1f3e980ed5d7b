"""The engine: the network with its promises kept, as a scheme like any other.

Network -> directions by the optimal structure -> powers projected onto C1-C4 -> compared, drop by drop, with the same
answer less the users who only double another, and with regularised zero forcing under the same constraints; where none
of them reaches the minimum rates, with directions balanced for the weakest user. The best is returned, and marked where
it is not the network's.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from nflae_bridge.devices import choose_device
from nflae_bridge.models import load_model
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.encoder import UserInputs
from nflae_bridge.side_by_side import redundant_users
from simulator.balancing import balanced_candidate
from simulator.link import ChannelBatch, LinkBudget, noise_units, normalised_gram, per_drop
from simulator.precoding import Candidate, Precoding, Scheme, answer, candidate
from simulator.schemes import register, scheme
from simulator.schemes.rzf import rzf_candidate
from simulator.structure import structured_coefficients, wmmse_step

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
        # In single precision rounding reaches the rates' fourth decimal where users stand side by side. A pretrained
        # language model is large, and was never more precise than that; nor are networks that read raw antennas.
        config = checkpoint.network.config
        precise = config.encoder.kind == "gram" and config.backbone.source is None
        precision = torch.float64 if precise else torch.float32
        self.network = copy.deepcopy(checkpoint.network).to(self.device, precision).eval()
        self.refinements = refinements
        self.guarded = guarded

    def refined(self, refinements: int) -> Engine:
        """The same network with another number of refinement steps."""
        other = copy.copy(self)
        other.refinements = refinements
        return other

    @torch.no_grad()
    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Precode. Labels given with the batch replace the network's; C3 goes by the labels returned."""
        channels = batch.channels.to(self.device)
        given = None if batch.near_field is None else batch.near_field.to(self.device)
        gram = normalised_gram(channels, budget)
        drops = channels.shape[0]
        output = self.network(
            UserInputs(
                (channels * noise_units(budget, self.device).reshape(-1, 1, 1)).to(torch.complex64),
                gram,
                per_drop(budget.alpha_c, gram).expand(drops),
                per_drop(budget.min_rate, gram).expand(drops),
                given,
            )
        )
        score = torch.sigmoid(output.near_field_logit.double())
        near = score > 0.5 if given is None else given
        uplink, shares = output.uplink_shares.double(), output.shares.double()
        ours = self._served(gram, uplink, shares, near, budget)
        if not self.guarded:
            return answer(channels, ours, budget, near, score)
        doubled = redundant_users(gram, channels, near, shares)
        if bool(doubled.any()):
            alone = self._served(gram, _without(doubled, uplink), _without(doubled, shares), near, budget)
            ours, _ = ours.better_of(alone, margin=-_NEGLIGIBLE)
        best, fallback = ours.better_of(rzf_candidate(gram, near, budget))
        unmet = ~best.feasible
        if bool(unmet.any()):
            balanced = balanced_candidate(gram[unmet], shares[unmet], near[unmet], budget.select(unmet))
            chosen, rescued = best.select(unmet).better_of(balanced)
            best = best.replaced(unmet, chosen)
            fallback[unmet] |= rescued
        return answer(channels, best, budget, near, score, fallback)

    def _served(
        self, gram: Tensor, uplink: Tensor, shares: Tensor, near_field: Tensor, budget: LinkBudget
    ) -> Candidate:
        for _ in range(self.refinements):
            uplink, shares = wmmse_step(gram, uplink, shares)
        return candidate(gram, structured_coefficients(gram, uplink), shares, near_field, budget, uplink)

    def near_field(self, channels: Tensor) -> Tensor:
        """The network's near-field labels for channels, bool (drops, users)."""
        return self(ChannelBatch(channels), LinkBudget()).near_field


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
