"""``nflae link``: symbols through the link, and what arrives of them."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from nflae_bridge.cli.options import (
    ChannelOptions,
    WorkOptions,
    channel_options,
    chosen_schemes,
    cluster_option,
    scheme_names,
    work_options,
)
from nflae_bridge.cli.terminal import fact, progress, show, table
from nflae_bridge.files.budget import BudgetRequest, choose_budget
from simulator.link_level.modulation import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nflae_bridge.studies.link.source import DropSource
    from nflae_bridge.studies.link.sweep import Point, Settings
    from simulator.link_level.modulation import Format

_MOST_POINTS = 1000
_WIDEST_DB = 200.0


def _snr_points(ctx: click.Context, parameter: click.Parameter, value: str) -> list[float]:
    """``-5:25:2.5``: first, last and step; or numbers with commas between them."""
    try:
        numbers = [float(part) for part in value.split(":" if ":" in value else ",")]
    except ValueError:
        numbers = []
    if ":" in value and len(numbers) in (2, 3):
        first, last, step = numbers if len(numbers) == 3 else (*numbers, 1.0)
        steps = (last - first) / step if step > 0 else math.nan
        numbers = [first + index * step for index in range(int(steps + 1e-9) + 1)] if 0 <= steps < _MOST_POINTS else []
    if not numbers or not all(abs(number) <= _WIDEST_DB for number in numbers):
        raise click.BadParameter(f"{value!r}: give FIRST:LAST:STEP in dB, e.g. -5:25:2.5, or numbers, e.g. 0,10,20")
    return sorted({round(number, 3) for number in numbers})


def _waveform(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    if value is None:
        return 0, 0
    subcarriers, _, prefix = value.partition(":")
    if not subcarriers.isdecimal() or not (prefix or "0").isdecimal():
        raise click.BadParameter(f"{value!r}: give SUBCARRIERS:PREFIX, e.g. 12:1")
    sizes = int(subcarriers), int(prefix or 0)
    if not 1 <= sizes[0] <= 4096 or sizes[1] > sizes[0]:
        raise click.BadParameter(f"{value!r}: 1 to 4096 subcarriers, and a prefix of at most as many samples")
    return sizes


@click.command(
    "link",
    short_help="Symbols through the link: BER, BLER, EVM, goodput.",
    epilog="""\b
    Examples:
      nflae link channels.mat -o link
      nflae link channels.mat -o link --scheme nflae,rzf --modulation 64qam --code ldpc:3/4
      nflae link --scenario uav --users 8 -o link --modulation auto --csi noisy:10
      nflae link flight.mat -o link --csi aged:2 --refresh 5

    \b
    In DIR: link.csv (a row a scheme and SNR), users.csv (and a user), error_rates.png, goodput.png, evm.png; with
    --refresh timeline.csv and timeline.png; units.jsonl, from which an interrupted command goes on when repeated.""",
)
@click.argument("source", metavar="[IN.mat]", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The results' folder."
)
@click.option(
    "--scheme",
    "schemes",
    callback=chosen_schemes,
    default="nflae,wmmse,rzf,zf",
    show_default=True,
    metavar="NAME,...",
    help=f"Who precodes, of {', '.join(scheme_names())}; noma, which counts on receivers with SIC, is refused.",
)
@click.option(
    "--modulation",
    default="16qam",
    show_default=True,
    help="qpsk, 16qam, 64qam, 256qam; auto or auto:256qam: per user and drop by the CQI table up to 64QAM or 256QAM.",
)
@click.option("--code", metavar="none|ldpc:RATE", help="Channel code.  [default: ldpc:1/2; with auto the table's]")
@click.option(
    "--snr-db",
    callback=_snr_points,
    default="-5:25:2.5",
    show_default=True,
    metavar="FIRST:LAST:STEP|DB,...",
    help="P / sigma^2, the channels as they are.",
)
@click.option(
    "--csi",
    default="perfect",
    show_default=True,
    metavar="perfect|noisy:DB|aged:SLOTS|quantised:BITS",
    help="What the precoders are computed from.",
)
@click.option(
    "--refresh",
    type=click.IntRange(min=1),
    metavar="N",
    help="The file's drops are successive slots, and precoders computed every N of them; adds the timeline.",
)
@click.option(
    "--errors",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="An SNR stops once every scheme has lost this many blocks (or bits, without a code).",
)
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Or after this many drops; a file's are gone through again, with new bits and noise.",
)
@click.option(
    "--symbols",
    type=click.IntRange(min=1, max=1 << 16),
    default=DEFAULT_SYMBOLS,
    show_default=True,
    help="Symbols a block.",
)
@click.option(
    "--ofdm",
    callback=_waveform,
    metavar="SUBCARRIERS:PREFIX",
    help="Send blocks on OFDM grids with a cyclic prefix.  [default: symbol by symbol]",
)
@click.option("--scenario", type=click.Choice(["uav", "paper"]), help="Fresh drops of this scenario instead of a file.")
@click.option("--users", type=click.IntRange(min=1), default=8, show_default=True, help="Of the scenario.")
@click.option("--antennas", type=click.IntRange(min=1), default=256, show_default=True, help="Of the scenario.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Of the scenario's users, m/s; their CSI ages by it with --csi aged.",
)
@click.option("--alpha-c", type=float, help="Largest share of P for near-field users.  [default: the file's, else 1]")
@click.option("--min-rate", type=float, help="Rate every user must get, bps/Hz.  [default: the file's, else 0]")
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**39), default=0, show_default=True, help="Of all that is drawn."
)
@cluster_option
@channel_options
@work_options
def command(
    source: Path | None,
    output: Path,
    schemes: list[str],
    modulation: str,
    code: str | None,
    snr_db: list[float],
    csi: str,
    refresh: int | None,
    errors: int,
    drops: int,
    symbols: int,
    ofdm: tuple[int, int],
    scenario: str | None,
    users: int,
    antennas: int,
    speed: float,
    alpha_c: float | None,
    min_rate: float | None,
    seed: int,
    cluster: str | None,
    reading: ChannelOptions,
    work: WorkOptions,
) -> None:
    """Send coded symbols through precoder, channel and noise, and count what arrives.

    Channels are IN.mat's, or a scenario's. Every scheme sends the same bits over the same drops and noise.
    """
    if (source is None) == (scenario is None):
        raise click.UsageError("give either IN.mat or --scenario.")
    if refresh is not None and source is None:
        raise click.UsageError("--refresh needs IN.mat: a scenario's drops don't follow one another.")

    from nflae_bridge.engine.devices import choose_device
    from simulator.channels.csi import parse_csi
    from simulator.link_level.chain import Waveform
    from simulator.link_level.modulation import choose_modulation

    require("sionna", "nflae link", "link")
    knowledge, waveform = parse_csi(csi), Waveform(*ofdm)
    formats = choose_modulation(modulation, code, symbols).formats
    waveform.samples(symbols)
    device = choose_device(work.device)
    size = work.batch or {"cpu": 32, "cuda": 512}[device.type]
    with ExitStack() as stack:
        file = None
        drop_source: DropSource
        if source is not None:
            file = stack.enter_context(reading.open(source))
            for note in file.notes:
                fact("channels", note)
            from nflae_bridge.studies.link.source import FileDrops

            drop_source = FileDrops(file, drops, size, knowledge, refresh or 1, work.on_bad_drop)
        else:
            from nflae_bridge.studies.link.source import ScenarioDrops

            drop_source = ScenarioDrops("paper" if scenario == "paper" else "uav", users, antennas, size, speed, seed)
        budget = choose_budget(BudgetRequest(alpha_c=alpha_c, min_rate=min_rate), file)

    from nflae_bridge.network.shipped import portable_model
    from nflae_bridge.studies.link.sweep import Settings, sweep
    from nflae_bridge.studies.link.unit_journal import UnitJournal

    settings = Settings(
        schemes=tuple(schemes),
        modulation=modulation,
        code=code,
        symbols=symbols,
        csi=knowledge,
        waveform=waveform,
        alpha_c=budget.alpha_c.value,
        min_rate=budget.min_rate.value,
        model=portable_model(work.model, device.type),
        device=work.device,
        refine=work.refine,
        seed=seed,
        timeline=refresh is not None,
    )
    fact("blocks", f"{symbols} symbols, {_names(formats)}")
    fact("CSI", f"{knowledge}")
    for line in budget.lines()[2:]:  # power and noise are swept
        fact("link budget", line)
    record = UnitJournal(output, _identity(settings, drop_source, device.type))
    if record.outcomes:
        fact("resumed", f"{len(record.outcomes)} batches are there from an earlier run")
    total = len(snr_db) * drop_source.batches(drops)
    with closing(record), progress("link", total, "batches") as advance:
        try:
            points = sweep(drop_source, settings, snr_db, errors, drops, record, cluster, advance)
        except KeyboardInterrupt:
            raise NflaeError(
                f"interrupted; what is finished is in {record.path}: repeat the command to go on"
            ) from None
    _report(points, drop_source.users, waveform.samples(symbols))
    title = f"{formats[0] if len(formats) == 1 else modulation}, {knowledge} CSI"
    _write(output, points, drop_source, waveform.samples(symbols), refresh, title)


def _names(formats: Sequence[Format]) -> str:
    first, last = str(formats[0]), str(formats[-1])
    return first if len(formats) == 1 else f"{len(formats)} formats from {first} to {last}"


def _identity(settings: Settings, source: DropSource, device: str) -> dict[str, str]:
    """What the outcomes depend on, in words: the options as they were given, the drops, the model's weights."""
    from dataclasses import asdict
    from hashlib import file_digest

    from nflae_bridge.network.shipped import model_folder

    given = {name.replace("_", "-"): str(value) for name, value in asdict(settings).items()}
    given |= {"scheme": ",".join(settings.schemes), "csi": str(settings.csi), "device": device}
    del given["schemes"]
    if "nflae" in settings.schemes or settings.alpha_c < 1:
        with (model_folder(settings.model, device) / "model.safetensors").open("rb") as weights:
            given["model"] = file_digest(weights, "sha256").hexdigest()[:16]
    return given | source.identity()


