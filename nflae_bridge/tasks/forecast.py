"""Declare the task ``forecast``: beams, labels and positions from any of several inputs, after up to three stages.

``mask`` reconstructs hidden vectors from what is present, ``align`` brings the directions of all inputs of a window
towards that of an anchor, ``task`` trains the heads; the batch names its stage.

References
----------
A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020: the
contrastive loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nflae_bridge.network.encoders.senses.config import SensesConfig
from nflae_bridge.network.encoders.senses.network import SensesNetwork
from nflae_bridge.tasks.task import Measures, Parts, Task, register
from nflae_bridge.training.sources.sensed_windows import SensedBatch

_TEMPERATURE = 0.1


@dataclass(frozen=True)
class ForecastLoss:
    """Weigh the parts of the loss.

    Attributes
    ----------
    anchor : str
        Input whose directions the others are aligned with.
    regression : float
        Weight of the squared error of ``regress``.
    """

    anchor: str = "power"
    regression: float = 1.0


def _loss(network: SensesNetwork, batch: SensedBatch, settings: ForecastLoss) -> Parts:
    value = _STAGES[batch.stage](network, batch, settings)
    absent = torch.full_like(value.detach(), torch.nan)
    return {"loss": value, **{name: value if name == batch.stage else absent for name in _STAGES}}


def _mask_loss(network: SensesNetwork, batch: SensedBatch, settings: ForecastLoss) -> Tensor:
    """Return the squared error on hidden vectors that are present, over the number of their values."""
    found = network.reconstruct(batch.values, batch.present & ~batch.hidden)
    vectors = [index for index, each in enumerate(network.config.inputs) if each.encoder == "vector"]
    errors, count = [], []
    for index, values in zip(vectors, found, strict=True):
        weight = (batch.hidden & batch.present)[..., index, None]
        errors.append(((values - batch.values[index]) * weight).square().sum())
        count.append(weight.sum() * values.shape[-1])
    return torch.stack(errors).sum() / torch.stack(count).sum().clamp(min=1)


def _align_loss(network: SensesNetwork, batch: SensedBatch, settings: ForecastLoss) -> Tensor:
    """Return the contrastive loss of each input with the anchor, in both directions, over windows that have both."""
    names = [each.name for each in network.config.inputs]
    anchor = names.index(settings.anchor)
    directions = network.directions(batch.values, batch.present)
    there = batch.present.any(1)
    own = torch.arange(len(there), device=there.device)
    terms = []
    for index in range(len(names)):
        if index == anchor:
            continue
        usable = (there[:, anchor] & there[:, index]).float()
        scores = directions[anchor] @ directions[index].mT / _TEMPERATURE + 1e4 * (usable - 1)
        both = cross_entropy(scores, own, reduction="none") + cross_entropy(
            directions[index] @ directions[anchor].mT / _TEMPERATURE + 1e4 * (usable - 1), own, reduction="none"
        )
        terms.append((both * usable).sum() / (2 * usable.sum().clamp(min=1)))
    return torch.stack(terms).mean()


def _task_loss(network: SensesNetwork, batch: SensedBatch, settings: ForecastLoss) -> Tensor:
    """Return cross-entropies of scores with the wanted distributions, plus the weighted squared error of numbers."""
    found = network(batch.values, batch.present & ~batch.hidden)
    terms = []
    for kind, target in zip(batch.kinds, batch.targets, strict=True):
        if kind == "regress":
            terms.append(settings.regression * (found[kind] - target).square().mean())
        else:
            terms.append(cross_entropy(found[kind].flatten(0, -2), target.flatten(0, -2)))
    return torch.stack(terms).sum()


_STAGES: dict[str, Callable[[SensesNetwork, SensedBatch, ForecastLoss], Tensor]] = {
    "mask": _mask_loss,
    "align": _align_loss,
    "task": _task_loss,
}


def _validation(batches: Sequence[SensedBatch], settings: ForecastLoss) -> Callable[[SensesNetwork], Measures]:
    @torch.no_grad()
    def measure(network: SensesNetwork) -> Measures:
        losses = [float(_task_loss(network, batch, settings)) for batch in batches]
        return {"loss": sum(losses) / len(losses), "error": sum(losses) / len(losses)}

    return measure


FORECAST = register(
    Task(
        name="forecast",
        summary="beams, labels and positions of the next samples, from any of several inputs",
        config=SensesConfig,
        build=SensesNetwork,
        parts=tuple(_STAGES),
        loss=_loss,
        measures=("error",),
        validation=_validation,
        score=lambda measures: -measures["error"],
        score_meaning="negative loss of the heads",
        presets={},
        guard="cross-validation against every rival, by nflae beams train",
        rivals=("repeat", "velocity-centroid", "kalman", "ridge", "knn", "position-map"),
        figure="share of hits of the strongest beam",
    )
)
