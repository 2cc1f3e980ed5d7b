"""Implement ``nflae evaluate``: compare all schemes on the same channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.commands.studies import evaluation_report as reports
from nflae_bridge.cli.options.common import (
    ChannelOptions,
    WorkOptions,
    channel_options,
    cluster_option,
    near_field_option,
    refuse_options,
)
from nflae_bridge.cli.options.evaluation import (
    EvaluationOptions,
    evaluation_budget_options,
    evaluation_options,
    evaluation_work_options,
)
from nflae_bridge.cli.options.plot import PlotOptions, plot_options
from nflae_bridge.cli.options.problem import problem_options
from nflae_bridge.cli.options.scheme import NETWORK, SchemeOption, refuse_network_options, usable_schemes
from nflae_bridge.cli.terminal import announce, fact, progress, warn
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest
from nflae_bridge.files.problem import ProblemRequest, check_together, choose_problem, problem_budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from matlab_io import ChannelFile
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.files.blocks import Block
    from nflae_bridge.plots.drop_picture import DropPicture
    from nflae_bridge.studies.evaluation.comparison import Comparison
    from nflae_bridge.studies.evaluation.tables import SnrPoint
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
      nflae evaluate channels.mat --snr-db -10:30:5 --plot rates.pdf
      nflae evaluate channels.mat --var H_est --h-true H_true --per-drop drops.csv
      nflae evaluate flight.mat --csi predicted:4,noisy:10 --plot cdf.png --plot-kind cdf
      nflae evaluate channels.mat --schemes rzf,nflae --model tiny --model runs/mine
      nflae evaluate channels.mat --drops 100000 --cluster local:8
      nflae evaluate channels.mat --power-per-antenna 0.01

    All schemes use the same near-field labels, those of the file or the network.
    Intervals are of 95 %, by a bootstrap over the drops, in blocks where successive drops are correlated.
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
@evaluation_options
@cluster_option
@channel_options
@near_field_option
@evaluation_budget_options
@problem_options
@evaluation_work_options
@plot_options
def command(
    source: Path,
    schemes: list[str],
    optimiser: bool,
    cluster: str | None,
    labels: str | None,
    wished: EvaluationOptions,
    reading: ChannelOptions,
    request: BudgetRequest,
    wanted: ProblemRequest,
    work: WorkOptions,
    plotting: PlotOptions,
) -> None:
    """Compare the schemes on the channels in IN.mat: sum rate, fraction of capacity, time per drop."""
    kind = wished.content_of_plot(plotting)
    snrs: list[float | None] = [None] if wished.sweep is None else [*wished.sweep]
    if wished.sweep is not None:
        request = replace(request, snr_db=wished.sweep[0])
    if wished.models:
        refuse_options("chooses the model: leave out --model, or the effort.", ("effort",))
        work = replace(work, model=wished.models[0])
    _check_outputs(source, wished, plotting)
    with ExitStack() as stack:
        file = stack.enter_context(reading.open(source, joint=True))
        judged = file
        if wished.true_variable is not None:
            judged = stack.enter_context(_open_true(reading, wished.true_variable, file))
        problem, choice = choose_problem(wanted, request, judged, progress)
        schemes = _checked_schemes(problem, wished, choice, schemes, optimiser, plotting)
        remedy = "belongs to scheme nflae: add it to --schemes, or leave it out."
        refuse_network_options(schemes, remedy, problem.objective)
        budget = choice.link_budget() if problem.is_plain else problem_budget(problem, choice, file.antennas)
        for spec in schemes:
            _check_scheme(problem, budget, spec)
        _announce(file, judged, choice, request.yes, wished)
        setup = _Setup(file, judged, choice, problem, wished, labels)
        comparison = _comparison(setup, tuple(schemes), optimiser, work, budget)
        shown = _checked_drop(setup, comparison, plotting) if plotting.plot is not None and kind == "users" else None
        points = _evaluate(setup, comparison, work, snrs, cluster)
        tables = _tables(setup, points)
        for table in tables:
            table.save()
        reports.report(points, problem, budget, setup.origin(comparison), comparison, file, wished.degrades)
        if choice.sum_rate_scope and choice.power_scope != "total":
            fact("sum rate", f"in bps/Hz{choice.sum_rate_scope}")
        for table in tables:
            fact("written", str(table.path))
        if plotting.plot is not None and (kind != "users" or shown is not None):
            reports.drawn(plotting.plot, points, kind, shown, setup.title(points), plotting.look).save()
            fact("plotted", str(plotting.plot))
    found = points[-1].found
    if found.lost is not None:
        raise NflaeError(f"only {found.drops} drops of the last SNR: {found.lost}")


@dataclass(frozen=True)
class _Setup:
    """Hold the channels of the precoders and those on which they are judged, and what is known of them."""

    file: ChannelFile
    judged: ChannelFile
    choice: BudgetChoice
    problem: PrecodingProblem
    wished: EvaluationOptions
    labels: str | None

    def given(self) -> tuple[npt.NDArray[np.bool_] | None, str]:
        """Return the near-field labels of the file and their origin."""
        from nflae_bridge.files.labels import read_labels

        return read_labels(self.file, self.labels)

    def origin(self, comparison: Comparison) -> str:
        """Return the origin of the labels, in words."""
        from nflae_bridge.files.labels import describe_panel_labels

        panel = describe_panel_labels(comparison.panel, self.file, self.labels)
        return self.given()[1] or panel or f"model {comparison.engine().checkpoint.name}"

    def title(self, points: Sequence[SnrPoint]) -> str:
        """Return the title of a plot of all drops."""
        title = f"{self.file.path.name}, {points[0].found.drops - points[0].found.skipped} drops"
        title += f", {self.wished.csi} CSI" if self.wished.csi else ""
        return title + (f", precoders from {self.file.variable}" if self.judged is not self.file else "")


def _open_true(reading: ChannelOptions, name: str, file: ChannelFile) -> ChannelFile:
    """Open the true channels, of the same drops as those of the file."""
    from nflae_bridge.studies.evaluation.csi_blocks import check_same_drops

    true = replace(reading, variable=name).open(file.path, joint=True)
    check_same_drops(file, true)
    return true


def _announce(
    file: ChannelFile, judged: ChannelFile, choice: BudgetChoice, yes: bool, wished: EvaluationOptions
) -> None:
    """Print the channels, the link budget, the CSI and the SNRs."""
    if judged is not file:
        for note in file.notes:
            fact("CSI", note)
    announce(judged, choice, yes)
    if judged is not file:
        fact("judged on", f"{judged.variable}; the precoders, and the labels of users, come from {file.variable}")
    if wished.csi not in (None, "perfect"):
        fact("CSI", f"{wished.csi}, seed {wished.seed}; judged on {judged.variable}")
    if wished.sweep is not None and len(wished.sweep) > 1:
        low, high = wished.sweep[0], wished.sweep[-1]
        fact("sweep", f"{len(wished.sweep)} SNRs of the mean user, {low:g} to {high:g} dB; the first is shown above")


def _comparison(
    setup: _Setup, schemes: tuple[str, ...], optimiser: bool, work: WorkOptions, budget: LinkBudget
) -> Comparison:
    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.files.labels import stated_panel
    from nflae_bridge.network.shipped import portable_model
    from nflae_bridge.studies.evaluation.comparison import Comparison

    kind = choose_device(work.device).type
    # The workers of a cluster may have another device than this machine; the network must be the same.
    models = list(dict.fromkeys(portable_model(model, kind) for model in setup.wished.models or (work.model,)))
    names = [Path(model).name for model in models]
    if len(set(names)) < len(names):
        raise click.UsageError(f"two folders of --model are named {names[-1]}: rename one, the rows are named by them.")
    given = setup.given()[0]
    panel = stated_panel(setup.file, setup.labels) if given is None else None
    if NETWORK not in schemes and (given is not None or panel is not None):
        refuse_options("belongs to scheme nflae, and to labels that nothing states: leave it out.", ("models",))
    return Comparison(
        schemes, optimiser, models[0], work.device, work.refine, budget, setup.problem, panel, tuple(models[1:])
    )


def _evaluate(
    setup: _Setup, comparison: Comparison, work: WorkOptions, snrs: Sequence[float | None], cluster: str | None
) -> list[SnrPoint]:
    """Evaluate the schemes at every SNR, with the same CSI; without times where there are several."""
    from nflae_bridge.studies.evaluation.evaluate import evaluate
    from nflae_bridge.studies.evaluation.tables import SnrPoint

    stop, passing = _passes(setup, work)
    points: list[SnrPoint] = []
    with progress("evaluate", stop * len(snrs), "drops") as advance:
        for index, snr in enumerate(snrs):
            budget = comparison.budget
            if snr is not None and snrs[0] is not None:
                budget = replace(budget, noise_power=budget.noise_power * 10 ** ((snrs[0] - snr) / 10))

            def note(done: int, text: str, before: int = index * stop) -> None:
                advance(before + done, text)

            at = replace(comparison, budget=budget)
            found = evaluate(_whole(setup, passing()), at, note, cluster, timed=len(snrs) == 1)
            points.append(SnrPoint(snr if len(snrs) > 1 else None, found))
            if found.lost is not None:
                break
    return points


def _passes(setup: _Setup, work: WorkOptions) -> tuple[int, Callable[[], Iterator[Block]]]:
    """Return the number of drops, and a function that yields their blocks anew."""
    from nflae_bridge.files.blocks import blocks
    from nflae_bridge.studies.evaluation.csi_blocks import DegradedDrops, paired_blocks
    from simulator.csi.models import parse_csi

    file, judged, noise, given = setup.file, setup.judged, setup.choice.noise, setup.given()[0]
    stop, batch = _whole_counts(setup.problem, file, setup.wished.drops, work.batch)
    bad = work.on_bad_drop
    if setup.judged is not file:
        return stop, lambda: paired_blocks(file, judged, stop, batch, bad, noise, given)
    if setup.wished.degrades:
        csi = parse_csi(str(setup.wished.csi))
        degraded = DegradedDrops(file, csi, stop, batch, bad, noise, given, setup.wished.seed)
        for note in degraded.notes:
            warn(note)
        return degraded.drops, degraded.blocks
    return stop, lambda: blocks(file, stop, batch, bad, noise, given)


def _tables(setup: _Setup, points: list[SnrPoint]) -> list[SideFile]:
    """Return the tables, to be saved."""
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.studies.evaluation.tables import per_drop_table, summary_table

    tables: list[SideFile] = []
    if setup.wished.csv_path is not None:
        shares = [
            [reports.share(score, point.found, setup.problem) for score in point.found.scores] for point in points
        ]
        tables.append(SideFile(setup.wished.csv_path, summary_table(points, setup.problem, shares)))
    if setup.wished.per_drop is not None:
        tables.append(SideFile(setup.wished.per_drop, per_drop_table(points, setup.problem)))
    return tables


def _checked_drop(setup: _Setup, comparison: Comparison, plotting: PlotOptions) -> DropPicture | None:
    """Return the answer of the network, or of the first scheme, on the drop to plot; refuse a size without room."""
    from nflae_bridge.cli.options.plot import check_plot_drop, precode_drop_to_plot
    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.files.labels import LabelSource

    check_plot_drop(plotting, setup.file)
    schemes = comparison.schemes_by_name()
    name = next((name for name in schemes if name.startswith("nflae")), next(iter(schemes)))
    panel, given = comparison.panel, setup.given()[0]
    source = LabelSource(given, comparison.near_field_score, panel is None, panel)
    device, budget = choose_device(comparison.device), comparison.budget
    args = (setup.file, name, schemes[name], budget, device, setup.choice.noise, source)
    shown = precode_drop_to_plot(plotting, *args)
    if shown is not None and plotting.size is not None:
        reports.check_room(shown, list(schemes), plotting.look)
    return shown


def _check_outputs(source: Path, wished: EvaluationOptions, plotting: PlotOptions) -> None:
    from nflae_bridge.cli.options.plot import check_plot
    from nflae_bridge.cli.outputs import check_output_path

    check_plot(plotting, forbidden=(source,))
    taken = [source] if plotting.plot is None else [source, plotting.plot]
    for path in (wished.csv_path, wished.per_drop):
        if path is not None:
            check_output_path(path, forbidden=tuple(taken))
            taken.append(path)


def _whole_counts(problem: PrecodingProblem, file: ChannelFile, drops: int, batch: int | None) -> tuple[int, int]:
    """Return the number of drops to evaluate and that per block, multiples of those that are solved together."""
    from nflae_bridge.engine.devices import drops_per_block
    from nflae_bridge.studies.evaluation.comparison import BLOCK_DROPS

    together = problem.drops_together
    batch = batch or min(drops_per_block(file.users, file.antennas), BLOCK_DROPS)
    return min(max(drops - drops % together, together), file.drops), batch + -batch % together


def _checked_schemes(
    problem: PrecodingProblem,
    wished: EvaluationOptions,
    choice: BudgetChoice,
    schemes: list[str],
    optimiser: bool,
    plotting: PlotOptions,
) -> list[str]:
    """Return the schemes, those of the problem by default; options that do not apply to it are refused."""
    from simulator.problems.combinations import solving_schemes
    from simulator.schemes import needs_sic

    if problem.is_plain:
        chosen = schemes or usable_schemes()
        if NETWORK not in chosen and len(wished.models) > 1:
            raise click.UsageError("several --model are compared as scheme nflae: add it to --schemes.")
        sic = [spec for spec in chosen if needs_sic(spec)] if wished.degrades else []
        if sic and schemes:
            raise click.UsageError(
                f"{sic[0]} needs receivers with SIC, whose rates hold for perfect CSI: leave it out."
            )
        return [spec for spec in chosen if spec not in sic]
    for option, given in (
        ("--optimiser", optimiser),
        ("--plot", plotting.plot is not None),
        ("--csi", wished.csi is not None),
        ("--h-true", wished.true_variable is not None),
        ("several --model", len(wished.models) > 1),
    ):
        if given:
            raise click.UsageError(
                f"{option} applies to the plain sum rate under one total power: leave it out with other problems"
            )
    fact("problem", ", ".join(sorted(problem.parts)))
    return schemes or list(solving_schemes(problem))


def _check_scheme(problem: PrecodingProblem, budget: LinkBudget, spec: str) -> None:
    """Refuse a scheme that does not solve the problem."""
    from simulator.problems.combinations import check_combination
    from simulator.problems.dispatch import check_problem_scheme
    from simulator.schemes.options import split_spec

    if problem.is_plain:
        check_combination(problem, budget, split_spec(spec)[0])
    else:
        check_problem_scheme(problem, budget, spec)


def _whole(setup: _Setup, blocks: Iterator[Block]) -> Iterator[Block]:
    """Pass on blocks after a check of those whose drops are solved together."""
    for block in blocks:
        check_together(setup.problem, setup.file, block)
        yield block
