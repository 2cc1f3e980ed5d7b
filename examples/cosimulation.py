"""The network in the loop of a simulation that isn't ours: drones fly, a running `nflae serve` says how to reach them.

    nflae serve                                   # in another terminal
    python examples/cosimulation.py -o timeline.png

Everything about the world is in this file, in numpy: where the drones are, what their channels look like, what they
receive. Of each slot's channels the server is asked for precoders; these are then used for 1, 4 and 16 slots, so that
the picture shows what precoders are worth while they age. Replace `World` by your own simulator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nflae_bridge import Client, NflaeError, Result

Reals = npt.NDArray[np.float64]

ANTENNAS, WAVELENGTH, MAST = 256, 0.01, 15.0  # 30 GHz; the array stands upright, its centre 15 m above ground
NOISE_POWER = 0.01
TIMEOUT = 10.0  # s
NEAR, FAR = "#D55E00", "#56B4E9"


class World:
    """Drones on straight courses before an array at (0, 15 m), and two walls that reflect a little.

    ``position`` and ``velocity``: (drones, 2), x and height, m and m/s.
    """

    walls = np.array([[95.0, 12.0], [60.0, 55.0]])
    wall_gain = 0.15

    def __init__(self) -> None:
        self.position = np.array([[25.0, 12.0], [130.0, 40.0], [90.0, 8.0], [45.0, 45.0], [150.0, 20.0], [70.0, 26.0]])
        self.velocity = np.array([[24.0, 3.0], [-28.0, -6.0], [-20.0, 2.0], [16.0, -9.0], [-30.0, 0.0], [2.0, 3.0]])

    def move(self, seconds: float) -> None:
        """Fly on."""
        self.position = self.position + seconds * self.velocity

    def channels(self) -> npt.NDArray[np.complex64]:
        """Spherical waves, straight and by way of the walls; complex (drones, antennas), row k h_k: y_k = h_k^H x.

        Phases come from lengths in metres, so that Doppler shifts are there without being put there.
        """
        straight = self._wave(self.position, np.zeros(len(self.position)))
        detour = np.linalg.norm(self.position[:, None] - self.walls, axis=-1)
        reflected = sum(self._wave(wall[None], detour[:, i]) for i, wall in enumerate(self.walls))
        path_loss = 60.0 / np.linalg.norm(self.position - [0.0, MAST], axis=1, keepdims=True)
        return (path_loss * (straight + self.wall_gain * reflected)).astype(np.complex64)

    def _wave(self, source: Reals, detour: Reals) -> npt.NDArray[np.complex128]:
        element = MAST - WAVELENGTH / 2 * (np.arange(ANTENNAS) - (ANTENNAS - 1) / 2)
        length = np.hypot(source[:, :1], source[:, 1:] - element) + detour[:, None]
        return np.exp(-2j * np.pi * length / WAVELENGTH) / np.sqrt(ANTENNAS)


def received_rates(channels: npt.NDArray[np.complex64], answer: Result) -> Reals:
    """What each drone gets now with these precoders and powers, however old they are: log2(1 + SINR), bps/Hz."""
    power = np.abs(channels.conj() @ answer.precoder[0].T) ** 2 * answer.power[0]
    signal = power.diagonal()
    return np.log2(1 + signal / (power.sum(axis=1) - signal + NOISE_POWER))


def fly(server: str, slots: int, slot_seconds: float, ages: Sequence[int]) -> tuple[Reals, dict[int, Reals], Reals]:
    """The loop: places (slots, drones, 2), sum rates (slots,) by refresh period, near-field labels (slots, drones)."""
    world = World()
    in_use: dict[int, Result] = {}
    places, labels = [], []
    sums: dict[int, list[float]] = {age: [] for age in ages}
    with Client(server, timeout=TIMEOUT) as client:
        for slot in range(slots):
            channels = world.channels()
            due = [age for age in ages if slot % age == 0]
            if due:
                answer = client.precode(channels, noise_power=NOISE_POWER)
                in_use.update(dict.fromkeys(due, answer))
            for age in ages:
                sums[age].append(float(received_rates(channels, in_use[age]).sum()))
            places.append(world.position)
            labels.append(in_use[min(ages)].near_field[0])
            world.move(slot_seconds)
            if slot % 100 == 99 and sys.stderr.isatty():
                print(f"\r{slot + 1} of {slots} slots", end="", file=sys.stderr, flush=True)
    return np.array(places), {age: np.array(values) for age, values in sums.items()}, np.array(labels)


def near_field_border() -> tuple[Reals, Reals]:
    """x and height of the curve within which drones are in the near field: N^2 d^2 cos^2(theta) / (2 lambda beta^2)."""
    theta = np.linspace(-1.5, 1.5, 301)
    reach = (ANTENNAS * WAVELENGTH / 2 * np.cos(theta)) ** 2 / (2 * WAVELENGTH * 0.98641**2)
    return reach * np.cos(theta), MAST - reach * np.sin(theta)


def draw(places: Reals, sums: dict[int, Reals], labels: Reals, slot_seconds: float) -> Figure:
    """The map of the flights; below it the sum rates over time, and each drone's labels as a strip."""
    figure = Figure(figsize=(10.5, 9), layout="constrained")
    above, middle, below = figure.subplots(3, 1, height_ratios=[3.4, 3, 1.3])
    time = slot_seconds * np.arange(len(places))
    drones = places.shape[1]

    above.plot(*near_field_border(), "--", color="#888888", linewidth=1.3)
    above.plot(0, MAST, ">", color="black", markersize=11, clip_on=False)
    for drone in range(drones):
        track = places[:, drone]
        legs = np.stack([track[:-1], track[1:]], axis=1)
        colours = [NEAR if near else FAR for near in labels[:-1, drone]]
        above.add_collection(LineCollection(list(legs), colors=colours, linewidths=3.5, capstyle="round"))
        above.plot(*track[0], "o", color="white", markeredgecolor="black", markersize=6)
        ahead = track[-1] - track[0]
        above.annotate(
            "",
            track[-1] + 3 * ahead / np.linalg.norm(ahead),
            track[-1],
            arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0},
        )
        above.annotate(str(drone + 1), track[0], xytext=(0, 8), textcoords="offset points", ha="center", weight="bold")
    above.set_xlim(0, 1.05 * places[..., 0].max())
    above.set_ylim(0, 1.15 * places[..., 1].max())
    above.set_xlabel("x [m]")
    above.set_ylabel("height [m]")
    above.set_title(f"{drones} drones before {ANTENNAS} antennas at 30 GHz, labels by the network", loc="left")
    above.legend(
        handles=[
            Line2D([], [], color=NEAR, linewidth=3.5, label="near field"),
            Line2D([], [], color=FAR, linewidth=3.5, label="far field"),
            Line2D([], [], color="#888888", linestyle="--", label="border by theory"),
        ],
        loc="upper right",
        ncols=3,
        frameon=False,
    )

    shades = ["#000000", "#0072B2", "#CC79A7", "#999999"]
    for shade, (age, values) in zip(shades * len(sums), sorted(sums.items()), strict=False):
        every = "every slot" if age == 1 else f"every {age} slots ({1e3 * age * slot_seconds:g} ms)"
        label = f"{every}: {values.mean():.1f} bps/Hz"
        middle.plot(time, values, color=shade, linewidth=1.8 if age == 1 else 1.0, label=label, zorder=2 + 1 / age)
    middle.set_ylim(0, None)
    middle.set_ylabel("sum rate [bps/Hz]")
    middle.set_title("what precoders are worth while they age; refreshed", loc="left")
    middle.legend(loc="lower left", ncols=len(sums))
    middle.grid(axis="y", color="#dddddd", zorder=0)

    extent = (0.0, time[-1] + slot_seconds, drones + 0.5, 0.5)
    colours = ListedColormap([FAR, NEAR])
    below.imshow(labels.T, cmap=colours, vmin=0, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
    below.set_yticks(range(1, drones + 1))
    below.hlines(np.arange(1.5, drones), 0, extent[1], color="white", linewidth=2)
    below.set_ylabel("drone")
    below.set_xlabel("time [s]")
    for axes in (middle, below):
        axes.set_xlim(0, extent[1])
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Fly, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="tcp://127.0.0.1:5555", help="where `nflae serve` listens (default: here)")
    parser.add_argument("--slots", type=int, default=500, help="how long (default: 500 slots)")
    parser.add_argument("--slot-ms", type=float, default=5.0, help="a slot's length (default: 5 ms)")
    parser.add_argument("--refresh", type=int, nargs="+", default=[1, 4, 16], help="slots between precoders")
    parser.add_argument("-o", "--output", type=Path, default=Path("timeline.png"), help="the picture")
    options = parser.parse_args()
    if min(options.slots, *options.refresh) < 1 or options.slot_ms <= 0:
        parser.error("slots, their length and refresh periods have to be positive")
    ages = sorted(set(options.refresh))
    try:
        places, sums, labels = fly(options.server, options.slots, options.slot_ms / 1e3, ages)
    except NflaeError as error:
        sys.exit(f"cosimulation: {error}")
    for age, values in sums.items():
        print(f"precoders refreshed every {age} slots: {values.mean():.2f} bps/Hz, at worst {values.min():.2f}")
    draw(places, sums, labels, options.slot_ms / 1e3).savefig(options.output, dpi=130)
    print(f"written {options.output}")


if __name__ == "__main__":
    main()
