"""Sweep a link over SNRs: choose the next unit of work, run it, and stop an SNR once its errors suffice.

A point is an SNR. Its units are batches of drops, over which every scheme sends the same bits through the same noise. A
point stops with the first batch, in order, after which every scheme has counted enough errors; all means are then
means over the same drops. The result does not depend on which worker computes a unit, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache, partial, reduce
from itertools import accumulate
from operator import add

import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files.labels import UNDECIDED
from nflae_bridge.studies.cluster import run_units
from nflae_bridge.studies.link.source import BatchRecipe, DropSource
from nflae_bridge.studies.link.transmitter_csi import TransmitterCsi
from nflae_bridge.studies.link.unit_journal import Outcome, UnitJournal
from simulator.csi.models import CsiModel
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panels import UniformPlanarArray, parse_panel
from simulator.link_level.chain import Chain, RandomInputs, Waveform, effective_channels, scheduled
from simulator.link_level.counting import Tally, enough, tally
from simulator.link_level.modulation import choose_modulation
from simulator.link_level.randomness import generator_of
from simulator.schemes import needs_sic


@dataclass(frozen=True)
class Settings:
    """Parameters of a link study, the same for every unit.

    Parameters
    ----------
    schemes
        Scheme specifications, see `load_scheme`.
    modulation, code
        See `simulator.link_level.modulation.choose_modulation`.
    symbols
        Symbols per block.
    csi
        Model of the CSI at the transmitter.
    waveform
        OFDM parameters.
    alpha_c, min_rate
        Constraints C3 and C4, as in `LinkBudget`.
    model, device, refine
        As in `load_scheme`; the model also labels the users where C3 binds.
    seed
        Seed of bits, noise and CSI errors.
    timeline
        Keep the counts of every drop.
    panel
        Planar array, ``upa:ROWSxCOLUMNS``, whose users are labelled by fitted spherical waves; "": a line, labelled by
        the model.

    Raises
    ------
    NflaeError
        For a scheme whose rates need receivers with SIC, which the link does not have.
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
    panel: str = ""

    def __post_init__(self) -> None:
        refused = [name for name in self.schemes if needs_sic(name)]
        if refused:
            raise NflaeError(
                f"{', '.join(refused)}: needs receivers that decode and cancel other users' blocks (SIC), which"
                " nflae link does not have; leave it out of --scheme (nflae evaluate gives its rates)"
            )

    @property
    def coded(self) -> bool:
        """True where errors are counted in blocks."""
        return self.code != "none"

    def budget(self, snr_db: float) -> LinkBudget:
        """Return the link budget of an SNR P / sigma^2 in dB, at P = 1 W: only the ratio matters."""
        return LinkBudget(1.0, 10 ** (-snr_db / 10), self.alpha_c, self.min_rate)


@dataclass(frozen=True)
class Unit:
    """Batches at one SNR that are computed at once.

    Parameters
    ----------
    snr_db
        SNR, dB.
    indices
        Numbers of the batches.
    recipes
        Recipes of their drops.
    """

    snr_db: float
    indices: tuple[int, ...]
    recipes: tuple[BatchRecipe, ...]


@dataclass(frozen=True)
class _Transceivers:
    """Schemes, labels and link of one process, set up once."""

    device: torch.device
    schemes: dict[str, Scheme]
    label: Callable[[torch.Tensor], torch.Tensor] | None
    chain: Chain
    csi: TransmitterCsi


