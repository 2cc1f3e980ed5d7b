"""Define the options by which channels are predicted from the drops before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import Command, option_group

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.csi.prediction import FilePredictor

METHOD_METAVAR = "auto|hold|ar|ar-global|esprit|kalman|nflae"


def parse_snr(ctx: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """Parse ``auto`` or a number of dB.

    Parameters
    ----------
    ctx : click.Context
        Context.
    parameter : click.Parameter
        Option.
    value : str
        Text.

    Returns
    -------
    float or None
        dB; None for ``auto``.

    Raises
    ------
    click.BadParameter
        If it is neither.
    """
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) <= 300:
        raise click.BadParameter(f"{value!r}: give auto or the SNR per antenna in dB, e.g. 10")
    return number


@dataclass(frozen=True)
class PredictionOptions:
    """Prediction of channels; see the options of the same names.

    Attributes
    ----------
    ahead : int, optional
        Snapshots to predict; None: no prediction.
    history : int
        Snapshots from which is predicted.
    method : str
        Method of prediction.
    geometry : str
        Arrangement of the antennas.
    csi_snr_db : float, optional
        SNR per antenna of the snapshots, dB; None: estimated.
    force : bool
        Predict although the drops are not a sequence.
    times : str, optional
        Variable with the time of every drop.
    """

    ahead: int | None = None
    history: int = 16
    method: str = "auto"
    geometry: str = "none"
    csi_snr_db: float | None = None
    force: bool = False
    times: str | None = None

    def given(self) -> list[str]:
        """Return the options that differ from their defaults, as they are typed."""
        names = (each.name for each in fields(self) if getattr(self, each.name) != each.default)
        return [f"--{name.replace('_', '-')}" for name in names]

    def describe(self) -> str:
        """Describe the prediction in a few words."""
        snr = "estimated" if self.csi_snr_db is None else f"{self.csi_snr_db:g} dB"
        return f"{self.ahead} ahead, method {self.method}, geometry {self.geometry}, SNR per antenna {snr}"

    def info(self) -> dict[str, Value]:
        """Return the fields of ``nflae_info`` that describe the prediction; none without one."""
        if self.ahead is None:
            return {}
        return {
            "ahead": self.ahead,
            "history": self.history,
            "method": self.method,
            "geometry": self.geometry,
            "csi_snr_db": "estimated" if self.csi_snr_db is None else self.csi_snr_db,
        }

    def predictor(self, file: ChannelFile, model: str, device: str, paths: bool = False) -> FilePredictor:
        """Return the predictor of a file; ``ahead`` must be given.

        Parameters
        ----------
        file : ChannelFile
            Open file.
        model, device : str
            Model and device of a network.
        paths : bool
            Find the paths of every user, too.

        Raises
        ------
        NflaeError
            If an option is not valid or does not fit the file.
        """
        from nflae_bridge.api.predict import prediction_method
        from nflae_bridge.files.csi.prediction import FilePredictor
        from nflae_bridge.files.slots import slot_times

        assert self.ahead is not None
        method = prediction_method(self.ahead, self.method, self.geometry, self.csi_snr_db, model, device)
        times = None if self.times is None else slot_times(file, self.times)
        return FilePredictor(file, self.history, method, self.force, times, paths)


_TIMES = click.option(
    "--times",
    metavar="VAR",
    help="Variable with the time of every drop, s; uneven ones are resampled.  [default: evenly spaced]",
)


def prediction_options(ahead: int | None, text: str, files: bool = True) -> Callable[[Command], Command]:
    """Return the decorator that gives a command these options as its argument ``prediction``.

    Parameters
    ----------
    ahead : int or None
        Default of ``--ahead``.
    text : str
        Help of ``--ahead``.
    files : bool
        The command reads files, in which ``--times`` is a variable.

    Returns
    -------
    callable
        Decorator of the command.
    """
    return option_group(
        PredictionOptions,
        "prediction",
        click.option("--ahead", type=click.IntRange(min=1), default=ahead, show_default=ahead is not None, help=text),
        click.option(
            "--history",
            type=click.IntRange(min=1),
            default=PredictionOptions.history,
            show_default=True,
            help="Snapshots from which is predicted; at the beginning, where there are less than twice as many as are"
            " to be predicted, the last one is held.",
        ),
        click.option(
            "--method",
            default=PredictionOptions.method,
            show_default=True,
            metavar=METHOD_METAVAR,
            help="Method of prediction; auto: network and ar, beyond 4 snapshots kalman too, weighted per user"
            " by their errors on known snapshots.",
        ),
        click.option(
            "--geometry",
            default="none",
            show_default=True,
            metavar="none|line|panel:RxC",
            help="Arrangement of the antennas: none if unknown, a uniform line, or a panel of R rows and C columns.",
        ),
        click.option(
            "--csi-snr-db",
            callback=parse_snr,
            default="auto",
            show_default=True,
            metavar="auto|DB",
            help="SNR per antenna of the snapshots, dB; auto: estimated from the history.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Predict although the drops do not look like successive snapshots.",
        ),
        *([_TIMES] if files else []),
    )
