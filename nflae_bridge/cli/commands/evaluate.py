"""``nflae evaluate``: every scheme on the same channels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options import (
    ChannelOptions,
    PlotOptions,
    WorkOptions,
    budget_options,
    channel_options,
    chosen_schemes,
    cluster_option,
    plot_options,
    scheme_names,
    work_options,
)
from nflae_bridge.cli.terminal import announce, fact, progress, show, table
from nflae_bridge.files.budget import BudgetRequest, choose_budget

if TYPE_CHECKING:
    from nflae_bridge.cli.drawing import SideFile
    from nflae_bridge.plots.users_map import DropPicture
    from nflae_bridge.studies.evaluation import Evaluation
    from simulator.downlink.budget import LinkBudget


@click.command(
    "evaluate",
    short_help="Every scheme on a file's channels: rate, capacity, time.",
    epilog="""\b
    Examples:
      nflae evaluate channels.mat
      nflae evaluate channels.mat --alpha-c 0.4 --min-rate 0.6 --schemes rzf,wmmse,nflae
      nflae evaluate channels.mat --drops 5000 --csv schemes.csv --plot schemes.png
      nflae evaluate channels.mat --drops 100000 --cluster local:8

    All schemes go by the same near-field labels, the network's. Times are medians of five runs on one block.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "--schemes",
    callback=chosen_schemes,
    metavar="NAME,...",
    help=f"Which, of {', '.join(scheme_names())}; noma's rates need receivers with SIC.  [default: all]",
)
@click.option("--optimiser", is_flag=True, help="Also the slow per-drop optimiser, the reference under constraints.")
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Evaluate on at most this many drops, the file's first.",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the table there, too.")
@cluster_option
@channel_options
@budget_options
@work_options
@plot_options
def command(
    source: Path,
    schemes: list[str],
    optimiser: bool,
    drops: int,
    csv_path: Path | None,
    cluster: str | None,
    reading: ChannelOptions,
    request: BudgetRequest,
    work: WorkOptions,
    drawing: PlotOptions,
) -> None:
    """Every scheme on the channels in IN.mat: sum rate, share of capacity, time per drop."""
    from nflae_bridge.cli.drawing import check_place, check_plot, check_plot_drop, picture_of

    check_plot(drawing, forbidden=(source,))
    if csv_path is not None:
        check_place(csv_path, forbidden=(source, *([drawing.plot] if drawing.plot else [])))
    with reading.open(source) as file:
        choice = choose_budget(request, file)
        check_plot_drop(drawing, file)
        announce(file, choice)

        from nflae_bridge.engine.block_size import drops_per_block
        from nflae_bridge.engine.devices import choose_device
        from nflae_bridge.files.blocks import blocks
        from nflae_bridge.network.shipped import portable_model
        from nflae_bridge.studies.evaluation import BLOCK_DROPS, Comparison, evaluate

        device, budget = choose_device(work.device), choice.link_budget()
        # A cluster's workers may have another device than this machine; the network is to be the same.
        model = portable_model(work.model, device.type)
        comparison = Comparison(tuple(schemes), optimiser, model, work.device, work.refine, budget)
        engine = comparison.engine()
        stop = min(drops, file.drops)
        batch = work.batch or min(drops_per_block(file.users, file.antennas), BLOCK_DROPS)
        with progress("evaluate", stop, "drops") as advance:
            found = evaluate(blocks(file, stop, batch, work.on_bad_drop), comparison, advance, cluster)
        shown = None
        if drawing.plot is not None:
            name = "nflae" if "nflae" in schemes else schemes[0]
            shown = picture_of(drawing, file, name, comparison.schemes_by_name()[name], budget, device)
        outputs = [] if shown is None else [_drawn(drawing, shown, found)]
        if csv_path is not None:
            outputs.append(_table_file(csv_path, found))
        for output in outputs:
            output.save()
        _report(found, file.drops, budget, f"model {engine.checkpoint.name}", str(device))
    for output in outputs:
        fact("written", str(output.path))
    if found.lost is not None:
        raise NflaeError(f"only {found.drops} of {stop} drops: {found.lost}")


def _report(found: Evaluation, in_file: int, budget: LinkBudget, model: str, device: str) -> None:
    from simulator.schemes import needs_sic

    rows = table("scheme", "mean sum rate\nbps/Hz", "of capacity", "min_rate\nmissed", "time per drop")
    for score in found.scores:
        rows.add_row(
            score.scheme,
            f"{score.mean_sum_rate:.3f}",
            f"{100 * score.mean_sum_rate / found.capacity:.2f} %",
            f"{100 * score.infeasible:.1f} %",
            _duration(score.seconds_per_drop),
        )
    rows.add_section()
    rows.add_row("capacity (DPC)", f"{found.capacity:.3f}", "100 %", "", "")
    show(rows)
    used = f"the first {found.drops} of {in_file}" if found.drops < in_file else f"all {found.drops}"
    skipped = f", {found.skipped} bad ones left out" if found.skipped else ""
    fact("drops", f"{used}{skipped}; {100 * found.near_field_share:.1f} % of the users near-field ({model})")
    fact("time", f"median of 5 runs on a block of {found.timed_drops} drops, on {device}, one warm-up before")
    sic = [score.scheme for score in found.scores if needs_sic(score.scheme)]
    if sic:
        names = ", ".join(sic)
        fact("receivers", f"the rates of {names} need users that decode and cancel each other's messages (SIC)")
    nflae = next((score for score in found.scores if score.scheme == "nflae"), None)
    if nflae is not None:
        fact("fallback to RZF", f"on {100 * nflae.fallback:.1f} % of the drops")
    if budget.constrains_near_field or budget.demands_rates:
        fact("capacity", "knows neither alpha_c nor min_rate: with these no scheme need come near it")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not timed"
    return f"{1e3 * seconds:.3f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} us"


def _drawn(drawing: PlotOptions, shown: DropPicture, found: Evaluation) -> SideFile:
    from nflae_bridge.cli.drawing import SideFile
    from nflae_bridge.plots.schemes import SchemeBar, schemes_figure
    from nflae_bridge.plots.style import plot_format, render

    assert drawing.plot is not None
    bars = [
        SchemeBar(
            score.scheme,
            score.mean_sum_rate,
            f"{score.mean_sum_rate:.2f}  ({100 * score.mean_sum_rate / found.capacity:.1f} % of capacity"
            + (f", {_duration(score.seconds_per_drop)} a drop)" if score.seconds_per_drop is not None else ")"),
        )
        for score in found.scores
    ]
    figure = schemes_figure(shown, bars, found.capacity, f"{found.drops - found.skipped} drops")
    return SideFile(drawing.plot, render(figure, plot_format(drawing.plot)))


def _table_file(path: Path, found: Evaluation) -> SideFile:
    from nflae_bridge.cli.drawing import SideFile

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["scheme", "mean_sum_rate", "share_of_capacity", "infeasible_share", "fallback_share", "seconds_per_drop"]
    )
    for score in found.scores:
        writer.writerow(
            [
                score.scheme,
                f"{score.mean_sum_rate:.6f}",
                f"{score.mean_sum_rate / found.capacity:.6f}",
                f"{score.infeasible:.6f}",
                f"{score.fallback:.6f}",
                "" if score.seconds_per_drop is None else f"{score.seconds_per_drop:.3e}",
            ]
        )
    writer.writerow(["capacity", f"{found.capacity:.6f}", "1", "", "", ""])
    return SideFile(path, text.getvalue().encode())
