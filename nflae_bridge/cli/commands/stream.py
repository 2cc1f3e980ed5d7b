"""Define ``nflae stream``: precode the channels of a running GNU Radio flowgraph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from matlab_io.extras import require
from nflae_bridge.cli.options import device_option, model_option
from nflae_bridge.cli.scheme_option import SchemeOption
from nflae_bridge.files.budget import BudgetRequest, choose_budget

if TYPE_CHECKING:
    from matlab_io.result import Result
    from nflae_bridge.files.validation import Channels
    from nflae_bridge.live.client import Client
    from nflae_bridge.live.gnuradio.endpoints import Endpoint
    from nflae_bridge.live.gnuradio.items import Stream
    from nflae_bridge.live.gnuradio.relay import Precode
    from nflae_bridge.live.gnuradio.session import StreamSettings

# A request that a busy server refused is sent again for half a minute.
_ATTEMPTS, _PAUSE_SECONDS = 600, 0.05


@dataclass(frozen=True)
class _Options:
    """Hold the values of the command's options, under their names."""

    csi: Endpoint
    precoders: Endpoint | None
    labels: Endpoint | None
    powers: Endpoint | None
    users: int
    antennas: int
    convention: str
    scaled: bool
    result_tags: bool
    scheme: str
    power_dbw: float | None
    noise_dbw: float | None
    alpha_c: float | None
    min_rate: float | None
    model: str
    device: str
    refine: int
    server: str | None
    server_key: Path | None
    client_key: Path | None
    max_batch: int
    on_bad_drop: Literal["error", "skip"]
    status_every: float

    @property
    def outputs(self) -> dict[Stream, Endpoint]:
        """Output endpoints by stream."""
        given: dict[Stream, Endpoint | None] = {
            "precoders": self.precoders,
            "labels": self.labels,
            "powers": self.powers,
        }
        return {name: endpoint for name, endpoint in given.items() if endpoint is not None}


def _endpoint(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Endpoint | None:
    from nflae_bridge.live.gnuradio.endpoints import parse_endpoint

    try:
        return None if value is None else parse_endpoint(value, is_input=parameter.name == "csi")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_ENDPOINT: dict[str, Any] = {"callback": _endpoint, "metavar": "KIND:ADDRESS[,OPTION...]"}


@click.command(
    "stream",
    short_help="Precode the channels of a running GNU Radio flowgraph.",
    epilog="""\b
    Examples:
      a flowgraph's ZMQ PUSH Sink sends CSI to port 5556, its ZMQ PULL Source receives precoders from 5557:
        nflae stream --users 4 --antennas 64 --csi pull:tcp://127.0.0.1:5556 \\
                     --precoders push:tcp://127.0.0.1:5557
      PUB and SUB, tags passed, labels and powers on streams of their own:
        nflae stream --users 4 --antennas 64 --csi sub:tcp://127.0.0.1:5556,tags \\
                     --precoders pub:tcp://127.0.0.1:5557,tags --result-tags \\
                     --labels pub:tcp://127.0.0.1:5558 --powers pub:tcp://127.0.0.1:5559
      PDUs (ZMQ ... Message blocks), each with its own link budget in its metadata:
        nflae stream --users 4 --antennas 64 --csi pull:tcp://127.0.0.1:5556,pdu \\
                     --precoders push:tcp://127.0.0.1:5557,pdu
      the computation on a server:
        nflae stream --server tcp://127.0.0.1:5555 --users 4 --antennas 64 --csi ... --precoders ...

    \b
    KIND      of --csi: pull, sub, req, for a flowgraph's ZMQ PUSH, PUB, REP sink;
              of the outputs: push, pub, rep, for its ZMQ PULL, SUB, REQ source.
    OPTION    bind, connect   by default --csi connects and the outputs bind, because gr-zeromq's sinks
                              bind and its sources connect
              tags            Pass Tags is on in the flowgraph's block
              pdu             the flowgraph's block is the Message one
              key=TEXT        of sub and pub: the Filter Key

    \b
    An item of --csi is one drop, a vector of antennas x users complex numbers: MATLAB's H(:), N x K, user after
    user. An item of --precoders is the same of W; of --labels users bytes, 1 for near field; of --powers users
    floats, W. Item i out belongs to item i in. push and pull lose nothing; pub and sub lose what is not read in time,
    and with tags the gaps are counted. docs/how_to/gnuradio.md has the details.

    Ctrl-C or SIGTERM: what was taken is finished, the counts go to the log (stderr), exit status 0.""",
)
@click.option("--csi", required=True, **_ENDPOINT, help="Input of the channels.")
@click.option("--precoders", **_ENDPOINT, help="Output of the precoders.")
@click.option("--labels", **_ENDPOINT, help="Output of the near-field labels.")
@click.option("--powers", **_ENDPOINT, help="Output of the powers.")
@click.option("--users", required=True, type=click.IntRange(min=1), help="Users K per item.")
@click.option("--antennas", required=True, type=click.IntRange(min=1), help="Antennas N per item.")
@click.option(
    "--convention",
    type=click.Choice(["hermitian", "direct"]),
    default="hermitian",
    show_default=True,
    help="hermitian: an item holds h_k, y_k = h_k' x. direct: it holds the rows of H, y = H x.",
)
@click.option("--scaled", is_flag=True, help="Send w_k sqrt(P_k), the precoders with their powers, instead of w_k.")
@click.option("--result-tags", is_flag=True, help="Tag the precoders with the labels, powers and rates of each item.")
@click.option(
    "--scheme",
    cls=SchemeOption,
    default="nflae",
    show_default=True,
    help="Precoding scheme, with its own options, e.g. wmmse:iterations=50; noma requires receivers with SIC.",
)
@click.option("--power-dbw", type=float, help="Power budget P, dBW.  [default: 0]")
@click.option("--noise-dbw", type=float, help="Noise power, dBW.  [default: -20]")
@click.option("--alpha-c", type=float, help="Largest share of P for near-field users, in (0, 1].  [default: 1]")
@click.option("--min-rate", type=float, help="Minimum rate of every user, bps/Hz.  [default: 0]")
@model_option
@device_option
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="For nflae: WMMSE steps started from the network's answer.",
)
@click.option("--server", metavar="ADDRESS", help="Compute on this nflae serve.  [default: in this process]")
@click.option("--server-key", type=click.Path(path_type=Path), metavar="FILE", help="The server's .key.")
@click.option("--client-key", type=click.Path(path_type=Path), metavar="FILE", help="This client's .key_secret.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Largest number of items computed at once.",
)
@click.option(
    "--on-bad-drop",
    type=click.Choice(["error", "skip"]),
    default="skip",
    show_default=True,
    help="For an item with NaN, Inf or an all-zero user: stop, or answer it with zeros and count it.",
)
@click.option(
    "--status-every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Interval of the counts in the log.",
)
def command(**values: Any) -> None:
    """Precode the channels of a running GNU Radio flowgraph, over gr-zeromq's sockets.

    The log, one line per event, goes to stderr.
    """
    options = _Options(**values)
    _check(options)
    from nflae_bridge.live.gnuradio.session import stream
    from nflae_bridge.live.log import EventLog

    settings = _settings(options)
    if options.server is None:
        stream(settings, partial(_local_precode, options), EventLog())
        return
    from nflae_bridge.live.client import Client

    with Client(options.server, server_key=options.server_key, client_key=options.client_key) as client:
        stream(settings, partial(_remote_precode, client, options), EventLog())


