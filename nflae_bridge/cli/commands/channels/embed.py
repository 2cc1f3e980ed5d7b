"""Implement ``nflae embed``: features of the channels of a file, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from nflae_bridge.cli.options.common import ChannelOptions, channel_options
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import fact, progress


@click.command(
    "embed",
    short_help="Write features of channels, for other programs.",
    epilog="""\b
    Examples:
      nflae train --preset mask-tiny -o runs/mask
      nflae embed channels.mat -o features.mat --model runs/mask

    \b
    Variables of OUT.mat (MATLAB order; D features, K users, S drops):
      embedding     D x K x S, single; scale and common phase of a channel do not change it
      nflae_info    struct

    No such model is shipped. nflae reproduce embedding compares such features with simpler ones.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT.mat", help="File of the features."
)
@click.option("--model", required=True, metavar="DIR", help="Folder that nflae train --preset mask-... wrote.")
@channel_options
@click.option("--mat-version", type=click.Choice(["6", "7", "7.3"]), help="Version of OUT.mat.  [default: of IN.mat]")
def command(source: Path, output: Path, model: str, reading: ChannelOptions, mat_version: str | None) -> None:
    """Write features of the channels in IN.mat: hidden states of a network that reconstructs masked antennas."""
    refuse_mat_version(output)
    with reading.open(source) as file:
        for note in file.notes:
            fact("channels", note)
        import torch

        from matlab_io.version import __version__
        from nflae_bridge.engine.devices import drops_per_block
        from nflae_bridge.files.csi.embed_file import embed_file
        from nflae_bridge.network.encoders.masked import MaskedChannelNetwork
        from nflae_bridge.network.shipped import load_model

        checkpoint = load_model(model, torch.device("cpu"), "mask")
        network = checkpoint.network.eval()
        assert isinstance(network, MaskedChannelNetwork)
        values = {
            "nflae_info": {
                "version": __version__,
                "model": checkpoint.name,
                "input": str(file.path),
                "variable": file.variable,
                "layout": file.layout,
                "convention": file.convention,
            }
        }
        batch = drops_per_block(file.users, file.antennas)
        with progress("embed", file.drops, "drops") as advance:
            size = embed_file(file, output, network, batch, mat_version, values, advance)
    fact("written", f"{output}: embedding {size} x {file.users} x {file.drops}")
