"""Define ``nflae stream``: precode the channels of a running GNU Radio flowgraph."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from matlab_io.extras import require
from nflae_bridge.cli.options.common import device_option, model_option, refuse_options
from nflae_bridge.cli.options.endpoint import endpoint_option
from nflae_bridge.cli.options.prediction import PredictionOptions, prediction_options
from nflae_bridge.cli.options.scheme import NETWORK, SchemeOption, refuse_network_options
from nflae_bridge.cli.options.tracking import TrackingOptions, tracking_options
from nflae_bridge.cli.options.view import ViewOptions, view_options
from nflae_bridge.files.budget.choice import BudgetRequest, choose_budget

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.computation.items import Stream
    from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor, Predict
    from nflae_bridge.live.gnuradio.counts import Counts
    from nflae_bridge.live.gnuradio.inlet import Warn
    from nflae_bridge.live.gnuradio.relay import Precode
    from nflae_bridge.live.gnuradio.session import StreamSettings
    from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint
    from nflae_bridge.live.log import EventLog


_SERVER_TIMEOUT = 10.0  # s


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
    server_timeout: float | None
    fallback: Literal["stop", "hold", "rzf"] | None
    max_batch: int
    on_bad_drop: Literal["error", "skip"]
    status_every: float
    journal: Path | None
    prediction: PredictionOptions
    tracking: TrackingOptions
    viewing: ViewOptions

    @property
    def outputs(self) -> dict[Stream, Endpoint]:
        """Output endpoints by stream."""
        given: dict[Stream, Endpoint | None] = {
            "precoders": self.precoders,
            "labels": self.labels,
            "powers": self.powers,
        }
        return {name: endpoint for name, endpoint in given.items() if endpoint is not None}


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
      precoders for the channels two items later, which are in use when they arrive:
        nflae stream --users 4 --antennas 64 --csi ...,tags --precoders ...,tags --ahead 2 --geometry line
      positions, angles and beams of the users in the tags of the precoders:
        nflae stream --users 4 --antennas 64 --csi ...,tags --precoders ...,tags --track --slot-ms 10
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
              latest          of --csi: only the newest item is computed, the others are counted as skipped
              pmt=3.10|3.9|3.8
                              PDUs and tags as of GNU Radio 3.10.5 and later | 3.9.0 to 3.10.4 | 3.8
                              [default: 3.10, for the outputs that of --csi; 3.8 is recognised]

    \b
    An item of --csi is one drop, a vector of antennas x users complex numbers: MATLAB's H(:), N x K, user after
    user. An item of --precoders is the same of W; of --labels users bytes, 1 for near field; of --powers users
    floats, W. Item i out belongs to item i in. push and pull lose nothing; pub and sub lose what is not read in time,
    and with tags the gaps are counted. docs/how_to/live/gnuradio.md has the details, docs/how_to/live/restarts.md
    what survives which restart.

    Ctrl-C or SIGTERM: what was taken is finished within half a second, the counts go to the log (stderr), exit status
    0.""",
)
@endpoint_option("--csi", "Input of the channels.", is_input=True, required=True)
@endpoint_option("--precoders", "Output of the precoders.")
@endpoint_option("--labels", "Output of the near-field labels.")
@endpoint_option("--powers", "Output of the powers.")
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
    "--server-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=f"Time limit of a computation on the server.  [default: {_SERVER_TIMEOUT:g}]",
)
@click.option(
    "--fallback",
    type=click.Choice(["stop", "hold", "rzf"]),
    help="After that time: stop, send the last precoders again, or compute RZF here.  [default: stop]",
)
@prediction_options(None, "Precode for the channel predicted this many items after each.", files=False)
@tracking_options
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
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the number of unfinished items, which the next nflae stream counts as lost; for --csi without tags.",
)
@view_options
def command(**values: Any) -> None:
    """Precode the channels of a running GNU Radio flowgraph, over gr-zeromq's sockets.

    The log, one line per event, goes to stderr.
    """
    options = _Options(**values)
    _check(options)
    from nflae_bridge.live.gnuradio.session import Computation, stream
    from nflae_bridge.live.log import EventLog

    log = EventLog()
    settings = _settings(options)
    with ExitStack() as stack:
        make_precode, predict = _local(options) if options.server is None else _remote(options, log, stack)
        make_predictor = None if options.prediction.ahead is None else partial(_predictor, options, predict)
        make_tracker = options.tracking.tracker if options.tracking.track else None
        stream(settings, Computation(make_precode, make_predictor, make_tracker), log)
    log.flush()
    # The end of an interpreter waits for a computation that is not over, and takes seconds where PyTorch is loaded.
    os._exit(0)


