"""The trunk built here, against `transformers`' GPT-2 with the same weights."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nflae_bridge.network.trunks.trunk import UserTrunk

POSITIONS = 16
SHAPES = {
    "heads": st.integers(1, 4),
    "per_head": st.integers(1, 12),
    "layers": st.integers(1, 4),
    "users": st.integers(1, 12),
    "drops": st.integers(1, 3),
    "seed": st.integers(0, 2**31),
}


def gpt2(width: int, layers: int, heads: int) -> nn.Module:
    """GPT-2 with the exact GELU and weights large enough for every part to matter."""
    model: nn.Module = transformers.GPT2Model(
        transformers.GPT2Config(
            vocab_size=1,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_positions=POSITIONS,
            activation_function="gelu",
            attn_implementation="sdpa",
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[0] ** -0.5
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model


def inputs(drops: int, heads: int, users: int, width: int) -> tuple[Tensor, Tensor]:
    """Tokens, and an attention bias from none at all to a user being cut off from another."""
    bias = 3 * torch.randn(drops, heads, users, users)
    bias[torch.rand(bias.shape) < 0.1] = -50.0
    return torch.randn(drops, users, width), bias


def both(width: int, layers: int, heads: int, tokens: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The trunk's answer in the precision of the tokens, and that of GPT-2 with the same weights in double."""
    theirs = gpt2(width, layers, heads)
    ours = UserTrunk(width, layers, heads, POSITIONS)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        expected = theirs.double()(
            inputs_embeds=tokens.double(),
            position_ids=torch.zeros(1, tokens.shape[1], dtype=torch.long),
            attention_mask=bias.double(),
        ).last_hidden_state
        return ours.to(tokens.dtype)(tokens, bias), expected


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_trunk_is_gpt2_without_its_mask_and_positions(
    heads: int, per_head: int, layers: int, users: int, drops: int, seed: int
) -> None:
    torch.manual_seed(seed)
    width = heads * per_head
    tokens, bias = (values.double() for values in inputs(drops, heads, users, width))
    found, expected = both(width, layers, heads, tokens, bias)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("users", [1, 2, 10, 33])
@pytest.mark.parametrize(("width", "layers", "heads"), [(32, 3, 2), (128, 6, 8)], ids=["tiny", "small"])
def test_trunk_is_gpt2_in_single_precision(width: int, layers: int, heads: int, users: int) -> None:
    torch.manual_seed(users)
    found, expected = both(width, layers, heads, *inputs(8, heads, users, width))
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(**SHAPES)
def test_users_in_another_order_come_out_in_that_order(
    heads: int, per_head: int, layers: int, users: int, drops: int, seed: int
) -> None:
    torch.manual_seed(seed)
    trunk = UserTrunk(heads * per_head, layers, heads, POSITIONS).double()
    trunk.load_state_dict(gpt2(heads * per_head, layers, heads).state_dict())
    tokens, bias = (values.double() for values in inputs(drops, heads, users, heads * per_head))
    order = torch.randperm(users)
    with torch.no_grad():
        moved = trunk(tokens[:, order], bias[:, :, order][..., order])
        torch.testing.assert_close(moved, trunk(tokens, bias)[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("extreme", [-1e30, 1e30])
def test_scores_too_large_to_exponentiate_leave_the_attention_finite(extreme: float) -> None:
    torch.manual_seed(0)
    trunk = UserTrunk(8, 2, 2, POSITIONS)
    tokens, bias = inputs(1, 2, 5, 8)
    bias[0, :, 0, 1] = extreme
    with torch.no_grad():
        assert bool(trunk(tokens, bias).isfinite().all())
        # users who all score beyond the limit are mixed evenly, as if none had scored
        even = trunk(tokens, torch.full_like(bias, extreme))
        for name, parameter in trunk.named_parameters():
            if "c_attn" in name:
                parameter[..., :16].zero_()  # queries and keys
        torch.testing.assert_close(even, trunk(tokens, torch.zeros_like(bias)), rtol=0, atol=1e-5)


def test_exact_gelu_is_within_what_is_said_of_its_approximation() -> None:
    values = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    exact, approximate = nn.functional.gelu(values), nn.functional.gelu(values, approximate="tanh")
    assert float((exact - approximate).abs().max()) < 5e-4
