"""Networks of several tasks on one trunk: what they share, what they do not, and each by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from nflae_bridge.network.trunks.joint import JointNetwork, PatchTrunk, TaskTrunk
from nflae_bridge.network.trunks.trunk import UserTrunk
from tests.simulator.definitions import draw_channels

Make = Callable[..., PrecodingNetwork]


class Patches(TaskNetwork):
    """A convolutional network without a trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(16, 16, 1)])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            values = values + layer(values)
        return values


def attach(part: TaskNetwork, trunk: TaskTrunk) -> None:
    assert isinstance(part, Patches)
    part.layers.append(PatchTrunk(trunk, 4))


@pytest.fixture
def joint(make_network: Make) -> JointNetwork:
    parts = {"a": make_network(), "b": make_network(seed=1), "c": Patches()}
    return JointNetwork(parts, {"c": attach}).eval()


def inputs() -> UserInputs:
    channels, one = draw_channels(0, 4, 8, drops=3), torch.ones(3)
    gram = channels.conj() @ channels.transpose(-1, -2) * 10
    return UserInputs(channels, gram, one, 0 * one)


def run(network: nn.Module) -> torch.Tensor:
    output: NetworkOutput = network(inputs())
    return output.power_fractions.detach()


def test_the_trunk_is_shared_and_stored_once(joint: JointNetwork, make_network: Make) -> None:
    single = sum(parameter.numel() for parameter in make_network().parameters())
    trunk = sum(parameter.numel() for parameter in joint.trunk.parameters())
    patches = 16 * 16 + 16 + 1
    assert joint.parameter_counts() == (2 * (single - trunk) + trunk + patches + 3 * 16,) * 2
    stored = [value.untyped_storage().data_ptr() for value in joint.state_dict().values()]
    assert len(set(stored)) == len(stored)
    before = run(joint.parts["a"]), run(joint.parts["b"])
    with torch.no_grad():
        joint.trunk.h[0].mlp.c_fc.weight *= 3
    assert not torch.allclose(before[0], run(joint.parts["a"]))
    assert not torch.allclose(before[1], run(joint.parts["b"]))


def test_a_loss_of_one_task_trains_its_token_and_the_trunk_alone(joint: JointNetwork) -> None:
    joint.parts["a"](inputs()).power_fractions[:, 0].sum().backward()
    trained = {
        name for name, value in joint.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert "parts.a.backbone.model.token" in trained
    assert any(name.startswith("trunk.h") for name in trained)
    assert not any(name.startswith(("parts.b", "parts.c")) for name in trained)


def test_the_token_of_a_task_changes_its_answer_alone(joint: JointNetwork) -> None:
    before = run(joint.parts["a"]), run(joint.parts["b"])
    with torch.no_grad():
        joint.get_parameter("parts.a.backbone.model.token").normal_()
    assert not torch.allclose(before[0], run(joint.parts["a"]))
    torch.testing.assert_close(before[1], run(joint.parts["b"]), rtol=0, atol=0)


def test_the_task_token_is_one_more_user_without_bias(joint: JointNetwork) -> None:
    view = joint.get_submodule("parts.a.backbone.model")
    assert isinstance(view, TaskTrunk)
    tokens, bias = torch.randn(2, 3, 16), torch.randn(2, 2, 3, 3)
    longer, wider = torch.zeros(2, 4, 16), torch.zeros(2, 2, 4, 4)
    longer[:, 0], longer[:, 1:], wider[:, :, 1:, 1:] = view.token.detach(), tokens, bias
    torch.testing.assert_close(view(tokens, bias), joint.trunk(longer, wider)[:, 1:])


def test_patches_are_padded_and_each_position_gets_its_patchs_share(joint: JointNetwork) -> None:
    layer = joint.get_submodule("parts.c.layers.1")
    assert isinstance(layer, PatchTrunk)
    values = torch.randn(2, 16, 10)
    result = layer(values)
    assert result.shape == values.shape
    means = torch.stack([values[..., :4].mean(-1), values[..., 4:8].mean(-1), values[..., 8:].sum(-1) / 4], 1)
    mixed = layer.scale * layer.trunk(means, torch.zeros(2, 2, 3, 3))
    for position, patch in ((0, 0), (3, 0), (4, 1), (9, 2)):
        torch.testing.assert_close(result[..., position], mixed[:, patch])
    assert layer(torch.randn(2, 16, 5, 3)).shape == (2, 16, 5, 3)


def test_separated_networks_are_whole_and_answer_alike(joint: JointNetwork) -> None:
    parts = joint.separate()
    assert list(parts) == ["a", "b", "c"]
    alone = parts["b"]
    torch.testing.assert_close(run(alone), run(joint.parts["b"]), rtol=0, atol=0)
    assert any(isinstance(module, UserTrunk) for module in alone.modules())
    with torch.no_grad():
        joint.trunk.h[0].mlp.c_fc.weight *= 3
    assert not torch.allclose(run(alone), run(joint.parts["b"]))  # a copy
    moved = alone.to(torch.float64)
    assert {value.dtype for value in moved.parameters()} == {torch.float64}
    view = next(module for module in moved.modules() if isinstance(module, TaskTrunk))
    assert next(view.shared.parameters()).dtype == torch.float64


def test_trunks_of_different_sizes_are_not_joined(make_network: Make) -> None:
    with pytest.raises(ValueError, match="task b is 32 wide with 2 layers of 2 heads, the shared one 16 wide"):
        JointNetwork({"a": make_network(), "b": make_network(width=32)})
