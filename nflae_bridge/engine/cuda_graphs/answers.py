"""Compute the engine's whole answer as a CUDA graph holds it: network, powers, rates, checks and near-field scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nflae_bridge.engine.backends import Backend
from nflae_bridge.engine.comparison import NEGLIGIBLE, Comparison
from nflae_bridge.engine.cuda_graphs.graphs import CudaGraphs
from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer
from nflae_bridge.engine.cuda_graphs.recording import stream_beside
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.network.model import PrecodingNetwork
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import form_beams
from simulator.downlink.gram import scaled_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import rates

if TYPE_CHECKING:
    from nflae_bridge.engine.triton_kernels import TritonKernels
    from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel


@dataclass(frozen=True)
class RecordedAnswers:
    """Hold what a network's answers are recorded from.

    Attributes
    ----------
    graphs
        CUDA graphs.
    comparison
        Choice of the best answer in PyTorch's operations.
    scores
        Function from channels to near-field scores, float64 (drops, users), of a network whose encoder classifies.
    kernels
        Triton kernels of the network; None without them.
    always_scored
        Whether scores are among the network's outputs.
    """

    graphs: CudaGraphs
    comparison: Comparison
    scores: Callable[[Tensor], Tensor]
    kernels: TritonKernels | None
    always_scored: bool

    def compute(
        self, backend: Backend, batch: ChannelBatch, budget: LinkBudget, refinements: int, scored: bool
    ) -> PackedAnswer | None:
        """Compute a batch by the CUDA graph of its shape.

        Parameters
        ----------
        backend
            Backend that is captured: TRITON or CUDA_GRAPHS.
        batch, budget, refinements
            Channels, link budget and WMMSE steps.
        scored
            Whether near-field scores are part of the answer; those that C3 goes by always are.

        Returns
        -------
        PackedAnswer or None
            None if the shape cannot be captured.
        """
        scored = scored or self.always_scored or (budget.constrains_near_field and batch.near_field is None)

        def compute(problem: DeviceProblem, answer: PackedAnswer) -> None:
            function = self.by_kernels if backend is Backend.TRITON else self.by_operations
            function(problem, answer, refinements)

        return self.graphs.run(compute, batch, budget, scored, refinements)

    def by_operations(self, problem: DeviceProblem, answer: PackedAnswer, refinements: int) -> None:
        """Write an answer by PyTorch's operations.

        Parameters
        ----------
        problem
            Problem.
        answer
            Memory of the answer.
        refinements
            WMMSE steps.
        """
        gram = scaled_gram(problem.amplitude_scale, problem.channels)
        chosen = self.comparison.best(problem, gram, refinements)
        best, rate = chosen.best, rates(chosen.best.sinr)
        energy = gram.diagonal(dim1=-2, dim2=-1).real
        usable = ((energy > 0) & energy.isfinite()).all(-1)
        flags = [best.feasible, chosen.fallback, rate.sum(-1), usable, ~chosen.unmet]
        table = [best.power_fractions, best.dual_power_fractions, best.sinr, rate]
        table.append(torch.stack([flag.double() for flag in flags], -1))
        if answer.size.scored:
            table.append(self.scores(problem.channels) if chosen.score is None else chosen.score)
        torch.cat(table, -1, out=answer.table)
        answer.precoder.copy_(form_beams(problem.channels, best.coefficients))

    def by_kernels(self, problem: DeviceProblem, answer: PackedAnswer, refinements: int) -> None:
        """Write the same by the Triton kernels; the classifier runs beside them where they do not need its labels.

        Parameters
        ----------
        problem, answer, refinements
            As in `by_operations`.
        """
        assert self.kernels is not None
        near, place = problem.near_field, answer.column("near_field_score")
        if near is None:
            score = self.scores(problem.channels)
            near = (score > 0.5) & (problem.alpha_c < 1).unsqueeze(-1)
            answer.table[:, place] = score
            self.kernels(problem, near, answer, refinements, NEGLIGIBLE)
            return
        if not answer.size.scored:
            self.kernels(problem, near, answer, refinements, NEGLIGIBLE)
            return
        current = torch.cuda.current_stream(self.graphs.device)
        beside = stream_beside(self.graphs.device, current)
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            answer.table[:, place] = self.scores(problem.channels)
        self.kernels(problem, near, answer, refinements, NEGLIGIBLE)
        current.wait_stream(beside)


def load_kernels(network: PrecodingNetwork) -> tuple[TritonKernels | None, WavefrontKernel | None]:
    """Load the Triton kernels of a network.

    Parameters
    ----------
    network
        The network, on its device.

    Returns
    -------
    kernels : TritonKernels or None
        Kernels of the answer; None without Triton, and for networks of other kinds.
    classifier : WavefrontKernel or None
        Kernel of the classifier.
    """
    try:
        from nflae_bridge.engine.triton_kernels import TritonKernels
        from nflae_bridge.engine.triton_kernels.wavefront import WavefrontKernel
    except ImportError:  # PyTorch's builds for Linux with CUDA include Triton, others do not
        return None, None
    return TritonKernels.of(network), WavefrontKernel.of(network)
