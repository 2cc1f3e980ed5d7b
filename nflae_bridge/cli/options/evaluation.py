"""Define the options of ``nflae evaluate``: the CSI of the transmitter, the SNRs, the models, and the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from nflae_bridge.cli.options.common import (
    BudgetOptions,
    WorkOptions,
    level_options,
    option_group,
    refuse_options,
    scope_options,
)
from nflae_bridge.cli.options.common import work_option_list as work_list
from nflae_bridge.cli.options.link import snr_points
from nflae_bridge.cli.options.plot import PlotOptions
from simulator.csi.registry import csi_forms

PlotKind = Literal["users", "cdf", "snr"]


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of ``nflae evaluate`` alone; see those of the same names.

    Attributes
    ----------
    drops : int
        Largest number of drops.
    true_variable : str, optional
        Variable of the true channels.
    csi : str, optional
        CSI model.
    seed : int
        Seed of the CSI errors.
    models : tuple of str
        Models; empty for that of the other options.
    sweep : list of float, optional
        SNRs of the mean user, dB.
    csv_path, per_drop : Path, optional
        Tables to write.
    plot_kind : {"users", "cdf", "snr"}, optional
        Content of the plot; None by the other options.
    """

    drops: int
    true_variable: str | None
    csi: str | None
    seed: int
    models: tuple[str, ...]
    sweep: list[float] | None
    csv_path: Path | None
    per_drop: Path | None
    plot_kind: PlotKind | None

    @property
    def degrades(self) -> bool:
        """The precoders come from other channels than those on which they are judged."""
        return self.csi not in (None, "perfect") or self.true_variable is not None

    def content_of_plot(self, plotting: PlotOptions) -> PlotKind:
        """Return the content of the plot.

        Parameters
        ----------
        plotting : PlotOptions
            Plot options of the command.

        Returns
        -------
        {"users", "cdf", "snr"}

        Raises
        ------
        click.UsageError
            If options exclude each other.
        NflaeError
            For a CSI model that does not exist.
        """
        if self.csi is not None:
            from simulator.csi.models import parse_csi

            parse_csi(self.csi)
        swept = self.sweep is not None and len(self.sweep) > 1
        kind: PlotKind = self.plot_kind or ("snr" if swept else "cdf" if self.degrades else "users")
        if self.csi is None:
            refuse_options("draws the errors of --csi: give --csi MODEL too, or leave it out.", ("seed",))
        if self.csi is not None and self.true_variable is not None:
            raise click.UsageError("--csi and --h-true both state the CSI of the transmitter: give one of them.")
        if self.plot_kind is not None and plotting.plot is None:
            raise click.UsageError("--plot-kind applies together with --plot: add --plot FILE, or leave it out.")
        if (kind == "snr") != swept:
            raise click.UsageError(
                f"--plot-kind {kind} needs {'several SNRs, as --snr-db -10:30:5' if kind == 'snr' else 'one SNR'}."
            )
        if kind == "users" and self.degrades:
            raise click.UsageError("--plot-kind users draws perfect CSI: choose cdf, or leave out --csi and --h-true.")
        if kind != "users" and plotting.plot is not None:
            remedy = f"is for the plot of users: leave it out with --plot-kind {kind}."
            refuse_options(remedy, ("plot_drop", "carrier_ghz"))
        return kind


evaluation_options = option_group(
    EvaluationOptions,
    "wished",
    click.option(
        "--drops",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        help="Evaluate at most this many drops, from the first one on.",
    ),
    click.option(
        "--h-true",
        "true_variable",
        metavar="VAR",
        help="Judge the precoders of the channels of --var on those of this variable of the file, the true ones.",
    ),
    click.option(
        "--csi",
        metavar="MODEL,...",
        help=f"CSI from which the precoders are computed, judged on the channels of the file: {', '.join(csi_forms())},"
        " or several with commas between them, as in nflae link.  [default: perfect]",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0, max=2**39), default=0, show_default=True, help="Seed of the CSI errors."
    ),
    click.option(
        "--csv", "csv_path", type=click.Path(path_type=Path), metavar="FILE", help="Also write the table to FILE."
    ),
    click.option(
        "--per-drop",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a CSV of a row per drop, SNR and scheme: sum rate, feasible, fallback, skipped.",
    ),
    click.option(
        "--plot-kind",
        type=click.Choice(["users", "cdf", "snr"]),
        help="Content of --plot: users and means of the schemes; distribution of the sum rate over the drops; mean over"
        " the SNRs of --snr-db.  [default: snr with several SNRs, cdf with --csi or --h-true, else users]",
    ),
    click.option(
        "--model",
        "models",
        multiple=True,
        metavar="NAME|DIR",
        help="Model of the network, as of nflae precode; several, each with --model, are schemes nflae (NAME).  "
        "[default: auto]",
    ),
    click.option(
        "--snr-db",
        "sweep",
        callback=snr_points,
        metavar="DB|FIRST:LAST:STEP|DB,...",
        help="SNR of the mean user, P mean(||h||^2) / sigma^2 over all users and drops, dB; sets the noise power."
        " Several are evaluated one after the other, without times.",
    ),
)
evaluation_budget_options = option_group(BudgetOptions, "request", *level_options, *scope_options)
evaluation_work_options = option_group(WorkOptions, "work", *work_list[1:])
