"""The engine: the network with its promises kept, as a scheme like any other.

Network -> directions by the optimal structure -> powers projected onto C1-C4 -> compared, drop by drop, with the same
answer less the users who only double another, and with regularised zero forcing under the same constraints; where none
of them reaches the minimum rates, with directions balanced for the weakest user. The best is returned, and marked where
it is not the network's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs import Replays
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.near_parallel import redundant_users, switched_off
from nflae_bridge.engine.numpy_small_batch import Drops, solve
from nflae_bridge.engine.onnx_graph import FromSecondUse
from nflae_bridge.engine.onnx_network import CompiledNetwork, compilable
from nflae_bridge.engine.onnx_wavefront import CompiledClassifier
from nflae_bridge.network.backbone import Backbone
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.encoders.gram import GramEncoder
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from simulator.downlink.balancing import max_min_candidate
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import Candidate, assemble, form_beams, project_powers
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import compute_amplitude_scale, mixed_precision_gram, scaled_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.structure import structured_beams, wmmse_step

if TYPE_CHECKING:
    from nflae_bridge.engine.triton_kernels import Fused

# Where the network has switched a doubled user off already, the answers with and without it differ by next to nothing:
# rounding must not choose between them.
_NEGLIGIBLE = 1e-5

# Drops that NumPy and the compiled network are through with before PyTorch is, on a CPU.
_FEW = 64


@dataclass(frozen=True)
class Chosen:
    """The engine's choice. fallback: bool (drops,), it isn't the network's.

    shares: what the network wanted, float64 (drops, users). near_field: bool (drops, users), who counted under C3.
    score: near-field scores, float64 (drops, users), of a network that gives them along with the rest; else None.
    """

    best: Candidate
    fallback: Tensor
    power_fractions: Tensor
    near_field: Tensor
    score: Tensor | None


class Engine:
    """A trained network as a precoding scheme: ``engine(batch, budget) -> Precoding``.

    checkpoint: the model. device: where it runs; channels elsewhere are moved there, and the answer back to them.
    refinements: WMMSE steps r >= 0 started from the network's answer; each costs a K x K solve a drop.
    guarded: compare with the other answers; False: the network's own, under the same constraints, for experiments that
        ask what a network is worth by itself.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        refinements: int = 0,
        with_fallback: bool = True,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.network = copy.deepcopy(checkpoint.network).to(self.device).eval()
        if self.device.type == "cuda" and isinstance(self.network.backbone, Backbone):
            self.network.backbone.model.to(torch.bfloat16)  # what reads the weights half as long moves rates by 1e-5
        self.refinements = refinements
        self.with_fallback = with_fallback
        self.compiled: FromSecondUse[CompiledNetwork] | None = None
        self.classifier: FromSecondUse[CompiledClassifier] | None = None
        if self.device.type == "cpu":
            encoder = self.network.encoder
            if with_fallback and compilable(self.network):
                self.compiled = FromSecondUse(lambda: CompiledNetwork(self.network))
            if isinstance(encoder, GramEncoder):
                self.classifier = FromSecondUse(lambda: CompiledClassifier(encoder.classifier))
        self.replays = Replays(self.device) if self.device.type == "cuda" else None
        self.fused = _fused(self.network) if with_fallback and self.device.type == "cuda" else None

    def refined(self, refinements: int) -> Engine:
        """The same network with another number of refinement steps."""
        other = copy.copy(self)
        other.refinements = refinements
        return other

    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Precode. Labels given with the batch replace the network's; C3 goes by the labels returned.

        Where C3 can't bind, labels change nothing, and the network's own are worked out when first read.
        """
        if self.compiled is not None and 1 <= len(batch.channels) <= _FEW and _unconstrained(budget):
            network = self.compiled()
            if network is not None:
                return self._few(network, batch, budget)
        replayed = None if self.replays is None else self._replayed(self.replays, batch, budget)
        return self._computed(batch, budget) if replayed is None else replayed

    @torch.no_grad()
    def _computed(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        where = batch.channels.device
        given = None if batch.near_field is None else batch.near_field.to(self.device)
        batch = ChannelBatch(batch.channels.to(self.device), given)
        gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
        chosen = self._choose(self._asked(batch, budget), gram)
        best, fallback = chosen.best, chosen.fallback
        if self.with_fallback and budget.demands_rates:
            unmet = ~best.feasible
            if bool(unmet.any()):
                near, wanted = chosen.near_field[unmet], chosen.power_fractions[unmet]
                max_min = max_min_candidate(gram[unmet], wanted, near, budget.select(unmet))
                better, rescued = best.select(unmet).better_of(max_min)
                best = best.replaced(unmet, better)
                fallback[unmet] |= rescued
        result = assemble(batch, best, budget, fallback, self._labels(batch, chosen.score), needs_float64)
        return result if where == self.device else result.to(where)

    def _replayed(self, replays: Replays, batch: ChannelBatch, budget: LinkBudget) -> Precoding | None:
        """The answer from a recording; None if there is none of this shape yet."""
        outputs = replays.play(self._recordable, batch, budget, self.refinements)
        if outputs is None:
            return None
        precoder, table = outputs
        users = batch.channels.shape[1]
        power_fractions, uplink, sinr, *score = torch.split(table.narrow(1, 0, table.shape[1] - 2), users, 1)
        feasible, fallback = table.narrow(1, table.shape[1] - 2, 2).bool().unbind(1)
        power = (
            per_drop(budget.power, power_fractions).unsqueeze(-1) if isinstance(budget.power, Tensor) else budget.power
        )
        labels = self._labels(batch, *score)
        result = Precoding(precoder, power_fractions * power, uplink * power, feasible, fallback, labels, lambda: sinr)
        if self.with_fallback and budget.demands_rates and not feasible.all():
            unmet = ~feasible
            given = None if batch.near_field is None else batch.near_field[unmet.to(batch.near_field.device)]
            rescued = self._computed(ChannelBatch(batch.channels[unmet], given), budget.select(unmet))
            return result.replaced(unmet, rescued)
        return result

    def _recordable(self, asked: DeviceProblem) -> tuple[Tensor, Tensor]:
        """The choice as two tensors: the precoder, and all that has the size of the users."""
        if self.fused is not None and asked.channels.shape[1] <= self.fused.most_users and asked.limits == Limits():
            return self.fused(asked.channels, asked.amplitude_scale, self.refinements, _NEGLIGIBLE)
        gram = scaled_gram(asked.amplitude_scale, asked.channels)
        chosen = self._choose(asked, gram)
        best = chosen.best
        flags = torch.stack([best.feasible, chosen.fallback], -1).double()
        scores = [] if chosen.score is None else [chosen.score]
        table = torch.cat([best.power_fractions, best.dual_power_fractions, best.sinr, *scores, flags], -1)
        return form_beams(asked.channels, best.coefficients), table

    def _asked(self, batch: ChannelBatch, budget: LinkBudget) -> DeviceProblem:
        """batch: on the device."""
        drops, users, _ = batch.channels.shape
        one = torch.ones(drops, dtype=torch.float64, device=self.device)
        alpha_c = per_drop(budget.alpha_c, one).expand(drops)
        near = batch.near_field
        if not budget.constrains_near_field:
            near = torch.zeros(drops, users, dtype=torch.bool, device=self.device)
        elif near is not None:
            near = near & (alpha_c < 1).unsqueeze(-1)
        min_rate = per_drop(budget.min_rate, one).expand(drops)
        return DeviceProblem(
            batch.channels, compute_amplitude_scale(budget, self.device), alpha_c, min_rate, budget.limits(one), near
        )

    def _choose(self, asked: DeviceProblem, gram: Tensor) -> Chosen:
        """The best of the network's answer, the same less doubled users, and RZF's. On a GPU it asks the host nothing.

        gram: Gamma, complex128 (drops, users, users).
        """
        equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
        score, near, channels, regularised = None, asked.near_field, None, None
        if self.with_fallback or self.network.encoder.classifies:
            regularised = structured_beams(gram, equal)
        if not self.network.encoder.classifies:
            channels = (asked.channels * asked.amplitude_scale.reshape(-1, 1, 1)).to(torch.complex64)
        elif near is None:
            score = self._scores(asked.channels)
            near = (score > 0.5) & (asked.alpha_c < 1).unsqueeze(-1)
        output = self.network(UserInputs(channels, gram, asked.alpha_c, asked.min_rate, near, regularised))
        if score is None and output.near_field_logit is not None:
            score = torch.sigmoid(output.near_field_logit.double())
            near = score > 0.5 if near is None else near
        assert near is not None
        uplink, power_fractions = output.dual_power_fractions.double(), output.power_fractions.double()
        if regularised is None or not self.with_fallback:
            ours = self._served(gram, uplink, power_fractions, near, asked.limits)
            return Chosen(ours, torch.zeros_like(ours.feasible), power_fractions, near, score)
        ours = self._ours(gram, asked.channels, uplink, power_fractions, near, asked.limits)
        rzf = project_powers(regularised.coefficients, regularised.effective_gains, equal, near, asked.limits, equal)
        return Chosen(*ours.better_of(rzf), power_fractions, near, score)

    def _few(self, network: CompiledNetwork, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """The answer for few drops without constraints, in NumPy."""
        power = _by_drop(budget.power)
        drops = Drops.of(batch.channels.resolve_conj().numpy(), power / _by_drop(budget.noise_power))
        best, fallback = solve(network, drops, self.refinements, _NEGLIGIBLE)
        sinr = torch.from_numpy(best.sinr)
        return Precoding(
            precoder=torch.from_numpy(best.precoder(drops)),
            power=torch.from_numpy(power * best.power_fractions),
            uplink_power=torch.from_numpy(power * best.dual_power_fractions),
            feasible=torch.ones(len(fallback), dtype=torch.bool),
            fallback=torch.from_numpy(fallback),
            compute_labels=self._labels(batch),
            compute_sinr=lambda: sinr,
        )

    def _labels(self, batch: ChannelBatch, score: Tensor | None = None) -> Callable[[], tuple[Tensor, Tensor]]:
        def labels() -> tuple[Tensor, Tensor]:
            found = score
            if found is None:
                found = self._scores(batch.channels.to(self.device)).to(batch.channels.device)
            return found > 0.5 if batch.near_field is None else batch.near_field, found

        return labels

    def _served(
        self, gram: Tensor, uplink: Tensor, power_fractions: Tensor, near_field: Tensor, limits: Limits
    ) -> Candidate:
        beams = structured_beams(gram, uplink)
        for _ in range(self.refinements):
            uplink, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
        return project_powers(beams.coefficients, beams.effective_gains, power_fractions, near_field, limits, uplink)

    def _ours(
        self,
        gram: Tensor,
        channels: Tensor,
        uplink: Tensor,
        power_fractions: Tensor,
        near_field: Tensor,
        limits: Limits,
    ) -> Candidate:
        """The network's answer; where some users only double others, the better of it and the same without them."""
        redundant = redundant_users(gram, channels, near_field, power_fractions)
        if gram.is_cuda:  # computing everywhere takes less time there than finding out where it is needed
            ours = self._served(gram, uplink, power_fractions, near_field, limits)
            alone = self._served(
                gram, _without(redundant, uplink), _without(redundant, power_fractions), near_field, limits
            )
            return ours.better_of(alone, margin=-_NEGLIGIBLE)[0]
        drops = redundant.any(-1)
        if limits == Limits():
            off = switched_off(redundant, uplink + power_fractions, gram, _NEGLIGIBLE)
            uplink, power_fractions = (
                _without(redundant & off.unsqueeze(-1), wanted) for wanted in (uplink, power_fractions)
            )
            drops = ~off
        ours = self._served(gram, uplink, power_fractions, near_field, limits)
        if not drops.any():
            return ours
        gram, uplink, power_fractions = gram[drops], uplink[drops], power_fractions[drops]
        redundant, near_field, limits = redundant[drops], near_field[drops], limits.select(drops)
        alone = self._served(
            gram, _without(redundant, uplink), _without(redundant, power_fractions), near_field, limits
        )
        return ours.replaced(drops, ours.select(drops).better_of(alone, margin=-_NEGLIGIBLE)[0])

    @torch.no_grad()
    def _scores(self, channels: Tensor) -> Tensor:
        """Near-field scores, float64 (drops, users); channels: on the device."""
        small = channels.shape[-1] <= CompiledClassifier.most_antennas
        compiled = self.classifier() if self.classifier is not None and small else None
        if compiled is None:
            logit = self.network.near_field_logit(channels)
        else:
            logit = torch.from_numpy(compiled(channels.resolve_conj().contiguous().numpy()))
        return torch.sigmoid(logit.double())

    def near_field(self, channels: Tensor) -> Tensor:
        """The network's near-field labels for channels, bool (drops, users)."""
        return self(ChannelBatch(channels), LinkBudget()).near_field


def _fused(network: PrecodingNetwork) -> Fused | None:
    try:
        from nflae_bridge.engine.triton_kernels import Fused
    except ImportError:  # PyTorch's builds for Linux with CUDA bring Triton along, others don't
        return None
    return Fused.of(network)


def _by_drop(value: float | Tensor) -> float | npt.NDArray[np.float64]:
    """A budget's quantity as a number, or one for each drop, float64 (drops or 1, 1)."""
    if not isinstance(value, Tensor):
        return float(value)
    numbers: npt.NDArray[np.float64] = value.reshape(-1, 1).double().cpu().numpy()
    return numbers


def _unconstrained(budget: LinkBudget) -> bool:
    return not budget.constrains_near_field and not budget.demands_rates


def _without(users: Tensor, power_fractions: Tensor) -> Tensor:
    kept = power_fractions * ~users
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)
