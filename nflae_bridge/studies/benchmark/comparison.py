"""The contest: every scheme at every batch size on every device, all of them on the same drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.studies.benchmark.competitors import competitors
from nflae_bridge.studies.benchmark.pareto import Measurement
from nflae_bridge.studies.benchmark.setup import Setup
from nflae_bridge.studies.benchmark.timing import cyclic_batches, mean_sum_rate, time_interleaved
from simulator.channels.scenario import scenario

# As many calls as hold this many drops, within the limits: small batches are called more often, for their p99.
_DROPS_TIMED = 1000
_MORE_CALLS = 10

Advance = Callable[[int, str], None]


@dataclass(frozen=True)
class Settings:
    """Who competes on what, see `nflae bench`.

    schemes: by name. refinements: of nflae, each a competitor. batches: drops a call. devices: by name.
    users, antennas, drops, seed: of scenario `paper`, signed angles. snr_db: P / sigma^2. repeats: calls at least.
    threads: of torch, and of the rivals' pool.
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

    def calls(self, batch: int) -> int:
        """How many calls of a batch are timed."""
        return max(self.repeats, min(_MORE_CALLS * self.repeats, _DROPS_TIMED // batch))

    @property
    def noise_power(self) -> float:
        """sigma^2 at P = 1 W, W."""
        return 10 ** (-self.snr_db / 10)

    def setup(self, device: torch.device) -> Setup:
        """What the competitors share on a device."""
        return Setup(1.0, self.noise_power, device, self.model, self.threads)


def draw(users: int, antennas: int, drops: int, seed: int) -> Tensor:
    """Channels of scenario `paper`, complex64 (drops, users, antennas)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([part.channels for part in scenario("paper", users, antennas).stream(drops, generator)])


def rounds(settings: Settings) -> int:
    """How many rounds of calls `compare` takes."""
    return len(settings.devices) * sum(settings.calls(batch) for batch in settings.batches)


def compare(settings: Settings, advance: Advance) -> list[Measurement]:
    """All competitors on the same drops; a panel a device and batch size.

    advance(done, note): after each round of calls, and what goes on.
    """
    channels = draw(settings.users, settings.antennas, settings.drops, settings.seed)
    rows: list[Measurement] = []
    done = 0

    def count(note: str) -> None:
        nonlocal done
        done += 1
        advance(done, note)

    for device in settings.devices:
        for batch in settings.batches:
            note = f"{device}, batch {batch}"
            rows += panel(settings, device, channels, batch, count, lambda text: advance(done, text), note)
    return rows


def panel(
    settings: Settings,
    device: torch.device,
    channels: Tensor,
    batch: int,
    count: Callable[[str], None],
    tell: Callable[[str], None],
    note: str,
    iterations: Sequence[int] = (),
) -> list[Measurement]:
    """One device and batch size: forms chosen, calls timed, sum rates taken on all ``channels``.

    count(note): after each round. tell(text): what else goes on. iterations: as in `competitors`.
    """
    setup = settings.setup(device)
    tell(f"{note}: which form is fastest")
    channels = setup.on_host(channels)
    batches = [setup.on_host(part) for part in cyclic_batches(channels, batch)]
    found = competitors(settings.schemes, settings.refinements, setup, batches[0], channels, iterations)
    calls = settings.calls(batch)
    timings = time_interleaved(found, batches, calls, setup.turn, lambda: count(note))
    rows = []
    for competitor, timing in zip(found, timings, strict=True):
        tell(f"{note}: sum rate of {competitor.scheme}")
        rate = mean_sum_rate(competitor, channels, setup.noise_power, batch)
        rows.append(
            Measurement(
                str(device),
                batch,
                channels.shape[-2],
                channels.shape[-1],
                competitor.scheme,
                competitor.iterations,
                competitor.implementation,
                timing.median,
                timing.p99,
                calls,
                rate,
            )
        )
    return rows


def machine(device: torch.device, threads: int) -> str:
    """What the times are those of."""
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
    """Rows of one device and batch size together, in order."""
    panels: dict[tuple[str, int], list[Measurement]] = {}
    for row in rows:
        panels.setdefault((row.device, row.batch), []).append(row)
    return panels


def finite(rows: Sequence[Measurement]) -> list[Measurement]:
    """The rows that have a sum rate: all but the floor's."""
    return [row for row in rows if not math.isnan(row.sum_rate)]
