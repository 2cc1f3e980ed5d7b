"""Define ``nflae gnuradio``: install the blocks of GNU Radio Companion."""

from __future__ import annotations

import click

from nflae_bridge.cli.terminal import fact


@click.command(
    "gnuradio",
    short_help="Install the blocks for GNU Radio Companion.",
    epilog="""\b
    Examples:
      nflae gnuradio install                    then start GRC, or reload its blocks: category [nflae]
      nflae gnuradio uninstall                  remove exactly what was installed
      eval "$(nflae gnuradio path)"             use the blocks in this shell without installing them

    \b
    install writes the blocks' descriptions to the user's folder of hierarchical blocks (~/.grc_gnuradio), links to the
    packages to ~/.local/share/nflae-bridge, and a .pth file to the packages of GNU Radio's Python. Repeat it after an
    upgrade. `nflae stream` needs none of it: it serves GNU Radio's own ZeroMQ blocks.""",
)
@click.argument("action", type=click.Choice(["install", "uninstall", "path"]))
@click.option("--python", metavar="FILE", help="Python that GNU Radio was installed for.  [default: that of grcc]")
def command(action: str, python: str | None) -> None:
    """Install or uninstall the blocks for GNU Radio 3.10: Precoder, Downlink Channel, EVM Probe and CSI Recorder.

    path prints what to set for GRC_BLOCKS_PATH and PYTHONPATH instead.
    """
    from nflae_bridge.live.gnuradio.blocks import installation

    if action == "uninstall":
        removed, kept = installation.uninstall()
        for path in removed:
            fact("removed", str(path))
        for path in kept:
            fact("kept", f"{path} (changed since it was installed)")
        if not removed:
            fact("removed", "nothing: the blocks are not installed")
        return
    found = installation.find_gnuradio(python)
    if action == "path":
        for line in installation.shell_lines(found):
            click.echo(line)
        return
    made = installation.install(found)
    fact("GNU Radio", f"{found.version}, {found.python}")
    for path in made:
        fact("installed", str(path))
