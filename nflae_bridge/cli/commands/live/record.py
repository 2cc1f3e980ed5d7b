"""Define ``nflae record``: record the channels of a stream or of the requests to a server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.endpoint import endpoint_option

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint

_TIMEOUT = 10.0  # s


@click.command(
    "record",
    short_help="Record the channels of a stream, or of the requests to a server.",
    epilog="""\b
    Examples:
      a flowgraph's ZMQ PUSH Sink sends CSI, with tags, to port 5556:
        nflae record -o flight.sigmf-data --csi pull:tcp://127.0.0.1:5556,tags --users 4 --antennas 64
      clients call port 5556 in place of the server's 5555:
        nflae record -o drops.mat --server tcp://127.0.0.1:5555 --bind tcp://127.0.0.1:5556

    \b
    NAME.sigmf-data has NAME.sigmf-meta beside it, with the time, tags and request of every message; NAME.mat is of
    version 7.3 and is written at the end. nflae replay sends either again; precode and evaluate read both.

    Ctrl-C or SIGTERM: the recording is completed, exit status 0.""",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME.sigmf-data or NAME.mat.",
)
@endpoint_option("--csi", "Input of a stream, as of nflae stream.", is_input=True)
@click.option("--users", type=click.IntRange(min=1), help="Users K per item; for --csi.")
@click.option("--antennas", type=click.IntRange(min=1), help="Antennas N per item; for --csi.")
@click.option(
    "--convention",
    type=click.Choice(["hermitian", "direct"]),
    help="hermitian: an item holds h_k, y_k = h_k' x. direct: it holds the rows of H, y = H x.  [default: hermitian]",
)
@click.option("--server", metavar="ADDRESS", help="Server whose requests are recorded.")
@click.option("--bind", "address", metavar="ADDRESS", help="Address that clients call instead; for --server.")
@click.option("--server-key", type=click.Path(path_type=Path), metavar="FILE", help="The server's .key.")
@click.option("--client-key", type=click.Path(path_type=Path), metavar="FILE", help="This program's .key_secret.")
@click.option(
    "--items",
    type=click.IntRange(min=1),
    help="End after this many items (drops), for --csi with the message that has the last.  [default: no limit]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this time, s.  [default: no limit]"
)
def command(output: Path, csi: Endpoint | None, server: str | None, **options: Any) -> None:
    """Record the channels of a stream, or of the requests to a server, in SigMF or a .mat file.

    The log, one line per event, goes to stderr.
    """
    if (csi is None) == (server is None):
        raise click.UsageError("give either --csi, for a stream, or --server")
    given = {name for name, value in options.items() if value is not None}
    if csi is not None and (not {"users", "antennas"} <= given or given & {"address", "server_key", "client_key"}):
        raise click.UsageError("--csi needs --users and --antennas; --bind and the keys are for --server")
    if server is not None and ("address" not in given or given & {"users", "antennas", "convention"}):
        raise click.UsageError("--server needs --bind; --users, --antennas and --convention are for --csi")
    from nflae_bridge.live.log import EventLog
    from nflae_bridge.live.recordings.streams import Limits, record_stream
    from nflae_bridge.live.recordings.writer import convert_recording, sample_path

    samples, log = sample_path(output), EventLog()
    if output.exists():
        raise NflaeError(f"{output}: exists; give another name, or delete it first")
    limits = Limits(options["items"] or math.inf, options["seconds"] or math.inf)
    if csi is not None:
        size = options["users"], options["antennas"]
        count = record_stream(samples, csi, size, options["convention"] or "hermitian", limits, log)
    else:
        from nflae_bridge.live.client.connection import ServerAddress
        from nflae_bridge.live.recordings.requests import record_requests

        assert server is not None
        recorded = ServerAddress(server, _TIMEOUT, options["server_key"], options["client_key"])
        count = record_requests(samples, options["address"], recorded, limits, log)
    if output.suffix == ".mat" and count:
        for name in convert_recording(samples, output):
            reason = "the requests do not all state the same number; each is in requests, pass an option to precode"
            log.warning("not_written", file=output, variable=name, message=reason)
        log.info("written", file=output)
    log.flush()
