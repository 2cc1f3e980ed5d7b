"""Precode by the network, with guarantees: network -> directions -> powers -> comparison -> answer.

The network gives lambda and p per user. Directions follow from lambda by the optimal structure, powers from p by
projection onto C1-C4. Per drop the result is compared with the same answer without redundant users and with
regularised zero forcing (RZF) under the same constraints, with as many users as antennas or more also with RZF of
selected users, and where none reaches the minimum rates with max-min directions. The best is returned, marked as
fallback where it is not the network's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.engine.backends import Backend, Facilities, Selection, select_backend
from nflae_bridge.engine.comparison import NEGLIGIBLE, Comparison
from nflae_bridge.engine.cuda_graphs.answers import RecordedAnswers, load_kernels
from nflae_bridge.engine.cuda_graphs.graphs import CudaGraphs
from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer, UnusableChannels
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.numpy_backend.answer import column
from nflae_bridge.engine.numpy_backend.near_field import NearFieldScores
from nflae_bridge.engine.numpy_backend.networks import KernelNetwork, Network, graph_network
from nflae_bridge.engine.numpy_backend.solve import DROPS_AT_ONCE, precode, solve
from nflae_bridge.engine.onnx_graphs import PowerGraph, WavefrontGraph
from nflae_bridge.files.validation import good_drops
from nflae_bridge.network.card import DEFAULT_TASK, other_task
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import Backbone
from simulator.downlink.balancing import max_min_candidate
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import assemble
from simulator.downlink.gram import mixed_precision_gram
from simulator.downlink.precoding import ChannelBatch, Precoding, result_arrays
from simulator.downlink.rounding import measured_where_lossy
from simulator.geometry.clear_waves import ClearWaves
from simulator.problems.algebra import Complex, Real
from simulator.problems.user_gram import UserGram

if TYPE_CHECKING:
    from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel


class Engine:
    """Serve a trained network as a precoding scheme: ``engine(batch, budget) -> Precoding``.

    The guarantees, for every network, trained or not:

    - C1 sum P_k <= P, C2 P_k >= 0, C3 near-field users' power <= alpha_c P by the labels returned, and C5 ||w_k|| = 1
      hold to rounding on every drop.
    - C4 R_k >= R_min holds on every drop marked feasible. A drop is infeasible only if neither the network's
      directions nor RZF's nor max-min ones admit powers that meet all constraints; without C3 that is if none exist.
    - The sum rate is at least that of RZF under the same constraints on the same drop, among answers that are alike in
      being feasible; `Precoding.fallback` marks drops on which another answer than the network's is returned.
    - Permuting users permutes the answer (identical users excepted), and users' phases change no rate.

    Parameters
    ----------
    checkpoint
        The model.
    device
        Device of the network. Channels on another device are moved there, and the answer is moved back.
    refinements
        WMMSE steps r >= 0 started from the network's answer; each costs a K x K solve per drop. Under C3 and C4 the
        answer without them is computed too, and the better one returned.
    with_fallback
        Compare with the other answers. False: the network's own answer under the same constraints, for experiments on
        networks themselves; the guarantees on C4 and RZF then do not hold.
    backend
        Backend to use for every batch; None: the one that `select_backend` selects.
    many_batches
        Load the exported networks for the first batch instead of the second: every batch is then computed alike, to the
        last bit.

    Raises
    ------
    NflaeError
        If the model is of another task than precoding, or if the requested backend needs a CUDA device and there is
        none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        refinements: int = 0,
        with_fallback: bool = True,
        backend: Backend | str | None = None,
        many_batches: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        if checkpoint.task != DEFAULT_TASK:
            raise other_task(checkpoint.name, checkpoint.task, DEFAULT_TASK)
        network = copy.deepcopy(cast(PrecodingNetwork, checkpoint.network)).to(self.device)
        self.network = network.eval().requires_grad_(False)  # gradients are those of the channels
        if self.device.type == "cuda" and isinstance(self.network.backbone, Backbone):
            self.network.backbone.model.to(torch.bfloat16)  # halves the time to read the weights; rates move by 1e-5
        self.refinements = refinements
        self.with_fallback = with_fallback
        self.backend = None if backend is None else Backend(backend)
        self._powers = PowerGraph(checkpoint.folder)
        on_cpu = self.device.type == "cpu"
        self._kernel = KernelNetwork(self.network) if on_cpu and KernelNetwork.supports(self.network) else None
        self._comparison = Comparison(self.network, self._scores, with_fallback)
        captures = self.device.type == "cuda" or self.backend in (Backend.CUDA_GRAPHS, Backend.TRITON)
        by_torch = captures or self.backend is Backend.TORCH
        wavefront = WavefrontGraph(checkpoint.folder)
        self._powers.requested = wavefront.requested = many_batches
        self._near_field = NearFieldScores(self.network, None if by_torch else wavefront)
        self._recorded: RecordedAnswers | None = None
        self._wavefront_kernel: WavefrontKernel | None = None
        if captures:
            kernels, self._wavefront_kernel = load_kernels(self.network)
            kernels = kernels if with_fallback else None
            always_scored = not self.network.encoder.classifies
            graphs = CudaGraphs(self.device)
            self._recorded = RecordedAnswers(graphs, self._comparison, self._scores, kernels, always_scored)
        # With a kernel encoder on a CPU what there is depends on no batch.
        self._constant = self._facilities() if self._kernel is not None and self._recorded is None else None

    def refined(self, refinements: int) -> Engine:
        """Return the same network with another number of refinement steps."""
        other = copy.copy(self)
        other.refinements = refinements
        return other

    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Precode a batch.

        Labels given with the batch replace the network's; C3 goes by the labels returned. Where C3 cannot bind, labels
        change nothing, and the network's own are computed when first read. Channels may require gradients.

        Parameters
        ----------
        batch
            Channels, and labels where they are known.
        budget
            Link budget.

        Returns
        -------
        Precoding
        """
        if torch.is_grad_enabled() and batch.channels.requires_grad:
            return self._by_torch(batch, budget)
        backend = self.select_backend(batch, budget).backend
        if backend is Backend.NUMPY:
            network = self._numpy_network()
            if network is not None:
                return self._by_numpy(network, batch, budget)
        elif self._recorded is not None and backend is not Backend.TORCH:
            packed = self._recorded.compute(backend, batch, budget, self.refinements, False)
            if packed is not None:
                return self._unpacked(packed, batch, budget)
        self._note_use(batch, budget)
        return self._by_torch(batch, budget)

    def arrays(
        self, channels: npt.NDArray[np.complex64], budget: LinkBudget, names: Collection[str], checked: bool = True
    ) -> dict[str, npt.NDArray[Any]]:
        """Precode channels in the host's memory; where NumPy or a CUDA graph computes them, without PyTorch's objects.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas), in memory that can be written.
        budget
            Link budget.
        names
            Names of the arrays, see `matlab_io.result.RESULT_ARRAYS`.
        checked
            Whether every channel is known to be finite and not zero.

        Returns
        -------
        dict
            Arrays by name, those of the result schema of a call of the engine, bit for bit.

        Raises
        ------
        UnusableChannels
            If a channel that is not known to be usable is not.
        """
        batch = None if self._recorded is None else ChannelBatch(torch.from_numpy(channels))
        facilities = self._constant or self._facilities(batch, budget)
        backend = select_backend(channels.shape, budget, facilities, self.backend).backend
        network = self._numpy_network() if backend is Backend.NUMPY else None
        if network is not None:
            power = column(budget.power)
            answer = precode(network, channels, power / column(budget.noise_power), self.refinements, NEGLIGIBLE)
            if answer.lossy is None:
                return answer.arrays(power, names, lambda: self._scores(torch.from_numpy(channels)).numpy())
        if self._recorded is not None and batch is not None and backend in (Backend.TRITON, Backend.CUDA_GRAPHS):
            scored = "near_field" in names or "near_field_score" in names
            packed = self._recorded.compute(backend, batch, budget, self.refinements, scored)
            if packed is not None:
                if not checked and not packed.holds("usable"):
                    raise UnusableChannels
                if self._is_complete(packed, budget):
                    return packed.arrays(column(budget.power), names)
                return result_arrays(self._unpacked(packed, batch, budget), names=names)
        if not checked and not good_drops(channels).all():
            raise UnusableChannels
        return result_arrays(self(batch or ChannelBatch(torch.from_numpy(channels)), budget), names=names)

    def select_backend(self, batch: ChannelBatch, budget: LinkBudget) -> Selection:
        """Return the backend that the next call with such a batch uses, and why.

        Parameters
        ----------
        batch
            Channels.
        budget
            Link budget.

        Returns
        -------
        Selection

        Raises
        ------
        NflaeError
            If the backend given to the engine cannot compute the batch.
        """
        facilities = self._constant or self._facilities(batch, budget)
        return select_backend(batch.channels.shape, budget, facilities, self.backend)

    def allocation(self, gram: Complex, antennas: int | None = None) -> tuple[Real, Real] | None:
        """Compute (lambda / P, P_k / P) under the total power alone, without beams.

        Parameters
        ----------
        gram
            Gamma, complex128 (drops, users, users).
        antennas
            N, from which users are selected in overloaded cells; None: no users are.

        Returns
        -------
        dual_power_fractions, power_fractions
            float64 (drops, users), of sum 1; None where the exported network cannot be used.
        """
        if self.device.type != "cpu" or self.backend is Backend.TORCH:
            return None
        network = self._numpy_network()
        if network is None:
            return None
        parts = []
        for start in range(0, len(gram), DROPS_AT_ONCE):
            drops = UserGram.of_gram(gram[start : start + DROPS_AT_ONCE])
            parts.append(solve(network, drops, self.refinements, NEGLIGIBLE, antennas)[0])
        return (
            np.concatenate([part.dual_power_fractions for part in parts]),
            np.concatenate([part.power_fractions for part in parts]),
        )

    def near_field(self, channels: Tensor) -> Tensor:
        """Return the network's near-field labels.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).

        Returns
        -------
        Tensor
            bool (drops, users).
        """
        return self.near_field_score(channels) > 0.5

    def near_field_score(self, channels: Tensor, clear: ClearWaves | None = None) -> Tensor:
        """Return the network's near-field scores.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).
        clear
            Their clear waves, where these are known.

        Returns
        -------
        Tensor
            float64 (drops, users), in [0, 1], on the device of ``channels``.
        """
        if not self.network.encoder.classifies:
            return self(ChannelBatch(channels), LinkBudget()).near_field_score
        return self._scores(channels.to(self.device), clear).to(channels.device)

    def _facilities(self, batch: ChannelBatch | None = None, budget: LinkBudget | None = None) -> Facilities:
        """Return what this engine provides for a batch; None: without CUDA graphs, for any."""
        without_numpy = "" if self._kernel else self._powers.unusable
        if not self.with_fallback:
            without_numpy = "NumPy computes the compared answer only"
        elif self.device.type != "cpu":
            without_numpy = "the network is not on the CPU"
        requested, recorded = self._kernel is not None or self._powers.requested, self._recorded
        if recorded is None or batch is None or budget is None:
            return Facilities(without_numpy, requested, "none", 0)
        state = recorded.graphs.state(batch, budget, self.refinements)
        return Facilities(without_numpy, requested, state, recorded.kernels.max_users if recorded.kernels else 0)

    def _numpy_network(self) -> Network | None:
        """Return the network for the NumPy backend; None where the exported one cannot be used."""
        if self._kernel is not None:
            return self._kernel
        run = self._powers.load()
        return None if run is None else graph_network(run)

    def _note_use(self, batch: ChannelBatch, budget: LinkBudget) -> None:
        """Prepare the backends that take over from PyTorch at the second batch of a kind."""
        constrained = budget.constrains_near_field or budget.demands_rates
        if not constrained and len(batch.channels):
            self._powers.requested = True
        if self._recorded is not None:
            self._recorded.graphs.note(batch, budget, self.refinements)

    def _by_torch(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Compute in PyTorch, operation by operation."""
        source = batch.channels.device
        given = None if batch.near_field is None else batch.near_field.to(self.device)
        batch = ChannelBatch(batch.channels.to(self.device), given)
        gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
        chosen = self._comparison.best(DeviceProblem.of(batch, budget), gram, self.refinements, needs_float64)
        best, fallback = chosen.best, chosen.fallback
        if self.with_fallback and budget.demands_rates:
            unmet = chosen.unmet
            if bool(unmet.any()):
                near, target = chosen.near_field[unmet], chosen.power_fractions[unmet]
                part, scaled = ChannelBatch(batch.channels[unmet]), gram[unmet]
                max_min = max_min_candidate(scaled, target, near, budget.select(unmet))
                max_min = measured_where_lossy(
                    max_min, part, scaled, needs_float64[unmet], target, near, budget.select(unmet)
                )
                better, rescued = best.select(unmet).better_of(max_min)
                best = best.replaced(unmet, better)
                fallback[unmet] |= rescued
        result = assemble(batch, best, budget, fallback, self._labels(batch, chosen.score), needs_float64)
        return result if source == self.device else result.to(source)

    def _is_complete(self, packed: PackedAnswer, budget: LinkBudget) -> bool:
        """Return whether no drop is to be computed again, with max-min directions, since it lacks minimum rates."""
        return not (self.with_fallback and budget.demands_rates) or packed.holds("exact")

    def _unpacked(self, packed: PackedAnswer, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Return the precoding of a recorded answer."""
        score = packed.table[:, packed.column("near_field_score")] if packed.size.scored else None
        result = packed.precoding(budget, self._labels(batch, score))
        if self._is_complete(packed, budget):
            return result
        unmet = packed.per_drop("exact") == 0
        given = None if batch.near_field is None else batch.near_field[unmet.to(batch.near_field.device)]
        rescued = self._by_torch(ChannelBatch(batch.channels[unmet], given), budget.select(unmet))
        return result.replaced(unmet, rescued)

    def _by_numpy(self, network: Network, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Compute drops without constraints in NumPy and ONNX Runtime."""
        power = column(budget.power)
        channels = np.ascontiguousarray(batch.channels.numpy(force=True))
        answer = precode(network, channels, power / column(budget.noise_power), self.refinements, NEGLIGIBLE)
        watts = power * answer.fractions
        result = Precoding(
            precoder=torch.from_numpy(answer.precoder),
            power=torch.from_numpy(watts[0]),
            uplink_power=torch.from_numpy(watts[1]),
            feasible=torch.from_numpy(answer.fallback == answer.fallback),
            fallback=torch.from_numpy(answer.fallback),
            compute_labels=self._labels(batch),
            compute_sinr=lambda: torch.from_numpy(answer.compute_sinr()),
        )
        if answer.lossy is None:
            return result
        lossy = torch.from_numpy(answer.lossy)
        given = None if batch.near_field is None else batch.near_field[lossy]
        return result.replaced(lossy, self._by_torch(ChannelBatch(batch.channels[lossy], given), budget.select(lossy)))

    def _labels(self, batch: ChannelBatch, score: Tensor | None = None) -> Callable[[], tuple[Tensor, Tensor]]:
        """Return the function that computes labels and scores when they are first read."""

        def labels() -> tuple[Tensor, Tensor]:
            found = score
            if found is None:
                found = self._scores(batch.channels.to(self.device)).to(batch.channels.device)
            return found > 0.5 if batch.near_field is None else batch.near_field, found

        return labels

    def _scores(self, channels: Tensor, clear: ClearWaves | None = None) -> Tensor:
        """Return near-field scores, float64 (drops, users), for channels on the device."""
        found = None if self._wavefront_kernel is None else self._wavefront_kernel.scores(channels)
        return self._near_field(channels, clear) if found is None else found
