"""``nflae stream``: precoders for running GNU Radio flowgraphs."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nflae_bridge.cli.options import device_option, model_option
from nflae_bridge.cli.scheme_option import SchemeOption
from nflae_bridge.files.budget import BudgetRequest, choose_budget

if TYPE_CHECKING:
    from matlab_io.result import Result
    from nflae_bridge.files.validation import Channels
    from nflae_bridge.live.client import Client
    from nflae_bridge.live.gnuradio.endpoints import Endpoint
    from nflae_bridge.live.gnuradio.outlets import What
    from nflae_bridge.live.gnuradio.relay import Precode

# How often, and after what pause, a busy server is asked again: for half a minute.
_TURNS, _PAUSE_SECONDS = 600, 0.05


def _endpoint(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Endpoint | None:
    from nflae_bridge.live.gnuradio.endpoints import parse_endpoint

    try:
        return None if value is None else parse_endpoint(value, is_input=parameter.name == "csi")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_ENDPOINT: dict[str, Any] = {"callback": _endpoint, "metavar": "KIND:ADDRESS[,OPTION...]"}


@click.command(
    "stream",
    short_help="Precoders for running GNU Radio flowgraphs.",
    epilog="""\b
    Examples:
      a flowgraph's ZMQ PUSH Sink sends CSI to port 5556, its ZMQ PULL Source takes precoders from 5557:
        nflae stream --users 4 --antennas 64 --csi pull:tcp://127.0.0.1:5556 \\
                     --precoders push:tcp://127.0.0.1:5557
      PUB and SUB, tags passed, labels and powers on streams of their own:
        nflae stream --users 4 --antennas 64 --csi sub:tcp://127.0.0.1:5556,tags \\
                     --precoders pub:tcp://127.0.0.1:5557,tags --result-tags \\
                     --labels pub:tcp://127.0.0.1:5558 --powers pub:tcp://127.0.0.1:5559
      PDUs (ZMQ ... Message blocks), each with its own link budget in its metadata:
        nflae stream --users 4 --antennas 64 --csi pull:tcp://127.0.0.1:5556,pdu \\
                     --precoders push:tcp://127.0.0.1:5557,pdu
      the device belongs to a server:
        nflae stream --server tcp://127.0.0.1:5555 --users 4 --antennas 64 --csi ... --precoders ...

    \b
    KIND      of --csi: pull, sub, req, for a flowgraph's ZMQ PUSH, PUB, REP sink;
              of the outputs: push, pub, rep, for its ZMQ PULL, SUB, REQ source.
    OPTION    bind, connect   --csi connects and the outputs bind unless told otherwise: gr-zeromq's sinks
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
@click.option("--csi", required=True, **_ENDPOINT, help="Where channels come from.")
@click.option("--precoders", **_ENDPOINT, help="Where precoders go.")
@click.option("--labels", **_ENDPOINT, help="Where near-field labels go.")
@click.option("--powers", **_ENDPOINT, help="Where powers go.")
@click.option("--users", required=True, type=click.IntRange(min=1), help="Users K of an item.")
@click.option("--antennas", required=True, type=click.IntRange(min=1), help="Antennas N of an item.")
@click.option(
    "--convention",
    type=click.Choice(["hermitian", "direct"]),
    default="hermitian",
    show_default=True,
    help="hermitian: an item holds h_k, y_k = h_k' x. direct: it holds the rows of H, y = H x.",
)
@click.option("--scaled", is_flag=True, help="Precoders are w_k sqrt(P_k), to be applied as they are, instead of w_k.")
@click.option("--result-tags", is_flag=True, help="Tags on the precoders tell labels, powers, rates of each item.")
@click.option(
    "--scheme",
    cls=SchemeOption,
    default="nflae",
    show_default=True,
    help="Precoding scheme, with its own options, e.g. wmmse:iterations=50.",
)
@click.option("--power-dbw", type=float, help="Power budget P, dBW.  [default: 0]")
@click.option("--noise-dbw", type=float, help="Noise power, dBW.  [default: -20]")
@click.option("--alpha-c", type=float, help="Largest share of P for near-field users, in (0, 1].  [default: 1]")
@click.option("--min-rate", type=float, help="Rate every user must get, bps/Hz.  [default: 0]")
@model_option
@device_option
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="For nflae: WMMSE steps started from the network's answer.",
)
@click.option("--server", metavar="ADDRESS", help="Let this nflae serve compute.  [default: compute here]")
@click.option("--server-key", type=click.Path(path_type=Path), metavar="FILE", help="The server's .key.")
@click.option("--client-key", type=click.Path(path_type=Path), metavar="FILE", help="Your .key_secret for it.")
@click.option(
    "--max-batch", type=click.IntRange(min=1), default=64, show_default=True, help="Most items computed at once."
)
@click.option(
    "--on-bad-drop",
    type=click.Choice(["error", "skip"]),
    default="skip",
    show_default=True,
    help="An item with NaN, Inf or an all-zero user: stop, or answer it with zeros and count it.",
)
@click.option(
    "--status-every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the log tells the counts.",
)
def command(
    csi: Endpoint,
    precoders: Endpoint | None,
    labels: Endpoint | None,
    powers: Endpoint | None,
    users: int,
    antennas: int,
    convention: str,
    scaled: bool,
    result_tags: bool,
    scheme: str,
    power_dbw: float | None,
    noise_dbw: float | None,
    alpha_c: float | None,
    min_rate: float | None,
    model: str,
    device: str,
    refine: int,
    server: str | None,
    server_key: Path | None,
    client_key: Path | None,
    max_batch: int,
    on_bad_drop: Literal["error", "skip"],
    status_every: float,
) -> None:
    """Take channels from a running GNU Radio flowgraph and give precoders back, over gr-zeromq's sockets.

    The log, one line an event, goes to stderr.
    """
    given: dict[What, Endpoint | None] = {"precoders": precoders, "labels": labels, "powers": powers}
    outputs = {what: endpoint for what, endpoint in given.items() if endpoint is not None}
    if not outputs:
        raise click.UsageError("nothing to send: give --precoders, --labels or --powers")
    if result_tags and not (precoders and precoders.tags):
        raise click.UsageError("--result-tags needs --precoders with ',tags'")
    if server and (model, device) != ("auto", "auto"):
        raise click.UsageError("--model and --device are the server's business: give them to nflae serve")

    from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
    from nflae_bridge.live.gnuradio.relay import RelayOptions
    from nflae_bridge.live.gnuradio.session import StreamSettings, stream
    from nflae_bridge.live.log import EventLog

    budget = choose_budget(BudgetRequest(power_dbw, noise_dbw, alpha_c, min_rate))
    settings = StreamSettings(
        csi=csi,
        outputs=outputs,
        terms=LinkParameters(
            users,
            antennas,
            budget.power.value,
            budget.noise_power.value,
            budget.alpha_c.value,
            budget.min_rate.value,
        ),
        relay=RelayOptions(
            max_batch=max_batch,
            scaled=scaled,
            direct=convention == "direct",
            facts=result_tags or any(endpoint.pdu for endpoint in outputs.values()),
            on_bad_drop=on_bad_drop,
        ),
        result_tags=result_tags,
        status_seconds=status_every,
    )
    if server is None:
        make = partial(_here, scheme, model, device, refine)
        stream(settings, make, EventLog())
        return
    from nflae_bridge.live.client import Client

    with Client(server, server_key=server_key, client_key=client_key) as client:
        stream(settings, partial(_there, client, scheme, refine), EventLog())


def _here(scheme: str, model: str, device: str, refine: int) -> Precode:
    from nflae_bridge.api import precode

    return partial(precode, scheme=scheme, model=model, device=device, refine=refine)


def _there(client: Client, scheme: str, refine: int) -> Precode:
    """A server that is busy is asked again: others use it, too."""
    from nflae_bridge.live.errors import ServerBusy

    def ask(channels: Channels, **budget: float) -> Result:
        for _ in range(_TURNS):
            try:
                return client.precode(channels, scheme=scheme, refine=refine, **budget)
            except ServerBusy:
                time.sleep(_PAUSE_SECONDS)
        return client.precode(channels, scheme=scheme, refine=refine, **budget)

    return ask
