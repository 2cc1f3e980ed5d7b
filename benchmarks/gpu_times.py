"""Measure times on a GPU, from channels in the host's memory to precoders there: shipped and published networks.

    python benchmarks/gpu_times.py
    python benchmarks/gpu_times.py --device cpu --batches 1,100 --repeats 3 --only shipped,answers

Tables: the engine's precoders (shipped); whole answers as arrays, of the engine and of classical schemes (answers);
published networks (published).
K = 10, N = 256, 20 dB, scenario `paper`, with the power limit alone and with C3 and C4 (alpha_c = 0.4, R_min = 0.6).
Channels lie in page-locked memory where there is a GPU. Medians and 99th percentiles of calls, after four to warm up,
in which batches are recorded. Beside them, the mean sum rate over that of the CPU, less one, and the largest such
deviation of a drop. The published networks (random weights; GPT-2 small from its shape alone) precode for 100 drops
without the comparison against RZF; "alone" is their forward pass, its products in TF32, as a CUDA graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from matlab_io.result import RESULT_NAMES
from nflae_bridge.engine.cuda_graphs.graphs import CudaGraphs
from nflae_bridge.engine.cuda_graphs.schemes import RecordedScheme
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import load_model
from nflae_bridge.studies.benchmark.cuda_graph import Captured
from nflae_bridge.studies.reproduction.compute_budget import FULL
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.trained_baselines import baseline_recipe
from nflae_bridge.training.presets import RANDOM_BACKBONE
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch

BUDGETS = {"free": LinkBudget(1.0, 0.01), "C3, C4": LinkBudget(1.0, 0.01, 0.4, 0.6)}
METHODS = ("wmmse", "rzf", "zf", "mrt")
FEW_ARRAYS = ("precoder", "power")
Arrays = Callable[..., Any]
DRAWN, COMPARED, PUBLISHED_DROPS = 4096, 4096, 100
WARM_UP = 4


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> str:
    """Median and 99th percentile of a call, us."""
    seconds = []
    for repeat in range(WARM_UP + repeats):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    return f"{1e6 * np.median(seconds):.0f} | {1e6 * np.quantile(seconds, 0.99):.0f}"


def shipped(channels: torch.Tensor, batches: list[int], repeats: int, device: torch.device) -> None:
    """Time the shipped models and print their table."""
    print("| model | budget | drops | p50, us | p99, us | mean sum rate against the CPU's | a drop's at most |")
    print("|---|---|---|---|---|---|---|")
    for name in ("tiny", "small"):
        engine, cpu = (Engine(load_model(name, place), place) for place in (device, torch.device("cpu")))
        for what, budget in BUDGETS.items():
            for drops in batches:
                many = channels[torch.arange(drops) % len(channels)]
                batch = ChannelBatch(many.pin_memory() if device.type == "cuda" else many)
                took = timed(partial(engine, batch, budget), repeats, device)
                some = ChannelBatch(many[:COMPARED])
                found, expected = engine(some, budget).sum_rate, cpu(some, budget).sum_rate
                off = f"{found.mean() / expected.mean() - 1:.1e} | {(found / expected - 1).abs().max():.1e}"
                print(f"| {name} | {what} | {drops} | {took} | {off} |", flush=True)


def answers(channels: torch.Tensor, batches: list[int], repeats: int, device: torch.device) -> None:
    """Time whole answers, from channels to arrays of the host, and print their table."""
    print("\n| scheme | budget | drops | all arrays, p50, us | p99, us | precoder and power, p50, us | p99, us |")
    print("|---|---|---|---|---|---|---|")
    engine = Engine(load_model("tiny", device), device)
    ways: dict[str, Arrays] = {"tiny": engine.arrays}
    if device.type == "cuda":
        for name in METHODS:
            recorded = RecordedScheme(name, CudaGraphs(device))
            ways[name] = partial(recorded.arrays, scores=engine.near_field_score)
    for scheme, way in ways.items():
        for what, budget in BUDGETS.items():
            for drops in batches:
                many = channels[torch.arange(drops) % len(channels)]
                host = (many.pin_memory() if device.type == "cuda" else many).numpy()
                took = [
                    timed(partial(way, host, budget, names), repeats, device) for names in (RESULT_NAMES, FEW_ARRAYS)
                ]
                print(f"| {scheme} | {what} | {drops} | {took[0]} | {took[1]} |", flush=True)


@torch.no_grad()
def published(channels: torch.Tensor, repeats: int, device: torch.device) -> None:
    """Time the published networks, of the published shapes, and print their table."""
    print("\n| network | engine, p50, us | p99, us | alone, p50, us | p99, us |")
    print("|---|---|---|---|---|")
    for name in ("paper", "transformer", "cnn"):
        network = PrecodingNetwork(baseline_recipe(name, PUBLISHED, FULL, RANDOM_BACKBONE, 0).network)
        engine = Engine(Checkpoint(name, network, {}), device, with_fallback=False)
        host = channels[:PUBLISHED_DROPS].pin_memory() if device.type == "cuda" else channels[:PUBLISHED_DROPS]
        whole = timed(partial(engine, ChannelBatch(host), BUDGETS["free"]), repeats, device)
        there = host.to(device)
        one, gram = torch.ones(len(there), device=device), normalised_gram(there, BUDGETS["free"])
        torch.set_float32_matmul_precision("high")

        def alone(
            values: torch.Tensor, engine: Engine = engine, gram: torch.Tensor = gram, one: torch.Tensor = one
        ) -> tuple[torch.Tensor, ...]:
            output = engine.network(UserInputs(values, gram, one, 0 * one))
            return output.dual_power_fractions, output.power_fractions

        forward = Captured(alone, device)
        forward.capturable = device.type == "cuda"
        bare = timed(partial(forward, there), repeats, device)
        torch.set_float32_matmul_precision("highest")
        print(f"| {name} | {whole} | {bare} |", flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="where (default: cuda)")
    parser.add_argument("--only", default="shipped,answers,published", help="tables (default: all)")
    parser.add_argument("--batches", default="1,16,100,1024,4096,16384", help="drops a call")
    parser.add_argument("--repeats", type=int, default=100, help="calls timed (default: 100)")
    options = parser.parse_args()
    device = torch.device(options.device)
    channels = scenario("paper").draw(DRAWN, torch.Generator().manual_seed(1)).channels
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", torch.__version__, "\n")
    batches = [int(number) for number in options.batches.split(",")]
    wanted = options.only.split(",")
    if "shipped" in wanted:
        shipped(channels, batches, options.repeats, device)
    if "answers" in wanted:
        with torch.inference_mode():
            answers(channels, batches, options.repeats, device)
    if "published" in wanted:
        published(channels, options.repeats, device)


if __name__ == "__main__":
    main()
