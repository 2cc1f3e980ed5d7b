"""Declare the task ``mask``: reconstruct hidden parts of a channel, to embed channels without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.masked import MaskConfig, MaskedChannelNetwork
from nflae_bridge.tasks.task import Measures, Parts, Task, register
from nflae_bridge.training.recipe import CPU, Preset, Recipe, Streams
from nflae_bridge.training.sources.snapshots import draw_plane_waves, draw_snapshots

_VALIDATION_SEED = 7_777_777


@dataclass(frozen=True)
class MaskedBatch:
    """Hold channels and the tokens hidden of each.

    Parameters
    ----------
    channels
        complex64 (rows, antennas).
    mask
        bool (rows, tokens).
    """

    channels: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> MaskedBatch:
        """Return the batch on ``device``."""
        return MaskedBatch(self.channels.to(device), self.mask.to(device))


@dataclass(frozen=True)
class MaskedSnapshots:
    """Distribution of fresh channels with hidden tokens.

    Parameters
    ----------
    rows
        Channels per batch.
    antennas
        Choices of N, one per batch, multiples of ``patch``.
    patch
        Antennas per token.
    hidden
        Share of the tokens hidden.
    plane_waves
        Share of the channels that are sums of plane waves; the others are users of the low-altitude scenario.
    snr_db
        Range of the SNR per antenna, dB.
    """

    rows: int = 128
    antennas: tuple[int, ...] = (64, 128, 256)
    patch: int = 16
    hidden: float = 0.4
    plane_waves: float = 0.3
    snr_db: tuple[float, float] = (0.0, 20.0)

    def training(self, seed: int, step: int, device: torch.device = CPU) -> MaskedBatch:
        """Draw the batch of a step.

        Parameters
        ----------
        seed, step
            Seed of the run, and step.
        device
            Device on which the batch is drawn.

        Returns
        -------
        MaskedBatch
            The batch.
        """
        streams = Streams.of(seed, step, device)
        antennas = self.antennas[int(torch.randint(len(self.antennas), (1,), generator=streams.host))]
        return self._draw(antennas, streams.tensors)

    def validation(self) -> list[MaskedBatch]:
        """Return one batch per number of antennas."""
        return [self._draw(n, torch.Generator().manual_seed(_VALIDATION_SEED + n)) for n in sorted(set(self.antennas))]

    def _draw(self, antennas: int, generator: torch.Generator) -> MaskedBatch:
        waves = round(self.plane_waves * self.rows)
        parts = [draw_snapshots(self.rows - waves, antennas, self.snr_db, generator).channels]
        parts.append(draw_plane_waves(waves, antennas, self.snr_db, generator))
        tokens = antennas // self.patch
        order = torch.rand(self.rows, tokens, generator=generator, device=generator.device).argsort(-1)
        return MaskedBatch(torch.cat(parts), order < max(1, round(self.hidden * tokens)))


def _loss(network: MaskedChannelNetwork, batch: MaskedBatch, settings: None) -> Parts:
    """Return the squared error on hidden tokens over their power."""
    tokens = network.tokens_of(batch.channels)
    hidden = batch.mask.unsqueeze(-1)  # a factor: a selection would have a size that depends on values
    error = ((network(tokens, batch.mask) - tokens) * hidden).square().sum()
    relative = error / (tokens * hidden).square().sum()
    return {"loss": relative, "hidden_nmse_db": 10 * torch.log10(relative.detach())}


def _validation(batches: Sequence[MaskedBatch], settings: None) -> Callable[[MaskedChannelNetwork], Measures]:
    @torch.no_grad()
    def measure(network: MaskedChannelNetwork) -> Measures:
        losses = [float(_loss(network, batch, None)["loss"]) for batch in batches]
        mean = sum(losses) / len(losses)
        return {"loss": mean, "hidden_nmse_db": float(10 * torch.log10(torch.tensor(mean)))}

    return measure


def _score(measures: Measures) -> float:
    return -measures["hidden_nmse_db"]


_GPT2 = BackboneConfig(source="gpt2", frozen=True, attention="causal")
MASK = register(
    Task(
        name="mask",
        summary="embeddings of channels, from the reconstruction of hidden antennas",
        config=MaskConfig,
        build=MaskedChannelNetwork,
        parts=("hidden_nmse_db",),
        loss=_loss,
        measures=("hidden_nmse_db",),
        validation=_validation,
        score=_score,
        score_meaning="error on hidden antennas below their power, dB",
        presets={
            "mask-tiny": Preset(
                "masked channels on a GPT-2 of width 64, up to 256 antennas",
                Recipe(MaskConfig(), MaskedSnapshots(), steps=3_000, learning_rate=2e-3),
            ),
            "mask-gpt2": Preset(
                "masked channels on GPT-2 small, pretrained and frozen",
                Recipe(MaskConfig(backbone=_GPT2), MaskedSnapshots(), steps=3_000, learning_rate=1e-3),
            ),
        },
        guard="none: the embedding is an input of other programs, never an answer",
        rivals=(),
    )
)
