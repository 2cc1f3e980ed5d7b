"""Implement ``nflae evaluate``: compare all schemes on the same channels."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.common import (
    ChannelOptions,
    WorkOptions,
    budget_options,
    channel_options,
    cluster_option,
    near_field_option,
    work_options,
)
from nflae_bridge.cli.options.plot import PlotOptions, plot_options
from nflae_bridge.cli.options.problem import problem_options
from nflae_bridge.cli.options.scheme import SchemeOption, usable_schemes
from nflae_bridge.cli.terminal import Table, announce, duration, fact, progress
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest, choose_budget
from nflae_bridge.files.problem import ProblemRequest, check_together, choose_problem, problem_budget

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.files.blocks import Block
    from nflae_bridge.plots.drop_picture import DropPicture
    from nflae_bridge.plots.look import FigureLook
    from nflae_bridge.studies.evaluation import Evaluation, Score
    from simulator.downlink.budget import LinkBudget
    from simulator.problems.problem import PrecodingProblem


@click.command(
    "evaluate",
    short_help="Compare schemes on a file: sum rate, capacity, time.",
    epilog="""\b
    Examples:
      nflae evaluate channels.mat
      nflae evaluate channels.mat --alpha-c 0.4 --min-rate 0.6 --schemes rzf,wmmse,nflae
      nflae evaluate channels.mat --drops 5000 --csv schemes.csv --plot schemes.png
      nflae evaluate channels.mat --drops 100000 --cluster local:8
      nflae evaluate channels.mat --power-per-antenna 0.01

    All schemes use the same near-field labels, those of the file or the network.
    Other problems than the plain sum rate are solved by every scheme there is for them, and measured by their own
    objective. Times are medians of five runs on one block.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "--schemes",
    cls=SchemeOption,
    several=True,
    problems=True,
    help="Schemes to evaluate, each with its own options, e.g. rzf,wmmse:iterations=50.  [default: all of the problem]",
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
@problem_options
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
    wanted: ProblemRequest,
    work: WorkOptions,
    plotting: PlotOptions,
) -> None:
    """Compare the schemes on the channels in IN.mat: sum rate, fraction of capacity, time per drop."""
    from nflae_bridge.cli.options.plot import check_plot_drop, precode_drop_to_plot

    _check_outputs(source, csv_path, plotting)
    with reading.open(source, joint=True) as file:
        choice = choose_budget(request, file, progress, wanted.power_per_antenna)
        problem, budget, schemes = _checked_problem(wanted, choice, file, schemes, optimiser, plotting)
        check_plot_drop(plotting, file)
        announce(file, choice, request.yes)

        from nflae_bridge.engine.devices import choose_device
        from nflae_bridge.files.blocks import blocks
        from nflae_bridge.files.labels import LabelSource, describe_panel_labels, read_labels, stated_panel
        from nflae_bridge.network.shipped import portable_model
        from nflae_bridge.studies.evaluation import Comparison, evaluate

        device = choose_device(work.device)
        # The workers of a cluster may have another device than this machine; the network must be the same.
        model = portable_model(work.model, device.type)
        given, origin = read_labels(file, labels)
        panel = stated_panel(file, labels) if given is None else None
        comparison = Comparison(tuple(schemes), optimiser, model, work.device, work.refine, budget, problem, panel)
        engine = comparison.engine()
        stop, batch = _whole_counts(problem, file, drops, work.batch)
        drop_blocks = blocks(file, stop, batch, work.on_bad_drop, choice.noise, given)
        with progress("evaluate", stop, "drops") as advance:
            found = evaluate(_whole(problem, file, drop_blocks), comparison, advance, cluster)
        shown = None
        if plotting.plot is not None:
            name = "nflae" if "nflae" in schemes else schemes[0]
            scheme = comparison.schemes_by_name()[name]
            label_source = LabelSource(given, comparison.near_field_score, panel is None, panel)
            shown = precode_drop_to_plot(plotting, file, name, scheme, budget, device, choice.noise, label_source)
        outputs = [] if plotting.plot is None or shown is None else [_drawn(plotting.plot, shown, found, plotting.look)]
        if csv_path is not None:
            outputs.append(_table_file(csv_path, found, problem))
        for output in outputs:
            output.save()
        origin = origin or describe_panel_labels(panel, file, labels) or f"model {engine.checkpoint.name}"
        _report(found, problem, file.drops, budget, origin, str(device), file.users < file.antennas)
        if choice.sum_rate_scope and choice.power_scope != "total":
            fact("sum rate", f"in bps/Hz{choice.sum_rate_scope}")
    for output in outputs:
        fact("written", str(output.path))
    if found.lost is not None:
        raise NflaeError(f"only {found.drops} of {stop} drops: {found.lost}")


def _check_outputs(source: Path, csv_path: Path | None, plotting: PlotOptions) -> None:
    from nflae_bridge.cli.options.plot import check_plot
    from nflae_bridge.cli.outputs import check_output_path

    check_plot(plotting, forbidden=(source,))
    if csv_path is not None:
        check_output_path(csv_path, forbidden=(source, *([plotting.plot] if plotting.plot else [])))


def _whole_counts(problem: PrecodingProblem, file: ChannelFile, drops: int, batch: int | None) -> tuple[int, int]:
    """Return the number of drops to evaluate and that per block, multiples of those that are solved together."""
    from nflae_bridge.engine.devices import drops_per_block
    from nflae_bridge.studies.evaluation import BLOCK_DROPS

    together = problem.drops_together
    batch = batch or min(drops_per_block(file.users, file.antennas), BLOCK_DROPS)
    return min(max(drops - drops % together, together), file.drops), batch + -batch % together


