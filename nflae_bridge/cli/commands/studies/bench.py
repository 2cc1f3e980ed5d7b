"""Implement ``nflae bench``: time against sum rate or another objective, of the network and of its rivals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.extras import require_extra
from nflae_bridge.cli.options.common import effort_option, model_option, refuse_options
from nflae_bridge.cli.options.plot import figure_options, format_option
from nflae_bridge.cli.options.problem import drawn_problem_options
from nflae_bridge.cli.options.scheme import NETWORK, SchemeOption, refuse_network_options
from nflae_bridge.cli.outputs import make_folder
from nflae_bridge.cli.terminal import Table, duration, fact, progress, warn
from nflae_bridge.files.problem import ProblemRequest, drawn_problem
from nflae_bridge.network.shipped import EFFORTS
from simulator.problems.problem import NO_NETWORK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from nflae_bridge.plots.look import FigureLook
    from nflae_bridge.studies.benchmark.comparison import Settings
    from nflae_bridge.studies.benchmark.pareto import Measurement, Ratio
    from nflae_bridge.studies.benchmark.scaling import Scaled
    from simulator.problems.problem import PrecodingProblem

_REPEATS = 30
_NOT_COMPARED = "belongs to scheme nflae: add it to --schemes, or leave it out."


def _numbers(least: int) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Return the callback of an option that lists whole numbers, none below ``least``."""

    def parse(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(f"{value!r}: give whole numbers from {least} on, with commas between them")
        return tuple(dict.fromkeys(int(part) for part in parts))

    return parse


def _devices(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))


@click.command(
    "bench",
    short_help="Measure time against sum rate.",
    epilog="""\b
    Examples:
      nflae bench -o bench
      nflae bench -o bench --batches 1,100,10000 --device cpu,cuda --refine 0,1,2
      nflae bench -o bench --users 16 --snr-db 10 --scaling
      nflae bench -o bench --power-per-antenna 0.004 --batches 1,100

    \b
    Competitors, on the same drops of scenario paper (signed angles), without alpha_c and min_rate:
      nflae           the network with projection and fallback, once per --refine
      wmmse           after 1, 2, 3, 5, 10, 20, 50 and 100 iterations
      inversion-free  WMMSE by accelerated gradient steps, after 5, 10, 20, 30, 50 and 100
      rzf and others  the classical schemes
      floor           always included: H'H and H C alone, the least work of any scheme of this form

    Other problems than the plain sum rate are solved by every scheme there is for them, and compared by their own
    objective with the best rival and with the time of a plain call of the network. P is 1 W.

    Times are from channels in host memory to precoders and powers in host memory, per drop: the time of a call divided
    by its drops.

    \b
    Files in DIR:
      bench.csv, bench.png
      scaling.csv, scaling.png    with --scaling""",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--schemes",
    cls=SchemeOption,
    several=True,
    sic=False,
    also=("nflae", "inversion-free"),
    problems=True,
    help="Schemes to compare; an iterative one at several counts unless it is given, e.g. wmmse:iterations=50."
    "  [default: nflae,wmmse,inversion-free,rzf; all of another problem]",
)
@click.option(
    "--batches", callback=_numbers(1), default="1,1000", show_default=True, metavar="N,...", help="Drops per call."
)
@click.option(
    "--device",
    "devices",
    callback=_devices,
    default="cpu",
    show_default=True,
    metavar="NAME,...",
    help="Devices, of auto, cpu, cuda, cuda:0; each in turn.",
)
@click.option(
    "--refine",
    "refinements",
    callback=_numbers(0),
    default="0,1",
    show_default=True,
    metavar="R,...",
    help="WMMSE iterations that start from the output of the network; each R is measured.",
)
@click.option("--users", type=click.IntRange(min=1), default=10, show_default=True, help="Users K per drop.")
@click.option("--antennas", type=click.IntRange(min=1), default=256, show_default=True, help="Antennas N.")
@click.option("--snr-db", type=click.FloatRange(-100, 100), default=20.0, show_default=True, help="P / sigma^2, dB.")
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Distinct drops; larger batches repeat them.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=_REPEATS,
    show_default=True,
    help="Calls timed, after three for warm-up; up to ten times as many of small batches.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of every scheme.  [default: all cores]")
