"""Implement ``nflae estimate``: channels from the received pilots of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import ChannelOptions, channel_options, device_option, model_option, option_group
from nflae_bridge.cli.options.prediction import parse_snr
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import fact, progress, warn

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.csi.estimate_file import EstimationSummary
    from simulator.csi.estimation.users import EstimationMethod


@dataclass(frozen=True)
class EstimationOptions:
    """Estimation of channels; see the options of the same names.

    Attributes
    ----------
    method : str
        Method of estimation.
    pilots, covariance : str, optional
        Variables of the pilot matrix and the covariance.
    geometry : str, optional
        Arrangement of the antennas; None: that of the file.
    snapshots : int
        Successive drops with common directions.
    csi_snr_db : float, optional
        SNR per antenna or symbol, dB.
    noise_dbw : float, optional
        Noise variance, dBW.
    """

    method: str
    pilots: str | None
    covariance: str | None
    geometry: str | None
    snapshots: int
    csi_snr_db: float | None
    noise_dbw: float | None

    def arrangement(self, file: ChannelFile) -> str:
        """Return the geometry: that of the option, else the panel of two antenna axes, else a line."""
        if self.geometry is not None:
            return self.geometry
        axes = file.antenna_axes
        return f"panel:{axes[0]}x{axes[1]}" if len(axes) == 2 and self.pilots is None else "line"

    def estimator(self, file: ChannelFile, model: str, device: str) -> EstimationMethod:
        """Return the estimation method of a file.

        Parameters
        ----------
        file : ChannelFile
            Open file.
        model, device : str
            Model and device of the network.

        Raises
        ------
        NflaeError
            If an option is not valid or does not fit the file.
        """
        from matlab_io.errors import NflaeError
        from nflae_bridge.api.estimate import estimation_method
        from nflae_bridge.files.csi.estimate_file import read_matrix

        pilots = None if self.pilots is None else read_matrix(file, self.pilots, "--pilots")
        covariance = None if self.covariance is None else read_matrix(file, self.covariance, "--covariance")
        if covariance is not None and covariance.ndim == 3:
            covariance = covariance.transpose(2, 0, 1)
        try:
            return estimation_method(
                (file.users, file.antennas),
                self.method,
                self.arrangement(file),
                csi_snr_db=self.csi_snr_db,
                noise_variance=None if self.noise_dbw is None else 10 ** (self.noise_dbw / 10),
                pilots=pilots,
                covariance=covariance,
                model=model,
                device=device,
            )
        except NflaeError as error:
            raise NflaeError(f"{file.path}: {file.variable}: {error}") from None


estimation_options = option_group(
    EstimationOptions,
    "estimation",
    click.option(
        "--method",
        default="auto",
        show_default=True,
        metavar="auto|ls|beam-gain|omp|polar-omp|lmmse|nflae",
        help="Method; auto: average of all that apply, weighted by their estimated errors.",
    ),
    click.option(
        "--pilots",
        metavar="VAR",
        help="Pilot matrix Phi, antennas x symbols: symbol m is sent with column m, and axis n of IN.mat is that of the"
        " symbols.  [default: orthogonal pilots, IN.mat is channel plus noise]",
    ),
    click.option(
        "--covariance", metavar="VAR", help="Covariance E h h^H, N x N, or N x N x K for one per user; for lmmse, auto."
    ),
    click.option(
        "--geometry",
        metavar="none|line|panel:RxC",
        help="Arrangement of the antennas.  [default: panel of two antenna axes, else line]",
    ),
    click.option(
        "--snapshots",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Successive drops in which a user has the same directions.",
    ),
    click.option(
        "--csi-snr-db",
        default="auto",
        show_default=True,
        metavar="auto|DB",
        callback=parse_snr,
        help="SNR per antenna, or per pilot symbol, dB; auto: from the weak beams.",
    ),
    click.option("--noise-dbw", type=float, help="Noise variance of the pilots in the unit of IN.mat, dBW, instead."),
)


@click.command(
    "estimate",
    short_help="Estimate channels from noisy pilots in a file.",
    epilog="""\b
    Examples:
      nflae estimate noisy.mat -o channels.mat
      nflae estimate noisy.mat -o channels.mat --csi-snr-db 5 --method polar-omp
      nflae estimate panel.mat -o channels.mat --geometry panel:4x16 --snapshots 4
      nflae estimate pilots.mat -o channels.mat --var Y --pilots Phi --noise-dbw -10
      nflae precode channels.mat -o precoders.mat

    \b
    IN.mat holds the channels plus noise, in any layout that nflae precode reads. With --pilots Phi:
      direct:     Y = H * Phi + noise           users x symbols
      hermitian:  Y = Phi' * H + noise          symbols x users
    which is one statement: the user receives y = h' Phi + n.

    \b
    Variables of OUT.mat (MATLAB order; N antennas, K users, S drops):
      H                        N x K x S, in the convention of IN.mat: direct, K first
      csi_error_db, method     K x S
      nflae_info               struct; method indexes nflae_info.methods""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.mat",
    help="File of the estimated channels; replaced once they are complete.",
)
@estimation_options
@channel_options
@model_option
@device_option
@click.option("--mat-version", type=click.Choice(["6", "7", "7.3"]), help="Version of OUT.mat.  [default: of IN.mat]")
def command(
    source: Path,
    output: Path,
    estimation: EstimationOptions,
    reading: ChannelOptions,
    model: str,
    device: str,
    mat_version: str | None,
) -> None:
    """Estimate the channels from received pilots in IN.mat, with their expected errors."""
    refuse_mat_version(output)
    if estimation.noise_dbw is not None and estimation.csi_snr_db is not None:
        raise click.UsageError("--csi-snr-db and --noise-dbw state the same quantity; give one of them.")
    with reading.open(source) as file:
        for note in _pilot_notes(file, estimation.pilots):
            fact("pilots", note)

        from nflae_bridge.engine.devices import drops_per_block
        from nflae_bridge.files.csi.estimate_file import estimate_file

        method = estimation.estimator(file, model, device)
        fact("estimation", _described(file, estimation))
        with progress("estimate", file.drops, "drops") as advance:
            summary = estimate_file(
                file,
                output,
                method,
                snapshots=estimation.snapshots,
                batch=drops_per_block(file.users, file.antennas),
                version=mat_version,
                values=_values(file, estimation),
                advance=advance,
            )
    _report(summary)
    fact("written", f"{output} (version {summary.version})")


