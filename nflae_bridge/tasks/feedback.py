"""Declare the task ``feedback``: code a channel in few bits and decode it, with or without a prompt of the site."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nflae_bridge.network.csi.feedback_codec import FeedbackCodec, FeedbackConfig
from nflae_bridge.tasks.task import Measures, Parts, Task, register
from nflae_bridge.training.recipe import Preset, Recipe
from nflae_bridge.training.sources.feedback_sites import FeedbackBatch, SiteDistribution


def _loss(network: FeedbackCodec, batch: FeedbackBatch, settings: None) -> Parts:
    """Return 1 - SGCS, the share of the channel's power outside the direction decoded."""
    decoded = network(batch.channels, batch.magnitude)
    sgcs = (decoded.conj() * batch.channels).sum(-1).abs().square().mean()
    return {"loss": 1 - sgcs, "sgcs": sgcs.detach()}


def _validation(batches: Sequence[FeedbackBatch], settings: None) -> Callable[[FeedbackCodec], Measures]:
    @torch.no_grad()
    def measure(network: FeedbackCodec) -> Measures:
        sgcs = [float(_loss(network, batch, None)["sgcs"]) for batch in batches]
        mean = sum(sgcs) / len(sgcs)
        return {"loss": 1 - mean, "sgcs": mean}

    return measure


def _recipe(prompted: bool) -> Recipe:
    return Recipe(FeedbackConfig(prompted=prompted), SiteDistribution(), steps=3_000, learning_rate=2e-3, warm_up=50)


FEEDBACK = register(
    Task(
        name="feedback",
        summary="channels in 64 bits and back",
        config=FeedbackConfig,
        build=FeedbackCodec,
        parts=("sgcs",),
        loss=_loss,
        measures=("sgcs",),
        validation=_validation,
        score=lambda measures: measures["sgcs"],
        score_meaning="squared cosine similarity of decoded and true channels",
        presets={
            "feedback-tiny": Preset("64-bit codec of 64 antennas, two GPT-2 of width 64", _recipe(False)),
            "feedback-prompt-tiny": Preset("the same, its decoder given the site's mean beam magnitude", _recipe(True)),
        },
        guard="none: nflae feedback has no learned codec; nflae reproduce prompt-feedback compares it with the others",
        rivals=(),
    )
)
