"""Build GPT-2's blocks as a trunk with attention between all users, without `transformers`.

The blocks, their parameters and the parameters' names are those of `transformers.GPT2Model`, so that weights move
between the two. Differences: no token embeddings, no causal mask, one position for all users, and the exact GELU
instead of its tanh approximation (they differ by less than 5e-4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

# Attention scores are kept within e^-60 .. e^60 instead of being measured against each row's largest: for a handful
# of users a softmax costs more than all the matrix products around it.
LARGEST_SCORE = 60.0


class Projection(nn.Module):
    """Compute x W + b with W stored as in GPT-2, (inputs, outputs).

    Parameters
    ----------
    inputs, outputs
        Width of input and output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows, (rows, inputs)."""
        return torch.addmm(self.bias, rows, self.weight)


class Attention(nn.Module):
    """Attend from every user to every other, with scores biased by the encoder's output per pair.

    Parameters
    ----------
    width
        Width of the tokens.
    heads
        Attention heads.

    Attributes
    ----------
    fused
        Export to ONNX as one operator, which does not keep scores within `LARGEST_SCORE`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fused = True
        self.c_attn = Projection(width, 3 * width)
        self.c_proj = Projection(width, width)

    def forward(self, rows: Tensor, bias: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        rows
            (drops * users, width).
        bias
            (drops, heads, users, users), added to attention scores.

        Returns
        -------
        Tensor
            (drops * users, width).
        """
        weight, shift = self.c_attn.weight, self.c_attn.bias
        if self.fused and torch.onnx.is_in_onnx_export():
            joined: Tensor = _OnnxAttention.apply(rows, weight, shift, bias, self.heads)  # type: ignore[no-untyped-call]
        else:
            joined = attend(rows, weight, shift, bias)
        result: Tensor = self.c_proj(joined)
        return result


def attend(rows: Tensor, weight: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
    """Compute queries, keys and values, and attend by them.

    Parameters
    ----------
    rows
        (drops * users, width).
    weight, shift
        Projection to queries, keys and values, (width, 3 width) and (3 width,).
    bias
        (drops, heads, users, users), added to attention scores.

    Returns
    -------
    Tensor
        (drops * users, width).
    """
    drops, heads, users, _ = bias.shape
    parts = torch.addmm(shift, rows, weight).view(drops, users, 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = parts.reshape(3, drops * heads, users, -1)
    scores = torch.baddbmm(
        bias.reshape(drops * heads, users, users), query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5
    )
    weights = scores.clamp(-LARGEST_SCORE, LARGEST_SCORE).exp()
    mixed = (weights @ value) / weights.sum(-1, keepdim=True)
    result: Tensor = mixed.view(drops, heads, users, -1).transpose(1, 2).reshape(drops * users, -1)
    return result


class _OnnxAttention(torch.autograd.Function):
    """Export `attend` as one operator of ONNX Runtime, in place of seventeen of ONNX's, which take twice as long."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, shift: Tensor, bias: Tensor, heads: int) -> Tensor:
        return attend(rows, weight, shift, bias)

    @staticmethod
    def symbolic(graph: Any, rows: Any, weight: Any, shift: Any, bias: Any, heads: int) -> Any:
        width = weight.type().sizes()[0]
        drops_and_users = graph.op(
            "Gather", graph.op("Shape", bias), graph.op("Constant", value_t=torch.tensor([0, 2])), axis_i=0
        )
        shape = graph.op("Concat", drops_and_users, graph.op("Constant", value_t=torch.tensor([width])), axis_i=0)
        none = graph.op("prim::Constant")
        none.setType(torch._C.OptionalType.ofTensor())
        tokens = graph.op("Reshape", rows, shape)
        mixed = graph.op("com.microsoft::Attention", tokens, weight, shift, none, none, bias, num_heads_i=heads)
        result = graph.op("Reshape", mixed, graph.op("Constant", value_t=torch.tensor([-1, width])))
        result.setType(rows.type())
        return result


class Mlp(nn.Module):
    """Apply two projections with a GELU between.

    Parameters
    ----------
    width
        Width of the tokens; a quarter of the hidden units.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = Projection(width, 4 * width)
        self.c_proj = Projection(4 * width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """Apply the MLP to rows, (rows, width)."""
        result: Tensor = self.c_proj(gelu(self.c_fc(rows)))
        return result


class Block(nn.Module):
    """Add pre-norm attention, then a pre-norm MLP, to the tokens.

    Parameters
    ----------
    width
        Width of the tokens.
    heads
        Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, rows: Tensor, bias: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        rows
            (drops * users, width).
        bias
            (drops, heads, users, users), added to attention scores.

        Returns
        -------
        Tensor
            (drops * users, width).
        """
        rows = rows + self.attn(self.ln_1(rows), bias)
        result: Tensor = rows + self.mlp(self.ln_2(rows))
        return result


class UserTrunk(nn.Module):
    """Run GPT-2's blocks over users; equivariant under permutations of users.

    Parameters
    ----------
    width, layers, heads
        Size of the trunk.
    positions
        Position embeddings, of which the first serves all users.
    """

    def __init__(self, width: int, layers: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        # One token and all but one position are unused; GPT-2's shape has them.
        self.wte = nn.Embedding(1, width)
        self.wpe = nn.Embedding(positions, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        for embedding in (self.wte, self.wpe):
            nn.init.normal_(embedding.weight, std=0.02)
        for name, weight in self.h.named_parameters():
            if name.endswith("c_proj.weight"):  # as GPT-2 starts: what is added to the stream shrinks with the depth
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Run the trunk.

        Parameters
        ----------
        tokens
            (drops, users, width).
        bias
            (drops, heads, users, users), added to attention scores.

        Returns
        -------
        Tensor
            (drops, users, width).
        """
        rows = (tokens + self.wpe.weight[0]).flatten(0, 1)
        for block in self.h:
            rows = block(rows, bias)
        result: Tensor = self.ln_f(rows).view_as(tokens)
        return result
