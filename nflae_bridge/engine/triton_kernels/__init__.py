"""Compute the engine's answer on a GPU in three Triton kernels: encoder, trunk, powers and beams.

PyTorch launches some 500 kernels for it, and for one drop nearly all of their time goes into launching. Here a drop is
one program: its users are padded to `USERS` and everything stays on its multiprocessor. On an H200 one drop takes 180
us host to host, and 279 us under C3 and C4 with the classifier before them (`tiny`); PyTorch's kernels as a CUDA graph,
for C3 and C4, take 1.71 ms (docs/measurements/performance.md). K x K matrices are in double precision, the network in
single, its matrix products in TF32. `tests/nflae_bridge/engine/test_triton_kernels.py` compares the kernels with the
torch backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.triton_kernels.encode import encode
from nflae_bridge.engine.triton_kernels.serve import serve
from nflae_bridge.engine.triton_kernels.trunk import run_trunk
from nflae_bridge.network.encoders.gram import GramEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import OpenBackbone
from nflae_bridge.network.trunks.trunk import UserTrunk
from simulator.downlink.constraints import Limits

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
        self, problem: DeviceProblem, near_field: Tensor, answer: PackedAnswer, refinements: int, negligible: float
    ) -> None:
        """Write precoders, powers, rates and flags.

        Parameters
        ----------
        problem
            Problem of at most `USERS` users.
        near_field
            Users that count under C3, bool (drops, users).
        answer
            Memory of the answer; near-field scores are not written.
        refinements
            WMMSE steps from the network's answer.
        negligible
            Relative gain in sum rate up to which redundant users are switched off.
        """
        drops, users, antennas = problem.channels.shape
        parts, near = torch.view_as_real(problem.channels), near_field.view(torch.uint8)

        def allocate(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(drops, *shape, dtype=dtype, device=parts.device)

        gram, inverse, rzf = allocate(2, USERS, USERS), allocate(2, USERS, USERS), allocate(USERS)
        tokens = allocate(USERS, self.width, dtype=torch.float32)
        bias = allocate(self.heads, USERS, USERS, dtype=torch.float32)
        logits = allocate(2, USERS, dtype=torch.float32)
        warps = _WARPS if drops < _DROPS_THAT_FILL else _NARROW
        constraints = near, problem.alpha_c, problem.min_rate
        encode[(drops,)](
            *(parts, problem.amplitude_scale, *constraints, self.encoder, self.position),
            *(gram, inverse, rzf, tokens, bias, antennas, users),
            **{"P": USERS, "W": self.width, "E": self.edges, "HEADS": self.heads, "BLOCK": _ANTENNAS},
            num_warps=warps,
        )
        run_trunk[(drops,)](
            *(tokens, bias, self.trunk, self.ends, logits, users),
            **{"P": USERS, "W": self.width, "HEADS": self.heads, "LAYERS": self.layers, "BLOCK": _HIDDEN},
            num_warps=_WARPS,
        )
        serve[(drops,)](
            *(parts, *constraints, gram, inverse, rzf, logits, torch.view_as_real(answer.precoder), answer.table),
            *(answer.size.columns, antennas, 1 - negligible, users, refinements),
            **{"LIMITED": problem.limits != Limits(), "P": USERS, "BLOCK": _ANTENNAS},
            num_warps=warps,
        )


def _in_one_piece(*modules: torch.nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for module in modules for weight in module.parameters()])
