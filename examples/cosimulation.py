"""Precode in the loop of an external simulation: drones fly, a running `nflae serve` computes their precoders.

    nflae serve                                   # in another terminal
    python examples/cosimulation.py -o timeline.png

The simulated world is in this file, in numpy: positions of the drones, their channels and received rates. Precoders are
requested from the server with the channels of a slot and used for 1, 4 or 16 slots; the plot shows the loss of rate as
precoders age. While the server is away the last precoders stay in use; Ctrl-C writes the plot of the slots so far.
Replace `World` by your own simulator. A loop that does not wait for the server is in testbed_loop.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from matlab_io.errors import check_writable
from nflae_bridge import Client, NflaeError, Result
from nflae_bridge.live.errors import ConnectionLost, NoAnswer

Reals = npt.NDArray[np.float64]

ANTENNAS, WAVELENGTH, MAST = 256, 0.01, 15.0  # 30 GHz; the array stands upright, its centre 15 m above ground
NOISE_POWER = 0.01
TIMEOUT = 10.0  # s, for the first answer
PATIENCE = 1.0  # s, for later ones
NEAR, FAR = "#D55E00", "#56B4E9"


class World:
    """Simulate drones on straight courses before an array at (0, 15 m), with two weakly reflecting walls.

    Attributes
    ----------
    position, velocity : ndarray
        (drones, 2), x and height, m and m/s.
    """

    walls = np.array([[95.0, 12.0], [60.0, 55.0]])
    wall_gain = 0.15

    def __init__(self) -> None:
        self.position = np.array([[25.0, 12.0], [130.0, 40.0], [90.0, 8.0], [45.0, 45.0], [150.0, 20.0], [70.0, 26.0]])
        self.velocity = np.array([[24.0, 3.0], [-28.0, -6.0], [-20.0, 2.0], [16.0, -9.0], [-30.0, 0.0], [2.0, 3.0]])

    def move(self, seconds: float) -> None:
        """Move the drones by their velocity."""
        self.position = self.position + seconds * self.velocity

    def channels(self) -> npt.NDArray[np.complex64]:
        """Return spherical-wave channels, direct and reflected; complex (drones, antennas), row k h_k: y_k = h_k^H x.

        Phases follow from path lengths in metres, which includes Doppler shifts.
        """
        direct = self._wave(self.position, np.zeros(len(self.position)))
        detour = np.linalg.norm(self.position[:, None] - self.walls, axis=-1)
        reflected = sum(self._wave(wall[None], detour[:, i]) for i, wall in enumerate(self.walls))
        path_loss = 60.0 / np.linalg.norm(self.position - [0.0, MAST], axis=1, keepdims=True)
        return (path_loss * (direct + self.wall_gain * reflected)).astype(np.complex64)

    def _wave(self, source: Reals, detour: Reals) -> npt.NDArray[np.complex128]:
        element = MAST - WAVELENGTH / 2 * (np.arange(ANTENNAS) - (ANTENNAS - 1) / 2)
        length = np.hypot(source[:, :1], source[:, 1:] - element) + detour[:, None]
        return np.exp(-2j * np.pi * length / WAVELENGTH) / np.sqrt(ANTENNAS)


def received_rates(channels: npt.NDArray[np.complex64], result: Result) -> Reals:
    """Return log2(1 + SINR) of each drone, bps/Hz, with given precoders and powers, possibly outdated."""
    power = np.abs(channels.conj() @ result.precoder[0].T) ** 2 * result.power[0]
    signal = power.diagonal()
    return np.log2(1 + signal / (power.sum(axis=1) - signal + NOISE_POWER))


def fly(
    server: str, slots: int, slot_seconds: float, ages: Sequence[int], by_clock: bool = False
) -> tuple[Reals, dict[int, Reals], Reals]:
    """Return positions (slots, drones, 2), sum rates (slots,) per refresh period and labels (slots, drones)."""
    world, began, missed = World(), time.monotonic(), 0
    in_use: dict[int, Result] = {}
    positions, labels = [], []
    sums: dict[int, list[float]] = {age: [] for age in ages}
    with Client(server, timeout=TIMEOUT) as client:
        try:
            for slot in range(slots):
                time.sleep(max(0.0, began + slot * slot_seconds - time.monotonic()) if by_clock else 0.0)
                channels = world.channels()
                due = [age for age in ages if slot % age == 0]
                try:
                    if due:
                        timeout = PATIENCE if in_use else TIMEOUT
                        result = client.precode(channels, noise_power=NOISE_POWER, timeout=timeout)
                        in_use.update(dict.fromkeys(due, result))
                except (ConnectionLost, NoAnswer):
                    if not in_use:
                        raise
                    missed += 1
                for age in ages:
                    sums[age].append(float(received_rates(channels, in_use[age]).sum()))
                positions.append(world.position)
                labels.append(in_use[min(ages)].near_field[0])
                world.move(slot_seconds)
                if slot % 100 == 99 and sys.stderr.isatty():
                    print(f"\r{slot + 1} of {slots} slots", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            if len(labels) < 2:
                raise
            print(f"interrupted after {len(labels)} of {slots} slots")
    if missed:
        print(f"{missed} requests without an answer: the last precoders stayed in use")
    done = len(labels)
    return np.array(positions[:done]), {age: np.array(sums[age][:done]) for age in ages}, np.array(labels)


def near_field_border() -> tuple[Reals, Reals]:
    """Return x and height of the near-field boundary, r = N^2 d^2 cos^2(theta) / (2 lambda beta^2)."""
    theta = np.linspace(-1.5, 1.5, 301)
    reach = (ANTENNAS * WAVELENGTH / 2 * np.cos(theta)) ** 2 / (2 * WAVELENGTH * 0.98641**2)
    return reach * np.cos(theta), MAST - reach * np.sin(theta)


def draw_map(axes: Axes, positions: Reals, labels: Reals) -> None:
    """Draw the tracks of the drones, coloured by label, with the near-field boundary."""
    drones = positions.shape[1]
    axes.plot(*near_field_border(), "--", color="#888888", linewidth=1.3)
    axes.plot(0, MAST, ">", color="black", markersize=11, clip_on=False)
    for drone in range(drones):
        track = positions[:, drone]
        legs = np.stack([track[:-1], track[1:]], axis=1)
        colours = [NEAR if near else FAR for near in labels[:-1, drone]]
        axes.add_collection(LineCollection(list(legs), colors=colours, linewidths=3.5, capstyle="round"))
        axes.plot(*track[0], "o", color="white", markeredgecolor="black", markersize=6)
        course = track[-1] - track[0]
        arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", track[-1] + 3 * course / np.linalg.norm(course), track[-1], arrowprops=arrow)
        axes.annotate(str(drone + 1), track[0], xytext=(0, 8), textcoords="offset points", ha="center", weight="bold")
    axes.set(xlim=(0, 1.05 * positions[..., 0].max()), ylim=(0, 1.15 * positions[..., 1].max()))
    axes.set(xlabel="x [m]", ylabel="height [m]")
    axes.set_title(f"{drones} drones before {ANTENNAS} antennas at 30 GHz, labels by the network", loc="left")
    handles = [
        Line2D([], [], color=NEAR, linewidth=3.5, label="near field"),
        Line2D([], [], color=FAR, linewidth=3.5, label="far field"),
        Line2D([], [], color="#888888", linestyle="--", label="boundary by theory"),
    ]
    axes.legend(handles=handles, loc="upper right", ncols=3, frameon=False)


def draw_sum_rates(axes: Axes, sums: dict[int, Reals], slot_seconds: float) -> None:
    """Draw the sum rates over time, one line per refresh period."""
    shades = ["#000000", "#0072B2", "#CC79A7", "#999999"]
    for shade, (age, values) in zip(shades * len(sums), sorted(sums.items()), strict=False):
        period = "every slot" if age == 1 else f"every {age} slots ({1e3 * age * slot_seconds:g} ms)"
        label = f"{period}: {values.mean():.1f} bps/Hz"
        time, width = slot_seconds * np.arange(len(values)), 1.8 if age == 1 else 1.0
        axes.plot(time, values, color=shade, linewidth=width, label=label, zorder=2 + 1 / age)
    axes.set_ylim(0, None)
    axes.set_ylabel("sum rate [bps/Hz]")
    axes.set_title("sum rate with precoders refreshed", loc="left")
    axes.legend(loc="lower left", ncols=len(sums))
    axes.grid(axis="y", color="#dddddd", zorder=0)


def draw_labels(axes: Axes, labels: Reals, duration: float) -> None:
    """Draw the labels of each drone over time as a strip."""
    drones = labels.shape[1]
    extent, colours = (0.0, duration, drones + 0.5, 0.5), ListedColormap([FAR, NEAR])
    axes.imshow(labels.T, cmap=colours, vmin=0, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
    axes.set_yticks(range(1, drones + 1))
    axes.hlines(np.arange(1.5, drones), 0, duration, color="white", linewidth=2)
    axes.set(xlabel="time [s]", ylabel="drone")


def draw(positions: Reals, sums: dict[int, Reals], labels: Reals, slot_seconds: float) -> Figure:
    """Return the figure: map of the flights, sum rates over time, labels over time."""
    figure = Figure(figsize=(10.5, 9), layout="constrained")
    above, middle, below = figure.subplots(3, 1, height_ratios=[3.4, 3, 1.3])
    duration = slot_seconds * len(positions)
    draw_map(above, positions, labels)
    draw_sum_rates(middle, sums, slot_seconds)
    draw_labels(below, labels, duration)
    for axes in (middle, below):
        axes.set_xlim(0, duration)
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def check_plot(path: Path) -> None:
    """Raise NflaeError, before the run, unless a plot can be written there."""
    formats = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix and path.suffix[1:].lower() not in formats:
        raise NflaeError(f"{path}: not a format of plots: name it .png, or another of {', '.join(formats)}")
    check_writable(path)


def main() -> None:
    """Run the simulation and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--server", default="tcp://127.0.0.1:5555", help="address of `nflae serve` (default: %(default)s)"
    )
    parser.add_argument("--slots", type=int, default=500, help="number of slots (default: 500)")
    parser.add_argument("--slot-ms", type=float, default=5.0, help="slot duration (default: 5 ms)")
    parser.add_argument("--clock", action="store_true", help="start every slot by the clock, not before its time")
    parser.add_argument(
        "--refresh", type=int, nargs="+", default=[1, 4, 16], help="refresh periods of the precoders, slots"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("timeline.png"), help="plot to write")
    options = parser.parse_args()
    if min(options.slots, *options.refresh) < 1 or options.slot_ms <= 0:
        parser.error("slots, slot duration and refresh periods have to be positive")
    ages = sorted(set(options.refresh))
    try:
        check_plot(options.output)
        positions, sums, labels = fly(options.server, options.slots, options.slot_ms / 1e3, ages, options.clock)
    except NflaeError as error:
        sys.exit(f"cosimulation: {error}")
    for age, values in sums.items():
        print(f"precoders refreshed every {age} slots: {values.mean():.2f} bps/Hz, minimum {values.min():.2f}")
    draw(positions, sums, labels, options.slot_ms / 1e3).savefig(options.output, dpi=130)
    print(f"written {options.output}")


if __name__ == "__main__":
    main()
