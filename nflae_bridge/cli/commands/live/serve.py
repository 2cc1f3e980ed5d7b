"""Define ``nflae serve``: serve precoders to running programs over ZeroMQ."""

from __future__ import annotations

from pathlib import Path

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from nflae_bridge.cli.options.common import device_option, model_option
from nflae_bridge.cli.options.view import ViewOptions, view_options
from nflae_bridge.network.shipped import EFFORTS, model_of_effort

MAX_BUSY_POLL_US = 1_000_000


def _checked_addresses(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from nflae_bridge.live.addresses import check_well_formed

    try:
        for address in value:
            check_well_formed(address)
    except NflaeError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command(
    "serve",
    short_help="Serve precoders to running programs over ZeroMQ.",
    epilog="""\b
    Examples:
      nflae serve
      nflae serve --bind tcp://127.0.0.1:6000 --device cuda --max-batch 256 --metrics-port 9100
      nflae serve --bind 'tcp://127.0.0.1:*'            any free port, as the log states
      nflae serve --http 127.0.0.1:8080 --http-array line:30
      nflae keys server keys; nflae keys lab keys/clients
      nflae serve --bind tcp://0.0.0.0:5555 --server-key keys/server.key_secret --client-keys keys/clients

    \b
    Then, from Python, MATLAB or Octave:
      nflae_bridge.Client().precode(channels, noise_power=0.01)
      c = nflae.Client('tcp://127.0.0.1:5555'); r = c.precode(H, 'NoisePower', 0.01);

    Ctrl-C or SIGTERM: the server accepts no further requests, answers the accepted ones within the time of --grace, and
    ends with exit status 0.
    """,
)
@click.option(
    "--bind",
    multiple=True,
    default=("tcp://127.0.0.1:5555",),
    show_default=True,
    callback=_checked_addresses,
    metavar="ADDRESS",
    help="Address to bind: tcp://ADDRESS:PORT or ipc://FILE. May be given several times.",
)
@model_option
@device_option
@click.option(
    "--effort",
    type=click.Choice(list(EFFORTS)),
    help="In place of --model, for requests without one: fast (nano), balanced (nano, 4 iterations), best (auto).",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Largest number of drops computed at once.",
)
@click.option(
    "--max-wait-us",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Longest time that a batch waits for as many requests as the last one had. A single client never waits.",
)
@click.option(
    "--busy-poll",
    "busy_poll_us",
    type=click.IntRange(0, MAX_BUSY_POLL_US),
    default=0,
    show_default=True,
    metavar="US",
    help="Time after an answer for which the sockets are polled without sleeping, us: shorter latencies for the whole"
    f" processor time of one core; at most {MAX_BUSY_POLL_US}.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Largest number of waiting requests; further ones are answered `busy`.",
)
@click.option(
    "--queue-mb",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Largest size of all requests that are received, wait or are computed, MB; further ones are answered `busy`.",
)
@click.option(
    "--max-message-mb",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Size of a frame above which ZeroMQ closes the connection, MB.",
)
@click.option(
    "--max-users",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Largest number of users per request.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Longest computation of one request, s; one that is estimated to take longer is answered `too_large`.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Time for the accepted requests after SIGTERM, s; those not answered by then are answered `stopping`.",
)
@click.option(
    "--server-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The server's .key_secret, of mode 0600; encrypts, with --client-keys.",
)
@click.option(
    "--client-keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with the .key files of the clients that may connect; read again when it changes, and on SIGHUP.",
)
@click.option("--insecure", is_flag=True, help="Permit connections of other machines without keys.")
@click.option("--no-shared-memory", is_flag=True, help="Receive large arrays of clients on this host by sockets, too.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Prometheus metrics on http://127.0.0.1:PORT.")
@view_options
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="debug: one line per request.",
)
def command(
    bind: tuple[str, ...],
    model: str,
    device: str,
    effort: str | None,
    max_batch: int,
    max_wait_us: int,
    busy_poll_us: int,
    queue: int,
    queue_mb: int,
    max_message_mb: int,
    max_users: int,
    max_seconds: float,
    grace: float,
    server_key: Path | None,
    client_keys: Path | None,
    insecure: bool,
    no_shared_memory: bool,
    metrics_port: int | None,
    viewing: ViewOptions,
    log_level: str,
) -> None:
    """Answer requests for precoders from running programs: MATLAB, Octave, Python, any program with ZeroMQ.

    Requests of any size and scheme share one device; those of equal size and scheme are computed together.
    docs/reference/protocol.md specifies the protocol. The log, one line per event, goes to stderr.
    """
    _check_together(server_key, client_keys, effort, model)
    if metrics_port is not None:
        require("prometheus_client", "nflae serve --metrics-port")
    from nflae_bridge.live.log import EventLog

    log = EventLog(log_level)
    try:
        from nflae_bridge.live.server import ServerSettings, serve

        settings = ServerSettings(
            bind=bind,
            model=model,
            device=device,
            effort=effort,
            max_batch=max_batch,
            max_wait=1e-6 * max_wait_us,
            busy_poll=1e-6 * busy_poll_us,
            queue=queue,
            queue_bytes=queue_mb << 20,
            max_message_bytes=max_message_mb << 20,
            max_users=max_users,
            max_seconds=max_seconds,
            grace=grace,
            server_key=server_key,
            client_keys=client_keys,
            insecure=insecure,
            shared_memory=not no_shared_memory,
            metrics_port=metrics_port,
            view=viewing.settings(),
        )
        serve(settings, log)
    except KeyboardInterrupt:  # during start-up: later signals stop the loop or raise NflaeError
        log.info("stopped", message="before the start was complete")


def _check_together(server_key: Path | None, client_keys: Path | None, effort: str | None, model: str) -> None:
    """Refuse one key without the other, and an effort beside a model."""
    if (server_key is None) != (client_keys is None):
        raise click.UsageError("--server-key and --client-keys must be given together")
    try:
        model_of_effort(effort, model, 0)
    except NflaeError as error:
        raise click.UsageError(str(error)) from None
