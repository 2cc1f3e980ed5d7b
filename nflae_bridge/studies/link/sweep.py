"""SNR by SNR and batch by batch: which unit of work is next, what one unit is, and when a point has seen enough.

A point is an SNR. Its units are batches of drops, over which every scheme sends the same bits through the same noise. A
point stops with the first batch, in order, after which every scheme has counted enough errors; all means are then
means over the same drops. Which worker computed what, and when, makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache, partial, reduce
from operator import add

import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.studies.cluster import run_units
from nflae_bridge.studies.link.source import BatchRecipe, DropSource
from nflae_bridge.studies.link.unit_journal import Outcome, UnitJournal
from simulator.channels.csi import CsiModel
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.link_level.chain import Chain, Waveform, effective_channels, scheduled
from simulator.link_level.counting import Tally, enough, tally
from simulator.link_level.modulation import choose_modulation
from simulator.link_level.randomness import generator_of
from simulator.schemes import needs_sic


@dataclass(frozen=True)
class Settings:
    """What is sent, how, and what the transmitter knows; the same for every unit.

    modulation, code: see `modulation.choose_modulation`. symbols: a block's. timeline: keep what each drop gave.

    Raises NflaeError for a scheme that counts on receivers with SIC: these have none.
    """

    schemes: tuple[str, ...]
    modulation: str
    code: str | None
    symbols: int
    csi: CsiModel = field(default_factory=CsiModel)
    waveform: Waveform = field(default_factory=Waveform)
    alpha_c: float = 1.0
    min_rate: float = 0.0
    model: str = "auto"
    device: str = "auto"
    refine: int = 0
    seed: int = 0
    timeline: bool = False

    def __post_init__(self) -> None:
        refused = [name for name in self.schemes if needs_sic(name)]
        if refused:
            raise NflaeError(
                f"{', '.join(refused)}: needs receivers that decode and cancel other users' blocks (SIC), which"
                " nflae link doesn't have; leave it out of --scheme (nflae evaluate gives its rates)"
            )

    @property
    def coded(self) -> bool:
        """Whether errors are counted in blocks."""
        return self.code != "none"

    def budget(self, snr_db: float) -> LinkBudget:
        """P = 1 W and sigma^2 by the SNR P / sigma^2: only their ratio matters."""
        return LinkBudget(1.0, 10 ** (-snr_db / 10), self.alpha_c, self.min_rate)


@dataclass(frozen=True)
class Unit:
    """One batch at one SNR."""

    snr_db: float
    index: int
    recipe: BatchRecipe


@dataclass(frozen=True)
class _Bench:
    """What a process sets up once."""

    device: torch.device
    schemes: dict[str, Scheme]
    label: Callable[[torch.Tensor], torch.Tensor] | None
    chain: Chain


@lru_cache(maxsize=8)
def _bench(settings: Settings) -> _Bench:
    device = choose_device(settings.device)
    schemes = {name: load_scheme(name, settings.model, str(device), settings.refine) for name in settings.schemes}
    label = None
    if settings.alpha_c < 1:
        # With a limit for near-field users every scheme goes by the same labels.
        engine = schemes.get("nflae") or load_scheme("nflae", settings.model, str(device))
        assert isinstance(engine, Engine)
        label = engine.near_field
    modulation = choose_modulation(settings.modulation, settings.code, settings.symbols)
    return _Bench(device, schemes, label, Chain(modulation, settings.symbols, device, settings.waveform))


def run_unit(settings: Settings, unit: Unit) -> Outcome:
    """Send a batch's blocks with every scheme and count. Raises NflaeError where a scheme's answer is not finite."""
    bench, batch = _bench(settings), unit.recipe.batch()
    noise = generator_of(settings.seed, "csi", unit.index)
    csi = settings.csi.estimate(batch.known, batch.slot_correlation, noise).to(bench.device)
    channels, known_of = batch.channels.to(bench.device), batch.known_of.to(bench.device)
    budget = settings.budget(unit.snr_db)
    labelled = ChannelBatch(csi, None if bench.label is None else bench.label(csi))
    stream = generator_of(settings.seed, "symbols", unit.index, _whole(unit.snr_db), device=bench.device)
    drops, users, _ = channels.shape
    draw = bench.chain.draw(drops, users, stream)
    tallies, series = {}, {}
    for name, scheme in bench.schemes.items():
        answer = scheme(labelled, budget)
        if not bool(answer.rate.isfinite().all()):
            raise NflaeError(f"{name}: the rates are not finite numbers; are the channels scaled beyond reason?")
        power = answer.power[known_of]
        assert isinstance(budget.noise_power, float)
        effective = effective_channels(channels, answer.precoder[known_of], power, budget.noise_power)
        received = bench.chain.run(effective, scheduled(power, budget.power), draw)
        what = (received, settings.symbols, answer.rate[known_of], answer.near_field[known_of])
        tallies[name] = tally(*what)
        if settings.timeline:
            series[name] = tally(*what, each="drop")
    return Outcome(unit.snr_db, unit.index, tallies, series)


def _whole(snr_db: float) -> int:
    """An SNR as a number >= 0 to seed with."""
    return round(1000 * snr_db) + (1 << 20)


@dataclass
class Point:
    """An SNR: the outcomes so far, those counted, and whether they suffice.

    most: batches at most. stride: it stops only after a multiple of so many. asked: batches given out so far.
    stopped: after ``counted`` batches every scheme had enough.
    """

    snr_db: float
    most: int
    stride: int = 1
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    asked: int = 0
    counted: int = 0
    stopped: bool = False
    sums: dict[str, Tally] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Nothing more is needed."""
        return self.stopped or self.counted >= self.most

    def take(self, outcome: Outcome, errors: int, coded: bool) -> None:
        """Add an outcome, and count as far as they are there without a gap."""
        self.outcomes[outcome.index] = outcome
        while not self.finished and self.counted in self.outcomes:
            found = self.outcomes[self.counted].tallies
            self.sums = {name: self.sums[name] + each if self.sums else each for name, each in found.items()}
            self.counted += 1
            self.stopped = self.counted % self.stride == 0 and enough(list(self.sums.values()), errors, coded)

    def series(self, scheme: str) -> Tally:
        """Of a timeline, whose stride is a pass: an entry a drop, over the whole passes counted."""
        passes = [
            [self.outcomes[index].series[scheme] for index in range(start, start + self.stride)]
            for start in range(0, self.counted - self.stride + 1, self.stride)
        ]
        return reduce(add, (reduce(Tally.followed_by, batches) for batches in passes))


