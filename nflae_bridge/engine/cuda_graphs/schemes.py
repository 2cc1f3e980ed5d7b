"""Compute classical schemes on a GPU by CUDA graphs of one kernel, as the network's answers are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs.graphs import Compute, CudaGraphs
from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.numpy_backend.answer import column
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, labels_and_scores, result_arrays
from simulator.schemes import scheme
from simulator.schemes.options import split_spec

_ITERATIONS = 200  # of `simulator.schemes.wmmse` where none are given


class RecordedScheme:
    """Serve ``wmmse``, ``rzf``, ``zf`` or ``mrt`` as a precoding scheme: ``scheme(batch, budget) -> Precoding``.

    Drops on which K x K algebra loses digits, and batches of more users than the kernel takes, are computed by the
    scheme of the registry.

    Parameters
    ----------
    spec
        ``NAME`` or ``NAME:OPTION=VALUE``.
    graphs
        CUDA graphs of the device.
    """

    def __init__(self, spec: str, graphs: CudaGraphs) -> None:
        self._name, options = split_spec(spec)
        self._scheme = scheme(spec)
        self._graphs = graphs
        self._iterations = int(options.get("iterations", _ITERATIONS)) if self._name == "wmmse" else 0

    @staticmethod
    def supports(spec: str, users: int = 1) -> bool:
        """Return whether there is a kernel for a scheme and a number of users.

        Parameters
        ----------
        spec
            Scheme, with options or without.
        users
            Users per drop.

        Returns
        -------
        bool
        """
        try:
            from nflae_bridge.engine.triton_kernels.classical import METHODS, USERS
        except ImportError:  # PyTorch's builds for Linux with CUDA include Triton, others do not
            return False
        return users <= USERS and split_spec(spec)[0] in METHODS

    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Precode a batch; see `nflae_bridge.engine.cuda_graphs.graphs.CudaGraphs.run` for its place."""
        if budget.constrains_near_field and batch.near_field is None:
            batch = ChannelBatch(batch.channels, labels_and_scores(batch)[0])
        packed = self._run(self._compute, batch, budget, False)
        return self._scheme(batch, budget) if packed is None else self._complete(packed, batch, budget)

    def arrays(
        self,
        channels: npt.NDArray[np.complex64],
        budget: LinkBudget,
        names: Collection[str],
        scores: Callable[[Tensor], Tensor],
    ) -> dict[str, npt.NDArray[Any]] | None:
        """Precode channels in the host's memory, with labels of a network, always the same one.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas), in memory that can be written.
        budget
            Link budget.
        names
            Names of the arrays, see `matlab_io.result.RESULT_ARRAYS`.
        scores
            Function from channels on the device to near-field scores, float64 (drops, users).

        Returns
        -------
        dict or None
            Arrays by name; None where no graph computes them: for the first batch of a shape, and where a channel is
            not finite or zero.
        """
        batch = ChannelBatch(torch.from_numpy(channels))

        def compute(problem: DeviceProblem, answer: PackedAnswer) -> None:
            near = problem.near_field
            if answer.size.scored:
                score = scores(problem.channels)
                answer.table[:, answer.column("near_field_score")] = score
                near = score > 0.5 if near is None else near
            self._compute(replace(problem, near_field=near), answer)

        scored = budget.constrains_near_field or "near_field" in names or "near_field_score" in names
        packed = self._run(compute, batch, budget, scored, "labelled by a network")
        if packed is None or not packed.holds("usable"):
            return None
        if packed.holds("exact"):
            return packed.arrays(column(budget.power), names)
        return result_arrays(self._complete(packed, batch, budget), names=names)

    def _run(
        self, compute: Compute, batch: ChannelBatch, budget: LinkBudget, scored: bool, labels: str = ""
    ) -> PackedAnswer | None:
        variant = f"{self._name} {self._iterations} {labels}"
        if not self.supports(self._name, batch.channels.shape[1]):
            return None
        state = self._graphs.state(batch, budget, variant)
        if state == "seen":
            return self._graphs.run(compute, batch, budget, scored, variant)
        self._graphs.note(batch, budget, variant)
        return None

    def _compute(self, problem: DeviceProblem, answer: PackedAnswer) -> None:
        from nflae_bridge.engine.triton_kernels.classical import precode_classically

        precode_classically(problem, answer, self._name, self._iterations)

    def _complete(self, packed: PackedAnswer, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        """Return the precoding, with the drops computed again on which K x K algebra loses digits."""
        if packed.size.scored:
            score = packed.table[:, packed.column("near_field_score")]
            batch = ChannelBatch(batch.channels, score > 0.5)
            result = packed.precoding(budget, lambda: (score > 0.5, score))
        else:
            result = packed.precoding(budget, lambda: labels_and_scores(batch))
        lossy = packed.per_drop("exact") == 0
        if packed.holds("exact"):
            return result
        near = None if batch.near_field is None else batch.near_field[lossy]
        again = self._scheme(ChannelBatch(batch.channels[lossy], near), budget.select(lossy))
        if packed.size.scored:
            again = replace(again, compute_labels=lambda: (score[lossy] > 0.5, score[lossy]))
        return result.replaced(lossy, again)
