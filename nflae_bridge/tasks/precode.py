"""Declare precoding: from the channels of a drop to near-field labels, precoders and powers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import INVARIANT, BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.encoders.kernel import USER_FEATURES
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from nflae_bridge.tasks.task import Comparison, Measures, Parts, Task, register
from nflae_bridge.training.data import DropDistribution, PublishedDrops, TrainingBatch, labelled_users
from nflae_bridge.training.loss import LossParts, LossWeights, label_loss, precoding_loss
from nflae_bridge.training.recipe import Preset, Recipe
from nflae_bridge.training.validation import forward, reference_rate, served_rate, user_inputs
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.schemes import scheme


@dataclass(frozen=True)
class _Inputs:
    """Prepared batch: the network's input with true labels, and whether these are true of the wavefronts."""

    users: UserInputs
    labelled: bool


def _prepare(network: PrecodingNetwork, batch: TrainingBatch, weights: LossWeights) -> TrainingBatch | _Inputs:
    if weights.labels_alone:
        return batch
    labelled = batch.labelled and weights.near_field > 0  # no label is computed for nothing
    gram = normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
    return _Inputs(user_inputs(network, replace(batch, labelled=labelled), gram, with_labels=True), labelled)


def _loss(network: PrecodingNetwork, inputs: TrainingBatch | _Inputs, weights: LossWeights) -> Parts:
    if isinstance(inputs, TrainingBatch):
        parts = label_loss(network.near_field_logit(inputs.channels), inputs.near_field)
    else:
        users = inputs.users
        assert users.near_field is not None
        parts = precoding_loss(
            network(users), users.gram, users.near_field, users.alpha_c, users.min_rate, weights, inputs.labelled
        )
    return {
        "loss": parts.total,
        "rate_over_rzf": parts.rate_over_rzf,
        "unmet_rate": parts.unmet,
        "near_field_error": parts.near_field,
    }


def _loss_parts(output: NetworkOutput, gram: Tensor, batch: TrainingBatch, weights: LossWeights) -> LossParts:
    return precoding_loss(output, gram, batch.near_field, batch.alpha_c, batch.min_rate, weights, batch.labelled)


def _validation(batches: Sequence[TrainingBatch], weights: LossWeights) -> Callable[[PrecodingNetwork], Measures]:
    """Compute WMMSE's sum rates on the validation drops, to which those of a network are relative.

    ``rate_over_wmmse`` is the mean over batches of the mean sum rate relative to that of WMMSE with 200 iterations
    under the same constraints, ``accuracy`` the fraction of users with a correct near-field label.
    """
    if weights.labels_alone:
        return _label_validation(batches)
    references = [reference_rate(batch) for batch in batches]

    def measure(network: PrecodingNetwork) -> Measures:
        relative_rates, losses, correct, labelled = [], [], 0.0, 0
        for batch, reference in zip(batches, references, strict=True):
            gram = normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
            with torch.inference_mode():
                output = forward(network, batch, gram, with_labels=True)
                parts = _loss_parts(output, gram, batch, weights)
            losses.append(float(parts.total))
            served = served_rate(batch, gram, output.dual_power_fractions.double(), output.power_fractions.double())
            relative_rates.append(float(served.mean() / reference.mean()))
            if batch.labelled and output.near_field_logit is not None:
                correct += float(((output.near_field_logit > 0) == batch.near_field).sum())
                labelled += batch.near_field.numel()
        return {
            "rate_over_wmmse": sum(relative_rates) / len(relative_rates),
            "accuracy": correct / max(1, labelled),
            "loss": sum(losses) / len(losses),
        }

    return measure


def _label_validation(batches: Sequence[TrainingBatch]) -> Callable[[PrecodingNetwork], Measures]:
    """Validate labels alone; the sum rate, which a training of the classifier does not change, is measured once."""
    rate: list[float] = []

    @torch.inference_mode()
    def measure(network: PrecodingNetwork) -> Measures:
        if not rate:
            rate.append(_validation(batches, LossWeights())(network)["rate_over_wmmse"])
        logits = [network.near_field_logit(batch.channels) for batch in batches]
        correct = [(logit > 0) == batch.near_field for logit, batch in zip(logits, batches, strict=True)]
        losses = [label_loss(logit, batch.near_field).total for logit, batch in zip(logits, batches, strict=True)]
        return {
            "rate_over_wmmse": rate[0],
            "accuracy": float(torch.cat([each.flatten() for each in correct]).double().mean()),
            "loss": float(torch.stack(losses).mean()),
        }

    return measure


def _score(measures: Measures) -> float:
    return measures["rate_over_wmmse"] + measures["accuracy"]


@torch.no_grad()
def _compare(network: PrecodingNetwork, batch: TrainingBatch) -> Comparison:
    """Compare sum rates per drop, bps/Hz, under the constraints and labels of the batch."""
    from nflae_bridge.engine.engine import Engine
    from nflae_bridge.network.checkpoint import Checkpoint

    checkpoint, device = Checkpoint("network", network, {}), batch.channels.device
    drops = ChannelBatch(batch.channels, batch.near_field)
    budget = LinkBudget(1.0, 1.0, batch.alpha_c.double(), batch.min_rate.double())
    answer = Engine(checkpoint, device)(drops, budget)
    figures = {"nflae": Engine(checkpoint, device, with_fallback=False)(drops, budget).sum_rate}
    figures |= {name: scheme(name)(drops, budget).sum_rate for name in PRECODE.rivals}
    return Comparison(figures, answer.sum_rate, answer.fallback)


