"""Define ``nflae replay``: send recorded channels to a flowgraph or a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.endpoint import endpoint_option
from nflae_bridge.cli.options.scheme import SchemeOption

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint

_TIMEOUT = 60.0  # s
_SCHEME = "nflae"


@click.command(
    "replay",
    short_help="Send recorded channels to a flowgraph or a server.",
    epilog="""\b
    Examples:
      nflae replay flight.sigmf-data --to push:tcp://127.0.0.1:5556,tags --keep-timing
      nflae replay drops.mat --server tcp://127.0.0.1:5555

    \b
    FILE      a recording, either of its two files, or any file of channels that says how it is read: then every
              drop is a message.
    --to      push or pub, for a flowgraph's ZMQ PULL or SUB Source, or for --csi pull:... or sub:... of nflae stream;
              it binds by default. Sending begins when a reader has connected.
    --server  recorded requests are sent byte by byte, each after the answer to the one before; other messages become
              requests with the options here.

    Exit status: 0; 1 if the server refuses requests or does not answer; Ctrl-C or SIGTERM ends the replay.""",
)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@endpoint_option("--to", "Output to a flowgraph.")
@click.option("--server", metavar="ADDRESS", help="Server to send requests to.")
@click.option("--keep-timing", is_flag=True, help="Keep the recorded time between messages.  [default: at once]")
@click.option(
    "--scheme",
    cls=SchemeOption,
    default=_SCHEME,
    show_default=True,
    help="For --server: scheme of messages that are no requests.",
)
@click.option("--power-dbw", type=float, help="For --server and such messages: power budget P, dBW.  [default: 0]")
@click.option("--noise-dbw", type=float, help="For --server and such messages: noise power, dBW.  [default: -20]")
@click.option("--server-key", type=click.Path(path_type=Path), metavar="FILE", help="The server's .key.")
@click.option("--client-key", type=click.Path(path_type=Path), metavar="FILE", help="This program's .key_secret.")
def command(source: Path, to: Endpoint | None, server: str | None, keep_timing: bool, **options: Any) -> None:
    """Send the channels in FILE to a flowgraph or a server, as they were recorded.

    The log, one line per event, goes to stderr.
    """
    if (to is None) == (server is None):
        raise click.UsageError("give either --to, for a flowgraph, or --server")
    if to is not None and (options | {"scheme": None} != dict.fromkeys(options) or options["scheme"] != _SCHEME):
        raise click.UsageError("--scheme, --power-dbw, --noise-dbw and the keys are for --server")
    from nflae_bridge.live.log import EventLog
    from nflae_bridge.live.recordings.source import RecordedMessages

    recorded, log = RecordedMessages(source), EventLog()
    for note in recorded.notes:
        log.warning("cut_short", message=note)
    if not recorded.messages:
        raise NflaeError(f"{source}: holds no whole item to replay; record again")
    refused = 0
    if to is not None:
        from nflae_bridge.live.recordings.streams import replay_stream

        replay_stream(recorded, to, keep_timing, log)
    else:
        from nflae_bridge.live.client.connection import ServerAddress
        from nflae_bridge.live.recordings.requests import replay_requests

        assert server is not None
        address = ServerAddress(server, _TIMEOUT, options["server_key"], options["client_key"])
        _, refused = replay_requests(recorded, address, keep_timing, _header_fields(options), log)
    log.flush()
    sys.exit(int(refused > 0))


def _header_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request's header for the options that are given; the server has the defaults."""
    fields = {"scheme": options["scheme"]}
    for name, option in (("power", "power_dbw"), ("noise_power", "noise_dbw")):
        fields[name] = None if options[option] is None else 10 ** (options[option] / 10)
    return {name: value for name, value in fields.items() if value is not None}