def _report(points: Sequence[Point], users: int, channel_uses: int) -> None:
    from nflae_bridge.studies.link.tables import goodput

    rows = table("scheme", "SNR\ndB", "BER", "BLER", "EVM\ndB", "goodput\nbps/Hz", "SE\nbps/Hz")
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
    show(rows)


def _write(
    folder: Path, points: Sequence[Point], source: DropSource, uses: int, refresh: int | None, title: str
) -> None:
    from nflae_bridge.cli.drawing import SideFile
    from nflae_bridge.plots import link as pictures
    from nflae_bridge.studies.link import tables
    from nflae_bridge.studies.link.source import FileDrops

    users = source.users
    files = {
        "link.csv": tables.summary_table(points, users, uses),
        "users.csv": tables.users_table(points, uses),
        "error_rates.png": pictures.error_rates_picture(points, title),
        "goodput.png": pictures.goodput_picture(points, users, uses, title),
        "evm.png": pictures.evm_picture(points, title),
    }
    if refresh is not None and isinstance(source, FileDrops):
        files["timeline.csv"] = tables.timeline_table(points, source.drops, users, uses)
        files["timeline.png"] = pictures.timeline_picture(points, source.drops, users, refresh, title)
    for name, content in files.items():
        SideFile(folder / name, content).save()
    fact("written", ", ".join(str(folder / name) for name in files))