def _checked_problem(
    wanted: ProblemRequest,
    choice: BudgetChoice,
    file: ChannelFile,
    schemes: list[str],
    optimiser: bool,
    plotting: PlotOptions,
) -> tuple[PrecodingProblem, LinkBudget, list[str]]:
    """Return the problem of a file, its link budget, and the schemes, each of which solves it."""
    from simulator.problems.combinations import check_combination, solving_schemes
    from simulator.problems.dispatch import check_problem_scheme
    from simulator.schemes.options import split_spec

    problem = choose_problem(wanted, file, choice)
    budget = choice.link_budget() if problem.is_plain else problem_budget(problem, choice, file.antennas)
    if problem.is_plain:
        schemes = schemes or usable_schemes()
        for spec in schemes:
            check_combination(problem, budget, split_spec(spec)[0])
        return problem, budget, schemes
    schemes = schemes or list(solving_schemes(problem))
    for spec in schemes:
        check_problem_scheme(problem, budget, spec)
    for option, given in (("--optimiser", optimiser), ("--plot", plotting.plot is not None)):
        if given:
            raise click.UsageError(
                f"{option} applies to the plain sum rate under one total power: leave it out with other problems"
            )
    fact("problem", ", ".join(sorted(problem.parts)))
    return problem, budget, schemes


def _whole(problem: PrecodingProblem, file: ChannelFile, blocks: Iterator[Block]) -> Iterator[Block]:
    """Pass on blocks after a check of those whose drops are solved together."""
    for block in blocks:
        check_together(problem, file, block)
        yield block


def _report(
    found: Evaluation,
    problem: PrecodingProblem,
    in_file: int,
    budget: LinkBudget,
    labels: str,
    device: str,
    all_served: bool,
) -> None:
    from simulator.schemes import needs_sic

    rows = Table(("scheme", *_columns(problem)))
    for score in found.scores:
        time = "not timed" if score.seconds_per_drop is None else duration(score.seconds_per_drop)
        limits = () if problem.is_plain else (str(score.violated), str(score.below))
        share = f"{100 * _share(score, found, problem):.2f} %"
        rows.add_row(score.scheme, f"{score.mean:.3f}", share, *limits, f"{100 * score.infeasible:.1f} %", time)
    if found.capacity is not None:
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
    if nflae is not None and problem.is_plain:
        selected = "" if all_served else "; with as many users as antennas or more, RZF is that of selected users"
        fact("fallback to RZF", f"on {100 * nflae.fallback:.1f} % of the drops{selected}")
    elif nflae is not None and problem.starts_from_network:
        fact("fallback", f"to a textbook start of the problem on {100 * nflae.fallback:.1f} % of the drops")
    if found.capacity is not None and (budget.constrains_near_field or budget.demands_rates):
        fact("capacity", "without alpha_c and min_rate: the schemes, which hold them, cannot reach it")


def _columns(problem: PrecodingProblem) -> tuple[str, ...]:
    """Return the headings of the table after the schemes."""
    after = ("min_rate\nmissed", "time per drop")
    if problem.is_plain:
        return "mean sum rate\nbps/Hz", "of capacity", *after
    name = {"max-min": "mean smallest rate\nbps/Hz", "proportional-fair": "sum of ln\nmean rates"}
    default = "mean sum rate\nbps/Hz"
    if problem.weights is not None:
        default = "mean weighted\nsum rate, bps/Hz"
    elif "subcarrier power" in problem.parts:
        default = f"of {problem.subcarriers} subcarriers\nbps/Hz"
    return name.get(problem.objective, default), "of the best", "limits\nviolated", "below\nthe textbook", *after


def _share(score: Score, found: Evaluation, problem: PrecodingProblem) -> float:
    """Return the fraction of the capacity, or of the best scheme; of a sum of logarithms that of the geometric mean."""
    if found.capacity is not None:
        return score.mean / found.capacity
    best = found.scores[-1].mean
    if problem.objective == "proportional-fair":
        return math.exp((score.mean - best) / found.users)
    return score.mean / best


def _drawn(path: Path, shown: DropPicture, found: Evaluation, look: FigureLook) -> SideFile:
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.look import plot_format
    from nflae_bridge.plots.schemes import SchemeBar, schemes_figure

    assert found.capacity is not None
    capacity = found.capacity
    bars = [
        SchemeBar(
            score.scheme,
            score.mean,
            f"{score.mean:.2f}  ({100 * score.mean / capacity:.1f} % of capacity"
            + (f", {duration(score.seconds_per_drop)} per drop)" if score.seconds_per_drop is not None else ")"),
        )
        for score in found.scores
    ]
    note = f"{found.drops - found.skipped} drops"
    return SideFile(path, look.render(lambda: schemes_figure(shown, bars, capacity, note), plot_format(path)))


def _table_file(path: Path, found: Evaluation, problem: PrecodingProblem) -> SideFile:
    from nflae_bridge.cli.outputs import SideFile

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    value, share = ("mean_sum_rate", "share_of_capacity") if problem.is_plain else ("mean_objective", "share_of_best")
    limits = [] if problem.is_plain else ["violated", "below_textbook"]
    writer.writerow(["scheme", value, share, "infeasible_share", "fallback_share", *limits, "seconds_per_drop"])
    for score in found.scores:
        writer.writerow(
            [
                score.scheme,
                f"{score.mean:.6f}",
                f"{_share(score, found, problem):.6f}",
                f"{score.infeasible:.6f}",
                f"{score.fallback:.6f}",
                *([] if problem.is_plain else [score.violated, score.below]),
                "" if score.seconds_per_drop is None else f"{score.seconds_per_drop:.3e}",
            ]
        )
    if found.capacity is not None:
        writer.writerow(["capacity", f"{found.capacity:.6f}", "1", "", "", ""])
    return SideFile(path, text.getvalue().encode())