@click.option("--seed", type=click.IntRange(min=0, max=2**39), default=0, show_default=True, help="Seed of the drops.")
@click.option("--scaling", is_flag=True, help="Also measure times against users, antennas and batch size, with slopes.")
@drawn_problem_options
@figure_options
@format_option
@model_option
@effort_option
def command(
    output: Path,
    schemes: list[str],
    batches: tuple[int, ...],
    devices: list[str],
    refinements: tuple[int, ...],
    users: int,
    antennas: int,
    snr_db: float,
    drops: int,
    repeats: int,
    threads: int | None,
    seed: int,
    scaling: bool,
    wanted: ProblemRequest,
    look: FigureLook,
    kind: str,
    model: str,
    effort: str | None,
) -> None:
    """Measure the time and the sum rate of the network and of other schemes; report the Pareto front and ratios."""
    problem = _checked_problem(wanted, users, antennas, scaling)
    model, refinements = _network(effort, model, refinements)
    require_extra("plot", "nflae bench")
    look.check()
    import torch

    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.network.checkpoint import write_atomically
    from nflae_bridge.studies.benchmark.comparison import Settings, compare, rounds
    from nflae_bridge.studies.benchmark.tables import bench_csv

    if threads is not None:
        torch.set_num_threads(threads)
    where = tuple(dict.fromkeys(choose_device(name) for name in devices))
    settings = Settings(
        _checked_schemes(problem, schemes),
        refinements if problem.starts_from_network else (0,),
        batches,
        where,
        users,
        antennas,
        snr_db,
        drops,
        seed,
        model,
        repeats,
        threads or torch.get_num_threads(),
        problem,
    )
    _check_room(settings, scaling, look)
    _announce(settings)
    make_folder(output)
    with progress("bench", rounds(settings), "rounds") as advance:
        rows = compare(settings, advance)
    write_atomically(output / "bench.csv", bench_csv(rows, settings))
    _report(rows, problem)
    fact("written", str(output / "bench.csv"))
    scaled = _scale(output, settings) if scaling else []
    _draw(output, rows, scaled, settings, look, kind)