def _check(config: NetworkConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    if config.encoder.kind not in INVARIANT:
        axes = {axis for shape in shapes.values() for axis in shape}
        if not axes & {config.encoder.antennas, 2 * config.encoder.antennas}:
            raise ValueError(f"no weights for {config.encoder.antennas} antennas")
    if config.encoder.kind == "kernel" and shapes.get("encoder.users.weight", (0, USER_FEATURES))[-1] != USER_FEATURES:
        raise NflaeError("a kernel encoder of an earlier version; train it again: nflae train --preset nano -o DIR")


_RELATIVE_LOSS = LossWeights(min_rate=1.0)
# Data, loss and optimiser common to the published network and its two comparisons.
_AS_PUBLISHED: dict[str, Any] = {
    "data": PublishedDrops(),
    "loss": LossWeights(min_rate=10.0, near_field=5.0, relative=False, projected=False),
    "steps": 500 * 80,
    "learning_rate": 1e-4,
    "betas": (0.9, 0.999),
    "warm_up": 0,
    "decay": 0.0,
    "validate_every": 80,
    "judge": "loss",
}

_PRESETS = {
    "nano": Preset(
        "kernel encoder alone, without a backbone, for any array (shipped)",
        Recipe(
            NetworkConfig(
                EncoderConfig(kind="kernel", blocks=2, edge_width=8), BackboneConfig(family="none", width=32)
            ),
            DropDistribution(tokens=1024, snr_db=(-4.0, 42.0), clustered=0.3, overloaded=0.2, constrained=0.3),
            LossWeights(min_rate=1.0, near_field=0.0, pooled=True, pruned=True, projected=False),
            steps=40_000,
            learning_rate=4e-3,
            decay=0.5,
            validate_every=2_000,
            judge="loss",
        ),
    ),
    "tiny": Preset(
        "gram encoder on a GPT-2 of width 32, for any array (shipped)",
        Recipe(
            NetworkConfig(EncoderConfig(edge_width=16), BackboneConfig(width=32, layers=3, heads=2)),
            DropDistribution(),
            _RELATIVE_LOSS,
            steps=12_000,
            learning_rate=2e-3,
        ),
    ),
    "small": Preset(
        "gram encoder on a GPT-2 of width 128, for any array (shipped)",
        Recipe(
            NetworkConfig(EncoderConfig(), BackboneConfig(width=128, layers=6, heads=8)),
            DropDistribution(),
            _RELATIVE_LOSS,
            steps=9_000,
            learning_rate=7e-4,
        ),
    ),
    "classifier": Preset(
        "near/far classifier of a model given by --start, nothing else (last part of tiny and small)",
        Recipe(
            NetworkConfig(EncoderConfig(edge_width=16), BackboneConfig(width=32, layers=3, heads=2)),
            labelled_users(),
            LossWeights(labels_alone=True),
            part="encoder.classifier",
            steps=7_000,
            learning_rate=1.5e-3,
            seed=3,
        ),
    ),
    "gpt2": Preset(
        "gram encoder on GPT-2 small, pretrained and frozen",
        Recipe(
            NetworkConfig(
                EncoderConfig(blocks=2),
                BackboneConfig(source="gpt2", width=128, heads=8, frozen=True, attention="causal"),
            ),
            DropDistribution(),
            _RELATIVE_LOSS,
            learning_rate=5e-4,
        ),
    ),
    "paper": Preset(
        "the published network on 8,000 drops of 256 antennas",
        Recipe(
            NetworkConfig(
                EncoderConfig(kind="raw", blocks=3, antennas=256),
                BackboneConfig(source="gpt2", frozen=True, positions=1024, attention="causal"),
            ),
            **_AS_PUBLISHED,
        ),
    ),
    "transformer": Preset(
        "the published comparison without GPT-2 backbone, on the same drops",
        Recipe(
            NetworkConfig(
                EncoderConfig(kind="raw", blocks=8, antennas=256),
                BackboneConfig(family="none", width=768),
                head_width=64,
            ),
            **_AS_PUBLISHED,
        ),
    ),
    "cnn": Preset(
        "the published comparison with 3 x 3 convolutions, on the same drops",
        Recipe(
            NetworkConfig(EncoderConfig(kind="cnn"), BackboneConfig(family="none", width=256), head_width=64),
            **_AS_PUBLISHED,
        ),
    ),
}

PRECODE = register(
    Task(
        name="precode",
        summary="near-field labels, precoders and powers from channels",
        config=NetworkConfig,
        build=PrecodingNetwork,
        parts=("rate_over_rzf", "unmet_rate", "near_field_error"),
        loss=_loss,
        measures=("rate_over_wmmse", "accuracy"),
        validation=_validation,
        score=_score,
        score_meaning="sum rate over WMMSE-200 plus near/far accuracy",
        presets=_PRESETS,
        guard="per drop, the answer that reaches the minimum rates, of two alike the one with the larger sum rate",
        rivals=("rzf",),
        figure="mean sum rate, bps/Hz",
        compare=_compare,
        check=_check,
        prepare=_prepare,
    )
)
