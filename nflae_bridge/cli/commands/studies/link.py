"""Implement ``nflae link``: transmit coded symbols and count the errors."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require_extra
from nflae_bridge.cli.options.common import (
    READING_OPTIONS,
    ChannelOptions,
    WorkOptions,
    channel_options,
    cluster_option,
    near_field_option,
    refuse_options,
    work_options,
)
from nflae_bridge.cli.options.link import (
    ScenarioOptions,
    TransmissionOptions,
    choose_link_budget,
    default_sweep,
    link_budget_options,
    scenario_options,
    snr_points,
    sweep_line,
    transmission_options,
)
from nflae_bridge.cli.options.plot import figure_options, format_option
from nflae_bridge.cli.options.scheme import NETWORK, SchemeOption, refuse_network_options
from nflae_bridge.cli.terminal import Table, fact, progress, warn
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from matlab_io import ChannelFile
    from nflae_bridge.plots.look import FigureLook
    from nflae_bridge.studies.link.source import DropSource
    from nflae_bridge.studies.link.sweep import Point, Settings
    from simulator.csi.models import CsiModel
    from simulator.link_level.modulation import Format


@click.command(
    "link",
    short_help="Transmit coded symbols: BER, BLER, EVM, goodput.",
    epilog="""\b
    Examples:
      nflae link channels.mat -o link
      nflae link channels.mat -o link --scheme nflae,rzf --modulation 64qam --code ldpc:3/4
      nflae link --scenario uav --users 8 -o link --modulation auto --csi noisy:10
      nflae link flight.mat -o link --csi aged:2 --refresh 5
      nflae link flight.mat -o link --csi predicted:4,noisy:10

    \b
    Files in DIR:
      link.csv                              a row per scheme and SNR
      users.csv                             a row per scheme, SNR and user
      error_rates.png, goodput.png, evm.png
      timeline.csv, timeline.png            with --refresh
      units.jsonl                           finished batches; the same command resumes an interrupted run""",
)
@click.argument("source", metavar="[IN.mat]", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--scheme",
    "schemes",
    cls=SchemeOption,
    several=True,
    sic=False,
    default="nflae,wmmse,rzf,zf",
    show_default=True,
    help="Precoding schemes, each with its own options, e.g. rzf,wmmse:iterations=50; none that needs SIC.",
)
@transmission_options
@click.option(
    "--snr-db",
    "sweep",
    callback=snr_points,
    metavar="FIRST:LAST:STEP|DB,...",
    help="Transmit SNR P / sigma^2, dB; the channels are not normalised.  [default: 15 dB around the link budget of the"
    " file or the options; without one, where the median user has 10 dB]",
)
@click.option(
    "--refresh",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take the drops as successive slots and compute the precoders every N slots; adds the timeline.",
)
@click.option(
    "--errors",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Stop an SNR once every scheme has this many block errors (bit errors without a code).",
)
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Stop an SNR after this many drops; those of a file repeat with new bits and noise.",
)
@scenario_options
@link_budget_options
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**39),
    default=0,
    show_default=True,
    help="Seed of drops, bits, noise and CSI errors.",
)
@figure_options
@format_option
@cluster_option
@channel_options
@near_field_option
@work_options
def command(
    source: Path | None,
    output: Path,
    schemes: list[str],
    sweep: list[float] | None,
    refresh: int | None,
    errors: int,
    drops: int,
    seed: int,
    look: FigureLook,
    kind: str,
    cluster: str | None,
    labels: str | None,
    transmission: TransmissionOptions,
    scene: ScenarioOptions,
    request: BudgetRequest,
    reading: ChannelOptions,
    work: WorkOptions,
) -> None:
    """Transmit coded symbols through precoder, channel and noise, and count the errors.

    The channels come from IN.mat or from a scenario. All schemes transmit the same bits over the same drops and noise.
    """
    _check_options(source, scene, schemes)
    require_extra("link", "nflae link")
    look.check()

    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.studies.link.sweep import sweep as run_sweep
    from nflae_bridge.studies.link.unit_journal import UnitJournal

    device = choose_device(work.device).type
    settings = _settings(schemes, transmission, work, device, seed, timeline=refresh is not None)
    batch = work.batch or {"cpu": 32, "cuda": 512}[device]
    if source is None:
        drop_source, budget = _scenario_drops(scene, batch, settings), choose_link_budget(request, None, sweep)
    else:
        with reading.open(source) as file:
            budget = choose_link_budget(request, file, sweep)
            how = (drops, batch, refresh or 1, work.on_bad_drop)
            drop_source, settings = _file_drops(file, settings, budget, labels, *how)
    settings = _constrained(settings, budget)
    snr_db = default_sweep(budget) if sweep is None else sweep
    _announce(settings, budget, snr_db)
    if look.size is not None:
        _check_room(drop_source, settings, snr_db, refresh, look)
    record = UnitJournal(output, _identity(settings, drop_source, device))
    if record.outcomes:
        fact("resumed", f"{len(record.outcomes)} batches of an earlier run")
    total = len(snr_db) * drop_source.batches(drops)
    with closing(record), progress("link", total, "batches") as advance:
        try:
            points = run_sweep(drop_source, settings, snr_db, errors, drops, record, cluster, advance)
        except KeyboardInterrupt:
            found = f"interrupted; {record.count} finished batches in {record.path}"
            kept = found if record.count else "interrupted before a batch was done"
            raise NflaeError(f"{kept}: repeat the command to resume") from None
    _report(points, drop_source.users, settings.waveform.samples(settings.symbols))
    _write(output, points, drop_source, settings, refresh, look, kind)


def _check_options(source: Path | None, scene: ScenarioOptions, schemes: list[str]) -> None:
    """Refuse options that have no effect: of a file with a scenario, of a scenario with a file, of absent schemes."""
    if (source is None) == (scene.scenario is None):
        raise click.UsageError("give either IN.mat or --scenario.")
    if source is None:
        refuse_options("needs IN.mat: the drops of a scenario are not successive slots.", ("refresh",))
        refuse_options("belongs to IN.mat: leave it out with --scenario.", (*READING_OPTIONS, "labels", "on_bad_drop"))
    else:
        refuse_options(f"belongs to --scenario: leave it out with {source}.", ("users", "antennas", "speed"))
    refuse_network_options(schemes, "belongs to scheme nflae: add it to --scheme, or leave it out.")


def _settings(
    schemes: list[str], transmission: TransmissionOptions, work: WorkOptions, device: str, seed: int, timeline: bool
) -> Settings:
    """Check the options and convert them; the constraints follow once the file is open."""
    from nflae_bridge.network.shipped import portable_model
    from nflae_bridge.studies.link.sweep import Settings
    from simulator.csi.models import parse_csi
    from simulator.link_level.chain import Waveform
    from simulator.link_level.modulation import choose_modulation

    csi, waveform = parse_csi(transmission.csi), Waveform(*transmission.ofdm)
    choose_modulation(transmission.modulation, transmission.code, transmission.symbols)
    waveform.samples(transmission.symbols)
    return Settings(
        schemes=tuple(schemes),
        modulation=transmission.modulation,
        code=transmission.code,
        symbols=transmission.symbols,
        csi=csi,
        waveform=waveform,
        model=portable_model(work.model, device),
        device=work.device,
        refine=work.refine,
        seed=seed,
        timeline=timeline,
    )


def _constrained(settings: Settings, budget: BudgetChoice) -> Settings:
    """Add the constraints to the settings; refuse a model that nothing needs."""
    settings = replace(settings, alpha_c=budget.alpha_c.value, min_rate=budget.min_rate.value)
    if NETWORK not in settings.schemes and (settings.alpha_c == 1 or settings.panel):
        refuse_options("belongs to scheme nflae, and to labels where --alpha-c binds: leave it out.", ("model",))
    return settings


def _scenario_drops(scene: ScenarioOptions, batch: int, settings: Settings) -> DropSource:
    from nflae_bridge.studies.link.source import ScenarioDrops

    if settings.csi.history > 1:
        raise click.UsageError(
            f"--csi {settings.csi} needs IN.mat with successive snapshots, e.g. of nflae simulate --trajectory"
            f" ({settings.csi.history} of them per drop): the drops of a scenario are no sequence; its CSI ages by"
            f" independent (Gauss-Markov) innovations, {_unavailable(settings.csi)}."
        )
    if not settings.csi.slots:
        refuse_options("ages CSI: add --csi aged:SLOTS, or leave it out.", ("speed",))
    name: Literal["paper", "uav"] = "paper" if scene.scenario == "paper" else "uav"
    return ScenarioDrops(name, scene.users, scene.antennas, batch, scene.speed, settings.seed)


def _unavailable(csi: CsiModel) -> str:
    """Return the reason why CSI with a history is unavailable without successive snapshots."""
    if csi.predicts:
        return "in which nothing can be predicted"
    return "which no feedback report with memory can refer to; codecs without memory are feedback:BITS,type2 and ,polar"


def _file_drops(
    file: ChannelFile,
    settings: Settings,
    budget: BudgetChoice,
    labels: str | None,
    drops: int,
    batch: int,
    refresh: int,
    on_bad_drop: Literal["error", "skip"],
) -> tuple[DropSource, Settings]:
    """Return the drops of a file with its labels, and the settings with the panel that it states."""
    from nflae_bridge.files.labels import describe_panel_labels, read_labels, stated_panel
    from nflae_bridge.studies.link.source import FileDrops

    for note in file.notes:
        fact("channels", note)
    given, origin = read_labels(file, labels)
    panel = stated_panel(file, labels) if given is None else None
    source = FileDrops(file, drops, batch, settings.csi, refresh, on_bad_drop, budget.noise, given)
    for note in source.notes:
        warn(note)
    if origin or panel is not None:
        fact("labels", origin or describe_panel_labels(panel, file, labels))
    return source, replace(settings, panel="" if panel is None else str(panel))


def _announce(settings: Settings, budget: BudgetChoice, snr_db: list[float]) -> None:
    formats = _formats(settings)
    first, last = str(formats[0]), str(formats[-1])
    named = first if len(formats) == 1 else f"{len(formats)} formats from {first} to {last}"
    fact("blocks", f"{settings.symbols} symbols, {named}")
    fact("CSI", f"{settings.csi}")
    for line in budget.lines()[2 if budget.noise_power.is_default else 0 :]:
        fact("link budget", line)
    fact("SNR", sweep_line(budget, snr_db))


def _formats(settings: Settings) -> Sequence[Format]:
    from simulator.link_level.modulation import choose_modulation

    return choose_modulation(settings.modulation, settings.code, settings.symbols).formats


def _identity(settings: Settings, source: DropSource, device: str) -> dict[str, str]:
    """Return all that the outcomes depend on as text: the options, the drops and the model's weights."""
    from dataclasses import asdict
    from hashlib import file_digest

    from nflae_bridge.network.shipped import model_folder

    given = {name.replace("_", "-"): str(value) for name, value in asdict(settings).items()}
    given |= {"scheme": ",".join(settings.schemes), "csi": str(settings.csi), "device": device}
    del given["schemes"]
    if not settings.panel:
        del given["panel"]
    if "nflae" in settings.schemes or settings.alpha_c < 1:
        with (model_folder(settings.model, device) / "model.safetensors").open("rb") as weights:
            given["model"] = file_digest(weights, "sha256").hexdigest()[:16]
    if settings.csi.predicts:
        with (model_folder("auto", "cpu", "predict") / "model.safetensors").open("rb") as weights:
            given["predictor"] = file_digest(weights, "sha256").hexdigest()[:16]
    return given | source.identity()


