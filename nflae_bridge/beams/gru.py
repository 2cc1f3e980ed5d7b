"""Forecast beams by a small recurrent network on the past beam powers, with or without positions.

One token per past sample, of its powers in dB, and one query per sample ahead pass through a causal trunk, a gated
recurrent unit; the outputs of the queries are scores. The targets are the powers measured later: a cross-entropy with
the distribution proportional to the power to the power of 13 prefers the strongest beam and forgives its equals.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from simulator.beams.bearings import bearings
from simulator.beams.centroids import normalised_db
from simulator.beams.registry import Forecaster, Scores, State
from simulator.beams.windows import Windows

__all__ = ["GRU_FORECASTERS", "BeamGru"]

_WIDTH = 64
_EPOCHS, _BATCH = 30, 256
_RATE, _DECAY, _WARM_UP = 2e-3, 1e-2, 50
_FLOOR_DB = -10.0
_SHARPNESS = 3.0  # of the targets, per dB
_LEAST_STEPS = 200
_TOKENS_AT_ONCE = 4096
_MEAN, _DEVIATION = "position_mean", "position_deviation"


class BeamGru(nn.Module):
    """Score the beams of the samples ahead from a token per past sample.

    Parameters
    ----------
    inputs
        Numbers per past sample.
    beams
        Number of beams.
    ahead
        Samples to forecast.
    """

    def __init__(self, inputs: int, beams: int, ahead: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(inputs, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.LayerNorm(_WIDTH)
        )
        self.trunk = nn.GRU(_WIDTH, _WIDTH, batch_first=True)
        self.query = nn.Parameter(0.02 * torch.randn(ahead, _WIDTH))
        self.head = nn.Linear(_WIDTH, beams)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores.

        Parameters
        ----------
        tokens
            float32 (windows, past, inputs).

        Returns
        -------
        Tensor
            Logits, float32 (windows, ahead, beams).
        """
        queries = self.query.expand(len(tokens), -1, -1)
        outputs, _ = self.trunk(torch.cat([self.embed(tokens), queries], 1))
        scores: Tensor = self.head(outputs[:, -len(self.query) :])
        return scores


def _tokens(windows: Windows, state: State) -> Tensor:
    """Return the powers, from -1 to 1, and positions relative to those of training and to the last one."""
    parts = [normalised_db(windows.past, _FLOOR_DB) * (2 / -_FLOOR_DB) + 1]
    if _MEAN in state:
        assert windows.position is not None
        position = bearings(windows.position)
        last = position[:, -1:]
        parts += [
            (position - state[_MEAN]) / state[_DEVIATION],
            (position - last) / (0.1 * state[_DEVIATION]),
        ]
    return torch.from_numpy(np.concatenate(parts, -1).astype(np.float32))


def _fit(train: Windows, seed: int, positions: bool) -> State:
    state: dict[str, np.ndarray] = {}
    if positions:
        assert train.position is not None
        last = bearings(train.position[:, -1])
        state = {_MEAN: last.mean(0), _DEVIATION: np.maximum(last.std(0), 1e-6)}
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens = _tokens(train, state)
        network = BeamGru(tokens.shape[-1], train.beams, train.ahead)
    strength = torch.from_numpy(normalised_db(train.future, -100.0))
    _train(network, tokens, torch.softmax(_SHARPNESS * strength, -1), generator)
    return state | {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def _train(network: BeamGru, tokens: Tensor, targets: Tensor, generator: torch.Generator) -> None:
    """Minimise the cross-entropy by AdamW with a warm-up and a cosine to zero."""
    per_epoch = math.ceil(len(tokens) / _BATCH)
    total = max(_EPOCHS * per_epoch, _LEAST_STEPS)
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    order = torch.randperm(len(tokens), generator=generator)
    for step in range(total):
        at = step % per_epoch
        if at == 0:
            order = torch.randperm(len(tokens), generator=generator)
        chosen = order[at * _BATCH : (at + 1) * _BATCH]
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / total))
        scores = network(tokens[chosen])
        loss = functional.cross_entropy(scores.flatten(0, 1), targets[chosen].flatten(0, 1))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()


@torch.no_grad()
def _scores(windows: Windows, state: State) -> Scores:
    weights = {
        name: torch.from_numpy(np.ascontiguousarray(state[name])) for name in state if name not in (_MEAN, _DEVIATION)
    }
    network = BeamGru(weights["embed.0.weight"].shape[1], len(weights["head.bias"]), len(weights["query"]))
    network.load_state_dict(weights)
    parts = [network.eval()(part) for part in torch.split(_tokens(windows, state), _TOKENS_AT_ONCE)]
    scores: Scores = torch.cat(parts).numpy()
    return scores


GRU_FORECASTERS = {
    "gru": Forecaster("gru", _scores, lambda train, seed: _fit(train, seed, False)),
    "gru-position": Forecaster("gru-position", _scores, lambda train, seed: _fit(train, seed, True), positions=True),
}
