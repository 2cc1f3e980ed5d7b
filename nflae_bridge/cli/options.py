"""Options that several commands share; each group arrives in the command as one dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from matlab_io.errors import NflaeError
from nflae_bridge.files.budget import BudgetRequest

if TYPE_CHECKING:
    from matlab_io import ChannelFile

Command = TypeVar("Command", bound=Callable[..., Any])


def scheme_names() -> list[str]:
    """The schemes there are, told from the files of `simulator.schemes` (one file a scheme) without importing them."""
    spec = find_spec("simulator")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or [] for file in Path(folder).glob("schemes/*.py")]
    return ["nflae", *sorted(file.stem for file in files if not file.stem.startswith("_"))]


def chosen_schemes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """Callback of an option that lists schemes, comma between them; by default all, nflae last."""
    known = scheme_names()
    if value is None:
        return [*(name for name in known if name != "nflae"), "nflae"]
    names = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise click.BadParameter(f"no scheme {', '.join(unknown) or 'named'}: there are {', '.join(known)}")
    return list(dict.fromkeys(names))


def _group(into: type[Any], name: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options whose values reach the command as one argument ``name``, an ``into`` with a field an option."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            group = into(**{field.name: values.pop(field.name) for field in fields(into)})
            return command(**values, **{name: group})

        wrapped: Any = gathered
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


@dataclass(frozen=True)
class ChannelOptions:
    """Which array of the file the channels are, and how to read it; None: found out from the file."""

    variable: str | None
    layout: str | None
    convention: str | None
    allow_real: bool

    def open(self, path: Path) -> ChannelFile:
        """Open the channels at ``path``. Raises MatFileError."""
        from matlab_io import open_channels

        return open_channels(
            path,
            variable=self.variable,
            layout=self.layout,
            convention=self.convention,
            allow_real=self.allow_real,
        )


channel_options = _group(
    ChannelOptions,
    "reading",
    click.option("--var", "variable", metavar="NAME", help="The channels' variable; chan.H for a struct's field."),
    click.option(
        "--layout",
        metavar="AXES",
        help="Axes in MATLAB order: n antenna, k user, s drop, f subcarrier, 1 length one; e.g. nks, kn, knfs.",
    ),
    click.option(
        "--convention",
        type=click.Choice(["hermitian", "direct"]),
        help="hermitian: y = H' x. direct: y = H x. Else by the layout: n before k is hermitian.",
    ),
    click.option("--allow-real", is_flag=True, help="Take an array without imaginary part as channels, too."),
)

budget_options = _group(
    BudgetRequest,
    "request",
    click.option("--power-dbw", type=float, help="Power budget P, dBW.  [default: the file's power, else 0]"),
    click.option("--noise-dbw", type=float, help="Noise power, dBW.  [default: the file's noise_power, else -20]"),
    click.option(
        "--alpha-c",
        type=float,
        help="Largest share of P for near-field users, in (0, 1].  [default: the file's alpha_c, else 1]",
    ),
    click.option(
        "--min-rate",
        type=float,
        help="Rate every user must get, bps/Hz.  [default: the file's min_rate, else 0]",
    ),
)


model_option = click.option(
    "--model",
    default="auto",
    show_default=True,
    metavar="NAME|DIR",
    help="For nflae: a shipped model (see nflae models), a folder that nflae train wrote, or auto.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0.")


@dataclass(frozen=True)
class WorkOptions:
    """With what, where and how the work is done."""

    model: str
    device: str
    refine: int
    batch: int | None
    on_bad_drop: Literal["error", "skip"]


work_options = _group(
    WorkOptions,
    "work",
    model_option,
    device_option,
    click.option(
        "--refine",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="For nflae: WMMSE steps started from the network's answer.",
    ),
    click.option(
        "--batch", type=click.IntRange(min=1), help="Drops computed at a time.  [default: about 32 MB of them]"
    ),
    click.option(
        "--on-bad-drop",
        type=click.Choice(["error", "skip"]),
        default="error",
        show_default=True,
        help="A drop with NaN, Inf or an all-zero user: stop, or leave it out and mark it.",
    ),
)


@dataclass(frozen=True)
class PlotOptions:
    """Whether and what to draw. drop: counted from 1; None: the first that can be precoded for."""

    plot: Path | None
    plot_drop: int | None
    carrier_ghz: float | None


plot_options = _group(
    PlotOptions,
    "drawing",
    click.option(
        "--plot",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Draw one drop's users in the array's beam-focusing map (.png, .pdf or .svg).",
    ),
    click.option("--plot-drop", type=click.IntRange(min=1), help="The drop to draw.  [default: the first good one]"),
    click.option(
        "--carrier-ghz",
        type=click.FloatRange(min=0, min_open=True),
        help="Carrier, for the map's metres.  [default: the file's carrier_hz, else 30]",
    ),
)


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
    help="Share the work among N processes of this machine, or a Dask cluster (tcp://HOST:8786): the same figures.",
)
