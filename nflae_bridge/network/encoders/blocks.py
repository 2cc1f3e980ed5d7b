"""Define the bidirectional transformer block of the encoders."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Block(nn.Module):
    """Apply pre-norm self-attention between all users, then an MLP.

    Attention projections carry no bias, which the published parameter count (5.95 M trained) implies.

    Parameters
    ----------
    width
        Width of the tokens.
    mlp_width
        Hidden units of the MLP.
    heads
        Attention heads.
    """

    def __init__(self, width: int, mlp_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        tokens
            float32 (drops, users, width).
        bias
            (drops, heads, users, users), added to attention scores, or None.

        Returns
        -------
        Tensor
            float32 (drops, users, width).
        """
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project_in(self.norm_attention(tokens)).chunk(3, -1)
        )
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = tokens + self.project_out(mixed.transpose(1, 2).flatten(-2))
        result: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return result
