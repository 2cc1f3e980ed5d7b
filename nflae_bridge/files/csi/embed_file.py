"""Write the embeddings of the channels of a file, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from matlab_io import ChannelFile
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, version_for
from nflae_bridge.files.blocks import read_block
from nflae_bridge.network.encoders.masked import MaskedChannelNetwork


def embed_file(
    file: ChannelFile,
    output: Path,
    network: MaskedChannelNetwork,
    batch: int,
    version: str | None,
    values: Mapping[str, Value],
    advance: Callable[[int, str], None],
) -> int:
    """Write ``embedding``, single, D x K x S, with the drop axes of the input.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    output : Path
        File to write.
    network : MaskedChannelNetwork
        Network, in evaluation mode.
    batch : int
        Drops at a time.
    version : str or None
        Version of the output; None for that of the input.
    values : mapping of str to Value
        Further variables.
    advance : callable
        Function of the number of drops done and a note, called after each block.

    Returns
    -------
    int
        Number D of features.

    Raises
    ------
    NflaeError
        If a drop is not finite or zero, the antennas outnumber those of the network, or the output cannot be written.
    """
    with torch.no_grad():
        size = network.embed(torch.ones(1, file.antennas, dtype=torch.complex64)).shape[-1]
    array = DropArray("embedding", (size, file.users), file.drop_axes, np.dtype(np.float32))
    out = MatOutput(output, version_for(output, version or file.version), [array], dict(values), [file.path])
    out.begin()
    try:
        for start in range(0, file.drops, batch):
            block = read_block(file, start, min(start + batch, file.drops), "error")
            with torch.no_grad():
                embedding = network.embed(torch.from_numpy(block.channels))
            out.write(start, {"embedding": np.ascontiguousarray(embedding.numpy())})
            advance(start + len(block.channels), "")
    except BaseException:
        out.discard()
        raise
    out.commit()
    return int(size)
