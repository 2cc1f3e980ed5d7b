"""Random streams: equal for equal arguments, different for any other seed, purpose or index."""

from __future__ import annotations

import torch

from simulator.link_level.randomness import Purpose, generator_of


def test_streams_depend_on_seed_purpose_and_indices_only() -> None:
    def first(seed: int, purpose: Purpose, *numbers: int) -> float:
        return float(torch.rand((), generator=generator_of(seed, purpose, *numbers), dtype=torch.float64))

    assert first(3, "csi", 1, 2) == first(3, "csi", 1, 2)
    others = [
        first(3, "csi", 1, 2),
        first(4, "csi", 1, 2),
        first(3, "drops", 1, 2),
        first(3, "symbols", 1, 2),
        first(3, "csi", 2, 1),
        first(3, "csi", 1),
        first(3, "csi", 1, 3),
    ]
    assert len(set(others)) == len(others)
