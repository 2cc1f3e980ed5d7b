"""Write comparisons as CSV: a row per scheme and SNR, or a row per drop, scheme and SNR."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from nflae_bridge.studies.evaluation.scores import Evaluation
from simulator.problems.problem import PrecodingProblem


@dataclass(frozen=True)
class SnrPoint:
    """Hold the comparison at one link budget.

    Parameters
    ----------
    snr_db
        SNR of the mean user, dB; None for the link budget of the file or the options.
    found
        The comparison.
    """

    snr_db: float | None
    found: Evaluation


def summary_table(points: Sequence[SnrPoint], problem: PrecodingProblem, shares: Sequence[Sequence[float]]) -> bytes:
    """Return the table of the means.

    Parameters
    ----------
    points
        Comparisons, one per SNR.
    problem
        Their problem.
    shares
        Fractions of the capacity, or of the best scheme, by point and score.

    Returns
    -------
    bytes
        CSV.
    """
    value, share = ("mean_sum_rate", "share_of_capacity") if problem.is_plain else ("mean_objective", "share_of_best")
    limits = [] if problem.is_plain else ["violated", "below_textbook"]
    swept = ["snr_db"] if points[0].snr_db is not None else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ["low_95", "high_95"]
    writer.writerow(
        [*swept, "scheme", value, share, "infeasible_share", "fallback_share", *limits, "seconds_per_drop", *ends]
    )
    for point, of_point in zip(points, shares, strict=True):
        snr = [] if point.snr_db is None else [f"{point.snr_db:g}"]
        for score, fraction in zip(point.found.scores, of_point, strict=True):
            writer.writerow(
                [
                    *snr,
                    score.scheme,
                    f"{score.mean:.6f}",
                    f"{fraction:.6f}",
                    f"{score.infeasible:.6f}",
                    f"{score.fallback:.6f}",
                    *([] if problem.is_plain else [score.violated, score.below]),
                    "" if score.seconds_per_drop is None else f"{score.seconds_per_drop:.3e}",
                    f"{score.low:.6f}",
                    f"{score.high:.6f}",
                ]
            )
        if point.found.capacity is not None:
            writer.writerow([*snr, "capacity", f"{point.found.capacity:.6f}", "1", *[""] * 5])
    return text.getvalue().encode()


def per_drop_table(points: Sequence[SnrPoint], problem: PrecodingProblem) -> bytes:
    """Return the table of the drops, counted from 1 in the file, with the capacity as a scheme.

    Drops between the first and the last that are not evaluated, bad ones or without CSI, have empty cells and 1 in the
    column ``skipped``.

    Parameters
    ----------
    points
        Comparisons, one per SNR.
    problem
        Their problem.

    Returns
    -------
    bytes
        CSV.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    value = "sum_rate" if problem.is_plain else "objective"
    writer.writerow(["drop", "snr_db", "scheme", value, "feasible", "fallback", "skipped"])
    for point in points:
        snr = "" if point.snr_db is None else f"{point.snr_db:g}"
        names = [score.scheme for score in reversed(point.found.scores)]
        blocks = point.found.blocks
        places = {position: (block, index) for block in blocks for index, position in enumerate(block.positions)}
        shown = names if point.found.capacity is None else [*names, "capacity"]
        for position in range(blocks[0].start, blocks[-1].start + blocks[-1].drops):
            drop = position + 1
            if position not in places:
                writer.writerows([drop, snr, name, "", "", "", 1] for name in shown)
                continue
            block, index = places[position]
            for name in names:
                flags = int(not block.infeasible[name][index]), int(block.fallback[name][index])
                writer.writerow([drop, snr, name, f"{block.values[name][index]:.6f}", *flags, 0])
            if block.capacity:
                writer.writerow([drop, snr, "capacity", f"{block.capacity[index]:.6f}", "", "", 0])
    return text.getvalue().encode()
