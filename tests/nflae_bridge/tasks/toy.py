"""A task in 60 lines: the mean of noisy samples by weights that a network learns; its rival is the plain mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.tasks.task import Comparison, Measures, Parts, Task
from nflae_bridge.training.recipe import CPU, Preset, Recipe


@dataclass(frozen=True)
class ToyConfig:
    samples: int = 8


@dataclass(frozen=True)
class ToyData:
    rows: int = 64

    def training(self, seed: int, step: int, device: torch.device = CPU) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        truth, deviation = torch.randn(self.rows, 1, generator=generator), torch.tensor([0.0, 0.1] + [3.0] * 7)
        return truth + deviation * torch.randn(self.rows, 9, generator=generator)

    def validation(self) -> list[Tensor]:
        return [self.training(1, 0)]


class ToyNetwork(TaskNetwork):
    def __init__(self, config: ToyConfig, offline: bool = False) -> None:
        super().__init__()
        self.config, self.weights = config, nn.Linear(config.samples, 1)

    def forward(self, samples: Tensor) -> Tensor:
        return self.weights(samples)[:, 0]


def loss(network: ToyNetwork, batch: Tensor, settings: None) -> Parts:
    estimates = {"loss": network(batch[:, 1:]), "mean_error": batch[:, 1:].mean(1)}
    return {name: (estimate - batch[:, 0]).square().mean() for name, estimate in estimates.items()}


def validation(batches: Sequence[Tensor], settings: None) -> Callable[[ToyNetwork], Measures]:
    return lambda network: {name: float(part.detach()) for name, part in loss(network, batches[0], None).items()}


def compare(network: ToyNetwork, batch: Tensor) -> Comparison:
    estimates = {"nflae": network(batch[:, 1:]).detach(), "mean": batch[:, 1:].mean(1)}
    figures = {name: -(estimate - batch[:, 0]).abs() for name, estimate in estimates.items()}
    fallback = (estimates["nflae"] - batch[:, 1]).abs() > 1
    return Comparison(figures, torch.where(fallback, figures["mean"], figures["nflae"]), fallback)


RUN = Recipe(ToyConfig(), ToyData(), steps=60, learning_rate=0.05, warm_up=1, validate_every=20, save_every=10)
TOY = Task("toy", "mean of noisy samples", ToyConfig, ToyNetwork, ["mean_error"], loss, ["mean_error"], validation,
           lambda measures: -measures["loss"], "negative error", {"toy-tiny": Preset("one layer", RUN)},
           "the network's unless it is far from the good sample", ["mean"], "negative error", compare)  # fmt: skip
