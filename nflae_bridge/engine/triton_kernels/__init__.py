"""Compute the engine's answer on a GPU in three Triton kernels, where no constraint binds: encoder, trunk, beams.

PyTorch launches some 500 kernels for it, and for one drop nearly all of their time goes into launching. Here a drop is
one program: its users are padded to `USERS` and everything stays on its multiprocessor. On an H200 one drop takes 196
us host to host and 4,096 take 3.39 ms (`tiny`); PyTorch's kernels as a CUDA graph, for C3 and C4, take 1.67 ms and 11.3
ms, 8.5 and 3.3 times as long (docs/measurements/performance.md). K x K matrices are in double precision, the network
in single, its matrix products in TF32. `tests/nflae_bridge/engine/test_triton_kernels.py` compares the kernels with the
torch backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.engine.triton_kernels.encode import encode
from nflae_bridge.engine.triton_kernels.serve import serve
from nflae_bridge.engine.triton_kernels.trunk import run_trunk
from nflae_bridge.network.encoders.gram import GramEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import OpenBackbone
from nflae_bridge.network.trunks.trunk import UserTrunk

USERS = 16
"""Users that a program has room for, the least that the matrix units take."""

_ANTENNAS = 64  # read at a time
_HIDDEN = 32  # values of the MLP computed at a time
# Measured on an H200: wide programs finish sooner, narrow ones have the higher throughput once they fill the GPU.
_WARPS = 4
_NARROW = 2
_DROPS_THAT_FILL = 256


class TritonKernels:
    """Hold a network's weights laid out for the kernels; made by `of`.

    Parameters
    ----------
    network
        Network with a gram encoder without blocks, a trunk built here, and linear heads.
    """

    max_users = USERS

    def __init__(self, network: PrecodingNetwork) -> None:
        encoder, trunk = network.encoder, network.backbone
        assert isinstance(encoder, GramEncoder)
        assert isinstance(trunk, OpenBackbone)
        self.width, self.heads, self.layers = trunk.width, trunk.heads, len(trunk.model.h)
        self.edges = encoder.bias.in_features
        # Each layer's weights in one piece, in the order in which its modules hold them: the kernels rely on it.
        self.encoder = _in_one_piece(encoder.users, encoder.pairs, encoder.surroundings, encoder.bias)
        self.position = trunk.model.wpe.weight[0].detach().clone()
        self.trunk = _in_one_piece(trunk.model.h)
        self.ends = _in_one_piece(trunk.model.ln_f, network.heads["uplink"], network.heads["power"])

    @staticmethod
    def of(network: PrecodingNetwork) -> TritonKernels | None:
        """Return the kernels of a network; None for one of another kind, or of sizes the matrix units do not take."""
        encoder, trunk = network.encoder, network.backbone
        if not isinstance(encoder, GramEncoder) or not isinstance(trunk, OpenBackbone):
            return None
        if not isinstance(trunk.model, UserTrunk):  # one with a task token
            return None
        sizes = (trunk.width, trunk.width // trunk.heads, encoder.bias.in_features)
        if len(encoder.blocks) or network.config.head_width or any(size < 16 or size & (size - 1) for size in sizes):
            return None
        return TritonKernels(network)

    def __call__(
        self, channels: Tensor, amplitude_scale: Tensor, refinements: int, negligible: float
    ) -> tuple[Tensor, Tensor]:
        """Compute precoders and powers.

        Parameters
        ----------
        channels
            complex64 (drops, at most `USERS` users, antennas).
        amplitude_scale
            sqrt(P / sigma^2), float64 (drops,).
        refinements
            WMMSE steps from the network's answer.
        negligible
            Relative gain in sum rate up to which redundant users are switched off.

        Returns
        -------
        precoder : Tensor
            complex64 (drops, users, antennas).
        table : Tensor
            float64 (drops, 3 users + 2): P_k / P, lambda_k / P and SINRs of all users, 1, and whether the answer is
            that of regularised zero forcing.
        """
        drops, users, antennas = channels.shape
        parts = torch.view_as_real(channels)

        def allocate(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(drops, *shape, dtype=dtype, device=channels.device)

        gram, inverse, rzf = allocate(2, USERS, USERS), allocate(2, USERS, USERS), allocate(USERS)
        tokens = allocate(USERS, self.width, dtype=torch.float32)
        bias = allocate(self.heads, USERS, USERS, dtype=torch.float32)
        logits = allocate(2, USERS, dtype=torch.float32)
        precoder, table = torch.empty_like(channels), allocate(3 * users + 2)
        warps = _WARPS if drops < _DROPS_THAT_FILL else _NARROW
        encode[(drops,)](
            *(parts, amplitude_scale, self.encoder, self.position, gram, inverse, rzf, tokens, bias, antennas, users),
            **{"P": USERS, "W": self.width, "E": self.edges, "HEADS": self.heads, "BLOCK": _ANTENNAS},
            num_warps=warps,
        )
        run_trunk[(drops,)](
            *(tokens, bias, self.trunk, self.ends, logits, users),
            **{"P": USERS, "W": self.width, "HEADS": self.heads, "LAYERS": self.layers, "BLOCK": _HIDDEN},
            num_warps=_WARPS,
        )
        serve[(drops,)](
            *(parts, gram, inverse, rzf, logits, torch.view_as_real(precoder), table),
            *(antennas, 1 - negligible, users, refinements),
            **{"P": USERS, "BLOCK": _ANTENNAS},
            num_warps=warps,
        )
        return precoder, table


def _in_one_piece(*modules: torch.nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for module in modules for weight in module.parameters()])
