"""The network over several inputs: causal, without what is absent, and any encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.senses.config import HeadConfig, InputConfig, SensesConfig
from nflae_bridge.network.encoders.senses.modalities import encoder_of
from nflae_bridge.network.encoders.senses.network import SensesNetwork
from nflae_bridge.network.encoders.senses.vision import vision_features

PAST, AHEAD, ROWS = 4, 2, 3
INPUTS = (
    InputConfig("power", "vector", (8,)),
    InputConfig("position", "vector", (4,), centre=(1.0, 2.0, 0.0, 0.0), spread=(2.0, 2.0, 1.0, 1.0)),
    InputConfig("picture", "picture", (3, 12, 10)),
    InputConfig("points", "points", (6, 3)),
)
HEADS = (
    HeadConfig("forecast", 8),
    HeadConfig("classify", 3),
    HeadConfig("regress", 2),
    HeadConfig("reconstruct"),
    HeadConfig("align", 5),
)
SMALL = BackboneConfig(width=16, layers=2, heads=2)
CONFIG = SensesConfig(INPUTS, HEADS, PAST, AHEAD, SMALL)


@pytest.fixture
def network() -> SensesNetwork:
    torch.manual_seed(0)
    return SensesNetwork(CONFIG).eval()


def windows(seed: int = 1) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(ROWS, PAST, *each.shape, generator=generator) for each in INPUTS]
    return values, torch.ones(ROWS, PAST, len(INPUTS), dtype=torch.bool)


@torch.no_grad()
def test_heads_have_their_shapes(network: SensesNetwork) -> None:
    values, present = windows()
    shapes = {kind: tuple(each.shape) for kind, each in network(values, present).items()}
    assert shapes == {"forecast": (ROWS, AHEAD, 8), "regress": (ROWS, AHEAD, 2), "classify": (ROWS, 3)}
    assert [tuple(each.shape) for each in network.reconstruct(values, present)] == [(ROWS, PAST, 8), (ROWS, PAST, 4)]
    directions = network.directions(values, present)
    assert directions.shape == (4, ROWS, 5)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(4, ROWS))


@torch.no_grad()
def test_states_depend_on_earlier_samples_alone(network: SensesNetwork) -> None:
    values, present = windows()
    before = network.states(values, present)
    values[0][:, 2] += 1
    after = network.states(values, present)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=1e-6)
    assert float((after[:, 2:] - before[:, 2:]).abs().amax((0, 2)).min()) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("absent", range(len(INPUTS)))
def test_absent_values_have_no_effect(network: SensesNetwork, absent: int) -> None:
    values, present = windows()
    whole = network(values, present)["forecast"]
    present[:, 1:, absent] = False
    left = network(values, present)["forecast"]
    values[absent][:, 1:] = 7.0
    assert torch.equal(network(values, present)["forecast"], left)
    assert not torch.allclose(left, whole, atol=1e-5)


@torch.no_grad()
def test_persistence_adds_the_last_present_value() -> None:
    torch.manual_seed(0)
    plain = SensesNetwork(CONFIG).eval()
    added = SensesNetwork(SensesConfig(INPUTS, HEADS, PAST, AHEAD, SMALL, persistence=True)).eval()
    added.load_state_dict(plain.state_dict(), strict=False)
    values, present = windows()
    present[0, 2:, 0] = False
    present[1, :, 0] = False
    difference = added(values, present)["forecast"] - plain(values, present)["forecast"]
    expected = torch.stack([values[0][0, 1], torch.zeros(8), values[0][2, -1]])
    torch.testing.assert_close(difference, 4 * expected[:, None].expand(-1, AHEAD, -1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_points_are_a_set_and_zeros_are_no_points() -> None:
    torch.manual_seed(0)
    encoder = encoder_of(INPUTS[3], 16)
    points = torch.randn(2, 6, 3)
    points[:, 4:] = 0
    torch.testing.assert_close(encoder(points[:, torch.tensor([5, 2, 0, 4, 1, 3])]), encoder(points))
    fewer = points.clone()
    fewer[:, 3] = 0
    assert not torch.allclose(encoder(fewer), encoder(points))


@pytest.fixture
def vision(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    config = transformers.ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_features_of_a_vision_model(vision: Path) -> None:
    """Against the model itself; absent pictures have none."""
    transformers = pytest.importorskip("transformers")
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = transformers.ViTModel.from_pretrained(vision, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model(pixel_values=4 * pictures - 2).last_hidden_state.mean(1).numpy()
    given = pictures.numpy().copy()
    given[1] = np.nan
    found = vision_features(str(vision), given)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [None, "{}"])
def test_other_folders_are_no_vision_model(tmp_path: Path, content: str | None) -> None:
    pytest.importorskip("transformers")
    if content is not None:
        (tmp_path / "vit").mkdir()
        (tmp_path / "vit/config.json").write_text(content)
    with pytest.raises(NflaeError, match=r"vit' cannot be loaded .*; give a local folder"):
        vision_features(str(tmp_path / "vit"), np.zeros((1, 3, 8, 8), np.float32))
