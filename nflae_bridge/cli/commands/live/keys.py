"""Define ``nflae keys``: CURVE keys for ``nflae serve`` and its clients."""

from __future__ import annotations

from pathlib import Path

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.terminal import fact


def _checked_name(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    from nflae_bridge.live.protocol.keys import check_name

    try:
        check_name(value)
    except NflaeError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command(
    "keys",
    short_help="Make a pair of CURVE keys, for serve and its clients.",
    epilog="""\b
    Examples:
      nflae keys server keys             the server's pair: keys/server.key, keys/server.key_secret
      nflae keys lab keys/clients        a client's pair
      nflae serve --bind tcp://0.0.0.0:5555 --server-key keys/server.key_secret --client-keys keys/clients

    \b
    The client needs server.key, lab.key_secret and nothing else:
      nflae_bridge.Client('tcp://server:5555', server_key=Path('server.key'), client_key=Path('lab.key_secret'))
    """,
)
@click.argument("name", callback=_checked_name)
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("."))
def command(name: str, folder: Path) -> None:
    """Make NAME.key, the public key, and NAME.key_secret, the secret key, in DIR (default: the current folder).

    NAME has letters, digits, '.', '_' and '-' only. The files have ZeroMQ's certificate format, which pyzmq, czmq and
    others read too; a secret key that other accounts may read is refused by serve and by the clients.
    """
    from nflae_bridge.live.protocol.keys import make_keys

    public, secret = make_keys(folder, name)
    fact("public key", str(public))
    fact("secret key", f"{secret} (readable by its owner alone)")