def _check(options: _Options) -> None:
    """Raise UsageError for options that exclude each other."""
    if not options.outputs:
        raise click.UsageError("no output: give --precoders, --labels or --powers")
    _check_addresses(options)
    prediction = options.prediction
    if prediction.ahead is None:
        for option in prediction.given():
            raise click.UsageError(f"{option} applies to --ahead only; give --ahead ITEMS too")
    elif 2 * prediction.ahead > prediction.history:
        raise click.UsageError(
            f"--ahead {prediction.ahead} is beyond half the history of {prediction.history}: give --history"
            f" {2 * prediction.ahead} or more"
        )
    _check_tracking(options)
    remedy = f"applies to --scheme nflae only; leave it out with {options.scheme}."
    refuse_network_options((options.scheme,), remedy)
    if options.scheme != NETWORK:
        refuse_options(remedy, ("model",))
    if options.scaled and options.precoders is None:
        raise click.UsageError("--scaled needs --precoders")
    if options.result_tags and not (options.precoders and options.precoders.tags):
        raise click.UsageError("--result-tags needs --precoders with ',tags'")
    if options.journal and options.csi.tags:
        raise click.UsageError("--journal is for --csi without ',tags': numbers of items show what is lost")
    if options.server is None:
        if options.server_timeout or options.fallback:
            raise click.UsageError("--server-timeout and --fallback are for a computation on a --server")
        refuse_options(
            "is for a computation on a --server: give that too, or leave it out", ("server_key", "client_key")
        )
        require("torch", "nflae stream without --server")
    elif (options.model, options.device) != ("auto", "auto"):
        raise click.UsageError("--model and --device are options of the server: give them to nflae serve")
    elif options.fallback == "rzf":
        require("torch", "nflae stream --fallback rzf")


def _check_addresses(options: _Options) -> None:
    """Raise UsageError where two ends have one address: they would meet each other, not a flowgraph."""
    taken: dict[str, str] = {}
    for name, endpoint in (("csi", options.csi), *options.outputs.items()):
        address = re.sub(r"^tcp://(\*|0\.0\.0\.0|localhost):", "tcp://127.0.0.1:", endpoint.address)
        other = taken.setdefault(address, name)
        if other != name and not address.endswith((":*", ":0")):
            raise click.UsageError(f"--{other} and --{name} have one address, {endpoint.address}: give each its own")


def _check_tracking(options: _Options) -> None:
    options.tracking.check()
    if options.tracking.track:
        if not any(endpoint.tags or endpoint.pdu for endpoint in options.outputs.values()):
            raise click.UsageError("--track needs an output with ',tags' or ',pdu', which carries the positions")
        if options.prediction.geometry.startswith("panel"):
            raise click.UsageError("--track is of linear arrays: leave out --track, or --geometry panel:...")
        require("torch", "nflae stream --track")


def _settings(options: _Options) -> StreamSettings:
    from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
    from nflae_bridge.live.gnuradio.relay import RelayOptions
    from nflae_bridge.live.gnuradio.session import StreamSettings

    request = BudgetRequest(
        power_dbw=options.power_dbw,
        noise_dbw=options.noise_dbw,
        alpha_c=options.alpha_c,
        min_rate=options.min_rate,
    )
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
        journal=options.journal,
        view=options.viewing.settings(),
        scheme=options.scheme,
        computation=options.server or f"in this process, {options.device}",
    )


def _predictor(options: _Options, predict: Predict, counts: Counts, warn: Warn) -> ItemPredictor:
    from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor

    assert options.prediction.ahead is not None
    return ItemPredictor(predict, options.prediction.ahead, options.prediction.history, counts, warn)


def _of_prediction(options: _Options) -> dict[str, Any]:
    """Return the options of `nflae_bridge.predict`."""
    chosen = options.prediction
    return {
        "method": chosen.method,
        "geometry": chosen.geometry,
        "csi_snr_db": chosen.csi_snr_db,
        "force": chosen.force,
    }


def _local(options: _Options) -> tuple[Callable[[Counts], Precode], Predict]:
    """Return the functions that compute in this process."""
    from nflae_bridge.live.gnuradio.computation.prediction import LocalPredict

    if options.prediction.ahead is not None:
        from nflae_bridge.api.predict import prediction_method

        chosen = options.prediction
        method = prediction_method(options.prediction.ahead, chosen.method, chosen.geometry, chosen.csi_snr_db)
        method.geometry.check(options.antennas)

    def make_precode(counts: Counts) -> Precode:
        from nflae_bridge.api.precode import precode

        return partial(
            precode, scheme=options.scheme, model=options.model, device=options.device, refine=options.refine
        )

    return make_precode, LocalPredict(device=options.device, **_of_prediction(options))


def _remote(options: _Options, log: EventLog, stack: ExitStack) -> tuple[Callable[[Counts], Precode], Predict]:
    """Connect to the server; return the functions that compute there."""
    from nflae_bridge.live.client import Client
    from nflae_bridge.live.client.connection import ServerAddress
    from nflae_bridge.live.gnuradio.computation.remote import RemoteOptions, RemotePrecode, RemotePredict, ServerWatch

    assert options.server is not None
    timeout, fallback = options.server_timeout or _SERVER_TIMEOUT, options.fallback or "stop"
    remote = RemoteOptions(options.scheme, options.refine, timeout, fallback)
    client = Client(options.server, timeout=timeout, server_key=options.server_key, client_key=options.client_key)
    stack.callback(client.close)
    watch = ServerWatch(ServerAddress(options.server, timeout, options.server_key, options.client_key), log)
    stack.callback(watch.close)

    def make_precode(counts: Counts) -> Precode:
        rzf = None
        if options.fallback == "rzf":
            from nflae_bridge.api.precode import precode

            rzf = partial(precode, scheme="rzf")
        return RemotePrecode(client.precode, watch, remote, rzf, counts, log)

    return make_precode, RemotePredict(client.predict, watch, timeout, fallback, **_of_prediction(options))
