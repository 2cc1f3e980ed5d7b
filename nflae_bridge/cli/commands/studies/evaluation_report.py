"""Report comparisons of schemes on the terminal, and draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nflae_bridge.cli.options.evaluation import PlotKind
from nflae_bridge.cli.terminal import Table, duration, fact

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.drop_picture import DropPicture
    from nflae_bridge.plots.look import FigureLook
    from nflae_bridge.studies.evaluation.comparison import Comparison
    from nflae_bridge.studies.evaluation.scores import Evaluation, Score
    from nflae_bridge.studies.evaluation.tables import SnrPoint
    from simulator.downlink.budget import LinkBudget
    from simulator.problems.problem import PrecodingProblem


def report(
    points: Sequence[SnrPoint],
    problem: PrecodingProblem,
    budget: LinkBudget,
    labels: str,
    comparison: Comparison,
    file: ChannelFile,
    degraded: bool,
) -> None:
    """Print the table of the schemes, and what it holds for.

    Parameters
    ----------
    points : sequence of SnrPoint
        Comparisons, one per SNR.
    problem, budget : PrecodingProblem, LinkBudget
        Problem and link budget.
    labels : str
        Origin of the labels, in words.
    comparison : Comparison
        Schemes and rules.
    file : ChannelFile
        Channels of the precoders.
    degraded : bool
        The precoders come from other channels than those on which they are judged.
    """
    found = points[0].found
    if points[0].snr_db is None:
        _single(found, problem)
    else:
        _swept(points)
    used = f"the first {found.drops} of {file.drops}" if found.drops < file.drops else f"all {found.drops}"
    if degraded and found.drops + found.skipped != file.drops:
        used = f"{found.drops - found.skipped} of {file.drops} with CSI"
    skipped = f", {found.skipped} bad drop{'s' if found.skipped > 1 else ''} skipped" if found.skipped else ""
    fact("drops", f"{used}{skipped}; {100 * found.near_field_share:.1f} % of the users near-field ({labels})")
    blocks = max(score.block for score in found.scores)
    if blocks > 1:
        fact("intervals", f"by blocks of up to {blocks} successive drops, whose sum rates are correlated")
    if points[0].snr_db is None:
        from nflae_bridge.engine.devices import choose_device

        device = choose_device(comparison.device)
        fact("time", f"median of 5 runs on a block of {found.timed_drops} drops, on {device}, after one warm-up")
    _notes(found, problem, budget, file.users < file.antennas)


def _single(found: Evaluation, problem: PrecodingProblem) -> None:
    """Print a row per scheme."""
    rows = Table(("scheme", *_columns(problem)))
    for score in found.scores:
        time = "not timed" if score.seconds_per_drop is None else duration(score.seconds_per_drop)
        limits = () if problem.is_plain else (str(score.violated), str(score.below))
        fraction = f"{100 * share(score, found, problem):.2f} %"
        interval = "" if math.isnan(score.low) else f"{score.low:.3f} to {score.high:.3f}"
        missed = f"{100 * score.infeasible:.1f} %"
        rows.add_row(score.scheme, f"{score.mean:.3f}", interval, fraction, *limits, missed, time)
    if found.capacity is not None:
        rows.add_section()
        rows.add_row("capacity (DPC)", f"{found.capacity:.3f}", "", "100 %", "", "")
    rows.show()


def _swept(points: Sequence[SnrPoint]) -> None:
    """Print a row per SNR and a column per scheme, those of the last SNR from the best on."""
    names = [score.scheme for score in reversed(points[-1].found.scores)]
    plain = points[0].found.capacity is not None
    rows = Table(
        ("SNR\ndB", *names, *(["capacity\n(DPC)"] if plain else [])), "mean per drop and 95 % interval, bps/Hz"
    )
    for point in points:
        by_name = {score.scheme: score for score in point.found.scores}
        cells = [_mean_and_half(by_name[name]) for name in names]
        capacity = [] if point.found.capacity is None else [f"{point.found.capacity:.2f}"]
        rows.add_row(f"{point.snr_db:g}", *cells, *capacity)
    rows.show()


def _mean_and_half(score: Score) -> str:
    half = (score.high - score.low) / 2
    return f"{score.mean:.2f}" if math.isnan(half) else f"{score.mean:.2f}\n±{half:.2f}"


def _notes(found: Evaluation, problem: PrecodingProblem, budget: LinkBudget, all_served: bool) -> None:
    """Print what limits the meaning of the table."""
    from simulator.schemes import needs_sic

    sic = [score.scheme for score in found.scores if needs_sic(score.scheme)]
    if sic:
        names = ", ".join(sic)
        fact("receivers", f"the rates of {names} need users that decode and cancel the messages of others (SIC)")
    for nflae in (score for score in found.scores if score.scheme.startswith("nflae")):
        of = nflae.scheme.removeprefix("nflae")
        if problem.is_plain:
            selected = "" if all_served else "; with as many users as antennas or more, RZF is that of selected users"
            fact("fallback to RZF", f"on {100 * nflae.fallback:.1f} % of the drops{of}{selected}")
        elif problem.starts_from_network:
            fact("fallback", f"to a textbook start of the problem on {100 * nflae.fallback:.1f} % of the drops")
    if found.capacity is not None and (budget.constrains_near_field or budget.demands_rates):
        fact("capacity", "without alpha_c and min_rate: the schemes, which hold them, cannot reach it")


def _columns(problem: PrecodingProblem) -> tuple[str, ...]:
    """Return the headings of the table after the schemes."""
    interval, after = "95 %\ninterval", ("min_rate\nmissed", "time per drop")
    if problem.is_plain:
        return "mean sum rate\nbps/Hz", interval, "of capacity", *after
    name = {"max-min": "mean smallest rate\nbps/Hz", "proportional-fair": "sum of ln\nmean rates"}
    default = "mean sum rate\nbps/Hz" if problem.weights is None else "mean weighted\nsum rate, bps/Hz"
    if "subcarrier power" in problem.parts:
        default = default.replace(", ", "\n").replace("\nbps", f" of\n{problem.subcarriers} subcarriers, bps")
    heading = name.get(problem.objective, default)
    return heading, interval, "of the best", "limits\nviolated", "below\nthe textbook", *after


def share(score: Score, found: Evaluation, problem: PrecodingProblem) -> float:
    """Compute the fraction of the capacity, or of the best scheme; of a sum of logarithms that of the geometric mean.

    Parameters
    ----------
    score, found, problem : Score, Evaluation, PrecodingProblem
        Result of a scheme, the comparison and its problem.

    Returns
    -------
    float
    """
    if found.capacity is not None:
        return score.mean / found.capacity
    best = found.scores[-1].mean
    if problem.objective == "proportional-fair":
        return math.exp((score.mean - best) / found.users)
    return score.mean / best


def drawn(
    path: Path,
    points: Sequence[SnrPoint],
    kind: PlotKind,
    shown: DropPicture | None,
    title: str,
    look: FigureLook,
) -> SideFile:
    """Draw comparisons.

    Parameters
    ----------
    path : Path
        File to write; its suffix chooses the format.
    points : sequence of SnrPoint
        Comparisons of the plain sum rate, one per SNR.
    kind : {"users", "cdf", "snr"}
        Content of the plot.
    shown : DropPicture or None
        Answer on the drop whose users are drawn.
    title : str
        Title of the other kinds.
    look : FigureLook
        Size and style.

    Returns
    -------
    SideFile
        The plot, to be saved.
    """
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.evaluation import SweptScheme, distribution_figure, sweep_figure
    from nflae_bridge.plots.look import plot_format

    found, form = points[0].found, plot_format(path)
    if shown is not None and found.capacity is not None:
        return _users(path, shown, found, found.capacity, look)
    names = [score.scheme for score in reversed(points[-1].found.scores)]
    capacity = [value for block in found.blocks for value in block.capacity]
    if kind == "cdf":
        values = {name: [value for block in found.blocks for value in block.values[name]] for name in names}
        correlated = any(score.block > 1 for score in found.scores)
        return SideFile(path, look.render(lambda: distribution_figure(values, capacity, title, correlated), form))
    by_point = [{score.scheme: score.interval for score in point.found.scores} for point in points]
    schemes = [SweptScheme(name, [intervals[name] for intervals in by_point]) for name in names]
    snr_db = [point.snr_db or 0.0 for point in points]
    means = [point.found.capacity or math.nan for point in points]
    return SideFile(path, look.render(lambda: sweep_figure(snr_db, schemes, means, title), form))


def check_room(shown: DropPicture, schemes: Sequence[str], look: FigureLook) -> None:
    """Check, before the evaluation, that the size has room for the plot of users and schemes.

    Parameters
    ----------
    shown : DropPicture
        Answer on the drop whose users are drawn; its sum rate stands for those of all schemes.
    schemes : sequence of str
        Names of the schemes.
    look : FigureLook
        Size and style.

    Raises
    ------
    NflaeError
        If it has none.
    """
    from nflae_bridge.plots.schemes import SchemeBar, schemes_figure

    rate = float(shown.rate.sum())
    bars = [SchemeBar(name, rate, [f"{rate:.2f}"]) for name in schemes]
    look.render(lambda: schemes_figure(shown, bars, rate, "1 drop", look.size))


def _users(path: Path, shown: DropPicture, found: Evaluation, capacity: float, look: FigureLook) -> SideFile:
    from nflae_bridge.cli.outputs import SideFile
    from nflae_bridge.plots.look import plot_format
    from nflae_bridge.plots.schemes import SchemeBar, schemes_figure

    bars = [
        SchemeBar(
            score.scheme,
            score.mean,
            [
                f"{score.mean:.2f}",
                f"{100 * score.mean / capacity:.1f} % of capacity",
                *([] if score.seconds_per_drop is None else [f"{duration(score.seconds_per_drop)} per drop"]),
            ],
        )
        for score in found.scores
    ]
    note = f"{found.drops - found.skipped} drops"
    form = plot_format(path)
    return SideFile(path, look.render(lambda: schemes_figure(shown, bars, capacity, note, look.size), form))
