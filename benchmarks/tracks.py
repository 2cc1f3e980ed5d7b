"""Measure tracks on synthetic sites: errors in sight and blocked, angles, beams, and processor time per step.

    python -m benchmarks.tracks
    python -m benchmarks.tracks --antennas 64 --powers

Drones fly around masts among buildings (`simulator.sensors`); their channels have 10 dB per antenna, satellite
positions bias and wander. The first eight of 40 steps are left out. Position errors are median / 90 %, m.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
import torch

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import far_field_steering
from simulator.sensors.flights import draw_flights, satellite_positions
from simulator.sensors.site import draw_site
from simulator.tracking.tracker import Observations, Tracker, codebook_sines

Array = npt.NDArray[np.float64]
SECONDS, STEPS, SETTLED = 1 / 3, 40, 8
NEAR = 50.0  # m


def planar(place: Array) -> Array:
    """Return horizontal distance and height, (steps, users, 2), of positions (users, steps, 3)."""
    return np.stack([np.hypot(place[..., 0], place[..., 1]), place[..., 2]], -1).swapaxes(0, 1)


Groups = dict[str, npt.NDArray[np.bool_]]


def report(name: str, error: Array, groups: Groups) -> None:
    """Print median and 90 % of the errors of each group."""
    parts = []
    for group, chosen in groups.items():
        values = error[chosen]
        spread = f"{np.median(values):.2f} / {np.percentile(values, 90):.2f}" if len(values) else "none"
        parts.append(f"{group} {spread}")
    print(f"  {name:10s} {', '.join(parts)}", flush=True)


def measure(
    seed: int, antennas: int, users: int, powers: bool, snr_db: float
) -> tuple[dict[str, npt.NDArray[np.floating]], Groups]:
    """Print the figures of one site; return the errors of tracks and satellites, and the groups of users."""
    array = UniformLinearArray(antennas, 30e9, 15.0, 0.0)
    site = draw_site(array, seed)
    flights = draw_flights(site, users, STEPS, SECONDS, seed)
    gps, place = planar(satellite_positions(flights, SECONDS, seed)), planar(flights)
    sight = ~site.blocked(flights).T
    channels = site.channels(flights.swapaxes(0, 1))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels.shape, dtype=torch.complex64, generator=generator)
    channels = channels / channels.abs().square().mean().sqrt() + 10 ** (-snr_db / 20) * noise
    seen = channels
    if powers:
        code = far_field_steering(array, torch.asin(codebook_sines(antennas))).conj()
        seen = (channels @ code.T).abs().square()
    tracker, rows, spent = Tracker(array), [], []
    for step in range(STEPS):
        block = slice(step, step + 1)
        given = {"powers": seen[block].double().numpy()} if powers else {"channels": seen[block]}
        began = time.process_time()
        rows.append(tracker.advance(np.array([step * SECONDS]), Observations(**given, gps=gps[block])))
        spent.append(time.process_time() - began)
    late = slice(SETTLED, None)
    position, angle = (np.concatenate([getattr(row, name) for row in rows]) for name in ("position", "angle"))
    found = np.concatenate([row.in_sight for row in rows])
    radius = np.hypot(place[..., 0], place[..., 1] - array.height)
    groups = {"near": sight & (radius < NEAR), "far": sight & (radius >= NEAR), "blocked": ~sight, "all": sight | True}
    kind = "beam powers" if powers else "CSI"
    print(f"site {seed}, N = {antennas}, {users} users, {kind} at {snr_db:g} dB per antenna")
    groups = {group: chosen[late] for group, chosen in groups.items()}
    errors = {
        name: np.hypot(*np.moveaxis(where - place, -1, 0))[late]
        for name, where in (("tracked", position), ("satellites", gps))
    }
    for name, error in errors.items():
        report(name, error, groups)
    true_angle = np.arctan2(array.height - place[..., 1], place[..., 0])
    wrong = np.degrees(np.abs(angle - true_angle))[late]
    print(
        f"  angle in sight: median {np.median(wrong[sight[late]]):.4f} degrees; in_sight right in"
        f" {100 * (found == sight)[late].mean():.0f} %; {1e3 * np.median(spent[1:]):.1f} ms of processor time per step"
    )
    return errors, groups


def main() -> None:
    """Print the figures of all sites."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--antennas", type=int, default=256)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--snr-db", type=float, default=10.0, help="per antenna")
    parser.add_argument("--powers", action="store_true", help="beam powers instead of CSI")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        measure(seed, arguments.antennas, arguments.users, arguments.powers, arguments.snr_db)
        for seed in range(arguments.sites)
    ]
    print(f"all {arguments.sites} sites")
    groups = {name: np.concatenate([each[name] for _, each in found]) for name in found[0][1]}
    for name in found[0][0]:
        report(name, np.concatenate([each[name] for each, _ in found]), groups)


if __name__ == "__main__":
    main()