def sweep(
    source: DropSource,
    settings: Settings,
    snr_db: Sequence[float],
    errors: int,
    drops: int,
    record: UnitJournal,
    cluster: str | None,
    advance: Callable[[int, str], None],
) -> list[Point]:
    """Run what ``record`` doesn't hold yet, until every SNR has ``errors`` errors or at least ``drops`` drops.

    advance(batches done, note): a finished point counts with all of its batches. Raises NflaeError; what was computed
    until then is in ``record``.
    """
    most = source.batches(drops)
    stride = source.a_pass if settings.timeline else 1
    points = {snr: Point(snr, most, stride) for snr in snr_db}
    for outcome in record.outcomes:
        if outcome.snr_db in points and outcome.index < most:
            points[outcome.snr_db].take(outcome, errors, settings.coded)
    with closing(run_units(partial(run_unit, settings), _wanted(list(points.values()), source), cluster)) as outcomes:
        for _, outcome in outcomes:
            record.add(outcome)
            points[outcome.snr_db].take(outcome, errors, settings.coded)
            done = sum(most if point.finished else point.counted for point in points.values())
            advance(done, f"{outcome.snr_db:g} dB")
            if all(point.finished for point in points.values()):
                break
    return list(points.values())


def _wanted(points: Sequence[Point], source: DropSource) -> Iterator[Unit]:
    """The next unit, decided when it is asked for: of the first open point with the fewest units under way.

    One worker so finishes point after point; many share the points among them.
    """
    while True:
        open_points = []
        for point in points:
            while point.asked in point.outcomes:
                point.asked += 1
            if not point.finished and point.asked < point.most:
                open_points.append(point)
        if not open_points:
            return
        chosen = min(open_points, key=lambda point: point.asked - len(point.outcomes))
        yield Unit(chosen.snr_db, chosen.asked, source.recipe(chosen.asked))
        chosen.asked += 1
