"""Draw training batches of windows of samples of several inputs, by stages, with inputs left out at random."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.training.recipe import CPU, Streams

__all__ = ["SensedBatch", "SensedWindows", "Stages"]

_VALIDATED = 1024


@dataclass(frozen=True)
class SensedBatch:
    """Hold windows and what is to be found of them.

    Attributes
    ----------
    stage : str
        ``mask``, ``align`` or ``task``.
    kinds : tuple of str
        Kinds of the heads of ``targets``.
    values : tuple of Tensor
        Values of each input, float32 (rows, past, ...), 0 where absent.
    present : Tensor
        bool (rows, past, inputs).
    hidden : Tensor
        bool (rows, past, inputs), left out of what the network receives.
    targets : tuple of Tensor
        Distributions (rows, ahead, outputs) or (rows, outputs), or numbers (rows, ahead, outputs), float32.
    """

    stage: str
    kinds: tuple[str, ...]
    values: tuple[Tensor, ...]
    present: Tensor
    hidden: Tensor
    targets: tuple[Tensor, ...]

    def to(self, device: torch.device) -> SensedBatch:
        """Return the batch on ``device``."""
        moved = [each.to(device) for each in (*self.values, self.present, self.hidden, *self.targets)]
        inputs = len(self.values)
        return SensedBatch(
            self.stage,
            self.kinds,
            tuple(moved[:inputs]),
            moved[inputs],
            moved[inputs + 1],
            tuple(moved[inputs + 2 :]),
        )


@dataclass(frozen=True)
class Stages:
    """Divide a training into stages.

    Attributes
    ----------
    mask, align : int
        Steps of the first two stages; the remaining ones are of the task.
    hidden : float
        Share of the tokens hidden in the stage ``mask``.
    dropout : float
        Probability with which an input of a window is left out in the stage ``task``; one input always remains.
    """

    mask: int = 0
    align: int = 0
    hidden: float = 0.4
    dropout: float = 0.2

    def of(self, step: int) -> str:
        """Return the stage of a step, from 0."""
        if step < self.mask:
            return "mask"
        return "align" if step < self.mask + self.align else "task"


class _Windows:
    """Hold the windows, which are no part of the identity of a recipe."""

    values: tuple[Tensor, ...]
    present: Tensor
    targets: Mapping[str, Tensor]


@dataclass(frozen=True)
class SensedWindows(_Windows):
    """`DataSource` of windows in memory.

    Attributes
    ----------
    digest : str
        Digest of the windows.
    rows : int
        Windows per batch.
    stages : Stages
        Stages of the training.
    """

    digest: str
    rows: int = 256
    stages: Stages = Stages()

    @classmethod
    def of(
        cls, values: Sequence[Tensor], present: Tensor, targets: Mapping[str, Tensor], rows: int, stages: Stages
    ) -> SensedWindows:
        """Return the source of windows that are in memory.

        Parameters
        ----------
        values : Sequence of Tensor
            Values of each input, float32 (windows, past, ...), 0 where absent.
        present : Tensor
            bool (windows, past, inputs).
        targets : Mapping of str to Tensor
            Targets by kind of head, as in `SensedBatch`.
        rows : int
            Windows per batch.
        stages : Stages
            Stages of the training.

        Returns
        -------
        SensedWindows
        """
        digest = hashlib.sha256()
        for each in (*values, present, *targets.values()):
            digest.update(each.contiguous().numpy().data)
        source = cls(digest.hexdigest()[:16], rows, stages)
        object.__setattr__(source, "values", tuple(values))
        object.__setattr__(source, "present", present)
        object.__setattr__(source, "targets", dict(targets))
        return source

    def training(self, seed: int, step: int, device: torch.device = CPU) -> SensedBatch:
        """Return the batch of a step: rows of an epoch's permutation, and the inputs left out of each.

        Parameters
        ----------
        seed, step : int
            Seed of the run, and step from 0.
        device : torch.device
            Device of the batch.

        Returns
        -------
        SensedBatch
        """
        windows = len(self.present)
        per_epoch = -(-windows // self.rows)
        epoch, at = divmod(step, per_epoch)
        order = torch.randperm(windows, generator=Streams.of(seed + 1, epoch).host)
        rows = order[at * self.rows : (at + 1) * self.rows]
        generator = Streams.of(seed, step).host
        stage = self.stages.of(step)
        present = self.present[rows]
        if stage == "mask":
            hidden = torch.rand(present.shape, generator=generator) < self.stages.hidden
        elif stage == "align":
            hidden = torch.zeros_like(present)
        else:
            chance = torch.rand(len(rows), 1, present.shape[2], generator=generator)
            kept = (chance >= self.stages.dropout) | (chance == chance.amax(-1, keepdim=True))
            hidden = (~kept).expand_as(present)
        return self._batch(stage, rows, hidden).to(device)

    def validation(self) -> list[SensedBatch]:
        """Return the first windows, complete, as batches of the stage ``task``."""
        rows = torch.arange(min(len(self.present), _VALIDATED))
        return [self._batch("task", rows, torch.zeros_like(self.present[rows]))]

    def _batch(self, stage: str, rows: Tensor, hidden: Tensor) -> SensedBatch:
        return SensedBatch(
            stage,
            tuple(self.targets),
            tuple(each[rows] for each in self.values),
            self.present[rows],
            hidden,
            tuple(each[rows] for each in self.targets.values()),
        )