@lru_cache(maxsize=8)
def _transceivers(settings: Settings) -> _Transceivers:
    device = choose_device(settings.device)
    model = settings.model, str(device), settings.refine
    schemes = {name: load_scheme(name, *model, many_batches=True) for name in settings.schemes}
    label: Callable[[torch.Tensor], torch.Tensor] | None = None
    if settings.alpha_c < 1 and settings.panel:  # where C3 binds, all schemes use the same labels
        label = partial(_panel_labels, parse_panel(settings.panel))
    elif settings.alpha_c < 1:
        engine = schemes.get("nflae") or load_scheme("nflae", *model, many_batches=True)
        assert isinstance(engine, Engine)
        label = engine.near_field
    modulation = choose_modulation(settings.modulation, settings.code, settings.symbols)
    chain = Chain(modulation, settings.symbols, device, settings.waveform)
    predictor = None
    if settings.csi.predicts:
        from nflae_bridge.tasks.predict import load_predictor

        predictor = load_predictor()
    return _Transceivers(device, schemes, label, chain, TransmitterCsi(settings.csi, predictor))


def _panel_labels(panel: UniformPlanarArray, channels: torch.Tensor) -> torch.Tensor:
    return panel_near_field_score(panel, channels) > UNDECIDED


def run_unit(settings: Settings, unit: Unit) -> list[Outcome]:
    """Send the blocks of a unit's batches with every scheme and count errors.

    Bits, noise and CSI errors of a batch are the same in every unit.

    Parameters
    ----------
    settings
        The study.
    unit
        Batches and SNR.

    Returns
    -------
    list of Outcome
        Counts of every scheme, per batch.

    Raises
    ------
    NflaeError
        If the rates of a scheme are not finite.
    """
    link, drawn = _transceivers(settings), [recipe.batch() for recipe in unit.recipes]
    known = [link.csi.estimate(batch, settings.seed, index) for batch, index in zip(drawn, unit.indices, strict=True)]
    csi = torch.cat(known).to(link.device)
    given = [batch.near_field for batch in drawn if batch.near_field is not None]
    labels = torch.cat(given).to(link.device) if given else None if link.label is None else link.label(csi)
    labelled = ChannelBatch(csi, labels)
    first = accumulate((len(each) for each in known), initial=0)
    known_of = torch.cat([batch.known_of + start for batch, start in zip(drawn, first, strict=False)]).to(link.device)
    channels = torch.cat([batch.channels for batch in drawn]).to(link.device)
    drops, budget = [len(batch.channels) for batch in drawn], settings.budget(unit.snr_db)
    parts = [slice(stop - count, stop) for count, stop in zip(drops, accumulate(drops), strict=True)]
    inputs = _random_inputs(settings, unit, drops, channels.shape[1])
    outcomes = [Outcome(unit.snr_db, index, {}, {}) for index in unit.indices]
    for name, scheme in link.schemes.items():
        answer = scheme(labelled, budget)
        if not bool(answer.rate.isfinite().all()):
            raise NflaeError(f"{name}: the rates are not finite numbers; are the channels scaled beyond reason?")
        power, rate, near_field = (each[known_of] for each in (answer.power, answer.rate, answer.near_field))
        assert isinstance(budget.noise_power, float)
        effective = effective_channels(channels, answer.precoder[known_of], power, budget.noise_power)
        received = link.chain.run(effective, scheduled(power, budget.power), inputs)
        for outcome, part in zip(outcomes, parts, strict=True):
            what = received.part(part), settings.symbols, rate[part], near_field[part]
            outcome.tallies[name] = tally(*what)
            if settings.timeline:
                outcome.series[name] = tally(*what, each="drop")
    return outcomes


def _random_inputs(settings: Settings, unit: Unit, drops: Sequence[int], users: int) -> RandomInputs:
    """Draw the bits and noise of each batch from a generator of its own, and join them."""
    link = _transceivers(settings)
    drawn = []
    for index, count in zip(unit.indices, drops, strict=True):
        stream = generator_of(settings.seed, "symbols", index, _seed_of(unit.snr_db), device=link.device)
        drawn.append(link.chain.draw(count, users, stream))
    return RandomInputs.joined(drawn)


def _seed_of(snr_db: float) -> int:
    """Return an SNR in dB as an integer >= 0."""
    return round(1000 * snr_db) + (1 << 20)


