"""Define the options that several commands share; a command receives each group as one dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.core import ParameterSource

from matlab_io.containers.limits import DEFAULT_MAX_INFLATE, max_inflate
from matlab_io.conventions import SIGNAL_MODELS
from matlab_io.errors import NflaeError
from nflae_bridge.files.budget.choice import BudgetRequest
from nflae_bridge.network.shipped import EFFORTS, model_of_effort

if TYPE_CHECKING:
    from matlab_io import ChannelFile

Command = TypeVar("Command", bound=Callable[..., Any])


def option_group(into: type[Any], name: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine options into one argument of a command.

    Parameters
    ----------
    into : type
        Dataclass with a field per option, named like its argument; fields without an option keep their default.
    name : str
        Name of the command's argument that receives the dataclass.
    *options : callable
        Click options, in the order of the help page.

    Returns
    -------
    callable
        Decorator of the command.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            group = into(**{field.name: values.pop(field.name) for field in fields(into) if field.name in values})
            return command(**values, **{name: group})

        wrapped: Any = gathered
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def refuse_options(remedy: str, names: Collection[str] = (), but: Collection[str] = ()) -> None:
    """Refuse options of the command line that have no effect beside the others.

    Parameters
    ----------
    remedy : str
        Reason and remedy, after the name of the option.
    names : collection of str
        Arguments of the command that hold the options; by default all.
    but : collection of str
        Arguments whose options have an effect.

    Raises
    ------
    click.UsageError
        For the first option that is typed.
    """
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        without_effect = (not names or name in names) and name not in but
        if without_effect and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {remedy}")


@dataclass(frozen=True)
class ChannelOptions:
    """Array of the file that holds the channels, and its reading; None where the file decides.

    Attributes
    ----------
    variable : str, optional
        Variable, or field of a struct as ``chan.H``.
    layout : str, optional
        Axes in MATLAB order, e.g. ``nks``.
    convention : str, optional
        ``hermitian`` (y = H' x) or ``direct`` (y = H x).
    allow_real : bool
        Accept an array without imaginary part.
    receive_antennas : str, optional
        Treatment of several receive antennas per user: ``each``, ``strongest`` or ``eigen``.
    shape : tuple of int, optional
        Shape of a file of raw complex64 numbers.
    """

    variable: str | None = None
    layout: str | None = None
    convention: str | None = None
    allow_real: bool = False
    receive_antennas: str | None = None
    shape: tuple[int, ...] | None = None

    def open(self, path: Path, joint: bool = False) -> ChannelFile:
        """Open the channels of a file.

        Parameters
        ----------
        path : Path
            File.
        joint : bool
            The command takes channels of several receive antennas, ``--receive-antennas joint``.

        Returns
        -------
        ChannelFile

        Raises
        ------
        MatFileError
            If the file cannot be read, or if the channels are missing or ambiguous.
        """
        from matlab_io import open_channels

        if self.receive_antennas == "joint" and not joint:
            raise click.UsageError("--receive-antennas joint is for nflae precode; pass each, strongest or eigen")
        return open_channels(
            path,
            variable=self.variable,
            layout=self.layout,
            convention=self.convention,
            allow_real=self.allow_real,
            receive_antennas=self.receive_antennas,
            shape=self.shape,
        )


def _parse_shape(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = value.lower().split("x")
    if not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise click.BadParameter(f"{value!r} is not a shape; give sizes joined by x, e.g. 64x4x100")
    return tuple(int(size) for size in sizes)


def _bound(ctx: click.Context, param: click.Parameter, ratio: float) -> None:
    ctx.with_resource(max_inflate(ratio))


max_inflate_option = click.option(
    "--max-inflate",
    metavar="RATIO",
    type=click.FloatRange(min=1),
    default=DEFAULT_MAX_INFLATE,
    show_default=True,
    expose_value=False,
    callback=_bound,
    help="Largest ratio of decompressed to stored bytes of a file from which channels are read; 64 MiB are always"
    " allowed.",
)


READING_OPTIONS = ("variable", "layout", "convention", "receive_antennas", "shape", "allow_real", "max_inflate")
"""Arguments that hold the options of `channel_options`."""

channel_options = option_group(
    ChannelOptions,
    "reading",
    click.option(
        "--var",
        "variable",
        metavar="NAME",
        help="Variable that holds the channels: H, chan.H, 'H{:}' (a user per cell), 'user(:).h', h1,h2,h3, 'H{3}',"
        " re:Hr,im:Hi or abs:A,angle:P.",
    ),
    click.option(
        "--layout",
        metavar="AXES",
        help="Axes in the file's order: n transmit antenna (nn panel), k user, r receive antenna, s drop, f subcarrier,"
        " c real and imaginary part, 1 singleton; e.g. nks, kn, rnfs."
        "  [default: as the file states; two axes by their shape]",
    ),
    click.option(
        "--convention",
        type=click.Choice(list(SIGNAL_MODELS)),
        help="hermitian: y = H' x; direct: y = H x.  [default: by the layout, n before k is hermitian]",
    ),
    click.option(
        "--receive-antennas",
        type=click.Choice(["each", "strongest", "eigen", "joint"]),
        help="Users with several receive antennas (axis r): each antenna as a user, the strongest one, combined by the"
        " dominant left singular vector, or, by nflae precode, together with the precoder.",
    ),
    click.option(
        "--shape",
        callback=_parse_shape,
        metavar="NxKxS",
        help="Read raw complex64 numbers of this shape, the first axis fastest: 64x4x100.",
    ),
    click.option("--allow-real", is_flag=True, help="Accept an array without imaginary part as channels."),
    max_inflate_option,
)

near_field_option = click.option(
    "--near-field",
    "labels",
    metavar="VAR|none|upa:RxC[x2]",
    help="Variable of near-field labels, 0 and 1, K x S; none: the network labels; a panel: by fitted spherical waves,"
    " as for a file that states it.  [default: near_field in the file]",
)
alpha_c_option = click.option(
    "--alpha-c",
    type=float,
    help="Largest fraction of P for the near-field users, in (0, 1].  [default: alpha_c in the file, else 1]",
)
min_rate_option = click.option(
    "--min-rate", type=float, help="Minimum rate of every user, bps/Hz.  [default: min_rate in the file, else 0]"
)


@dataclass(frozen=True)
class BudgetOptions(BudgetRequest):
    """Link-budget options of a command, of which at most one states each quantity."""

    def __post_init__(self) -> None:
        """Check that no quantity is stated twice.

        Raises
        ------
        click.UsageError
            If one is.
        """
        options = ("power_dbw", "power_dbm"), ("noise_dbw", "noise_dbm", "snr_db", "noise_figure_db")
        for names in options:
            given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
            if len(given) > 1:
                raise click.UsageError(f"{' and '.join(given)} state the same quantity; give one of them.")
        for name in ("bandwidth_mhz", "temperature"):
            number = getattr(self, name)
            if number is not None and not 0 < number < float("inf"):
                raise click.UsageError(f"--{name.replace('_', '-')} {number:g}: give a positive number.")


# Options of commands that sweep the SNR: all but --snr-db and --power-scope, which have another meaning there or none.
level_options = (
    click.option("--power-dbw", type=float, help="Transmit power budget P, dBW.  [default: power in the file, else 0]"),
    click.option("--power-dbm", type=float, help="The same in dBm.  [default: power in the file, else 30]"),
    click.option(
        "--noise-dbw",
        type=float,
        help="Noise power sigma^2 of every user, dBW.  [default: noise_power in the file, else -20]",
    ),
    click.option("--noise-dbm", type=float, help="The same in dBm.  [default: noise_power in the file, else 10]"),
    click.option(
        "--noise-figure-db",
        type=float,
        help="Noise figure F, dB: the noise power is k T B F, with B of --bandwidth-mhz.",
    ),
    click.option(
        "--bandwidth-mhz", type=float, help="Noise bandwidth B, MHz; with an f axis in --layout of one subcarrier."
    ),
    click.option("--temperature", type=float, help="Noise temperature T, K.  [default: 290]"),
    alpha_c_option,
    min_rate_option,
)
scope_options = (
    click.option(
        "--power-scope",
        type=click.Choice(["each", "equal", "total"]),
        default="each",
        show_default=True,
        help="P is the power of each subcarrier (f axis), or of all of them together, in equal shares or, by nflae"
        " precode, in the best ones.",
    ),
    click.option("--yes", is_flag=True, help="Go on with the default noise power at an implausible SNR."),
)
budget_options = option_group(
    BudgetOptions,
    "request",
    *level_options[:4],
    click.option(
        "--snr-db",
        type=float,
        help="SNR of the mean user, P mean(||h||^2) / sigma^2 over all users and drops, dB; sets the noise power.",
    ),
    *level_options[4:],
    *scope_options,
)


model_option = click.option(
    "--model",
    default="auto",
    show_default=True,
    metavar="NAME|DIR",
    help="Model of the network: a shipped one (see nflae models), a folder written by nflae train, or auto.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="Device of the computation: auto, cpu, cuda or cuda:0."
)


@dataclass(frozen=True)
class WorkOptions:
    """Model, device and block size of the computation.

    Attributes
    ----------
    model : str
        ``auto``, the name of a shipped model, or a folder.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:0``.
    refine : int
        WMMSE iterations after the network.
    effort : {"fast", "balanced", "best"}, optional
        Choice of model and refine, which then hold it.
    batch : int, optional
        Drops per block; by default as many as fit in about 32 MB.
    on_bad_drop : {"error", "skip"}
        Handling of drops with NaN, Inf or an all-zero user.
    """

    model: str = "auto"
    device: str = "auto"
    refine: int = 0
    effort: str | None = None
    batch: int | None = None
    on_bad_drop: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        try:
            model, refine = model_of_effort(self.effort, self.model, self.refine)
        except NflaeError as error:
            raise click.UsageError(str(error)) from error
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "refine", refine)


on_bad_drop_option = click.option(
    "--on-bad-drop",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="On a drop with NaN, Inf or an all-zero user: stop, or skip and mark it.",
)
effort_option = click.option(
    "--effort",
    type=click.Choice(list(EFFORTS)),
    help="In place of --model and --refine: fast (nano), balanced (nano, 4 iterations; no drop below fast) or best "
    "(--model auto).",
)
work_option_list = (
    model_option,
    device_option,
    click.option(
        "--refine",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="WMMSE iterations from the output of the network, for scheme nflae; on every drop the better answer of "
        "those with and without them is returned.",
    ),
    effort_option,
    click.option("--batch", type=click.IntRange(min=1), help="Drops per block.  [default: about 32 MB of channels]"),
    on_bad_drop_option,
)
work_options = option_group(WorkOptions, "work", *work_option_list)


def _checked_cluster(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from nflae_bridge.studies.cluster import local_processes

        try:
            local_processes(value)
        except NflaeError as error:
            raise click.BadParameter(str(error)) from None
    return value


cluster_option = click.option(
    "--cluster",
    callback=_checked_cluster,
    metavar="local:N|ADDRESS",
    help="Distribute the work to N processes of this machine, or to a Dask cluster (tcp://HOST:8786).",
)
