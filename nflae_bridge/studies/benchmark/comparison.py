"""Compare schemes: every competitor at every batch size on every device, all of them on the same drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nflae_bridge.studies.benchmark.competitors import competitors
from nflae_bridge.studies.benchmark.pareto import Measurement, objective_name
from nflae_bridge.studies.benchmark.setup import Setup
from nflae_bridge.studies.benchmark.timing import cyclic_batches, mean_objective, time_interleaved
from simulator.channels.scenario import scenario
from simulator.problems.problem import PrecodingProblem

# Small batches are called more often, for their p99: until this many drops, at most this many times as often.
_DROPS_TIMED = 1000
_MAX_CALLS_RATIO = 10

Advance = Callable[[int, str], None]


@dataclass(frozen=True)
class Settings:
    """Parameters of a comparison, see ``nflae bench --help``.

    Parameters
    ----------
    schemes
        Scheme specifications, and ``inversion-free``.
    refinements
        Numbers of refinement steps of ``nflae``, one competitor each.
    batches
        Drops per call.
    devices
        Devices, one after the other.
    users, antennas, drops, seed
        Of the channels: scenario `paper` with signed angles.
    snr_db
        P / sigma^2, dB.
    model
        Model of ``nflae``.
    repeats
        Least number of calls timed.
    threads
        PyTorch's CPU threads, and threads of the pool.
    problem
        Problem that every scheme solves; by default the plain sum rate.
    """

    schemes: tuple[str, ...] = ("nflae", "wmmse", "inversion-free", "rzf")
    refinements: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1, 1000)
    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    users: int = 10
    antennas: int = 256
    snr_db: float = 20.0
    drops: int = 1000
    seed: int = 0
    model: str = "auto"
    repeats: int = 30
    threads: int = 1
    problem: PrecodingProblem = field(default_factory=PrecodingProblem)

    def calls(self, batch: int) -> int:
        """Return the number of calls timed with ``batch`` drops each."""
        return max(self.repeats, min(_MAX_CALLS_RATIO * self.repeats, _DROPS_TIMED // batch))

    @property
    def noise_power(self) -> float:
        """sigma^2 at P = 1 W, W."""
        return 10 ** (-self.snr_db / 10)

    def setup(self, device: torch.device) -> Setup:
        """Return the link and the device that the competitors share."""
        return Setup(1.0, self.noise_power, device, self.model, self.threads, self.problem)


def draw(users: int, antennas: int, drops: int, seed: int) -> Tensor:
    """Draw channels of scenario `paper`.

    Parameters
    ----------
    users, antennas, drops
        K, N and the number of drops.
    seed
        Seed of the channels.

    Returns
    -------
    Tensor
        Complex64 (drops, users, antennas).
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([part.channels for part in scenario("paper", users, antennas).stream(drops, generator)])


def rounds(settings: Settings) -> int:
    """Return the number of rounds of calls in `compare`.

    Parameters
    ----------
    settings
        The comparison.

    Returns
    -------
    int
        Rounds, over all devices and batch sizes.
    """
    return len(settings.devices) * sum(settings.calls(batch) for batch in settings.batches)


def compare(settings: Settings, advance: Advance) -> list[Measurement]:
    """Measure all competitors on the same drops.

    Parameters
    ----------
    settings
        The comparison.
    advance
        Called with the number of rounds done and a note, after every round of calls and between them.

    Returns
    -------
    list of Measurement
        Device by device, batch size by batch size.
    """
    channels = draw(settings.users, settings.antennas, settings.drops, settings.seed)
    rows: list[Measurement] = []
    progress = Progress(advance)
    for device in settings.devices:
        for batch in settings.batches:
            rows += measure_panel(settings, device, channels, batch, progress, f"{device}, batch {batch}")
    return rows


class Progress:
    """Count rounds of calls and pass them on with a note.

    Parameters
    ----------
    advance
        Called with the number of rounds done and the note.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done = 0

    def count(self, note: str) -> None:
        """Report one more round."""
        self._done += 1
        self._advance(self._done, note)

    def note(self, note: str) -> None:
        """Report the current activity."""
        self._advance(self._done, note)


def measure_panel(
    settings: Settings,
    device: torch.device,
    channels: Tensor,
    batch: int,
    progress: Progress,
    note: str,
    iterations: Sequence[int] = (),
) -> list[Measurement]:
    """Measure all competitors on one device with one batch size.

    Parameters
    ----------
    settings
        The comparison.
    device
        The device.
    channels
        Complex64 (drops, users, antennas); objectives are means over all of them.
    batch
        Drops per call.
    progress
        Receives every round of calls.
    note
        Name of the panel in notes.
    iterations
        As in `competitors`.

    Returns
    -------
    list of Measurement
        In the order of `competitors`.
    """
    setup = settings.setup(device)
    progress.note(f"{note}: choosing implementations")
    channels = setup.pinned(channels)
    batches = [setup.pinned(part) for part in cyclic_batches(channels, batch)]
    found = competitors(settings.schemes, settings.refinements, setup, batches[0], channels, iterations)
    calls = settings.calls(batch)
    timings = time_interleaved(found, batches, calls, setup.worker_threads, lambda: progress.count(note))
    rows = []
    for competitor, timing in zip(found, timings, strict=True):
        progress.note(f"{note}: {objective_name(settings.problem)} of {competitor.scheme}")
        rows.append(
            Measurement(
                device=str(device),
                batch=batch,
                users=channels.shape[-2],
                antennas=channels.shape[-1],
                scheme=competitor.scheme,
                iterations=competitor.iterations,
                implementation=competitor.implementation,
                median=timing.median,
                p99=timing.p99,
                calls=calls,
                objective=mean_objective(competitor, channels, setup.noise_power, batch, settings.problem),
            )
        )
    return rows


def machine(device: torch.device, threads: int) -> str:
    """Describe the hardware that the times apply to.

    Parameters
    ----------
    device
        The device.
    threads
        CPU threads.

    Returns
    -------
    str
        The GPU's name, or the processor's and the number of threads.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def by_panel(rows: Sequence[Measurement]) -> dict[tuple[str, int], list[Measurement]]:
    """Group measurements by device and batch size, in order.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    dict
        Measurements by (device, batch).
    """
    panels: dict[tuple[str, int], list[Measurement]] = {}
    for row in rows:
        panels.setdefault((row.device, row.batch), []).append(row)
    return panels


def finite(rows: Sequence[Measurement]) -> list[Measurement]:
    """Select the measurements that have an objective: those of schemes that solve the problem.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    list of Measurement
        Those whose objective is a number.
    """
    return [row for row in rows if not math.isnan(row.objective)]
