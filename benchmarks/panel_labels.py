"""Measure near/far labels of a planar array from noisy CSI: fitted waves beside the exhaustive search.

    python benchmarks/panel_labels.py
    python benchmarks/panel_labels.py --array upa:8x32 --reach 0.5 --likelihood 60

Users stand within 1.5 m (``--reach``) of a 16 x 16 panel at 30 GHz, in proportion to the squared longer side of
others, so that the border of the near field lies among them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from simulator.channels.scenario import Scenario
from simulator.channels.spatial import SpatialScenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panel_localization import most_likely_panel_labels
from simulator.geometry.panels import parse_panel

USERS = 10


def main() -> None:
    """Print the share of labels that agree with the definition, by SNR per antenna."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--array", default="upa:16x16", help="panel")
    parser.add_argument("--drops", type=int, default=150, help=f"drops of {USERS} users")
    parser.add_argument("--reach", type=float, default=1.5, help="largest distance at 16 elements, m")
    parser.add_argument("--likelihood", type=int, default=0, help="drops labelled by maximum likelihood too")
    arguments = parser.parse_args()
    array = replace(parse_panel(arguments.array), height=0.0, tilt=0.0)
    reach = arguments.reach * (max(array.rows, array.columns) / 16) ** 2
    plane = Scenario(users=USERS, x_range=(0.1 * reach, reach), height_range=(-reach / 2, reach / 2))
    drops = SpatialScenario(array, plane).draw(arguments.drops, torch.Generator().manual_seed(1))
    print(f"{array}: {100 * float(drops.near_field.double().mean()):.1f} % near-field users")
    for snr_db in (0.0, 5.0, 10.0, 15.0, 20.0):
        channels = noisy_csi(drops.channels, snr_db, torch.Generator().manual_seed(2))
        began = time.perf_counter()
        found = panel_near_field_score(array, channels) > 0.5
        microseconds = 1e6 * (time.perf_counter() - began) / found.numel()
        right = float((found == drops.near_field).double().mean())
        line = f"{snr_db:4.0f} dB: fitted waves {right:.4f} ({microseconds:.0f} us per user)"
        if arguments.likelihood:
            part = slice(arguments.likelihood)
            likely = most_likely_panel_labels(array, channels[part]) == drops.near_field[part]
            line += f", maximum likelihood {float(likely.double().mean()):.4f} ({likely.numel()} users)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
