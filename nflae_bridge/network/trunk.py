"""GPT-2 as a trunk over users who all see each other: the architecture built here, without `transformers`.

The blocks, their parameters and the parameters' names are those of `transformers.GPT2Model`, so that weights move
between the two. What differs: no token embeddings, no causal mask, one position for all users, and the exact GELU
instead of its tanh approximation (they differ by less than 5e-4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

# Attention scores are kept within e^-60 .. e^60 instead of being measured against each row's largest: for a handful
# of users a softmax costs more than all the matrix products around it.
LARGEST_SCORE = 60.0


class Projection(nn.Module):
    """x W + b with W as GPT-2 keeps it: (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """rows: (rows, inputs)."""
        return torch.addmm(self.bias, rows, self.weight)


class Attention(nn.Module):
    """Every user attends to every other; scores biased by what the encoder says of each pair."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = Projection(width, 3 * width)
        self.c_proj = Projection(width, width)

    def forward(self, rows: Tensor, bias: Tensor) -> Tensor:
        """rows: (drops * users, width); bias: (drops, heads, users, users)."""
        drops, heads, users, _ = bias.shape
        parts = self.c_attn(rows).view(drops, users, 3, heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.reshape(3, drops * heads, users, -1).unbind()
        scores = torch.baddbmm(
            bias.reshape(drops * heads, users, users), query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5
        )
        weights = scores.clamp(-LARGEST_SCORE, LARGEST_SCORE).exp()
        mixed = (weights @ value) / weights.sum(-1, keepdim=True)
        joined = mixed.view(drops, heads, users, -1).transpose(1, 2).reshape(drops * users, -1)
        result: Tensor = self.c_proj(joined)
        return result


class Mlp(nn.Module):
    """Two projections with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = Projection(width, 4 * width)
        self.c_proj = Projection(4 * width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """rows: (rows, width)."""
        result: Tensor = self.c_proj(gelu(self.c_fc(rows)))
        return result


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, rows: Tensor, bias: Tensor) -> Tensor:
        """rows: (drops * users, width); bias: (drops, heads, users, users)."""
        rows = rows + self.attn(self.ln_1(rows), bias)
        result: Tensor = rows + self.mlp(self.ln_2(rows))
        return result


class UserTrunk(nn.Module):
    """GPT-2's blocks over users, (drops, users, width) to the same shape; equivariant under permutations of users."""

    def __init__(self, width: int, layers: int, heads: int, positions: int) -> None:
        super().__init__()
        # One token and all but one position are never read; GPT-2's shape has them.
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
        """tokens: (drops, users, width). bias: (drops, heads, users, users), added to the scores."""
        rows = (tokens + self.wpe.weight[0]).flatten(0, 1)
        for block in self.h:
            rows = block(rows, bias)
        result: Tensor = self.ln_f(rows).view(tokens.shape)
        return result
