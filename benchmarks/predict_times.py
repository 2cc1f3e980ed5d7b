"""Measure the CPU time of a prediction per method, in ms and relative to vector autoregression.

    python benchmarks/predict_times.py [--users 6] [--antennas 256] [--history 16] [--ahead 4] [--calls 50]

One thread, process time, the smallest of all calls; the methods take turns, so that other load on the machine meets
all of them. Channels are those of `nflae_bridge.training.moving_paths` at 15 dB per antenna.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

from nflae_bridge.tasks.predict import load_predictor
from nflae_bridge.training.moving_paths import draw_moving_paths
from simulator.csi.beams import parse_geometry
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Window

METHODS = ("hold", "ar", "kalman", "nflae", "auto")
VARIANCE = 10**-1.5


def noisy_history(users: int, history: int, antennas: int, kind: str) -> Window:
    """Draw noisy histories of users, the same in every run."""
    generator = torch.Generator().manual_seed(1)
    channels = draw_moving_paths(users, antennas, history, generator, history)
    noise = torch.randn(channels.shape, dtype=torch.complex64, generator=generator)
    return Window(channels + VARIANCE**0.5 * noise, torch.full((users,), VARIANCE), parse_geometry(kind))


def main() -> None:
    """Print a line per geometry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--antennas", type=int, default=256)
    parser.add_argument("--history", type=int, default=16)
    parser.add_argument("--ahead", type=int, default=4)
    parser.add_argument("--calls", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_predictor()
    for kind in ("line", "none"):
        window = noisy_history(options.users, options.history, options.antennas, kind)
        least = dict.fromkeys(METHODS, math.inf)
        for _ in range(options.calls):
            for method in METHODS:
                begin = time.process_time_ns()
                predict_window(window, options.ahead, method, network)
                least[method] = min(least[method], (time.process_time_ns() - begin) / 1e6)
        figures = ", ".join(f"{m} {value:.2f} ms ({value / least['ar']:.2f})" for m, value in least.items())
        print(f"geometry {kind}: {figures}")


if __name__ == "__main__":
    main()
