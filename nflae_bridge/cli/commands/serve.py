"""``nflae serve``: precoders for programs that run, over ZeroMQ."""

from __future__ import annotations

from pathlib import Path

import click

from nflae_bridge.cli.options import device_option, model_option


@click.command(
    "serve",
    short_help="Precoders for running programs, over ZeroMQ.",
    epilog="""\b
    Examples:
      nflae serve
      nflae serve --bind tcp://127.0.0.1:6000 --device cuda --max-batch 256 --metrics-port 9100
      nflae serve --bind 'tcp://127.0.0.1:*'            any free port; the log says which
      nflae keys server keys; nflae keys lab keys/clients
      nflae serve --bind tcp://0.0.0.0:5555 --server-key keys/server.key_secret --client-keys keys/clients

    \b
    Then, from Python, MATLAB or Octave:
      nflae_bridge.Client().precode(channels, noise_power=0.01)
      c = nflae.Client('tcp://127.0.0.1:5555'); r = c.precode(H, 'NoisePower', 0.01);

    Ctrl-C or SIGTERM: the server takes nothing new, finishes what it took, and leaves with exit status 0.
    """,
)
@click.option(
    "--bind",
    multiple=True,
    default=("tcp://127.0.0.1:5555",),
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen: tcp://ADDRESS:PORT or ipc://FILE. May be given several times.",
)
@model_option
@device_option
@click.option(
    "--max-batch", type=click.IntRange(min=1), default=64, show_default=True, help="Most drops computed at once."
)
@click.option(
    "--max-wait-us",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="How long a batch waits for as many requests as the last one had. One client alone never waits.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Requests that may wait; more are answered `busy`.",
)
@click.option(
    "--queue-mb",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Megabytes of channels that may wait; more are answered `busy`.",
)
@click.option(
    "--max-message-mb",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Megabytes of a frame beyond which ZeroMQ drops the connection.",
)
@click.option(
    "--max-users", type=click.IntRange(min=1), default=128, show_default=True, help="Most users of a request."
)
@click.option(
    "--server-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The server's .key_secret: encrypts, with --client-keys.",
)
@click.option(
    "--client-keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The .key files of those who may connect.",
)
@click.option("--insecure", is_flag=True, help="Let other machines in without keys.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Prometheus metrics on http://127.0.0.1:PORT.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="debug: a line a request.",
)
def command(
    bind: tuple[str, ...],
    model: str,
    device: str,
    max_batch: int,
    max_wait_us: int,
    queue: int,
    queue_mb: int,
    max_message_mb: int,
    max_users: int,
    server_key: Path | None,
    client_keys: Path | None,
    insecure: bool,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Answer requests for precoders from running programs: MATLAB, Octave, Python, anything that speaks ZeroMQ.

    Requests of any size and scheme share one device; those that are alike are computed together. The wire is
    described in docs/reference/protocol.md. The log, one line an event, goes to stderr.
    """
    from nflae_bridge.live.log import EventLog
    from nflae_bridge.live.server import ServerSettings, serve

    settings = ServerSettings(
        bind=bind,
        model=model,
        device=device,
        max_batch=max_batch,
        max_wait=1e-6 * max_wait_us,
        queue=queue,
        queue_bytes=queue_mb << 20,
        max_message_bytes=max_message_mb << 20,
        max_users=max_users,
        server_key=server_key,
        client_keys=client_keys,
        insecure=insecure,
        metrics_port=metrics_port,
    )
    serve(settings, EventLog(log_level))
