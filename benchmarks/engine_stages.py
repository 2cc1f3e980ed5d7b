"""Where a batch's time goes on the CPU: the engine's parts, us a drop.

    python benchmarks/engine_stages.py
    python benchmarks/engine_stages.py --model small --drops 1000 --threads 2

K = 10, N = 256, 20 dB, scenario `paper`. Parts are timed where the engine calls them; what lies within another part is
indented. Means over calls. Labels are worked out when somebody reads them, and not in "all". Up to 64 drops take a path
of their own, of which only "all" and the labels are timed.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

import nflae_bridge.engine.engine as engine_module
import nflae_bridge.network.encoders.gram as encoder_module
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

PARTS = {
    "quick_gram": "Gamma",
    "structured_beams": "beams and couplings, K x K",
    "encoder": "encoder",
    "gram_features": "  its features",
    "backbone": "trunk",
    "_ours": "answers with and without doubled users",
    "redundant_users": "  who is doubled",
    "powered": "powers",
    "answer": "W = H C",
}


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="shipped model (default: tiny)")
    parser.add_argument("--drops", type=int, default=500, help="drops a call (default: 500)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's (default: 1)")
    parser.add_argument("--calls", type=int, default=40, help="calls timed (default: 40)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds: dict[str, float] = defaultdict(float)

    def watch(place: Any, name: str, label: str | None = None) -> None:
        inner: Callable[..., Any] = getattr(place, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = inner(*args, **kwargs)
            seconds[label or name] += time.perf_counter() - began
            return result

        setattr(place, name, outer)

    engine = Engine(load_model(options.model, torch.device("cpu")))
    for name in ("quick_gram", "structured_beams", "powered", "redundant_users", "answer"):
        watch(engine_module, name)
    watch(encoder_module, "gram_features")
    watch(Engine, "_ours")
    watch(engine.network.encoder, "forward", "encoder")
    watch(engine.network.backbone, "forward", "backbone")
    drops = scenario("paper").draw(options.drops, torch.Generator().manual_seed(1))
    batch, budget = ChannelBatch(drops.channels), LinkBudget(1.0, 0.01)
    for _ in range(5):
        engine(batch, budget)
        engine(batch, budget).near_field  # noqa: B018  # it is worked out when read, and compiled when read twice
    seconds.clear()
    began = time.perf_counter()
    for _ in range(options.calls):
        engine(batch, budget)
    whole = time.perf_counter() - began
    parts = dict(seconds)
    for answer in [engine(batch, budget) for _ in range(options.calls)]:
        began = time.perf_counter()
        answer.near_field  # noqa: B018
        seconds["labels"] += time.perf_counter() - began
    scale = 1e6 / options.calls / options.drops
    for name, label in PARTS.items():
        print(f"{label:<30} {parts.get(name, 0.0) * scale:6.2f}")
    print(f"{'all':<30} {whole * scale:6.2f}")
    print(f"{'labels':<30} {seconds['labels'] * scale:6.2f}")


if __name__ == "__main__":
    main()
