"""Precode in the loop of a testbed: a slot starts by the clock, whether or not the server has answered.

    nflae serve                                   # in another terminal
    python examples/testbed_loop.py -o loop.png

Every slot has the channels of 100 subcarriers. They are submitted to the server; the slot transmits with the newest
precoders that are there. Newer channels replace those that wait, and answers after the deadline are dropped. The plot
has the sum rate received and the one promised, the age of the precoders in use, and the times of the answers.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cosimulation import ANTENNAS, MAST, NOISE_POWER, WAVELENGTH, World, check_plot
from matplotlib.figure import Figure

from nflae_bridge import NflaeError, Result
from nflae_bridge.live.client.slots import SlotClient

SUBCARRIERS, SPACING = 100, 120e3  # Hz
LIGHT = 299_792_458.0
GAP, BAR = "#D55E00", "#0072B2"


def channels_of(world: World) -> npt.NDArray[np.complex64]:
    """Return the channels of all subcarriers; complex (subcarriers, drones, antennas), y_k = h_k^H x."""
    frequency = LIGHT / WAVELENGTH + SPACING * (np.arange(SUBCARRIERS) - SUBCARRIERS / 2)
    element = MAST - WAVELENGTH / 2 * (np.arange(ANTENNAS) - (ANTENNAS - 1) / 2)
    length = np.hypot(world.position[:, :1], world.position[:, 1:] - element)
    gain = 60.0 / np.linalg.norm(world.position - [0.0, MAST], axis=1, keepdims=True) / np.sqrt(ANTENNAS)
    return (gain * np.exp(-2j * np.pi / LIGHT * frequency[:, None, None] * length)).astype(np.complex64)


def sum_rate(channels: npt.NDArray[np.complex64], result: Result) -> float:
    """Return the sum rate, bps/Hz, mean over the subcarriers, of precoders and powers of this slot or an older one."""
    power = np.abs(channels.conj() @ result.precoder.swapaxes(1, 2)) ** 2 * result.power[:, None, :]
    signal = power.diagonal(axis1=1, axis2=2)
    return float(np.log2(1 + signal / (power.sum(axis=2) - signal + NOISE_POWER)).sum(axis=1).mean())


@dataclass
class Log:
    """Hold per slot the sum rates and the age of the precoders in use (NaN without any), and the delay of its start."""

    rate: list[float] = field(default_factory=list)
    promised: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)
    delay: list[float] = field(default_factory=list)
    answer: dict[int, float] = field(default_factory=dict)


def run(client: SlotClient, slots: int, seconds: float) -> Log:
    """Run the loop by the clock until its end or Ctrl-C."""
    world, log, began = World(), Log(), time.monotonic()
    try:
        for slot in range(slots):
            time.sleep(max(0.0, began + slot * seconds - time.monotonic()))
            log.delay.append(time.monotonic() - began - slot * seconds)
            channels = channels_of(world)
            client.submit(slot, channels)
            used = client.current()
            log.rate.append(np.nan if used is None else sum_rate(channels, used.result))
            log.promised.append(np.nan if used is None else float(used.result.sum_rate.mean()))
            log.age.append(np.nan if used is None else slot - used.slot)
            if used is not None:
                log.answer[used.slot] = used.seconds
            world.move(seconds)
    except KeyboardInterrupt:
        print("interrupted")
    return log


def draw(log: Log, client: SlotClient, seconds: float) -> Figure:
    """Return the figure: sum rate, age of the precoders, times of the answers and of the starts, over the slots."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    rate, age, times = figure.subplots(3, 1, sharex=True)
    slots = np.arange(len(log.rate))
    rate.plot(slots, log.promised, color="#999999", label="promised for the channels of the request")
    rate.plot(slots, log.rate, color=BAR, label="received")
    rate.set(ylabel="sum rate [bps/Hz]", ylim=(0, None))
    age.step(slots, log.age, where="mid", color=BAR)
    age.set(ylabel="age of precoders [slots]", ylim=(0, None))
    times.plot(list(log.answer), [1e3 * value for value in log.answer.values()], ".", color=BAR, label="answer")
    times.plot(slots, [1e3 * value for value in log.delay[: len(slots)]], color=GAP, label="delay of the slot's start")
    times.axhline(1e3 * seconds, color="#888888", linestyle="--", label="slot")
    times.set(xlabel="slot", ylabel="time [ms]", ylim=(0, None))
    for axes in (rate, times):
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    rate.set_title(counts(client), loc="left")
    for axes in (rate, age, times):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def counts(client: SlotClient) -> str:
    """Return the numbers of slots answered, replaced and dropped."""
    return f"{client.answered} slots answered, {client.replaced} replaced by newer ones, {client.dropped} dropped"


def main() -> None:
    """Run the loop and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--server", default="tcp://127.0.0.1:5555", help="address of `nflae serve` (default: %(default)s)"
    )
    parser.add_argument("--slots", type=int, default=100, help="number of slots (default: 100)")
    parser.add_argument("--slot-ms", type=float, default=100.0, help="slot duration (default: 100 ms)")
    parser.add_argument("--deadline-ms", type=float, help="deadline of an answer (default: two slots)")
    parser.add_argument("-o", "--output", type=Path, default=Path("loop.png"), help="plot to write")
    options = parser.parse_args()
    deadline = 2 * options.slot_ms if options.deadline_ms is None else options.deadline_ms
    if min(options.slots, options.slot_ms, deadline) <= 0:
        parser.error("slots, slot duration and deadline have to be positive")
    try:
        check_plot(options.output)
        slot_client = SlotClient(options.server, deadline / 1e3, noise_power=NOISE_POWER)
    except NflaeError as error:
        sys.exit(f"testbed_loop: {error}")
    with slot_client as client:
        log = run(client, options.slots, options.slot_ms / 1e3)
        print(counts(client))
        if client.fault:
            print(f"last drop: {client.fault}")
        if not client.answered:
            print(f"no answer within {deadline:g} ms: give a longer --slot-ms or --deadline-ms")
    if np.isfinite(log.rate).any():
        print(f"mean sum rate {np.nanmean(log.rate):.2f} bps/Hz, mean age {np.nanmean(log.age):.2f} slots")
    draw(log, client, options.slot_ms / 1e3).savefig(options.output, dpi=130)
    print(f"written {options.output}")


if __name__ == "__main__":
    main()