def _report(points: Sequence[Point], users: int, channel_uses: int) -> None:
    from nflae_bridge.studies.link.tables import goodput

    rows = Table(("scheme", "SNR\ndB", "BER", "BLER", "EVM\ndB", "goodput\nbps/Hz", "SE\nbps/Hz"))
    for point in points:
        for name, found in point.sums.items():
            whole = found.pooled()
            rows.add_row(
                name,
                f"{point.snr_db:g}",
                *(f"{float(value[0]):.2e}" for value in (whole.ber, whole.bler)),
                f"{whole.evm_db[0]:.2f}",
                f"{users * goodput(whole, channel_uses)[0]:.3f}",
                f"{users * (whole.rate / whole.chances)[0]:.3f}",
            )
        rows.add_section()
    rows.show()


def _check_room(
    source: DropSource, settings: Settings, snr_db: Sequence[float], refresh: int | None, look: FigureLook
) -> None:
    """Check, before the study, that the size has room for its plots."""
    from nflae_bridge.cli.commands.studies.placeholders import link_points
    from nflae_bridge.studies.link.source import FileDrops

    drops = len(source.drops) if isinstance(source, FileDrops) else 0
    cases = link_points(settings.schemes, snr_db, drops)
    look.check_room([draw for points in cases for draw in _pictures(points, source, settings, refresh).values()])


