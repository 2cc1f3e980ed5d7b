"""Measure the CPU time of a prediction per method: in NumPy, in PyTorch, their ratio, and by `nflae_bridge.predict`.

    python benchmarks/predict_times.py [--users 6] [--antennas 256] [--history 16] [--ahead 4] [--calls 50]

One thread, process time, the smallest of all calls; methods and forms take turns, so that other load on the machine
meets all of them. Channels are those of `nflae_bridge.training.moving_paths` at 15 dB per antenna.
`nflae_bridge.predict` also checks the history and estimates its noise.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

from nflae_bridge import predict
from nflae_bridge.tasks.predict import load_predictor
from nflae_bridge.training.moving_paths import draw_moving_paths
from simulator.csi.beams import parse_geometry
from simulator.csi.prediction import registry
from simulator.csi.prediction.window import Window

METHODS = ("hold", "ar", "esprit", "kalman", "nflae", "auto")
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
    for kind in ("none", "line"):
        window = noisy_history(options.users, options.history, options.antennas, kind)
        print(f"geometry {kind}: NumPy, PyTorch, PyTorch over NumPy, predict()")
        for method, (small, large, whole) in times(window, kind, options.ahead, options.calls).items():
            print(f"  {method:7} {small:6.2f} ms {large:6.2f} ms {large / small:5.2f} {whole:6.2f} ms")


def times(window: Window, kind: str, ahead: int, calls: int) -> dict[str, list[float]]:
    """Return the smallest time of each method in its three forms, ms."""
    network, limit = load_predictor(), registry.SMALL_BATCH
    history = window.snapshots.transpose(0, 1).contiguous().numpy()
    least = {method: [math.inf] * 3 for method in METHODS}
    for _ in range(calls):
        for method in METHODS:
            forms = (
                (limit, lambda method=method: registry.predict_window(window, ahead, method, network)),
                (0, lambda method=method: registry.predict_window(window, ahead, method, network)),
                (limit, lambda method=method: predict(history, ahead=ahead, method=method, geometry=kind)),
            )
            for place, (registry.SMALL_BATCH, call) in enumerate(forms):
                begin = time.process_time_ns()
                call()
                least[method][place] = min(least[method][place], (time.process_time_ns() - begin) / 1e6)
    registry.SMALL_BATCH = limit
    return least


if __name__ == "__main__":
    main()