@dataclass
class Point:
    """State of one SNR.

    Parameters
    ----------
    snr_db
        SNR, dB.
    max_batches
        Batches at most.
    stride
        The point stops only after a multiple of this many batches.
    outcomes
        Outcomes so far, by number of the batch.
    issued
        Batches given out so far.
    counted
        Batches counted so far, the first ones without a gap.
    stopped
        True if every scheme had enough errors after the batches counted.
    sums
        Counts of the batches counted, by scheme.
    """

    snr_db: float
    max_batches: int
    stride: int = 1
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    issued: int = 0
    counted: int = 0
    stopped: bool = False
    sums: dict[str, Tally] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """True if no further batch is needed."""
        return self.stopped or self.counted >= self.max_batches

    def add(self, outcome: Outcome, errors: int, coded: bool) -> None:
        """Add an outcome and count the batches that are available without a gap.

        Parameters
        ----------
        outcome
            Outcome of one batch.
        errors
            Number of errors that suffices.
        coded
            Count block errors instead of bit errors.
        """
        self.outcomes[outcome.index] = outcome
        while not self.finished and self.counted in self.outcomes:
            found = self.outcomes[self.counted].tallies
            self.sums = {name: self.sums[name] + each if self.sums else each for name, each in found.items()}
            self.counted += 1
            self.stopped = self.counted % self.stride == 0 and enough(list(self.sums.values()), errors, coded)

    def series(self, scheme: str) -> Tally:
        """Return a timeline's counts of a scheme, one entry per drop, over the whole passes counted."""
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
    journal: UnitJournal,
    cluster: str | None,
    advance: Callable[[int, str], None],
) -> list[Point]:
    """Run the units that are not in the journal yet, until every SNR has enough errors or drops.

    Parameters
    ----------
    source
        The drops.
    settings
        The study.
    snr_db
        SNRs, dB.
    errors
        Number of errors at which an SNR stops.
    drops
        Number of drops at which an SNR stops, rounded up to whole batches.
    journal
        Outcomes of earlier runs; every new one is appended.
    cluster
        As in `run_units`.
    advance
        Called with the number of batches done and a note; a finished SNR counts with all its batches.

    Returns
    -------
    list of Point
        One per SNR.

    Raises
    ------
    NflaeError
        If a unit or the cluster fails; the outcomes until then are in the journal.
    """
    max_batches = source.batches(drops)
    stride = source.batches_per_pass if settings.timeline else 1
    points = {snr: Point(snr, max_batches, stride) for snr in snr_db}
    for outcome in journal.outcomes:
        if outcome.snr_db in points and outcome.index < max_batches:
            points[outcome.snr_db].add(outcome, errors, settings.coded)
    with closing(
        run_units(partial(run_unit, settings), _next_units(list(points.values()), source), cluster)
    ) as outcomes:
        for _, found in outcomes:
            for outcome in found:
                journal.add(outcome)
                points[outcome.snr_db].add(outcome, errors, settings.coded)
            done = sum(max_batches if point.finished else point.counted for point in points.values())
            advance(done, f"{found[0].snr_db:g} dB")
            if all(point.finished for point in points.values()):
                break
    return list(points.values())


def _next_units(points: Sequence[Point], source: DropSource) -> Iterator[Unit]:
    """Yield the next unit of the first open point with the fewest units under way.

    One worker thus finishes point after point; several share the points. Each unit is chosen when it is requested.
    """
    while True:
        open_points = []
        for point in points:
            while point.issued in point.outcomes:
                point.issued += 1
            if not point.finished and point.issued < point.max_batches:
                open_points.append(point)
        if not open_points:
            return
        chosen = min(open_points, key=lambda point: point.issued - len(point.outcomes))
        stop = min(chosen.issued + source.batches_at_once, chosen.max_batches)
        indices = tuple(index for index in range(chosen.issued, stop) if index not in chosen.outcomes)
        chosen.issued = stop
        yield Unit(chosen.snr_db, indices, tuple(source.recipe(index) for index in indices))
