"""Measure the time of the engine's parts on a batch on the CPU, us per drop.

    python benchmarks/engine_stages.py
    python benchmarks/engine_stages.py --model small --drops 1000 --threads 2
    python benchmarks/engine_stages.py --labels --drops 5000

K = 10, N = 256, 20 dB, scenario `paper`. Parts are timed where the engine calls them, those within another part are
indented. Means over calls, of the torch backend. Labels are computed when first read, and are not in "all". The last
line is the time of the torch backend over that of the numpy backend (--ratios). --labels compares the labels of files,
which follow from the curvature where it is clear, with those of the classifier alone, the test for a single wave
included, and both with beams and powers: scenarios `paper` and `uav`, 128 to 1,024 antennas, in processor time, the
least of the blocks of 256 drops.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import nflae_bridge.engine.comparison as comparison_module
import nflae_bridge.engine.engine as engine_module
import nflae_bridge.network.encoders.gram as encoder_module
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.numpy_backend.near_field import NearFieldScores
from nflae_bridge.engine.onnx_graphs import WavefrontGraph
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.geometry.single_wave import strongest_waves

PARTS = {
    "mixed_precision_gram": "Gamma",
    "structured_beams": "beams and effective gains, K x K",
    "encoder": "encoder",
    "features": "  its features",
    "backbone": "trunk",
    "_pruned_where_needed": "answers with and without redundant users",
    "redundant_users": "  search for redundant users",
    "project_powers": "powers",
    "assemble": "W = H C",
}


def print_ratios(model: str) -> None:
    """Print the time of the torch backend over that of the numpy backend, in turns."""
    checkpoint, budget = load_model(model, torch.device("cpu")), LinkBudget(1.0, 0.01)
    engines = [Engine(checkpoint, backend=name) for name in ("torch", "numpy")]
    for drops in (1, 16, 64, 1000):
        batch = ChannelBatch(scenario("paper").draw(drops, torch.Generator().manual_seed(1)).channels)
        seconds: list[list[float]] = [[], []]
        for _ in range(60):
            for engine, times in zip(engines, seconds, strict=True):
                began = time.perf_counter()
                engine(batch, budget)
                times.append(time.perf_counter() - began)
        first, second = (1e6 * sorted(times)[len(times) // 2] / drops for times in seconds)
        print(f"{drops:>3} drops: torch {first:7.1f} us per drop, numpy {second:7.1f}, ratio {first / second:.1f}")


def print_labels(model: str, drops: int) -> None:
    """Print time and differences of labels by curvature and classifier against those of the classifier alone."""
    engine, budget = Engine(load_model(model, torch.device("cpu"))), LinkBudget(1.0, 0.01)
    scores = NearFieldScores(engine.network, WavefrontGraph(engine.checkpoint.folder))

    def classified(channels: Tensor) -> Tensor:
        strongest_waves(channels)
        return scores.classify(channels)

    ways = (classified, lambda channels: scores(channels, strongest_waves(channels).clear))
    for name, antennas in itertools.product(("paper", "uav"), (128, 256, 512, 1024)):
        generator, users, different, largest = torch.Generator().manual_seed(1), 0, 0, 0.0
        seconds = [math.inf] * 3
        for _ in range(-(-drops // 256)):
            channels = scenario(name, 10, antennas).draw(256, generator).channels
            found = []
            for at, way in enumerate(ways):
                began = time.thread_time()
                found.append(way(channels))
                seconds[at] = min(seconds[at], time.thread_time() - began)
            began = time.thread_time()
            engine(ChannelBatch(channels), budget)
            seconds[2] = min(seconds[2], time.thread_time() - began)
            users += found[0].numel()
            different += int(((found[0] > 0.5) != (found[1] > 0.5)).sum())
            largest = max(largest, float((found[0] - found[1]).abs().max()))
        alone, by_curvature, beams = (1e6 * each / 256 for each in seconds)
        times = f"{alone:.1f} and {by_curvature:.1f} us per drop, beams {beams:.1f}, ratio {by_curvature / beams:.2f}"
        print(f"{name}, N = {antennas}: {times}; of {users} labels {different} differ, scores by {largest:.3f}")


def arguments() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="shipped model (default: tiny)")
    parser.add_argument("--drops", type=int, default=500, help="drops a call (default: 500)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's (default: 1)")
    parser.add_argument("--calls", type=int, default=40, help="calls timed (default: 40)")
    parser.add_argument("--ratios", action="store_true", help="time the numpy backend against the torch backend alone")
    parser.add_argument("--labels", action="store_true", help="compare labels by the curvature with the classifier's")
    return parser.parse_args()


def main() -> None:
    """Time and print."""
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.labels:
        print_labels(options.model, options.drops)
        return
    seconds: dict[str, float] = defaultdict(float)

    def watch(place: Any, name: str, label: str | None = None) -> None:
        inner: Callable[..., Any] = getattr(place, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = inner(*args, **kwargs)
            seconds[label or name] += time.perf_counter() - began
            return result

        setattr(place, name, outer)

    if options.ratios:
        print_ratios(options.model)
        return
    engine = Engine(load_model(options.model, torch.device("cpu")), backend="torch")
    for module, name in (
        (engine_module, "mixed_precision_gram"),
        (engine_module, "assemble"),
        (comparison_module, "structured_beams"),
        (comparison_module, "redundant_users"),
        (comparison_module, "_pruned_where_needed"),
        (comparison_module, "project_powers"),
    ):
        watch(module, name)
    for name in ("user_features", "pair_features"):
        watch(encoder_module, name, "features")
    watch(engine.network.encoder, "forward", "encoder")
    watch(engine.network.backbone, "forward", "backbone")
    drops = scenario("paper").draw(options.drops, torch.Generator().manual_seed(1))
    batch, budget = ChannelBatch(drops.channels), LinkBudget(1.0, 0.01)
    for _ in range(5):
        engine(batch, budget)
        engine(batch, budget).near_field  # noqa: B018  # computed when read
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