def _pilot_notes(file: ChannelFile, pilots: str | None) -> list[str]:
    """Return the notes on the reading of a file; with a pilot matrix axis n is that of the pilot symbols."""
    if pilots is None:
        return file.notes
    read, _, *others = (re.sub(r"\bantenna(s?)\b(?! each)", r"pilot symbol\1", note, count=1) for note in file.notes)
    model = f"{pilots}' * H" if file.convention == "hermitian" else f"H * {pilots}"
    return [read, f"read as {file.variable} = {model} + noise ({file.convention})", *others]


def _noise(estimation: EstimationOptions) -> str:
    if estimation.noise_dbw is not None:
        return f"{estimation.noise_dbw:g} dBW"
    return "estimated" if estimation.csi_snr_db is None else f"SNR {estimation.csi_snr_db:g} dB"


def _described(file: ChannelFile, estimation: EstimationOptions) -> str:
    pilots = "orthogonal pilots" if estimation.pilots is None else f"pilot matrix {estimation.pilots}"
    return f"method {estimation.method}, geometry {estimation.arrangement(file)}, {pilots}, noise {_noise(estimation)}"


def _values(file: ChannelFile, estimation: EstimationOptions) -> dict[str, Value]:
    """Return the link budget of the input, for `nflae precode`, and the struct that describes the estimation."""
    from matlab_io.version import __version__
    from nflae_bridge.files.budget.carried import carried_budget
    from nflae_bridge.files.csi.estimate_file import USED_METHODS

    info: dict[str, Value] = {
        "version": __version__,
        "input": str(file.path),
        "variable": file.variable,
        "method": estimation.method,
        "methods": ",".join(USED_METHODS),
        "geometry": estimation.arrangement(file),
        "pilots": estimation.pilots or "orthogonal",
        "covariance": estimation.covariance or "none",
        "snapshots": estimation.snapshots,
        "noise": _noise(estimation),
    }
    return {**carried_budget(file, range(file.drops), file.drop_axes, warn), "nflae_info": info}


def _report(summary: EstimationSummary) -> None:
    import math

    from simulator.csi.estimation.users import doubt_noise

    if summary.noise_share is not None:
        snr = 10 * math.log10(max(1 - summary.noise_share, 1e-30) / summary.noise_share)
        fact("pilot SNR", f"{snr:.1f} dB per antenna (estimated, median of users and drops)")
        doubt = doubt_noise(summary.noise_share)
        if doubt is not None:
            warn(doubt)
    total = summary.methods.total()
    used = ", ".join(f"{name} {100 * count / total:.3g} %" for name, count in summary.methods.most_common())
    fact("methods", f"{used} of {total} estimates")
    if math.isfinite(summary.mean_error_db):
        fact("CSI error", f"{summary.mean_error_db:.1f} dB (estimated, mean of users)")