def _check(options: _Options) -> None:
    """Raise UsageError for options that exclude each other."""
    if not options.outputs:
        raise click.UsageError("no output: give --precoders, --labels or --powers")
    if options.result_tags and not (options.precoders and options.precoders.tags):
        raise click.UsageError("--result-tags needs --precoders with ',tags'")
    if options.server is None:
        require("torch", "nflae stream without --server")
    elif (options.model, options.device) != ("auto", "auto"):
        raise click.UsageError("--model and --device are options of the server: give them to nflae serve")


def _settings(options: _Options) -> StreamSettings:
    from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
    from nflae_bridge.live.gnuradio.relay import RelayOptions
    from nflae_bridge.live.gnuradio.session import StreamSettings

    request = BudgetRequest(options.power_dbw, options.noise_dbw, options.alpha_c, options.min_rate)
    outputs = options.outputs
    return StreamSettings(
        csi=options.csi,
        outputs=outputs,
        parameters=LinkParameters(options.users, options.antennas, choose_budget(request).link_budget()),
        relay=RelayOptions(
            max_batch=options.max_batch,
            scaled=options.scaled,
            direct=options.convention == "direct",
            with_results=options.result_tags or any(endpoint.pdu for endpoint in outputs.values()),
            on_bad_drop=options.on_bad_drop,
        ),
        result_tags=options.result_tags,
        status_seconds=options.status_every,
    )


def _local_precode(options: _Options) -> Precode:
    from nflae_bridge.api import precode

    return partial(precode, scheme=options.scheme, model=options.model, device=options.device, refine=options.refine)


def _remote_precode(client: Client, options: _Options) -> Precode:
    """Return a function that computes on the server, again after a pause while other clients keep it busy."""
    from nflae_bridge.live.errors import ServerBusy

    def precode(channels: Channels, **budget: float) -> Result:
        for _ in range(_ATTEMPTS):
            try:
                return client.precode(channels, scheme=options.scheme, refine=options.refine, **budget)
            except ServerBusy:
                time.sleep(_PAUSE_SECONDS)
        return client.precode(channels, scheme=options.scheme, refine=options.refine, **budget)

    return precode