def _network(effort: str | None, model: str, refinements: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return the model and its numbers of refinement steps, those of the effort if one is given."""
    if effort is None:
        return model, refinements
    refuse_options("is chosen by --effort: leave out one of the two.", ("model", "refinements"))
    return EFFORTS[effort][0], EFFORTS[effort][1:]


def _checked_problem(wanted: ProblemRequest, users: int, antennas: int, scaling: bool) -> PrecodingProblem:
    """Return the problem of the options, which the drawn channels fit."""
    problem = drawn_problem(wanted, users, antennas)
    if scaling and not problem.is_plain:
        raise click.UsageError(
            "--scaling applies to the plain sum rate under one total power: leave it out with other problems"
        )
    return problem


def _checked_schemes(problem: PrecodingProblem, schemes: list[str]) -> tuple[str, ...]:
    """Return the schemes to compare, each of which solves the problem."""
    from nflae_bridge.studies.benchmark.comparison import Settings
    from simulator.downlink.budget import LinkBudget
    from simulator.problems.combinations import check_combination, solving_schemes
    from simulator.problems.dispatch import check_problem_scheme
    from simulator.schemes.options import split_spec

    if problem.is_plain:
        if schemes and NETWORK not in schemes:
            refuse_options(_NOT_COMPARED, ("model",))
            refuse_network_options(schemes, _NOT_COMPARED)
        for spec in schemes:
            check_combination(problem, LinkBudget(), split_spec(spec)[0])
        return tuple(schemes) or Settings.schemes
    chosen = tuple(schemes) or solving_schemes(problem)
    if NETWORK not in chosen or problem.starts_from_network:
        refuse_network_options(chosen, _NOT_COMPARED)
    else:  # the model is that of the plain call
        refuse_options(f"{NO_NETWORK}.", ("effort", "refinements"))
    for spec in chosen:
        check_problem_scheme(problem, LinkBudget(), spec)
    return chosen


def _announce(settings: Settings) -> None:
    from nflae_bridge.network.shipped import load_model
    from nflae_bridge.studies.benchmark.comparison import machine

    if "nflae" in settings.schemes:
        for device in settings.devices:
            fact("model", f"{load_model(settings.model, device).name} on {device}")
    for device in settings.devices:
        fact("machine", f"{device}: {machine(device, settings.threads)}")
    fact("drops", f"{settings.drops} of scenario paper; {_link(settings)}")
    if not settings.problem.is_plain:
        fact("problem", _stated(settings))
    fact("time", "from channels in host memory to precoders and powers in host memory, per drop")
    if settings.repeats < _REPEATS:
        warn(f"medians of so few calls are not reliable; give --repeats {_REPEATS} or more")


def _link(settings: Settings) -> str:
    return f"K = {settings.users}, N = {settings.antennas}, {settings.snr_db:g} dB"


def _stated(settings: Settings) -> str:
    from nflae_bridge.studies.benchmark.tables import describe

    return describe(settings.problem)


def _title(settings: Settings, what: str) -> tuple[str, list[str]]:
    """Return the title of a plot and the lines below it, which name the machines."""
    from nflae_bridge.studies.benchmark.comparison import machine

    machines = "; ".join(f"{device}: {machine(device, settings.threads)}" for device in settings.devices)
    stated = [] if settings.problem.is_plain else [_stated(settings)]
    return f"{what}: {_link(settings)}", [*stated, machines]


def _check_room(settings: Settings, scaling: bool, look: FigureLook) -> None:
    """Check, before the comparison, that the size has room for its plots."""
    if look.size is None:
        return
    from nflae_bridge.cli.commands.studies.placeholders import bench_rows, scaled_rows
    from nflae_bridge.studies.benchmark.scaling import AXES

    scaled = scaled_rows(settings, AXES) if scaling else []
    look.check_room(list(_figures(bench_rows(settings), scaled, settings).values()))


def _figures(
    rows: Sequence[Measurement], scaled: Sequence[Scaled], settings: Settings
) -> dict[str, Callable[[], Figure]]:
    """Return the functions that draw the plots, by name."""
    from nflae_bridge.plots.benchmark import bench_figure, scaling_figure
    from nflae_bridge.studies.benchmark.pareto import objective_name

    name = objective_name(settings.problem)
    title, notes = _title(settings, f"{name.capitalize()} against time")
    numbers = (
        f"Numbers at the markers: iterations; for nflae refinement steps. The axis of {name}s is stretched upwards."
    )
    draw: dict[str, Callable[[], Figure]] = {
        "bench": lambda: bench_figure(rows, title, [*notes, numbers], settings.problem)
    }
    if scaled:
        draw["scaling"] = lambda: scaling_figure(scaled, *_title(settings, "Time per drop, where not varied"))
    return draw


def _draw(
    output: Path,
    rows: Sequence[Measurement],
    scaled: Sequence[Scaled],
    settings: Settings,
    look: FigureLook,
    kind: str,
) -> None:
    """Draw what is measured, once all tables are written."""
    from nflae_bridge.network.checkpoint import write_atomically

    draw = _figures(rows, scaled, settings)
    for stem, figure in draw.items():
        write_atomically(output / f"{stem}.{kind}", look.render(figure, kind))
    fact("plotted", ", ".join(str(output / f"{stem}.{kind}") for stem in draw))


def _report(rows: Sequence[Measurement], problem: PrecodingProblem) -> None:
    from nflae_bridge.studies.benchmark.comparison import by_panel
    from nflae_bridge.studies.benchmark.pareto import objective_name, on_front, ratios, share_of_reference

    name = objective_name(problem)
    for (device, batch), found in by_panel(rows).items():
        headings = (
            "competitor",
            "median\nper drop",
            "p99\nper drop",
            f"{name}\nbps/Hz",
            "of wmmse-100" if problem.is_plain else "of the best\nrival",
            "on the\nfront",
        )
        listed = Table(
            (*headings, "computed by"),
            title=f"{device}, {batch:,} drop{'s' if batch > 1 else ''} per call, {found[0].calls} calls",
        )
        for row, front in zip(found, on_front(found), strict=True):
            share = share_of_reference(found, row, problem)
            listed.add_row(
                row.name,
                duration(row.median),
                duration(row.p99),
                "" if row.objective != row.objective else _rate(row.objective),
                "" if share is None else f"{100 * share:.2f} %",
                "yes" if front else "",
                row.implementation,
            )
        listed.show()
        networks = [row for row in found if row.scheme == "nflae"]
        if networks:
            compared = Table(("median time over nflae", *(row.name for row in networks)))
            for line in zip(*(ratios(found, row, name) for row in networks), strict=True):
                compared.add_row(line[0].quantity, *map(_ratio, line))
            compared.show()


def _scale(output: Path, settings: Settings) -> Sequence[Scaled]:
    """Measure, write and report the growth of the times."""
    from nflae_bridge.network.checkpoint import write_atomically
    from nflae_bridge.studies.benchmark.scaling import AXES, scale, scale_rounds
    from nflae_bridge.studies.benchmark.tables import scaling_csv

    with progress("scaling", scale_rounds(settings, AXES), "rounds") as advance:
        scaled = scale(settings, AXES, advance)
    write_atomically(output / "scaling.csv", scaling_csv(scaled, settings))
    _report_scaling(scaled)
    fact("written", str(output / "scaling.csv"))
    return scaled


def _report_scaling(scaled: Sequence[Scaled]) -> None:
    from nflae_bridge.studies.benchmark.scaling import series, slope

    listed = Table(("slope of time per drop", "device", "against", "fitted over", "exponent"))
    for points in series(scaled).values():
        found = slope(points)
        span = f"{found.first:,} to {found.last:,}"
        listed.add_row(found.name, found.device, found.axis, span, f"{found.exponent:+.2f}")
    listed.show()


def _ratio(ratio: Ratio) -> str:
    if ratio.times is None:
        return "none"
    return f"{ratio.times:{'.2f' if ratio.times >= 1 else '#.3g'}} ({ratio.rival})"


def _rate(value: float) -> str:
    return f"{value:.3f}" if value >= 1 else f"{value:.3g}"