def _pictures(
    points: Sequence[Point], source: DropSource, settings: Settings, refresh: int | None
) -> dict[str, Callable[[], Figure]]:
    """Return the functions that draw the plots, by name."""
    from nflae_bridge.plots import link as pictures
    from nflae_bridge.studies.link.source import FileDrops

    users, uses, formats = source.users, settings.waveform.samples(settings.symbols), _formats(settings)
    title = f"{formats[0] if len(formats) == 1 else settings.modulation}, {settings.csi} CSI"
    draw: dict[str, Callable[[], Figure]] = {
        "error_rates": lambda: pictures.error_rates_picture(points, title),
        "goodput": lambda: pictures.goodput_picture(points, users, uses, title),
        "evm": lambda: pictures.evm_picture(points, title),
    }
    if refresh is not None and isinstance(source, FileDrops):
        drops = source.drops
        draw["timeline"] = lambda: pictures.timeline_picture(points, drops, users, refresh, title)
    return draw


def _write(
    folder: Path,
    points: Sequence[Point],
    source: DropSource,
    settings: Settings,
    refresh: int | None,
    look: FigureLook,
    kind: str,
) -> None:
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.studies.link import tables
    from nflae_bridge.studies.link.source import FileDrops

    users, uses = source.users, settings.waveform.samples(settings.symbols)
    files = {"link.csv": tables.summary_table(points, users, uses), "users.csv": tables.users_table(points, uses)}
    draw = _pictures(points, source, settings, refresh)
    if refresh is not None and isinstance(source, FileDrops):
        files["timeline.csv"] = tables.timeline_table(points, source.drops, users, uses)
    for name, content in files.items():
        SideFile(folder / name, content).save()
    fact("written", ", ".join(str(folder / name) for name in files))
    for name, figure in draw.items():
        SideFile(folder / f"{name}.{kind}", look.render(figure, kind)).save()
    fact("plotted", ", ".join(str(folder / f"{name}.{kind}") for name in draw))
