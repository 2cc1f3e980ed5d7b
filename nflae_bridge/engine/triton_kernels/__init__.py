"""The engine's answer on a GPU in three kernels, where no constraint binds: encoder, trunk, and beams with powers.

PyTorch needs some 500 kernels for it, and for one drop nearly all of their time goes into starting them. Here a drop
is one program: its users are padded to `USERS` and everything stays on its multiprocessor. What is computed is what
`engine.Engine` computes, and the tests hold the two together. Everything K x K is in double precision, the network in
single, its matrix products in TF32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.engine.triton_kernels.kernels import encode, run_trunk, serve
from nflae_bridge.network.backbone import OpenBackbone
from nflae_bridge.network.encoders.gram import GramEncoder
from nflae_bridge.network.model import PrecodingNetwork

USERS = 16  # as many as a program has room for, and the least that the matrix units take

_ANTENNAS = 64  # read at a time
_HIDDEN = 32  # of the MLP's values, computed at a time
# Measured on an H200. Wide programs answer sooner, narrow ones get more done where there are enough to fill the GPU.
_WARPS = 4
_NARROW = 2
_ENOUGH = 256  # drops


class Fused:
    """A network's weights laid out for the kernels; see `of`."""

    most_users = USERS

    def __init__(self, network: PrecodingNetwork) -> None:
        encoder, trunk = network.encoder, network.backbone
        assert isinstance(encoder, GramEncoder)
        assert isinstance(trunk, OpenBackbone)
        self.width, self.heads, self.layers = trunk.width, trunk.heads, len(trunk.model.h)
        self.edges = encoder.bias.in_features
        # Each layer's in one piece, in the order in which its modules hold them: the kernels count on it.
        self.encoder = _in_one_piece(encoder.users, encoder.pairs, encoder.surroundings, encoder.bias)
        self.position = trunk.model.wpe.weight[0].detach().clone()
        self.trunk = _in_one_piece(trunk.model.h)
        self.ends = _in_one_piece(trunk.model.ln_f, network.heads["uplink"], network.heads["power"])

    @staticmethod
    def of(network: PrecodingNetwork) -> Fused | None:
        """None for a network of another kind, or of sizes that the matrix units don't take."""
        encoder, trunk = network.encoder, network.backbone
        if not isinstance(encoder, GramEncoder) or not isinstance(trunk, OpenBackbone):
            return None
        sizes = (trunk.width, trunk.width // trunk.heads, encoder.bias.in_features)
        if len(encoder.blocks) or network.config.head_width or any(size < 16 or size & (size - 1) for size in sizes):
            return None
        return Fused(network)

    def __call__(
        self, channels: Tensor, amplitude_scale: Tensor, refinements: int, negligible: float
    ) -> tuple[Tensor, Tensor]:
        """The precoder, complex64 (drops, users, antennas), and a table, float64 (drops, 3 users + 2).

        The table's columns: P_k / P, lambda_k / P and SINRs of all users, 1, and whether the answer is RZF's.

        channels: complex64 (drops, at most USERS users, antennas). units: sqrt(P / sigma^2), float64 (drops,).
        refinements: WMMSE steps from the network's answer. negligible: as in `one_drop.solve`.
        """
        drops, users, antennas = channels.shape
        parts = torch.view_as_real(channels)

        def room(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(drops, *shape, dtype=dtype, device=channels.device)

        gram, inverse, rzf = room(2, USERS, USERS), room(2, USERS, USERS), room(USERS)
        tokens = room(USERS, self.width, dtype=torch.float32)
        bias = room(self.heads, USERS, USERS, dtype=torch.float32)
        logits = room(2, USERS, dtype=torch.float32)
        precoder, table = torch.empty_like(channels), room(3 * users + 2)
        warps = _WARPS if drops < _ENOUGH else _NARROW
        encode[(drops,)](
            *(parts, amplitude_scale, self.encoder, self.position, gram, inverse, rzf, tokens, bias, antennas, users),
            P=USERS,
            W=self.width,
            E=self.edges,
            HEADS=self.heads,
            BLOCK=_ANTENNAS,
            num_warps=warps,
        )
        run_trunk[(drops,)](
            *(tokens, bias, self.trunk, self.ends, logits, users),
            P=USERS,
            W=self.width,
            HEADS=self.heads,
            LAYERS=self.layers,
            BLOCK=_HIDDEN,
            num_warps=_WARPS,
        )
        serve[(drops,)](
            *(parts, gram, inverse, rzf, logits, torch.view_as_real(precoder), table),
            *(antennas, 1 - negligible, users, refinements),
            P=USERS,
            BLOCK=_ANTENNAS,
            num_warps=warps,
        )
        return precoder, table


def _in_one_piece(*modules: torch.nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for module in modules for weight in module.parameters()])
