"""Implement ``nflae evaluate``: compare all schemes on the same channels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.common import (
    ChannelOptions,
    PlotOptions,
    WorkOptions,
    budget_options,
    channel_options,
    cluster_option,
    near_field_option,
    plot_options,
    work_options,
)
from nflae_bridge.cli.options.scheme import SchemeOption
from nflae_bridge.cli.terminal import Table, announce, duration, fact, progress, warn
from nflae_bridge.files.budget.choice import BudgetRequest, choose_budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from matlab_io import ChannelFile
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.drop_picture import DropPicture
    from nflae_bridge.studies.evaluation import Evaluation
    from simulator.downlink.budget import LinkBudget


@click.command(
    "evaluate",
    short_help="Compare schemes on a file: sum rate, capacity, time.",
    epilog="""\b
    Examples:
      nflae evaluate channels.mat
      nflae evaluate channels.mat --alpha-c 0.4 --min-rate 0.6 --schemes rzf,wmmse,nflae
      nflae evaluate channels.mat --drops 5000 --csv schemes.csv --plot schemes.png
      nflae evaluate channels.mat --drops 100000 --cluster local:8

    All schemes use the same near-field labels, those of the file or the network.
    Times are medians of five runs on one block.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "--schemes",
    cls=SchemeOption,
    several=True,
    help="Schemes to evaluate, each with its own options, e.g. rzf,wmmse:iterations=50.  [default: all]",
)
@click.option("--optimiser", is_flag=True, help="Add the slow per-drop optimiser, the reference under constraints.")
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Evaluate at most this many drops, from the first one on.",
)
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path), metavar="FILE", help="Also write the table to FILE."
)
@cluster_option
@channel_options
@near_field_option
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
    labels: str | None,
    reading: ChannelOptions,
    request: BudgetRequest,
    work: WorkOptions,
    plotting: PlotOptions,
) -> None:
    """Compare the schemes on the channels in IN.mat: sum rate, fraction of capacity, time per drop."""
    from nflae_bridge.cli.options.plot import check_plot, check_plot_drop, precode_drop_to_plot
    from nflae_bridge.cli.outputs import check_output_path

    check_plot(plotting, forbidden=(source,))
    if csv_path is not None:
        check_output_path(csv_path, forbidden=(source, *([plotting.plot] if plotting.plot else [])))
    with reading.open(source) as file:
        choice = choose_budget(request, file, progress)
        check_plot_drop(plotting, file)
        announce(file, choice, request.yes)

        from nflae_bridge.engine.devices import choose_device, drops_per_block
        from nflae_bridge.files.blocks import blocks
        from nflae_bridge.files.labels import LabelSource
        from nflae_bridge.network.shipped import portable_model
        from nflae_bridge.studies.evaluation import BLOCK_DROPS, Comparison, evaluate

        device, budget = choose_device(work.device), choice.link_budget()
        # The workers of a cluster may have another device than this machine; the network must be the same.
        model = portable_model(work.model, device.type)
        comparison = Comparison(tuple(schemes), optimiser, model, work.device, work.refine, budget)
        engine = comparison.engine()
        stop = min(drops, file.drops)
        batch = work.batch or min(drops_per_block(file.users, file.antennas), BLOCK_DROPS)
        given, origin = _labels(file, labels)
        drop_blocks = blocks(file, stop, batch, work.on_bad_drop, choice.noise, given)
        with progress("evaluate", stop, "drops") as advance:
            found = evaluate(drop_blocks, comparison, advance, cluster)
        shown = None
        if plotting.plot is not None:
            name = "nflae" if "nflae" in schemes else schemes[0]
            scheme = comparison.schemes_by_name()[name]
            label_source = LabelSource(given, engine.near_field_score)
            shown = precode_drop_to_plot(plotting, file, name, scheme, budget, device, choice.noise, label_source)
        outputs = [] if plotting.plot is None or shown is None else [_drawn(plotting.plot, shown, found)]
        if csv_path is not None:
            outputs.append(_table_file(csv_path, found))
        for output in outputs:
            output.save()
        _report(found, file.drops, budget, origin or f"model {engine.checkpoint.name}", str(device))
        if choice.sum_rate_scope:
            fact("sum rate", f"in bps/Hz{choice.sum_rate_scope}")
    for output in outputs:
        fact("written", str(output.path))
    if found.lost is not None:
        raise NflaeError(f"only {found.drops} of {stop} drops: {found.lost}")


def _report(found: Evaluation, in_file: int, budget: LinkBudget, labels: str, device: str) -> None:
    from simulator.schemes import needs_sic

    rows = Table(("scheme", "mean sum rate\nbps/Hz", "of capacity", "min_rate\nmissed", "time per drop"))
    for score in found.scores:
        rows.add_row(
            score.scheme,
            f"{score.mean_sum_rate:.3f}",
            f"{100 * score.mean_sum_rate / found.capacity:.2f} %",
            f"{100 * score.infeasible:.1f} %",
            "not timed" if score.seconds_per_drop is None else duration(score.seconds_per_drop),
        )
    rows.add_section()
    rows.add_row("capacity (DPC)", f"{found.capacity:.3f}", "100 %", "", "")
    rows.show()
    used = f"the first {found.drops} of {in_file}" if found.drops < in_file else f"all {found.drops}"
    skipped = f", {found.skipped} bad drop{'s' if found.skipped > 1 else ''} skipped" if found.skipped else ""
    fact("drops", f"{used}{skipped}; {100 * found.near_field_share:.1f} % of the users near-field ({labels})")
    fact("time", f"median of 5 runs on a block of {found.timed_drops} drops, on {device}, after one warm-up")
    sic = [score.scheme for score in found.scores if needs_sic(score.scheme)]
    if sic:
        names = ", ".join(sic)
        fact("receivers", f"the rates of {names} need users that decode and cancel the messages of others (SIC)")
    nflae = next((score for score in found.scores if score.scheme == "nflae"), None)
    if nflae is not None:
        fact("fallback to RZF", f"on {100 * nflae.fallback:.1f} % of the drops")
    if budget.constrains_near_field or budget.demands_rates:
        fact("capacity", "without alpha_c and min_rate: the schemes, which hold them, cannot reach it")


def _labels(file: ChannelFile, wanted: str | None) -> tuple[npt.NDArray[np.bool_] | None, str]:
    """Return the labels in the file, and their origin; warn where the network's would be those of another array."""
    from nflae_bridge.files.labels import read_labels, stated_panel

    given, origin = read_labels(file, wanted)
    if given is None and (panel := stated_panel(file)) is not None:
        warn(f"near-field labels are those of a line, and {file.path} states {panel}: give --near-field VAR")
    return given, origin


def _drawn(path: Path, shown: DropPicture, found: Evaluation) -> SideFile:
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.schemes import SchemeBar, schemes_figure
    from nflae_bridge.plots.style import plot_format, render

    bars = [
        SchemeBar(
            score.scheme,
            score.mean_sum_rate,
            f"{score.mean_sum_rate:.2f}  ({100 * score.mean_sum_rate / found.capacity:.1f} % of capacity"
            + (f", {duration(score.seconds_per_drop)} per drop)" if score.seconds_per_drop is not None else ")"),
        )
        for score in found.scores
    ]
    figure = schemes_figure(shown, bars, found.capacity, f"{found.drops - found.skipped} drops")
    return SideFile(path, render(figure, plot_format(path)))


def _table_file(path: Path, found: Evaluation) -> SideFile:
    from nflae_bridge.cli.outputs import SideFile

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
